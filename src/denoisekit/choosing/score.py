"""How good a result is, without a clean picture to compare it with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.floating[Any]]

SMALLEST = 32
"""Pixels along a side that a picture must at least have."""
LEFT = 2.0
"""How much noise there is beside edges, where none can be measured, for that in flat parts."""
PASSED = 0.25
"""Part of the energy that the window of a block lets through."""
LEAST = 1e-8
"""Error at which pictures count as equal: 80 dB."""


def score(noisy: Floats, denoised: Floats) -> float:
    """Estimate how near a denoised picture is to the clean one, from the noisy one alone.

    Two kinds of error are measured. Noise that is left: how much the result varies in blocks
    in which the noisy picture varies least, at several brightnesses. Picture that is lost: how
    far what was taken away exceeds, block by block and frequency by frequency, what was taken
    away in flat blocks of the same brightness.

    Meant to compare results for one picture; between pictures it means little. Small
    differences mean little too: see the documentation for how often it is right.

    Parameters
    ----------
    noisy, denoised : numpy.ndarray
        (H, W, C) float32 on 0..1, at least 32x32; neither needs to be clipped. Three channels
        count as red, green and blue. The noisy picture itself can be scored as a result.

    Returns
    -------
    float
        Decibels, as PSNR: higher is better, 80 at most.

    Raises
    ------
    InputError
        The pictures differ in size, are too small, or hold values that are not numbers.
    """
    if noisy.shape != denoised.shape or noisy.ndim != 3:
        raise InputError(
            f"a result of {denoised.shape} does not belong to a picture of {noisy.shape}",
            "both must be (H, W, C), and alike",
        )
    if min(noisy.shape[:2]) < SMALLEST:
        raise InputError(
            f"a picture of {noisy.shape[1]}x{noisy.shape[0]} pixels is too small to judge",
            f"it must be at least {SMALLEST} pixels high and wide",
        )
    if not (np.isfinite(noisy).all() and np.isfinite(denoised).all()):
        raise InputError("the pictures hold values that are not numbers")
    return -10 * math.log10(max(_error(noisy, denoised), LEAST))


def _error(noisy: Floats, denoised: Floats) -> float:
    """Return the estimated mean squared error."""
    import torch

    before, after = (
        torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1), np.float32))
        for p in (noisy, denoised)
    )
    with torch.inference_mode():
        return (LEFT * _left(before, after) + _lost(before, after)) / PASSED


def _left(noisy: torch.Tensor, denoised: torch.Tensor) -> float:
    """Return the variance of a result where the noisy picture is flat."""
    import torch

    from denoisekit.choosing import spectrum
    from denoisekit.choosing.noise import brightness_of, quiet

    def power(pixels: torch.Tensor) -> torch.Tensor:
        return spectrum.forward(spectrum.flattened(spectrum.blocks(pixels))).square().mean(-1)

    noisy, denoised = spectrum.opponent(noisy), spectrum.opponent(denoised)
    energy = spectrum.among_blocks(power(noisy).sum(0)[None])[0]
    brightness = brightness_of(spectrum.blocks(noisy))[1:-1, 1:-1]
    result = power(denoised).mean(0)[1:-1, 1:-1].flatten()
    levels = quiet(energy.flatten(), brightness.flatten())
    return float(torch.stack([result[level].mean() for level in levels]).mean())


def _lost(noisy: torch.Tensor, denoised: torch.Tensor) -> float:
    """Return the mean square of what was taken away and was not noise."""
    from denoisekit.choosing import spectrum
    from denoisekit.choosing.gain import picture_share
    from denoisekit.choosing.noise import brightness_of, measure, sample

    noise = measure([sample(noisy, denoised)])
    removed = spectrum.forward(spectrum.blocks(spectrum.opponent(noisy - denoised)))
    brightness = brightness_of(spectrum.blocks(spectrum.opponent(denoised)))
    share = picture_share(removed, brightness, noise)
    return float((share * removed[:, 1:-1, 1:-1].square()).mean())
