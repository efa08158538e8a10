"""Pixels that are no measurement: hot and dead ones, absurd ones, padding. Numpy only.

Every rule looks at a window around the pixel, never at the whole image, so that the answer
does not depend on how an image is cut.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

REACH = 8
"""Rows and columns around a pixel that the rules look at, at most."""

FLAT = 8
"""Side of a window of one single value that is no measurement: padding, or cut off at white.
Noise that shows at all never leaves 64 equal pixels."""

SPIKE = 12.0
"""A hot pixel stands out this many times as far as half of all local maxima do: about 5 standard
deviations of Gaussian noise above the largest of its neighbours. Photons reach that hardly
ever."""

SPIKE_OF_PHOTOGRAPH = 7.0
"""The same in photographs: about 3. One noisy pixel too many does no harm there, as it is
filled from its surroundings."""

CONTRAST = 0.12
"""And at least this part of the range from black to white."""

WINGS = 0.08
"""Part of a spike's height that its four nearest neighbours may share. A star seen through any
lens gives them at least 0.15."""

SURE, LIKELY = 3.0, 1.5
"""And so many times as far as the third largest of the 24 pixels around lies above the third
least: texture, and the noise of bright parts, do not. Where there are many hot pixels already,
the likely ones are some, too. (Tuned on photographs and micrographs with and without.)"""

MANY = 5e-4
"""Part of the pixels that are surely hot or dead from which on there are many."""

RARE = 0.04
"""More spikes than this part of all pixels are texture, or photons."""

ABSURD = 5.0
"""Times the range from black to white that a single pixel must lie outside of it."""

LONELY = 0.05
"""Part of its excess that its largest neighbour may share: a star's has more."""


def flat_windows(rows: npt.NDArray[Any]) -> Mask | None:
    """Return pixels that lie in a window of `FLAT` by `FLAT` pixels of one single value.

    Parameters
    ----------
    rows : numpy.ndarray
        (..., n, W, C); where it is cut out of an image, with `REACH` more rows on either side.

    Returns
    -------
    numpy.ndarray or None
        (..., n, W): all channels are constant there; None: nowhere.
    """
    height, width = rows.shape[-3:-1]
    if height < FLAT or width < FLAT:
        return None
    # Every window has one of these rows.
    some = rows[..., FLAT - 1 :: FLAT, :, :]
    if not _each(np.logical_and, _same(some[..., 1:, :], some[..., :-1, :]), FLAT - 1, -1).any():
        return None
    # Equal to the right and the lower neighbour; then a whole window of those.
    windows = _each(np.logical_and, _same(rows[..., 1:, :], rows[..., :-1, :]), FLAT - 1, -1)
    windows = _each(np.logical_and, windows, FLAT, -2)
    down = _same(rows[..., 1:, :, :], rows[..., :-1, :, :])
    windows &= _each(np.logical_and, down, FLAT - 1, -2)[..., : width - FLAT + 1]
    if not windows.any():
        return None
    # All pixels of every window.
    found = np.zeros((*rows.shape[:-3], height + FLAT - 1, width + FLAT - 1), bool)
    found[..., FLAT - 1 : height, FLAT - 1 : width] = windows
    return _each(np.logical_or, _each(np.logical_or, found, FLAT, -1), FLAT, -2)


def _same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Mask:
    """Return where all channels, the last axis, are equal."""
    equal: Mask = one == other
    same: Mask = equal[..., 0]
    for index in range(1, equal.shape[-1]):
        same = same & equal[..., index]
    return same


def _each(operation: np.ufunc, mask: Mask, count: int, axis: int) -> Mask:
    """Join each value with the ``count`` - 1 after it; shorter by that."""
    joined = 1
    while joined < count and mask.shape[axis]:
        step = min(joined, count - joined)
        length = mask.shape[axis]
        first, second = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        first[axis], second[axis] = slice(0, max(0, length - step)), slice(step, None)
        mask = operation(mask[tuple(first)], mask[tuple(second)])
        joined += step
    return mask


def typical_spike(boxes: Floats) -> float:
    """Return how far the median local maximum stands out of its neighbours.

    Parameters
    ----------
    boxes : numpy.ndarray
        Parts of an image, (..., h, w), finite.
    """
    height, width = boxes.shape[-2:]
    edges = [(0, 0)] * (boxes.ndim - 2) + [(1, 1)] * 2
    padded = np.pad(boxes, edges, "reflect" if min(height, width) > 1 else "edge")
    beside = np.maximum(padded[..., :-2], padded[..., 2:])
    rows = np.maximum(beside, padded[..., 1:-1])
    largest = np.maximum(rows[..., :-2, :], rows[..., 2:, :])
    np.maximum(largest, beside[..., 1:-1, :], out=largest)
    above = boxes - largest
    heights = above[above > 0]
    return float(np.median(heights)) if heights.size else 0.0


