"""Pixels that are no measurement: hot and dead ones, absurd ones, padding. Numpy only.

Every rule looks at a window around the pixel, never at the whole image, so that the answer
does not depend on how an image is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

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
        (n, W, C); where it is cut out of an image, with `REACH` more rows on either side.

    Returns
    -------
    numpy.ndarray or None
        (n, W): all channels are constant there; None: nowhere.
    """
    if rows.shape[0] < FLAT or rows.shape[1] < FLAT:
        return None
    # Equal to the right and the lower neighbour; then a whole window of those.
    right = (rows[:, 1:] == rows[:, :-1]).all(-1)
    if not right.any():
        return None
    windows = _all_of(right, FLAT - 1, 1)
    windows = _all_of(windows, FLAT, 0)
    down = (rows[1:, :] == rows[:-1, :]).all(-1)
    down = _all_of(down, FLAT - 1, 0)[:, : windows.shape[1]]
    windows &= down
    if not windows.any():
        return None
    found = np.zeros(rows.shape[:2], bool)
    grown = _any_of(_any_of(windows, FLAT, 0), FLAT, 1)
    found[: grown.shape[0], : grown.shape[1]] = grown
    return found


def _all_of(mask: Mask, count: int, axis: int) -> Mask:
    """Return where ``count`` in a row, from here on, are set; shorter by count - 1."""
    length = mask.shape[axis] - count + 1
    out = np.take(mask, range(length), axis) if length else mask[:0]
    for step in range(1, count):
        part = [slice(None)] * 2
        part[axis] = slice(step, step + length)
        out = out & mask[tuple(part)]
    return out


def _any_of(mask: Mask, count: int, axis: int) -> Mask:
    """Undo `_all_of`: set all pixels of every window; longer by count - 1."""
    shape = list(mask.shape)
    shape[axis] += count - 1
    out = np.zeros(shape, bool)
    for step in range(count):
        part = [slice(None)] * 2
        part[axis] = slice(step, step + mask.shape[axis])
        out[tuple(part)] |= mask
    return out


class Neighbours:
    """The eight neighbours of every pixel, sorted out; borders are mirrored.

    Parameters
    ----------
    rows : numpy.ndarray
        (n, W), float32.

    Attributes
    ----------
    largest, second, least, second_least : numpy.ndarray
        Of the eight, same shape.
    cross : numpy.ndarray
        Sum of the four nearest.
    cross_largest, cross_least : numpy.ndarray
        Of those four.
    """

    def __init__(self, rows: npt.NDArray[np.float32]) -> None:
        padded = np.pad(rows, 1, "reflect" if min(rows.shape) > 1 else "edge")
        height, width = rows.shape
        nearest = [(0, 1), (1, 0), (1, 2), (2, 1)]
        shifts = [*nearest, (0, 0), (0, 2), (2, 0), (2, 2)]
        parts = [padded[y : y + height, x : x + width] for y, x in shifts]
        self.largest, self.least = parts[0].copy(), parts[0].copy()
        self.second, self.second_least = np.full_like(rows, -np.inf), np.full_like(rows, np.inf)
        for number, part in enumerate(parts[1:], 2):
            np.maximum(self.second, np.minimum(self.largest, part), out=self.second)
            np.minimum(self.second_least, np.maximum(self.least, part), out=self.second_least)
            np.maximum(self.largest, part, out=self.largest)
            np.minimum(self.least, part, out=self.least)
            if number == len(nearest):
                self.cross = parts[0] + parts[1] + parts[2] + parts[3]
                self.cross_largest, self.cross_least = self.largest.copy(), self.least.copy()


def typical_spike(boxes: Sequence[npt.NDArray[np.float32]]) -> float:
    """Return how far the median local maximum stands out of its neighbours.

    Parameters
    ----------
    boxes : sequence of numpy.ndarray
        Parts of an image, (h, w) each, finite.
    """
    found = []
    for box in boxes:
        above = box - Neighbours(box).largest
        found.append(above[above > 0])
    heights = np.concatenate(found) if found else np.empty(0)
    return float(np.median(heights)) if heights.size else 0.0


def spikes(
    rows: npt.NDArray[np.float32], least: float, typical: float, local: float
) -> tuple[Mask, Mask]:
    """Find single pixels that stand out of their neighbours, one excepted: hot and dead ones.

    Parameters
    ----------
    rows : numpy.ndarray
        (n, W), finite; where it is cut out of an image, with `REACH` more rows on either side.
    least : float
        How far they must stand out.
    typical : float
        From `typical_spike`.
    local : float
        `SURE` or `LIKELY`.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        (n, W) each.
    """
    around = Neighbours(rows)
    hot, dead = rows - around.second > least, around.second_least - rows > least
    if hot.any():
        others = (around.cross - around.cross_largest) / np.float32(3)
        _confirm(hot, rows, around.second, around.least, others, typical, local)
    if dead.any():
        others = (around.cross - around.cross_least) / np.float32(3)
        _confirm(dead, -rows, -around.second_least, -around.largest, -others, typical, local)
    return hot, dead


def _confirm(
    spike: Mask,
    here: npt.NDArray[np.float32],
    second: npt.NDArray[np.float32],
    least: npt.NDArray[np.float32],
    nearest: npt.NDArray[np.float32],
    typical: float,
    local: float,
) -> None:
    """Clear what only looks like a hot pixel: drawn dots, stars, texture."""
    # A dot on a background without any noise was drawn; light that spreads is a star.
    spike &= second > least
    spike &= nearest - least < WINGS * (here - least) + 5 * typical
    spike[spike] = (here - second)[spike] > local * _spread(here, spike)


def _spread(rows: npt.NDArray[np.float32], where: Mask) -> npt.NDArray[np.float32]:
    """Return how far the 24 pixels around some pixels spread, the two at either end left out."""
    padded = np.pad(rows, 2, "reflect" if min(rows.shape) > 2 else "edge")
    down, across = np.nonzero(where)
    shifts = [(y, x) for y in range(5) for x in range(5) if (y, x) != (2, 2)]
    around = np.stack([padded[down + y, across + x] for y, x in shifts])
    around.partition((2, len(shifts) - 3), 0)
    spread: npt.NDArray[np.float32] = around[-3] - around[2]
    return spread


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
    lonely = Neighbours(scaled).largest <= LONELY * scaled
    found: Mask = far & lonely
    return found if found.any() else None
