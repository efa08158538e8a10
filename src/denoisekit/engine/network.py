"""One tile through a method's network, whatever happens on the way.

A tile that does not fit in memory is cut into smaller ones; one that overflows in a
low precision is computed again in fp32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from einops import rearrange

from denoisekit.draws import Draws
from denoisekit.engine.device import smaller_plan
from denoisekit.engine.tiling import Floats, Plan, run_tiled, spread_boxes
from denoisekit.errors import DenoisekitError, OutOfMemory
from denoisekit.methods import LoadedMethod, StudyingMethod, Traits

if TYPE_CHECKING:
    import torch

STUDY_SIDES = (512, 256)
"""Side of the boxes in which an image is shown to a method that studies it: the larger the
better, because their borders take part, but at least one must fit in memory."""

CALIBRATION_CALL = 0.12
"""Seconds that a network call must take for its speed to be believed: shorter ones are small,
and cost up to three times as much a pixel as the large calls that they stand for."""

CALIBRATION_SIDE = 64
"""Side of the first calls, about: at 32 SS-BSN costs 2.5 times as much a pixel, at 64 1.4."""

CALIBRATION_CALLS = 3
"""Calls whose median counts: another program may have had the processor in one of them."""

CALIBRATION_SECONDS = 1.0
"""Seconds of calls after which those there are must do."""

_FULL = ("can't allocate memory", "out of memory", "_ALLOC_FAILED")
"""What torch and its libraries say in a RuntimeError when memory is used up."""


class Telling:
    """Hears how far one image is, and what its user should know.

    Parameters
    ----------
    on_work : callable, optional
        Called with the pixels that have gone through the network, also from within a tile
        where the method tells how far it is.

    Attributes
    ----------
    work : float
        Those pixels.
    warnings : list of str
        A line each.
    """

    def __init__(self, on_work: Callable[[float], None] | None = None) -> None:
        self.work = 0.0
        self.warnings: list[str] = []
        self._on_work = on_work

    def warn(self, text: str) -> None:
        """Take a line for the report of the image."""
        self.warnings.append(text)

    def part(self, pixels: float) -> None:
        """Hear that so many pixels of a tile under way are done."""
        if self._on_work is not None:
            self._on_work(self.work + pixels)

    def done(self, pixels: float) -> None:
        """Hear that a tile is done."""
        self.work += pixels
        self.part(0.0)


class Network:
    """A method's network on a device. Serves several threads at once.

    Parameters
    ----------
    scale : float
        Value of white that the method expects.
    traits : Traits
        What is known of the network.
    prepare : callable
        ``prepare(precision)`` returns the method loaded, on the device.
    device : torch.device
        Where that is.
    precision : str
        Of the network.
    """

    def __init__(
        self,
        scale: float,
        traits: Traits,
        prepare: Callable[[str], LoadedMethod],
        device: torch.device,
        precision: str,
    ) -> None:
        self.scale, self.traits = scale, traits
        self.device, self.precision = device, precision
        self._prepare = prepare
        self._method = prepare(precision)
        self._exact: LoadedMethod | None = None
        self._too_large: int | None = None

    def __call__(
        self, noisy: Floats, draws: Draws, context: Any = None, telling: Telling | None = None
    ) -> Floats:
        """Denoise one tile.

        Parameters
        ----------
        noisy : numpy.ndarray
            (C, h, w) float32 on 0..1, C the network's channels, sizes legal for it.
        draws : Draws
            The tile's random numbers.
        context : object, optional
            What `study` returned for the image.
        telling : Telling, optional
            Hears of it.

        Returns
        -------
        numpy.ndarray
            (C, h, w) float32, finite.

        Raises
        ------
        OutOfMemory
            Not even the smallest tile fits.
        DenoisekitError
            The network returns values that are not numbers, in fp32 too.
        """
        telling = telling or Telling()
        denoised = self._finite(noisy, draws, context, telling)
        telling.done(noisy.shape[1] * noisy.shape[2])
        return denoised

    def study(self, rows: Callable[[int, int], Any], plan: Plan, seed: int, pixels: int) -> Any:
        """Show an image of several tiles to a method that wants to see all of it.

        Parameters
        ----------
        rows : callable
            As in `run_tiled`, of the network's channels.
        plan : Plan
            Of the image.
        seed : int
            Of what is drawn for the whole image.
        pixels : int
            How much of the image is shown, at most: what fits in memory at once.

        Returns
        -------
        object
            For ``context``.
        """
        grid = self.traits.limits.multiple_of
        fitting = (side for side in STUDY_SIDES if side * side <= pixels)
        side = -(-next(fitting, STUDY_SIDES[-1]) // grid) * grid
        boxes = spread_boxes(rows, plan, side, grid, pixels)
        parts = [self._to_device(box) for box in boxes]
        return cast("StudyingMethod", self._method).study(parts, seed=seed)

    def seconds_per_pixel(self, side: int) -> float:
        """Measure what a pixel of a call of this side costs here, with smaller ones."""
        return seconds_per_pixel(self._method, self.traits, self.device, side)

    def _finite(self, noisy: Floats, draws: Draws, context: Any, telling: Telling) -> Floats:
        denoised = self._fitting(self._method, noisy, draws, context, telling)
        if np.isfinite(denoised).all():
            return denoised
        if self.precision != "fp32":
            telling.warn(f"a tile overflowed in {self.precision} and was computed again in fp32")
            if self._exact is None:
                self._exact = self._prepare("fp32")
            denoised = self._fitting(self._exact, noisy, draws, context, telling)
            if np.isfinite(denoised).all():
                return denoised
        raise DenoisekitError(
            "the network returned values that are not numbers",
            "check the weights with denoisekit weights verify, and --range",
        )

    def _fitting(
        self, method: LoadedMethod, noisy: Floats, draws: Draws, context: Any, telling: Telling
    ) -> Floats:
        """Run the network, on parts of the tile where the whole does not fit in memory."""
        pixels = noisy.shape[1] * noisy.shape[2]
        if self._too_large is None or pixels < self._too_large:
            denoised = self._attempt(method, noisy, draws, context, telling)
            # Only here, with the failed attempt's error gone, is its memory free again.
            if denoised is not None:
                return denoised
            self._too_large = pixels
        telling.warn("out of memory: went on with smaller tiles")
        plan = smaller_plan(noisy.shape[1], noisy.shape[2], self.traits.limits)
        if plan is None:
            raise OutOfMemory(
                f"a tile of {noisy.shape[2]}x{noisy.shape[1]} pixels does not fit in memory",
                "close other programs, or use --device cpu",
            )
        pixel_rows = rearrange(noisy, "c h w -> h w c")

        def rows(top: int, bottom: int) -> Floats:
            return pixel_rows[top:bottom]

        if self.traits.studies and context is None:
            context = self.study(rows, plan, draws.seed, math.prod(plan.largest_read))

        def run(part: Floats, place: Draws) -> Floats:
            return self._fitting(method, part, place, context, telling)

        denoised = np.empty_like(noisy)
        for top, band in run_tiled(run, rows, plan, draws=draws):
            denoised[:, top : top + len(band)] = rearrange(band, "h w c -> c h w")
        return denoised

    def _attempt(
        self, method: LoadedMethod, noisy: Floats, draws: Draws, context: Any, telling: Telling
    ) -> Floats | None:
        """Run the network on the whole tile; None: not enough memory."""
        import torch

        try:
            return self._forward(method, noisy, draws, context, telling)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _forward(
        self, method: LoadedMethod, noisy: Floats, draws: Draws, context: Any, telling: Telling
    ) -> Floats:
        pixels = noisy.shape[1] * noisy.shape[2]
        denoised = method.denoise(
            self._to_device(noisy),
            draws=draws,
            context=context,
            on_part=lambda part: telling.part(part * pixels),
        )
        if self.scale != 1:
            denoised = denoised / self.scale
        result: Floats = denoised[0].float().cpu().numpy()
        return result

    def _to_device(self, noisy: Floats) -> torch.Tensor:
        import torch

        # numpy calls a row of one pixel contiguous also where it was flipped; torch does not.
        forward = noisy if min(noisy.strides) > 0 else noisy.copy()
        tile = torch.from_numpy(forward)[None].to(self.device)
        return tile if self.scale == 1 else tile * self.scale


def seconds_per_pixel(
    method: LoadedMethod, traits: Traits, device: torch.device, side: int
) -> float:
    """Measure what a pixel costs a method on a device, with small images.

    Takes less than a second on a machine that is not busy. The first call at any size is not
    believed: it also pays for what the libraries set up, which can take seconds.

    Parameters
    ----------
    method : LoadedMethod
        The method, prepared for the device.
    traits : Traits
        Of its network; tells how the cost grows from a small call to a large one.
    device : torch.device
        Where it runs.
    side : int
        Of the call to tell the cost of.
    """
    grid = traits.limits.multiple_of
    largest = max(grid, side // grid * grid)
    small = min(largest, max(grid, CALIBRATION_SIDE // grid * grid))
    call = _timed_call(method, traits.channels, device)
    call(small)
    taken = [call(small)]
    while taken[0] < CALIBRATION_CALL and small < largest:
        small = min(2 * small, largest)
        call(small)
        taken = [call(small)]
    while len(taken) < CALIBRATION_CALLS and sum(taken) < CALIBRATION_SECONDS:
        taken.append(call(small))
    seconds = sorted(taken)[(len(taken) - 1) // 2]
    growth = traits.flop(side * side) / traits.flop(small * small)
    return seconds / (small * small) * growth


def _timed_call(
    method: LoadedMethod, channels: int, device: torch.device
) -> Callable[[int], float]:
    """Return what denoises noise of a side, and returns how many seconds that took."""
    import torch

    def call(side: int) -> float:
        noise = np.random.default_rng(0).random((1, channels, side, side), np.float32)
        noisy = torch.from_numpy(noise).to(device)
        began = time.perf_counter()
        method.denoise(noisy, draws=Draws()).cpu()  # copying back waits for a GPU to finish
        return time.perf_counter() - began

    return call


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in _FULL
    )
