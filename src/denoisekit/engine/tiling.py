"""Exact tiling: an image of any size through a network, a tile at a time.

The only place of the package that pads, cuts and joins pixels; where to cut is
decided in `denoisekit.engine.geometry`. The image is padded once, as a whole, by reflection
at its right and bottom; tiles are cut from that, so no tile ever sees padding that
the whole image would not have shown it. (Boxes of a network that is not local are
blended instead, and are as alike as such a network makes them.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.draws import Draws
from denoisekit.engine.geometry import Band, Box, Plan, Tile, choose_tile, plan_tiles

__all__ = [
    "Band",
    "Box",
    "Plan",
    "Tile",
    "choose_tile",
    "plan_tiles",
    "reflect_index",
    "run_tiled",
    "self_ensemble",
    "spread_boxes",
]

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats, Draws], Floats]
"""A network on a tile: a contiguous (C, h, w) float32 array, not to be written to, and the
tile's random numbers -> an array of the same shape."""

ROWS_AT_ONCE = 256
"""Most rows asked of a reader in one call: bounds what is held beside the band."""


def reflect_index(start: int, stop: int, size: int) -> npt.NDArray[np.intp]:
    """Return where a signal of length ``size``, reflected without end, takes its values.

    The edge value is not repeated: positions 3, 4, 5 of ``a b c`` are ``b a b``.

    Parameters
    ----------
    start, stop : int
        Range of positions; any, also far beyond the signal or negative.
    size : int
        Length of the signal, at least 1. A single value is repeated.

    Returns
    -------
    numpy.ndarray
        (stop - start,) indices in 0 … ``size`` - 1.
    """
    period = max(1, 2 * (size - 1))
    phase = np.arange(start, stop, dtype=np.intp) % period
    return np.minimum(phase, period - phase) if size > 1 else np.zeros_like(phase)


class _RowWindow:
    """The rows that bands need, taken from a reader once each and in order."""

    def __init__(self, rows: Callable[[int, int], npt.NDArray[Any]], plan: Plan) -> None:
        self.rows, self.plan = rows, plan
        padding = plan.padded[0] - plan.height
        self.capacity = min(plan.height, max(plan.largest_read[0], padding + 1))
        self.right = reflect_index(plan.width, plan.padded[1], plan.width)
        self.top = self.bottom = 0
        # (C, capacity, padded width), made when the first rows tell C
        self.pixels: Floats = np.empty((0, 0, 0), np.float32)

    def move(self, band: Band) -> npt.NDArray[np.intp]:
        """Hold the rows of ``band``; return where in ``pixels`` each of its read rows is."""
        height = self.plan.height
        index = reflect_index(band.read_top, band.read_bottom, height)
        # Padding mirrors rows of the band before, but never rows that it has let go:
        # padding is shorter than one step of the grid, a core at least as long.
        top = int(index.min())
        kept = self.pixels[:, top - self.top : self.bottom - self.top]
        self.pixels[:, : kept.shape[1]] = kept
        self.top = top
        while self.bottom < min(band.read_bottom, height):
            stop = min(self.bottom + ROWS_AT_ONCE, band.read_bottom, height)
            self._append(self.rows(self.bottom, stop))
            self.bottom = stop
        return index - top

    def _append(self, rows: npt.NDArray[Any]) -> None:
        if self.pixels.size == 0:
            shape = rows.shape[2], self.capacity, self.plan.padded[1]
            self.pixels = np.empty(shape, np.float32)
        at = self.bottom - self.top
        view = self.pixels[:, at : at + len(rows)]
        view[:, :, : self.plan.width] = rows.transpose(2, 0, 1)
        view[:, :, self.plan.width :] = view[:, :, self.right]


