"""One tile through a method's network, whatever happens on the way.

A tile that does not fit in memory is cut into smaller ones; one that overflows in a
low precision is computed again in fp32.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from einops import rearrange

from denoisekit.draws import Draws
from denoisekit.engine.device import smaller_plan
from denoisekit.engine.tiling import Box, Floats, Piece, Plan, run_tiled, spread_boxes
from denoisekit.engine.workers import Workers
from denoisekit.engine.workers import device as device_of_worker
from denoisekit.errors import DenoisekitError, OutOfMemory
from denoisekit.methods import CroppingMethod, LoadedMethod, StudyingMethod, Traits

if TYPE_CHECKING:
    import torch

STUDY_PIXELS = 2**18
"""Pixels of an image that a method which studies it is shown. One worker does that before all
else, so it must not take long: with four times as many, half of the time of two megapixels."""

STUDY_SIDE = 128
"""Side of the crops in which a larger image is shown, about that of the patches that such a network
was trained with. (Three photographs of a megapixel with simulated noise, `promptsid.camera`: 0.06
to 0.23 dB better than with all of the image in one call; one crop of 512: -0.21 to +0.22.)"""

CALIBRATION_CALL = 0.12
"""Seconds that network calls must take for their speed to be believed: shorter ones are small,
and cost up to three times as much a pixel as the large calls that they stand for."""

CALIBRATION_SIDE = 64
"""Side of the first calls, about: at 32 SS-BSN costs 2.5 times as much a pixel, at 64 1.4."""

CALIBRATION_CALLS = 3
"""Rounds of calls whose median counts: another program may have had the processor in one."""

CALIBRATION_SECONDS = 1.0
"""Seconds of calls after which those there are must do."""

_FULL = ("can't allocate memory", "out of memory", "_ALLOC_FAILED")
"""What torch and its libraries say in a RuntimeError when memory is used up."""


class Network:
    """A method's network on its devices. Serves several threads at once.

    Parameters
    ----------
    scale : float
        Value of white that the method expects.
    traits : Traits
        What is known of the network.
    prepare : callable
        ``prepare(device, precision)`` returns the method loaded, on the device.
    workers : Workers
        Who compute, and where.
    precision : str
        Of the network.
    """

    def __init__(
        self,
        scale: float,
        traits: Traits,
        prepare: Callable[[torch.device, str], LoadedMethod],
        workers: Workers,
        precision: str,
    ) -> None:
        self.scale, self.traits, self.precision = scale, traits, precision
        self.workers, self._prepare = workers, prepare
        self._first = workers.devices[0]
        self._methods = {
            (device, precision): prepare(device, precision) for device in set(workers.devices)
        }
        self._preparing = threading.Lock()
        self._too_large: int | None = None

    def __call__(
        self, piece: Piece, context: Any = None, warn: Callable[[str], object] = lambda _: None
    ) -> Floats:
        """Denoise one tile.

        Parameters
        ----------
        piece : Piece
            The tile: the network's channels on 0..1, sizes legal for it.
        context : object, optional
            What `study` returned for the image.
        warn : callable
            Hears what the user should know.

        Returns
        -------
        numpy.ndarray
            (C, h, w) float32, finite: the part of the tile that is kept.

        Raises
        ------
        OutOfMemory
            Not even the smallest tile fits.
        DenoisekitError
            The network returns values that are not numbers, in fp32 too.
        """
        denoised = self._fitting(self.precision, piece, context, warn)
        if self.precision != "fp32" and not np.isfinite(denoised).all():
            warn(f"a tile overflowed in {self.precision} and was computed again in fp32")
            denoised = self._fitting("fp32", piece, context, warn)
        if not np.isfinite(denoised).all():
            raise DenoisekitError(
                "the network returned values that are not numbers",
                "check the weights with denoisekit weights verify, and --range",
            )
        return denoised

    def study(self, rows: Callable[[int, int], Any], plan: Plan, seed: int) -> Any:
        """Show an image of several tiles to a method that wants to see all of it.

        Parameters
        ----------
        rows : callable
            As in `run_tiled`, of the network's channels.
        plan : Plan
            Of the image.
        seed : int
            Of what is drawn for the whole image.

        Returns
        -------
        object
            For ``context``.
        """
        grid = self.traits.limits.multiple_of
        small = plan.height * plan.width <= STUDY_PIXELS
        side = max(plan.padded) if small else -(-STUDY_SIDE // grid) * grid
        crops = spread_boxes(rows, plan, side, grid, STUDY_PIXELS)

        def study() -> Any:
            method = cast("StudyingMethod", self._method(self.precision))
            return method.study([self._to_device(crop) for crop in crops], seed=seed)

        return self.workers.run(study)

    def seconds_per_pixel(self, side: int) -> float:
        """Measure what a pixel of calls of this side costs here while all workers are busy.

        Takes about a second. The first calls of any size are not believed: they also pay for
        what the libraries set up, which can take seconds.
        """
        traits = self.traits
        grid = traits.limits.multiple_of
        largest = max(grid, side // grid * grid)
        small = min(largest, max(grid, CALIBRATION_SIDE // grid * grid))

        def call(side: int) -> None:
            noise = np.random.default_rng(0).random((traits.channels, side, side), np.float32)
            self._forward(self.precision, Piece(noise, Draws(), Box(0, 0, side, side)), None)

        def seconds(side: int) -> float:
            began = time.perf_counter()
            for _ in self.workers.map(call, [side] * self.workers.count):
                pass
            return time.perf_counter() - began

        seconds(small)
        taken = [seconds(small)]
        while taken[0] < CALIBRATION_CALL and small < largest:
            small = min(2 * small, largest)
            seconds(small)
            taken = [seconds(small)]
        while len(taken) < CALIBRATION_CALLS and sum(taken) < CALIBRATION_SECONDS:
            taken.append(seconds(small))
        middle = sorted(taken)[(len(taken) - 1) // 2] / self.workers.count
        growth = traits.flop(side * side) / traits.flop(small * small)
        return middle / (small * small) * growth

    def _method(self, precision: str) -> LoadedMethod:
        """Return the method on the device of the worker that asks."""
        key = device_of_worker() or self._first, precision
        with self._preparing:
            if key not in self._methods:
                self._methods[key] = self._prepare(*key)
            return self._methods[key]

    def _fitting(
        self, precision: str, piece: Piece, context: Any, warn: Callable[[str], object]
    ) -> Floats:
        """Run the network, on parts of the tile where the whole does not fit in memory."""
        import torch

        _, height, width = piece.noisy.shape
        if self._too_large is None or height * width < self._too_large:
            try:
                return self._forward(precision, piece, context)
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
            # Only here, with the failed attempt's error gone, is its memory free again.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._too_large = height * width
        warn("out of memory: went on with smaller tiles")
        plan = smaller_plan(height, width, self.traits.limits)
        if plan is None:
            raise OutOfMemory(
                f"a tile of {width}x{height} pixels does not fit in memory",
                "close other programs, or use --device cpu",
            )
        pixel_rows = rearrange(piece.noisy, "c h w -> h w c")

        def rows(top: int, bottom: int) -> Floats:
            return pixel_rows[top:bottom]

        if self.traits.studies and context is None:
            context = self.study(rows, plan, piece.draws.seed)

        def run(part: Piece) -> Floats:
            return self._fitting(precision, part, context, warn)

        denoised = np.concatenate([band for _, band in run_tiled(run, rows, plan, piece.draws)])
        keep = piece.keep
        kept = denoised[keep.top : keep.bottom, keep.left : keep.right]
        return np.ascontiguousarray(rearrange(kept, "h w c -> c h w"))

    def _forward(self, precision: str, piece: Piece, context: Any) -> Floats:
        keep = piece.keep
        method = self._method(precision)
        noisy = self._to_device(piece.noisy)
        if self.traits.halo_cost < 1:
            core = (keep.top, keep.left, keep.bottom, keep.right)
            cropping = cast("CroppingMethod", method)
            denoised = cropping.denoise(noisy, draws=piece.draws, context=context, core=core)
        else:
            denoised = method.denoise(noisy, draws=piece.draws, context=context)
            if denoised.shape != noisy.shape:
                raise ValueError(f"a tile of {noisy.shape} came back as {denoised.shape}")
            denoised = denoised[..., keep.top : keep.bottom, keep.left : keep.right]
        if self.scale != 1:
            denoised = denoised / self.scale
        result: Floats = denoised[0].float().cpu().numpy()
        return result

    def _to_device(self, noisy: Floats) -> torch.Tensor:
        import torch

        # numpy calls a row of one pixel contiguous also where it was flipped; torch does not.
        forward = noisy if min(noisy.strides) > 0 else noisy.copy()
        tile = torch.from_numpy(forward)[None].to(device_of_worker() or self._first)
        return tile if self.scale == 1 else tile * self.scale


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in _FULL
    )