def spikes(rows: Floats, least: float, typical: float, local: float) -> tuple[Mask, Mask]:
    """Find single pixels that stand out of their neighbours, one excepted: hot and dead ones.

    Parameters
    ----------
    rows : numpy.ndarray
        (..., n, W), finite; where it is cut out of an image, with `REACH` more rows on either
        side.
    least : float
        How far they must stand out.
    typical : float
        From `typical_spike`.
    local : float
        `SURE` or `LIKELY`.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Same shape each.
    """
    hot, dead = np.zeros(rows.shape, bool), np.zeros(rows.shape, bool)
    for found, sign, low, high in (
        (hot, 1, np.minimum, np.maximum),
        (dead, -1, np.maximum, np.minimum),
    ):
        # No further above the second largest of all neighbours than above that of two pairs.
        bound = high(_pairs(low, rows, -1), _pairs(low, rows, -2))
        likely = np.flatnonzero((rows - bound if sign > 0 else bound - rows) > least)
        if not len(likely):
            continue
        where = np.unravel_index(likely, rows.shape)
        here, around = sign * rows[where], sign * _around(rows, where, 1)
        second = np.partition(around, -2, 0)[-2]
        smallest = around.min(0)
        # A dot on a background without any noise was drawn; light that spreads is a star.
        cross = around[:4]
        nearest = (cross[0] + cross[1] + cross[2] + cross[3] - cross.max(0)) / np.float32(3)
        good = (here - second > least) & (second > smallest)
        good &= nearest - smallest < WINGS * (here - smallest) + 5 * typical
        # Nor texture.
        where = tuple(place[good] for place in where)
        around = sign * _around(rows, where, 2)
        around.partition((2, len(around) - 3), 0)
        spread = around[-3] - around[2]
        found[where] = (here - second)[good] > local * spread
    return hot, dead


def _pairs(operation: np.ufunc, rows: Floats, axis: int) -> Floats:
    """Join the two neighbours of every pixel along an axis; borders are mirrored."""
    across = rows if axis == -1 else rows.swapaxes(-1, -2)
    out = np.empty_like(rows)
    into = out if axis == -1 else out.swapaxes(-1, -2)
    operation(across[..., :-2], across[..., 2:], out=into[..., 1:-1])
    # Where nothing lies to either side, this pair says nothing.
    alone = min(rows.shape[-2:]) == 1
    nothing = np.inf if operation is np.maximum else -np.inf
    for edge, inner in ((0, 1), (-1, -2)):
        into[..., edge] = nothing if alone else across[..., inner]
    return out


def _around(rows: Floats, where: tuple[npt.NDArray[np.intp], ...], reach: int) -> Floats:
    """Return the pixels around some: (count, n), the four nearest first; borders are mirrored."""
    places = []
    for place, size, moves in zip(where[-2:], rows.shape[-2:], _shifts(reach), strict=True):
        moved = place + moves
        if min(rows.shape[-2:]) > reach:
            moved = size - 1 - np.abs(size - 1 - np.abs(moved))
        places.append(moved.clip(0, size - 1))
    around: Floats = rows[(*where[:-2], *places)]
    return around


@cache
def _shifts(reach: int) -> npt.NDArray[np.intp]:
    """Return the steps down and across to the pixels around one, (2, count, 1)."""
    steps = range(-reach, reach + 1)
    shifts = [(y, x) for y in steps for x in steps if (y, x) != (0, 0)]
    return np.array(sorted(shifts, key=lambda shift: abs(shift[0]) + abs(shift[1]))).T[..., None]


def absurd(rows: npt.NDArray[Any], low: float, high: float) -> Mask | None:
    """Find single pixels far outside the range whose neighbours are not; (n, W) of one channel."""
    margin = ABSURD * (high - low)
    far = (rows > high + margin) | (rows < low - margin)
    if not far.any():
        return None
    values = rows.astype(np.float64)
    excess = np.maximum(values - high, 0) + np.maximum(low - values, 0)
    # Compared in float32 the largest numbers of float64 would all be infinite.
    scaled = (excess / excess.max()).astype(np.float32)
    where = np.nonzero(far)
    lonely = _around(scaled, where, 1).max(0) <= LONELY * scaled[where]
    far[where] = lonely
    return far if lonely.any() else None
