"""One tile through a method's network, whatever happens on the way.

A tile that does not fit in memory is cut into smaller ones; one that overflows in a
low precision is computed again in fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange

from denoisekit.device import smaller_plan
from denoisekit.errors import DenoisekitError, OutOfMemory
from denoisekit.methods import LoadedMethod, MethodInfo
from denoisekit.tiling import Floats, run_tiled

if TYPE_CHECKING:
    import torch

_FULL = ("can't allocate memory", "out of memory", "_ALLOC_FAILED")
"""What torch and its libraries say in a RuntimeError when memory is used up."""


class Network:
    """A method's network on a device.

    Parameters
    ----------
    info : MethodInfo
        The method.
    prepare : callable
        ``prepare(precision)`` returns it loaded, on the device.
    device : torch.device
        Where that is.
    precision : str
        Of the network.
    seed : int
        Of methods that draw at random.
    warn : callable
        Takes what the user should know.

    Attributes
    ----------
    on_work : callable
        Called with the pixels that have gone through the network since `work` was last
        set to 0, also from within a tile where the method tells how far it is.
    work : float
        Those pixels.
    """

    def __init__(
        self,
        info: MethodInfo,
        prepare: Callable[[str], LoadedMethod],
        device: torch.device,
        precision: str,
        seed: int,
        warn: Callable[[str], None],
    ) -> None:
        self.info, self.device, self.precision = info, device, precision
        self._prepare, self._seed, self._warn = prepare, seed, warn
        self._method = prepare(precision)
        self._exact: LoadedMethod | None = None
        self._too_large: int | None = None
        self.work = 0.0
        self.on_work: Callable[[float], None] = _nobody

    def __call__(self, noisy: Floats) -> Floats:
        """Denoise one tile.

        Parameters
        ----------
        noisy : numpy.ndarray
            (C, h, w) float32 on 0..1, C the method's channels, sizes legal for it.

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
        denoised = self._finite(noisy)
        self.work += noisy.shape[1] * noisy.shape[2]
        self.on_work(self.work)
        return denoised

    def _finite(self, noisy: Floats) -> Floats:
        denoised = self._fitting(self._method, noisy)
        if np.isfinite(denoised).all():
            return denoised
        if self.precision != "fp32":
            self._warn(f"a tile overflowed in {self.precision} and was computed again in fp32")
            if self._exact is None:
                self._exact = self._prepare("fp32")
            denoised = self._fitting(self._exact, noisy)
            if np.isfinite(denoised).all():
                return denoised
        raise DenoisekitError(
            "the network returned values that are not numbers",
            "check the weights with denoisekit weights verify, and --range",
        )

    def seconds_per_pixel(self) -> float:
        """Measure what a pixel costs here."""
        return seconds_per_pixel(self.info, self._method, self.device)

    def _fitting(self, method: LoadedMethod, noisy: Floats) -> Floats:
        """Run the network, on parts of the tile where the whole does not fit in memory."""
        pixels = noisy.shape[1] * noisy.shape[2]
        if self._too_large is None or pixels < self._too_large:
            denoised = self._attempt(method, noisy)
            # Only here, with the failed attempt's error gone, is its memory free again.
            if denoised is not None:
                return denoised
            self._too_large = pixels
        self._warn("out of memory: went on with smaller tiles")
        plan = smaller_plan(noisy.shape[1], noisy.shape[2], self.info.limits)
        if plan is None:
            raise OutOfMemory(
                f"a tile of {noisy.shape[2]}x{noisy.shape[1]} pixels does not fit in memory",
                "close other programs, or use --device cpu",
            )
        denoised = np.empty_like(noisy)
        rows = rearrange(noisy, "c h w -> h w c")
        parts = run_tiled(lambda part: self._fitting(method, part), lambda a, b: rows[a:b], plan)
        for top, band in parts:
            denoised[:, top : top + len(band)] = rearrange(band, "h w c -> c h w")
        return denoised

    def _attempt(self, method: LoadedMethod, noisy: Floats) -> Floats | None:
        """Run the network on the whole tile; None: not enough memory."""
        import torch

        try:
            return self._forward(method, noisy)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _forward(self, method: LoadedMethod, noisy: Floats) -> Floats:
        import torch

        scale, before, pixels = self.info.scale, self.work, noisy.shape[1] * noisy.shape[2]
        tile = torch.from_numpy(noisy)[None].to(self.device)
        denoised = method.denoise(
            tile if scale == 1 else tile * scale,
            generator=torch.Generator(self.device).manual_seed(self._seed),
            on_part=lambda part: self.on_work(before + part * pixels),
        )
        result: Floats = (denoised if scale == 1 else denoised / scale)[0].float().cpu().numpy()
        return result


def _nobody(_work: float) -> None:
    """Hear of progress where nobody asked for it."""


def seconds_per_pixel(info: MethodInfo, method: LoadedMethod, device: torch.device) -> float:
    """Measure what a pixel costs a method on a device, with a small image.

    Parameters
    ----------
    info : MethodInfo
        The method.
    method : LoadedMethod
        The same, prepared for the device.
    device : torch.device
        Where it runs.
    """
    import torch

    side = -(-256 // info.limits.multiple_of) * info.limits.multiple_of
    noisy = torch.zeros((1, info.channels, side, side), device=device)
    method.denoise(noisy)
    began = time.perf_counter()
    method.denoise(noisy).cpu()  # copying back waits for a GPU to finish
    return (time.perf_counter() - began) / side**2


def _out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in _FULL
    )
