"""Exact tiling: an image of any size through a network, a tile at a time.

The only place of the package that pads, cuts and joins pixels; where to cut is
decided in `denoisekit.geometry`. The image is padded once, as a whole, by reflection
at its right and bottom; tiles are cut from that, so no tile ever sees padding that
the whole image would not have shown it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.geometry import Band, Box, Plan, Tile, choose_tile, plan_tiles

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
]

Floats = npt.NDArray[np.float32]

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


def self_ensemble(fn: Callable[[Floats], Floats], tile: Floats) -> Floats:
    """Return the mean of ``fn`` over the eight flips and transposes of a tile.

    Parameters
    ----------
    fn : callable
        As in `run_tiled`.
    tile : numpy.ndarray
        (C, h, w) float32.

    Returns
    -------
    numpy.ndarray
        (C, h, w) float32.
    """
    total = np.zeros_like(tile)
    for transposed in (False, True):
        seen = tile.transpose(0, 2, 1) if transposed else tile
        answer = total.transpose(0, 2, 1) if transposed else total
        for down in (1, -1):
            for across in (1, -1):
                turned = np.ascontiguousarray(seen[:, ::down, ::across])
                answer += fn(turned)[:, ::down, ::across]
    total /= 8
    return total


def run_tiled(
    fn: Callable[[Floats], Floats],
    rows: Callable[[int, int], npt.NDArray[Any]],
    plan: Plan,
    *,
    ensemble: bool = False,
) -> Iterator[tuple[int, Floats]]:
    """Run a network over an image, tile by tile, and yield the finished rows.

    Holds one band of input, one of output and one tile.

    Parameters
    ----------
    fn : callable
        Takes a contiguous (C, h, w) float32 array, not to be written to, and returns an
        array of the same shape. h and w are multiples of what the network needs.
    rows : callable
        ``rows(top, bottom)`` returns rows of the image as (bottom - top, W, C). Every
        row is asked for exactly once, from the top down, at most `ROWS_AT_ONCE` a call.
    plan : Plan
        From `plan_tiles`.
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
    window = _RowWindow(rows, plan)
    for band in plan.bands():
        index = window.move(band)
        pixels = window.pixels
        bottom = min(band.core_bottom, plan.height)
        out = np.empty((bottom - band.core_top, plan.width, pixels.shape[0]), np.float32)
        for tile in band.tiles():
            read, core = tile.read, tile.core
            noisy = np.ascontiguousarray(pixels[:, index, read.left : read.right])
            denoised = self_ensemble(fn, noisy) if ensemble else fn(noisy)
            if denoised.shape != noisy.shape:
                raise ValueError(f"a tile of {noisy.shape} came back as {denoised.shape}")
            right = min(core.right, plan.width)
            out[:, core.left : right] = denoised[
                :,
                core.top - read.top : bottom - read.top,
                core.left - read.left : right - read.left,
            ].transpose(1, 2, 0)
        yield band.core_top, out
