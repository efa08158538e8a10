"""How well each of several ways to denoise does on a picture whose clean one is known.

It is made from the picture itself: the median of the results passes for clean, and what they
took away, moved elsewhere, passes for noise. A way that is right for the one is most often
right for the other, because scene and noise are alike. Results that leave much noise where the
picture is flat do not count in the median: else a clean picture with noise would be asked for,
and ways that leave it would do best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Way = Callable[[Floats], Floats]
"""Denoises an (H, W, C) float32 picture on 0..1."""
Box = tuple[Floats, Sequence[Floats]]
"""A part of the noisy picture, (H, W, C) on 0..1, and what each way made of it."""

SIDE = 192
"""Side of the boxes in which ways are tried."""
SMALLEST = 32
"""Pixels along a side below which there is too little to judge by."""
SEED = 1
"""Of where noise is moved to: the same picture gives the same answer."""
LEVELS = 16
"""Of brightness, on each of which the noise has a strength of its own."""
FEWEST = 200
"""Pixels of a level from which its noise is measured."""
STRETCH = 3.0
"""How much noise may be scaled at most from one level to another."""
FLAT = 8
"""Side of the blocks in which it is measured how much noise is left."""
BRIGHTNESSES = 4
"""Levels of brightness at which it is: a dark background tells nothing of what is bright."""
QUIET = 0.2
"""Part of the blocks of a level that is taken for flat: those that vary least."""
FEWEST_BLOCKS = 4
"""That are taken of a level at least."""
LEFT = 0.2
"""Part of the noise's variance that a result may leave to count in the clean picture,"""
MORE = 3.0
"""and how many times as much as the one that leaves least."""
COUNTED = 3
"""Results that count whatever they leave: of fewer the median says little."""
LEAST = 1e-8
"""Error at which pictures count as equal: 80 dB."""


def places(height: int, width: int, most: int) -> list[tuple[slice, slice]]:
    """Return rows and columns of boxes spread over a picture, from the top down.

    Parameters
    ----------
    height, width : int
        Of the picture.
    most : int
        Boxes; there are fewer where they would overlap.
    """
    down, across = max(1, height // SIDE), max(1, width // SIDE)
    down = min(down, max(1, round(math.sqrt(most * down / across))), most)
    across = min(across, most // down)
    return [(rows, columns) for rows in _spread(height, down) for columns in _spread(width, across)]


def _spread(length: int, count: int) -> list[slice]:
    """Return boxes amid equal shares of a length; all of it where it is short."""
    side = min(SIDE, length)
    starts = [((2 * i + 1) * length // count - side) // 2 for i in range(count)]
    return [slice(start, start + side) for start in starts]


def errors(boxes: Sequence[Box], ways: Sequence[Way]) -> tuple[float, list[float]]:
    """Estimate the errors of several ways on one picture.

    Parameters
    ----------
    boxes : sequence of Box
        Parts of it; not empty.
    ways : sequence of callable
        Each is run once more on every box.

    Returns
    -------
    noisy : float
        Mean square of the noise that was put on.
    ways : list of float
        Mean squared error of each way.
    """
    strong = _strong(boxes)
    found = []
    for noisy, results in boxes:
        guess = _median([results[index] for index in strong])
        noise = moved(noisy - guess, guess.mean(-1), np.random.default_rng(SEED))
        # The renoised picture is cut off where the noisy one was.
        again = (guess + noise).clip(noisy.min(), noisy.max())
        found.append([_error(again, guess), *(_error(way(again), guess) for way in ways)])
    before, *after = np.mean(found, 0).tolist()
    return before, after


def decibels(error: float) -> float:
    """Return a mean squared error on 0..1 as PSNR, 80 at most."""
    return -10 * math.log10(max(error, LEAST))


def _median(results: Sequence[Floats]) -> Floats:
    found: Floats = np.median(np.stack(results), 0).astype(np.float32, copy=False)
    return found


def _strong(boxes: Sequence[Box]) -> list[int]:
    """Return which results take most of the noise away."""
    left = _left(boxes)
    most = max(min(LEFT, MORE * min(left)), sorted(left)[:COUNTED][-1])
    return [index for index, part in enumerate(left) if part <= most]


def _left(boxes: Sequence[Box]) -> list[float]:
    """Return the part of the variance in flat blocks that each result leaves."""
    flat = _flat(np.concatenate([_blocks(_median(results)) for _, results in boxes]))

    def variances(pictures: Sequence[Floats]) -> npt.NDArray[np.float64]:
        blocks = np.concatenate([_blocks(picture) for picture in pictures])
        return np.array([blocks[level].var(1, dtype=np.float64).mean() for level in flat])

    before = np.maximum(variances([noisy for noisy, _ in boxes]), LEAST)
    of_ways = zip(*(results for _, results in boxes), strict=True)
    return [float((variances(results) / before).mean()) for results in of_ways]


def _blocks(picture: Floats) -> Floats:
    """Cut a picture into blocks: (blocks, pixels, C)."""
    down, across = (size // FLAT for size in picture.shape[:2])
    cut = picture[: down * FLAT, : across * FLAT].reshape(down, FLAT, across, FLAT, -1)
    return cut.transpose(0, 2, 1, 3, 4).reshape(down * across, FLAT * FLAT, -1)


def _flat(blocks: Floats) -> list[npt.NDArray[np.intp]]:
    """Return which blocks vary least, at every level of brightness."""
    varying = blocks.var(1).mean(-1)
    levels = np.array_split(np.argsort(blocks.mean((1, 2)), kind="stable"), BRIGHTNESSES)
    return [
        level[np.argsort(varying[level], kind="stable")][
            : max(FEWEST_BLOCKS, int(len(level) * QUIET))
        ]
        for level in levels
    ]


def _error(one: Floats, other: Floats) -> float:
    return float(np.square(one - other, dtype=np.float64).mean())


def moved(
    removed: Floats, brightness: npt.NDArray[np.floating[Any]], draw: np.random.Generator
) -> Floats:
    """Move noise elsewhere and give it the strength that noise has there.

    What of it was picture falls where it belongs to nothing, and is noise. Its sign stays:
    noise that was cut off at black, or went through a curve, is not alike above and below.

    Parameters
    ----------
    removed : numpy.ndarray
        (H, W, C): noisy - denoised.
    brightness : numpy.ndarray
        (H, W), about 0..1: of the denoised picture.
    draw : numpy.random.Generator
        Says where to.
    """
    height, width = brightness.shape
    level = (brightness * LEVELS).astype(int).clip(0, LEVELS - 1)
    strength = np.sqrt(_variances(removed, level)[level]).clip(LEAST)
    step = [int(draw.integers(n // 4, 3 * n // 4 + 1)) for n in (height, width)]
    came = np.roll(strength, step, (0, 1))
    scale = (strength / came).clip(1 / STRETCH, STRETCH)
    there: Floats = (np.roll(removed, step, (0, 1)) * scale[..., None]).astype(np.float32)
    return there


def _variances(removed: Floats, level: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the mean square at each level; between those that are rare, what lies between."""
    power = np.square(removed, dtype=np.float64).mean(-1).ravel()
    count = np.bincount(level.ravel(), minlength=LEVELS)
    total = np.bincount(level.ravel(), power, minlength=LEVELS)
    known = np.flatnonzero(count >= FEWEST)
    if not len(known):
        return np.full(LEVELS, power.mean())
    return np.interp(np.arange(LEVELS), known, total[known] / count[known])
