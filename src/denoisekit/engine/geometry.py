"""How an image is cut into tiles: plain integers, no pixels.

Coordinates are those of the *padded* image: the image in the top-left corner, grown at
its right and bottom up to sizes the network accepts. Of every tile that the network
reads (`Tile.read`) only the `Tile.core` is kept; the halo between them is as wide as the
network can see, and every read box begins on the network's own grid, so the joined
cores are what the network would have said of the whole image.

A network that is not local has no such halo. It reads boxes of one size, evenly spread,
and neighbours are blended across the middle of what they share.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from denoisekit.engine.cuts import Cuts, NativeCuts
from denoisekit.errors import OutOfMemory
from denoisekit.limits import Limits


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


@dataclass(frozen=True, slots=True)
class Tile:
    """What the network reads, and the part of its answer that is kept."""

    read: Box
    core: Box


@dataclass(frozen=True, slots=True)
class Band:
    """One row of tiles: all read the same rows and keep the same rows."""

    read_top: int
    read_bottom: int
    core_top: int
    core_bottom: int
    columns: tuple[tuple[int, int, int, int], ...]

    def tiles(self) -> Iterator[Tile]:
        """Yield the tiles from left to right."""
        for read_left, left, right, read_right in self.columns:
            yield Tile(
                Box(self.read_top, read_left, self.read_bottom, read_right),
                Box(self.core_top, left, self.core_bottom, right),
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """How an image is cut. Bands are made as they are asked for.

    Attributes
    ----------
    height, width : int
        Size of the image itself.
    padded : (int, int)
        Height and width after padding at the bottom and right.
    tile : (int, int)
        Height and width of a core; cores at the bottom and right may be smaller.
    halo : int
        By how much a read box exceeds its core, except at the image's border.
    blend : int
        Width over which neighbours are mixed; 0 where tiles are exact.
    native : int or None
        Not None: a network that is not local; ``tile`` is the size of its read boxes,
        which begin on multiples of this.
    """

    height: int
    width: int
    padded: tuple[int, int]
    tile: tuple[int, int]
    halo: int
    blend: int = 0
    native: int | None = None

    def _axis(self, axis: int) -> Cuts | NativeCuts:
        size, side = self.padded[axis], self.tile[axis]
        if self.native is None:
            return Cuts(size, side, self.halo)
        return NativeCuts(size, side, 2 * self.halo + self.blend, self.native)

    @property
    def _rows(self) -> Cuts | NativeCuts:
        return self._axis(0)

    @property
    def _columns(self) -> Cuts | NativeCuts:
        return self._axis(1)

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self._rows.count * self._columns.count

    @property
    def read_pixels(self) -> int:
        """Pixels the network reads in all; what a run costs is proportional to it."""
        return self._rows.total * self._columns.total

    @property
    def largest_read(self) -> tuple[int, int]:
        """Height and width of the largest read box; what a run holds follows from it."""
        return self._rows.largest, self._columns.largest

    def bands(self) -> Iterator[Band]:
        """Yield the bands from top to bottom."""
        across = self._columns
        columns = tuple(across.cut(i) for i in range(across.count))
        down = self._rows
        for i in range(down.count):
            read_top, top, bottom, read_bottom = down.cut(i)
            yield Band(read_top, read_bottom, top, bottom, columns)


def _round_up(value: int, grid: int) -> int:
    return -(-value // grid) * grid


def _grid(limits: Limits) -> int:
    # One grid for origins and sizes. Padding to it too, and not to `multiple_of` alone,
    # keeps tiles on the grid when the image is mirrored for the self-ensemble.
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
    grid = _grid(limits)
    padded = _round_up(height, grid), _round_up(width, grid)
    if limits.native is None:
        core = min(padded[0], _round_up(tile[0], grid)), min(padded[1], _round_up(tile[1], grid))
        return Plan(height, width, padded, core, _round_up(limits.halo, grid))
    shared = 2 * limits.halo + limits.blend
    least = shared + max(grid, shared)
    sides = [_round_up(max(side, least), grid) for side in tile]
    read = min(padded[0], sides[0]), min(padded[1], sides[1])
    return Plan(height, width, padded, read, limits.halo, limits.blend, grid)


def choose_tile(
    height: int,
    width: int,
    limits: Limits,
    max_pixels: int,
    max_band_pixels: int | None = None,
) -> tuple[int, int]:
    """Choose the core size that costs least among those that fit in memory.

    Parameters
    ----------
    height, width : int
        Size of the image.
    limits : Limits
        What the network needs.
    max_pixels : int
        Most pixels of a read box (the network's memory over its bytes per pixel).
    max_band_pixels : int, optional
        Most pixels of a band's read rows across the whole padded image, which
        `run_tiled` holds beside the tile; None: any number.

    Returns
    -------
    (int, int)
        Height and width for `plan_tiles`: of all grids that fit the one with the
        fewest pixels read in all, then the fewest tiles.

    Raises
    ------
    OutOfMemory
        Not even the smallest tile fits.
    """
    grid, whole = _grid(limits), plan_tiles(height, width, limits, (height, width))
    band = whole.read_pixels if max_band_pixels is None else max_band_pixels
    if whole.read_pixels <= min(max_pixels, band):
        return whole.tile
    smallest = [Cuts(size, grid, whole.halo).largest for size in whole.padded]

    def candidates(axis: int, longest: int) -> list[tuple[int, int, int, int]]:
        axes = (
            Cuts(whole.padded[axis], core, whole.halo)
            for core in range(grid, min(longest, whole.padded[axis]) + 1, grid)
        )
        return [(a.largest, a.total, a.count, a.core) for a in axes if a.largest <= longest]

    rows = candidates(0, min(band // whole.padded[1], max_pixels // smallest[1]))
    columns = sorted(candidates(1, max_pixels // smallest[0]))
    if not rows or not columns:
        raise OutOfMemory(
            f"not even a tile of {smallest[0]}x{smallest[1]} pixels fits in the memory allowed",
            "raise --max-memory, or use a method with a smaller halo",
        )
    # best[i]: the cheapest of the i + 1 shortest column cuts
    best: list[tuple[int, int, int]] = []
    for _, total, count, core in columns:
        here = (total, count, core)
        best.append(min(best[-1], here) if best else here)
    choices = []
    for largest, total, count, core in rows:
        fitting = bisect_right(columns, max_pixels // largest, key=lambda column: column[0])
        if fitting:
            across = best[fitting - 1]
            choices.append((total * across[0], count * across[1], core, across[2]))
    _, _, tile_height, tile_width = min(choices)
    return tile_height, tile_width