def spread_boxes(
    rows: Callable[[int, int], npt.NDArray[Any]], plan: Plan, side: int, grid: int, pixels: int
) -> list[Floats]:
    """Return square boxes spread evenly over an image, as many as allowed.

    Parameters
    ----------
    rows : callable
        As in `run_tiled`; asked from the top down, rows between boxes not at all.
    plan : Plan
        Of the image; tells its size and padding.
    side : int
        Of a box, where the padded image is that long; a multiple of ``grid``.
    grid : int
        Boxes begin on multiples of this.
    pixels : int
        Most pixels of all boxes together; one box is taken in any case.

    Returns
    -------
    list of numpy.ndarray
        (C, h, w) float32 each, all of one size.
    """
    size = min(side, plan.padded[0]), min(side, plan.padded[1])
    room = [length // box for length, box in zip(plan.padded, size, strict=True)]
    count = min(max(1, pixels // (size[0] * size[1])), room[0] * room[1])
    down = min(room[0], count, max(1, round((count * room[0] / room[1]) ** 0.5)))
    across = min(room[1], count // down)
    boxes = []
    for top in _spread(plan.padded[0], size[0], down, grid):
        index = reflect_index(top, top + size[0], plan.height)
        first = int(index.min())
        band = np.asarray(rows(first, int(index.max()) + 1), np.float32)[index - first]
        for left in _spread(plan.padded[1], size[1], across, grid):
            columns = reflect_index(left, left + size[1], plan.width)
            boxes.append(np.ascontiguousarray(band[:, columns].transpose(2, 0, 1)))
    return boxes


def _spread(length: int, box: int, count: int, grid: int) -> list[int]:
    """Return where ``count`` boxes begin: amid equal shares of the length."""
    share = length / count
    return [
        int(min((i + 0.5) * share - box / 2, length - box)) // grid * grid for i in range(count)
    ]


def self_ensemble(fn: Run, tile: Floats, draws: Draws) -> Floats:
    """Return the mean of ``fn`` over the eight flips and transposes of a tile.

    Parameters
    ----------
    fn : callable
        As in `run_tiled`.
    tile : numpy.ndarray
        (C, h, w) float32.
    draws : Draws
        Of the tile.

    Returns
    -------
    numpy.ndarray
        (C, h, w) float32.
    """
    total = np.zeros_like(tile)
    for transposed in (False, True):
        seen = tile.transpose(0, 2, 1) if transposed else tile
        answer = total.transpose(0, 2, 1) if transposed else total
        numbers = draws.transpose() if transposed else draws
        _, height, width = seen.shape
        for down in (1, -1):
            for across in (1, -1):
                turned = np.ascontiguousarray(seen[:, ::down, ::across])
                flipped = numbers.flip(height if down < 0 else None, width if across < 0 else None)
                answer += fn(turned, flipped)[:, ::down, ::across]
    total /= 8
    return total


def run_tiled(
    fn: Run,
    rows: Callable[[int, int], npt.NDArray[Any]],
    plan: Plan,
    *,
    draws: Draws | None = None,
    ensemble: bool = False,
) -> Iterator[tuple[int, Floats]]:
    """Run a network over an image, tile by tile, and yield the finished rows.

    Holds one band of input, one of output and one tile.

    Parameters
    ----------
    fn : callable
        The network. h and w of its tiles are multiples of what it needs.
    rows : callable
        ``rows(top, bottom)`` returns rows of the image as (bottom - top, W, C). Every
        row is asked for exactly once, from the top down, at most `ROWS_AT_ONCE` a call.
    plan : Plan
        From `plan_tiles`.
    draws : Draws, optional
        The image's random numbers; every tile gets its part.
    ensemble : bool
        Average the eight flips and transposes of every tile. All read boxes lie on the
        network's grid also when mirrored, so this too equals the whole image's.

    Yields
    ------
    (int, numpy.ndarray)
        The top row of a band and its pixels, (n, W, C) float32, cropped to the image,
        in order and without gaps.

    Raises
    ------
    ValueError
        ``fn`` returns another shape than it was given.
    """
    draws = draws or Draws()
    window, half = _RowWindow(rows, plan), plan.blend // 2
    unfinished: Floats | None = None  # what the band below is still to be mixed into
    for band in plan.bands():
        index = window.move(band)
        pixels = window.pixels
        first = max(0, band.core_top - half)
        stop = min(band.core_bottom + half, plan.height)
        out = np.zeros((stop - first, plan.width, pixels.shape[0]), np.float32)
        if unfinished is not None:
            out[: len(unfinished)] = unfinished
        for tile in band.tiles():
            read = tile.read
            noisy = np.ascontiguousarray(pixels[:, index, read.left : read.right])
            place = draws.part(read.top, read.left)
            denoised = self_ensemble(fn, noisy, place) if ensemble else fn(noisy, place)
            if denoised.shape != noisy.shape:
                raise ValueError(f"a tile of {noisy.shape} came back as {denoised.shape}")
            _add(out, first, denoised, tile, plan)
        ready = len(out) if band.core_bottom >= plan.padded[0] else band.core_bottom - half - first
        unfinished = out[ready:]
        yield first, out[:ready]


def _add(out: Floats, first: int, denoised: Floats, tile: Tile, plan: Plan) -> None:
    """Add a tile to the rows of its band, weighted where neighbours are mixed."""
    read, core, half = tile.read, tile.core, plan.blend // 2
    top, left = max(0, core.top - half), max(0, core.left - half)
    bottom, right = min(core.bottom + half, plan.height), min(core.right + half, plan.width)
    part = denoised[:, top - read.top : bottom - read.top, left - read.left : right - read.left]
    if half:
        down = _ramp(core.top, core.bottom, plan.padded[0], half)[: bottom - top]
        across = _ramp(core.left, core.right, plan.padded[1], half)[: right - left]
        part = part * down[:, None] * across
    out[top - first : bottom - first, left:right] += part.transpose(1, 2, 0)


def _ramp(start: int, stop: int, size: int, half: int) -> Floats:
    """Return the weights of a core grown by ``half``; those of two neighbours add up to 1."""
    rise = (np.arange(2 * half, dtype=np.float32) + 0.5) / (2 * half)
    before, after = (start > 0), (stop < size)
    weights = np.ones(stop - start + half * (before + after), np.float32)
    if before:
        weights[: 2 * half] *= rise
    if after:
        weights[-2 * half :] *= rise[::-1]
    return weights
