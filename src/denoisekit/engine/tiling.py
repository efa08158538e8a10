"""Exact tiling: an image of any size through a network, a tile at a time.

The only place of the package that cuts, pads and joins pixels. Coordinates are those of the
*padded* image: the image in the top-left corner, grown at its right and bottom, by reflection,
up to sizes the network accepts. Of every tile that the network reads (`Tile.read`) only the
`Tile.core` is kept; the halo between them is as wide as the network can see, and every read box
begins on the network's own grid, so the joined cores are what the network would have said of the
whole image, and no tile sees padding that the whole image would not have shown it.

A network that is not local has no such halo. It reads boxes of one size, evenly spread, and
neighbours are blended across the middle of what they share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.draws import Draws
from denoisekit.limits import Limits

Floats = npt.NDArray[np.float32]
Run = Callable[["Piece"], Floats]
"""A network on a tile: returns the (C, h, w) of its core, grown by half of what is blended."""

ROWS_AT_ONCE = 256
"""Most rows asked of a reader in one call: bounds what is held beside the band."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def pixels(self) -> int:
        """Area."""
        return self.height * self.width

    def seen_from(self, other: Box) -> Box:
        """Return the same rectangle, counted from another one's first pixel."""
        top, left = other.top, other.left
        return Box(self.top - top, self.left - left, self.bottom - top, self.right - left)


@dataclass(frozen=True, slots=True)
class Tile:
    """What the network reads, and the part of its answer that is kept."""

    read: Box
    core: Box


Cut = tuple[int, int, int, int]
"""Along one axis: read start, core start, core stop, read stop."""


