"""How well each of several denoisers does on one image, without a clean one.

A test is made from the image itself: the median of the results passes for clean, and what they
removed, moved elsewhere, passes for noise. A denoiser that is right for the one is most often
right for the other, because scene and noise are alike. Results that leave much noise where the
image is flat do not count in the median: else a clean image with noise would be asked for,
and denoisers that leave it would do best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.metrics import decibels

Floats = npt.NDArray[np.float32]
Denoise = Callable[[Floats], Floats]
"""Denoises an (H, W, C) float32 image on 0..1."""

SIDE = 192
"""Side of the crops in which denoisers are tried."""
SMALLEST = 32
"""Pixels along a side below which there is too little to rank by."""
SEED = 1
"""Of where noise is moved to: the same image gives the same answer."""
LEVELS = 16
"""Of brightness, on each of which the noise has a strength of its own."""
FEWEST = 200
"""Pixels of a level from which its noise is measured."""
STRETCH = 3.0
"""How much noise may be scaled at most from one level to another."""
BLOCK = 8
"""Side of the blocks in which it is measured how much noise is left."""
BRIGHTNESSES = 4
"""Levels of brightness at which it is: a dark background tells nothing of what is bright."""
QUIET = 0.2
"""Part of the blocks of a level that is taken for flat: those that vary least."""
FEWEST_BLOCKS = 4
"""That are taken of a level at least."""
LEFT = 0.2
"""Part of the noise's variance that a result may leave to count in the clean image,"""
MORE = 3.0
"""and how many times as much as the one that leaves least."""
COUNTED = 3
"""Results that count whatever they leave: of fewer the median says little."""
LEAST = 1e-8
"""Error at which images count as equal: 80 dB."""


def spread_crops(height: int, width: int, most: int) -> list[tuple[slice, slice]]:
    """Return rows and columns of crops spread over an image, from the top down.

    Parameters
    ----------
    height, width : int
        Of the image.
    most : int
        Crops; there are fewer where they would overlap.
    """
    down, across = max(1, height // SIDE), max(1, width // SIDE)
    down = min(down, max(1, round(math.sqrt(most * down / across))), most)
    across = min(across, most // down)

    def spread(length: int, count: int) -> list[slice]:
        side = min(SIDE, length)  # all of it where it is short
        starts = [((2 * i + 1) * length // count - side) // 2 for i in range(count)]
        return [slice(start, start + side) for start in starts]

    return [(rows, columns) for rows in spread(height, down) for columns in spread(width, across)]


def estimate_psnr(
    noisy: Sequence[Floats], denoised: Sequence[Sequence[Floats]], denoisers: Sequence[Denoise]
) -> tuple[float, list[float]]:
    """Estimate what several denoisers reach on one image.

    Parameters
    ----------
    noisy : sequence of numpy.ndarray
        Crops of the image, (H, W, C) on 0..1; at least one.
    denoised : sequence of sequence of numpy.ndarray
        What each denoiser made of each crop.
    denoisers : sequence of callable
        Each is run once more on every crop.

    Returns
    -------
    noisy : float
        PSNR in dB of the noise that was put on; at most 80.
    denoisers : list of float
        PSNR in dB of each denoiser; at most 80.
    """
    counted = _clean_results(noisy, denoised)
    errors = []
    for index, crop in enumerate(noisy):
        clean = _median([denoised[one][index] for one in counted])
        noise = move_noise(crop - clean, clean.mean(-1), np.random.default_rng(SEED))
        # The image with the moved noise is cut off where the noisy one was.
        again = (clean + noise).clip(crop.min(), crop.max())
        results = [again, *(denoise(again) for denoise in denoisers)]
        errors.append([np.square(one - clean, dtype=np.float64).mean() for one in results])
    before, *after = (decibels(max(error, LEAST)) for error in np.mean(errors, 0).tolist())
    return before, after


def _median(results: Sequence[Floats]) -> Floats:
    found: Floats = np.median(np.stack(results), 0).astype(np.float32, copy=False)
    return found


def _clean_results(noisy: Sequence[Floats], denoised: Sequence[Sequence[Floats]]) -> list[int]:
    """Return which results take most of the noise away from flat blocks."""

    def blocks(crops: Sequence[Floats]) -> Floats:
        """Cut crops into blocks: (blocks, pixels, C)."""
        cut = []
        for crop in crops:
            down, across = (size // BLOCK for size in crop.shape[:2])
            inner = crop[: down * BLOCK, : across * BLOCK]
            split = inner.reshape(down, BLOCK, across, BLOCK, -1).transpose(0, 2, 1, 3, 4)
            cut.append(split.reshape(down * across, BLOCK * BLOCK, -1))
        return np.concatenate(cut)

    guess = blocks([_median(results) for results in zip(*denoised, strict=True)])
    varying = guess.var(1).mean(-1)
    flat = [
        level[np.argsort(varying[level], kind="stable")][
            : max(FEWEST_BLOCKS, int(len(level) * QUIET))
        ]
        for level in np.array_split(np.argsort(guess.mean((1, 2)), kind="stable"), BRIGHTNESSES)
    ]

    def variances(crops: Sequence[Floats]) -> npt.NDArray[np.float64]:
        cut = blocks(crops)
        return np.array([cut[level].var(1, dtype=np.float64).mean() for level in flat])

    before = np.maximum(variances(noisy), LEAST)
    left = [float((variances(results) / before).mean()) for results in denoised]
    most = max(min(LEFT, MORE * min(left)), sorted(left)[:COUNTED][-1])
    return [index for index, part in enumerate(left) if part <= most]


def move_noise(
    removed: Floats, brightness: npt.NDArray[np.floating[Any]], draw: np.random.Generator
) -> Floats:
    """Move noise elsewhere and give it the strength that noise has there.

    What of it was image falls where it belongs to nothing, and is noise. Its sign stays:
    noise that was cut off at black, or went through a curve, is not alike above and below.

    Parameters
    ----------
    removed : numpy.ndarray
        (H, W, C): noisy - denoised.
    brightness : numpy.ndarray
        (H, W), about 0..1: of the denoised image.
    draw : numpy.random.Generator
        Says where to.
    """
    level = (brightness * LEVELS).astype(int).clip(0, LEVELS - 1)
    power = np.square(removed, dtype=np.float64).mean(-1)
    count = np.bincount(level.ravel(), minlength=LEVELS)
    total = np.bincount(level.ravel(), power.ravel(), minlength=LEVELS)
    known = np.flatnonzero(count >= FEWEST)
    variances = np.full(LEVELS, power.mean())
    if len(known):  # between levels that are rare, what lies between
        variances = np.interp(np.arange(LEVELS), known, total[known] / count[known])
    strength = np.sqrt(variances[level]).clip(LEAST)
    step = [int(draw.integers(n // 4, 3 * n // 4 + 1)) for n in brightness.shape]
    scale = (strength / np.roll(strength, step, (0, 1))).clip(1 / STRETCH, STRETCH)
    moved: Floats = (np.roll(removed, step, (0, 1)) * scale[..., None]).astype(np.float32)
    return moved