@dataclass(frozen=True)
class Plan:
    """How an image is cut.

    Attributes
    ----------
    height, width : int
        Size of the image itself.
    padded : (int, int)
        Height and width after padding at the bottom and right.
    rows, columns : tuple of Cut
        The cuts along both axes.
    blend : int
        Width over which neighbours are mixed; 0 where tiles are exact.
    """

    height: int
    width: int
    padded: tuple[int, int]
    rows: tuple[Cut, ...]
    columns: tuple[Cut, ...]
    blend: int = 0

    @property
    def tile(self) -> tuple[int, int]:
        """Height and width of the first core; those at the bottom and right may be smaller."""
        (_, top, bottom, _), (_, left, right, _) = self.rows[0], self.columns[0]
        return bottom - top, right - left

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    @cached_property
    def read_pixels(self) -> int:
        """Pixels the network reads in all."""
        return sum(cut[3] - cut[0] for cut in self.rows) * sum(
            cut[3] - cut[0] for cut in self.columns
        )

    @cached_property
    def largest_read(self) -> tuple[int, int]:
        """Height and width of the largest read box; what a run holds follows from it."""
        return max(cut[3] - cut[0] for cut in self.rows), max(
            cut[3] - cut[0] for cut in self.columns
        )

    def rows_read_ahead(self, under_way: int) -> int:
        """Return how many rows lie between those being joined and those of new tiles, at most."""
        core = max(bottom - top for _, top, bottom, _ in self.rows)
        bands = -(-under_way // len(self.columns))
        return min(self.height, bands * core + self.largest_read[0])

    def work(self, halo_cost: float) -> float:
        """Return how many pixels in all cost as much as the tiles, see `Traits.halo_cost`."""
        return halo_cost * self.read_pixels + (1 - halo_cost) * math.prod(self.padded)

    def bands(self) -> Iterator[list[Tile]]:
        """Yield the rows of tiles from top to bottom, each from left to right."""
        for read_top, top, bottom, read_bottom in self.rows:
            yield [
                Tile(
                    Box(read_top, read_left, read_bottom, read_right), Box(top, left, bottom, right)
                )
                for read_left, left, right, read_right in self.columns
            ]


def _round_up(value: int, grid: int) -> int:
    return -(-value // grid) * grid


def grid_of(limits: Limits) -> int:
    """Return the grid of origins and sizes.

    One for both: padding to it, and not to `multiple_of` alone, keeps tiles on the grid when the
    image is mirrored for the self-ensemble.
    """
    return math.lcm(limits.multiple_of, limits.align)


def plan_tiles(height: int, width: int, limits: Limits, tile: tuple[int, int]) -> Plan:
    """Cut an image into tiles whose joined cores equal the whole image's result.

    Parameters
    ----------
    height, width : int
        Size of the image, at least 1.
    limits : Limits
        What the network needs.
    tile : (int, int)
        Height and width wanted for a core, at least 1; rounded up to the network's
        grid. A size as large as the image or larger does not cut along that axis. Of a
        network that is not local: of what it reads, at least twice what neighbours share.

    Returns
    -------
    Plan
        Its read boxes begin and end on multiples of ``limits.align`` and
        ``limits.multiple_of``, and contain ``limits.halo`` pixels around their core
        or touch the border of the padded image.

    Raises
    ------
    ValueError
        A size is below 1.
    """
    if min(height, width, *tile) < 1:
        raise ValueError(f"sizes must be at least 1: image {height}x{width}, tile {tile}")
    grid = grid_of(limits)
    padded = _round_up(height, grid), _round_up(width, grid)
    if limits.native is None:
        halo = _round_up(limits.halo, grid)
        rows, columns = (
            _local_cuts(size, _round_up(core, grid), halo)
            for size, core in zip(padded, tile, strict=True)
        )
        return Plan(height, width, padded, rows, columns)
    shared = 2 * limits.halo + limits.blend
    least = shared + max(grid, shared)
    rows, columns = (
        _even_cuts(size, _round_up(max(side, least), grid), shared, grid)
        for size, side in zip(padded, tile, strict=True)
    )
    return Plan(height, width, padded, rows, columns, limits.blend)


def _local_cuts(size: int, core: int, halo: int) -> tuple[Cut, ...]:
    """Cut an axis into cores, each grown by a halo."""
    return tuple(
        (max(0, start - halo), start, min(size, start + core), min(size, start + core + halo))
        for start in range(0, size, core)
    )


def _even_cuts(size: int, side: int, shared: int, grid: int) -> tuple[Cut, ...]:
    """Cut an axis into reads of one length that share so much; cores end amid that."""
    if side >= size:
        return ((0, 0, size, size),)
    step = (side - shared) // grid * grid
    last = -(-(size - side) // step)
    starts = [(size - side) // grid * i // last * grid for i in range(last + 1)]
    borders = [0, *((a + b + side) // 2 for a, b in pairwise(starts)), size]
    return tuple(
        (start, borders[i], borders[i + 1], start + side) for i, start in enumerate(starts)
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """A tile with its pixels, on its way to the network.

    Attributes
    ----------
    noisy : numpy.ndarray
        (C, h, w) float32, contiguous, not to be written to.
    draws : Draws
        Its random numbers.
    keep : Box
        What of the answer is kept, counted from the tile's first pixel.
    contexts : sequence of object
        What a method that studied the image knows of it, for each of its passes.
    """

    noisy: Floats
    draws: Draws
    keep: Box
    contexts: Sequence[Any] = ()


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

    def move(self, read: Box) -> npt.NDArray[np.intp]:
        """Hold the rows of a band; return where in ``pixels`` each of its read rows is."""
        height = self.plan.height
        index = reflect_index(read.top, read.bottom, height)
        # Padding mirrors rows of the band before, but never rows that it has let go:
        # padding is shorter than one step of the grid, a core at least as long.
        top = int(index.min())
        kept = self.pixels[:, top - self.top : self.bottom - self.top]
        self.pixels[:, : kept.shape[1]] = kept
        self.top = top
        while self.bottom < min(read.bottom, height):
            stop = min(self.bottom + ROWS_AT_ONCE, read.bottom, height)
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


def self_ensemble(fn: Run, piece: Piece) -> Floats:
    """Return the mean of ``fn`` over the eight flips and transposes of a tile."""
    keep = piece.keep
    total: Floats | None = None
    for transposed in (False, True):
        seen = piece.noisy.transpose(0, 2, 1) if transposed else piece.noisy
        numbers = piece.draws.transpose() if transposed else piece.draws
        kept = Box(keep.left, keep.top, keep.right, keep.bottom) if transposed else keep
        _, height, width = seen.shape
        for down in (1, -1):
            for across in (1, -1):
                turned = Box(
                    height - kept.bottom if down < 0 else kept.top,
                    width - kept.right if across < 0 else kept.left,
                    height - kept.top if down < 0 else kept.bottom,
                    width - kept.left if across < 0 else kept.right,
                )
                flipped = numbers.flip(height if down < 0 else None, width if across < 0 else None)
                pixels = np.ascontiguousarray(seen[:, ::down, ::across])
                one = replace(piece, noisy=pixels, draws=flipped, keep=turned)
                answer = fn(one)[:, ::down, ::across]
                answer = answer.transpose(0, 2, 1) if transposed else answer
                total = answer.copy() if total is None else total + answer
    assert total is not None
    return total / np.float32(8)


def cut_tiles(
    rows: Callable[[int, int], npt.NDArray[Any]], plan: Plan, draws: Draws
) -> Iterator[Piece]:
    """Yield the tiles of an image, from the top down, each band from left to right.

    Parameters
    ----------
    rows : callable
        ``rows(top, bottom)`` returns rows of the image as (bottom - top, W, C). Every
        row is asked for exactly once, from the top down, at most `ROWS_AT_ONCE` a call.
    plan : Plan
        From `plan_tiles`.
    draws : Draws
        The image's random numbers; every tile gets its part.
    """
    window = _RowWindow(rows, plan)
    for band in plan.bands():
        index = window.move(band[0].read)
        for tile in band:
            read, keep = tile.read, _kept(tile.core, plan)
            noisy = np.ascontiguousarray(window.pixels[:, index, read.left : read.right])
            yield Piece(noisy, draws.part(read.top, read.left), keep.seen_from(read))


def join_tiles(parts: Iterator[Floats], plan: Plan) -> Iterator[tuple[int, Floats]]:
    """Join what became of the tiles that `cut_tiles` yields to finished rows.

    Parameters
    ----------
    parts : iterator of numpy.ndarray
        What is kept of each tile, (C, h, w). Only those of this image are taken.
    plan : Plan
        Of the image.

    Yields
    ------
    (int, numpy.ndarray)
        The top row of a band and its pixels, (n, W, C) float32, cropped to the image,
        in order and without gaps.
    """
    half = plan.blend // 2
    unfinished: Floats | None = None  # what the band below is still to be mixed into
    for band in plan.bands():
        core, rows = band[0].core, _kept(band[0].core, plan)
        out: Floats | None = None
        for tile in band:
            part = next(parts)
            keep = _kept(tile.core, plan)
            if out is None:
                out = np.zeros((rows.height, plan.width, len(part)), np.float32)
                if unfinished is not None:
                    out[: len(unfinished)] = unfinished
            if half:
                down = _ramp(core.top, core.bottom, plan.padded[0], half)[: keep.height]
                across = _ramp(tile.core.left, tile.core.right, plan.padded[1], half)
                part = part * down[:, None] * across[: keep.width]
            out[:, keep.left : keep.right] += part.transpose(1, 2, 0)
        assert out is not None
        ready = len(out) if core.bottom >= plan.padded[0] else core.bottom - half - rows.top
        unfinished = out[ready:]
        yield rows.top, out[:ready]


def run_tiled(
    fn: Run, rows: Callable[[int, int], npt.NDArray[Any]], plan: Plan, draws: Draws
) -> Iterator[tuple[int, Floats]]:
    """Run a network over an image, one tile after the other; see `cut_tiles`, `join_tiles`."""
    return join_tiles(map(fn, cut_tiles(rows, plan, draws)), plan)


def _kept(core: Box, plan: Plan) -> Box:
    """Return what of the image a tile is for: its core, grown by half of what is blended."""
    half = plan.blend // 2
    return Box(
        max(0, core.top - half),
        max(0, core.left - half),
        min(core.bottom + half, plan.height),
        min(core.right + half, plan.width),
    )


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
