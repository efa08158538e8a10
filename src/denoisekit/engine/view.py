"""The rows of an image as a network sees them, and what becomes of its result. Numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from denoisekit.draws import Draws
from denoisekit.engine.masks import REACH, Mask, absurd, flat_windows
from denoisekit.engine.signal import BEYOND, Channel, Signal, known_values, without_colour
from denoisekit.image import Pixels, Reader
from denoisekit.ranges import Floats, fill_absent, to_unit

ROWS = 64
"""Rows that a view works on and keeps at once."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of a plane.

    ``beyond`` is what lies too far outside of 0..1 for a network; ``kept`` marks samples that
    come back as they are.
    """

    raw: Pixels
    unit: Floats
    beyond: Floats | None
    kept: Mask | None


class View:
    """The rows of an image as a network sees them, and what becomes of its result.

    Not for several threads at once.

    Parameters
    ----------
    reader : Reader
        The open image; each row is read once as long as rows are asked for in order.
    signal : Signal
        From `find_signal`.
    lag : int
        Rows behind the last ones asked for that are asked for again.

    Attributes
    ----------
    hot, dead : int
        Such pixels so far.
    masked : int
        Samples without a measurement so far.
    """

    def __init__(self, reader: Reader, signal: Signal, lag: int = 0) -> None:
        self.reader, self.signal, self.info = reader, signal, reader.info
        self.colours = self.info.samples - self.info.alpha
        self._most = -(-lag // ROWS) + 6
        self._raws: dict[tuple[int, int], Pixels] = {}
        self._blocks: dict[tuple[int, int], _Block] = {}
        self._next = (0, 0)
        self.hot = self.dead = self.masked = 0

    def unit(self, plane: int, top: int, bottom: int) -> Floats:
        """Return rows for the network: (n, W, C) float32 on 0..1, finite."""
        found = [block.unit[rows] for block, rows, _ in self._blocks_of(plane, top, bottom)]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def raw(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of the file as they are, all samples."""
        found = [self._raw(plane, index)[rows] for index, rows, _ in _cut(top, bottom)]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def settled(self, plane: int, top: int, band: Floats) -> Floats:
        """Return denoised rows with the network's input where a file keeps what it has."""
        blocks = list(self._blocks_of(plane, top, top + len(band)))
        if all(block.kept is None for block, _, _ in blocks):
            return band
        return np.concatenate(
            [
                band[part]
                if block.kept is None
                else np.where(block.kept[rows], block.unit[rows], band[part])
                for block, rows, part in blocks
            ]
        )

    def file_values(self, plane: int, top: int, band: Floats, strength: float = 1.0) -> Pixels:
        """Return denoised rows as the file keeps them, with what is no measurement put back.

        Parameters
        ----------
        plane, top : int
            Where they belong.
        band : numpy.ndarray
            (n, W, C) on 0..1.
        strength : float
            Blend with the input.
        """
        info, colours = self.info, self.colours
        out = np.empty((len(band), info.width, info.samples), info.dtype)
        for block, rows, part in self._blocks_of(plane, top, top + len(band)):
            raw, pixels = block.raw[rows], band[part]
            if strength < 1:
                unit = block.unit[rows]
                pixels = unit + np.float32(strength) * (pixels - unit)
            if block.beyond is not None:
                pixels = pixels + block.beyond[rows]
            if self.signal.grey:
                mean = (pixels[..., :1] + pixels[..., 1:2] + pixels[..., 2:3]) / np.float32(3)
                pixels = np.where(without_colour(raw)[..., None], mean, pixels)
            for channel, samples in self._groups(plane):
                out[part, :, samples] = channel.file_values(pixels[..., samples], info)
            if block.kept is not None:
                np.copyto(out[part, :, :colours], raw[..., :colours], where=block.kept[rows])
            out[part, :, colours:] = raw[..., colours:]
        return out

    def _blocks_of(
        self, plane: int, top: int, bottom: int
    ) -> Iterator[tuple[_Block, slice, slice]]:
        """Yield the blocks of rows, and which rows of the block and of these they share."""
        for index, rows, part in _cut(top, bottom):
            key = plane, index
            if key not in self._blocks:
                self._blocks[key] = self._made(plane, index)
            _forget(self._blocks, self._most)
            yield self._blocks[key], rows, part

    def _raw(self, plane: int, index: int) -> Pixels:
        key = plane, index
        if key not in self._raws:
            bottom = min((index + 1) * ROWS, self.info.height)
            # A copy, because a reader may hand out the same buffer again.
            self._raws[key] = np.array(self.reader.read_rows(plane, index * ROWS, bottom))
        _forget(self._raws, self._most)
        return self._raws[key]

    def _made(self, plane: int, index: int) -> _Block:
        top, bottom = index * ROWS, min((index + 1) * ROWS, self.info.height)
        first, stop = max(0, top - REACH), min(self.info.height, bottom + REACH)
        inside = slice(top - first, bottom - first)
        wide = self.raw(plane, first, stop)[..., : self.colours]
        gaps = ~known_values(wide, self.signal.absent)
        self._mask(gaps, plane, first, stop)
        masked = int(np.count_nonzero(gaps[inside]))
        kept, hot, dead = gaps.copy(), np.zeros_like(gaps), np.zeros_like(gaps)
        flat = flat_windows(wide)
        if flat is not None:
            kept |= flat[..., None]
        raw, units = self._raw(plane, index), []
        for channel, i in self._groups(plane):
            scale, middle = channel.scale, channel.middle
            values, gap, keep, above, below = (
                np.moveaxis(part[..., i], -1, 0) for part in (wide, gaps, kept, hot, dead)
            )
            if self.signal.measured:
                if flat is not None:
                    gap |= flat & ((values < scale.low) | (values > scale.high))
                odd = absurd(np.where(gap, middle, values), scale.low, scale.high)
                if odd is not None:
                    above |= odd & (values > middle)
                    below |= odd & (values < middle)
                    gap |= odd
                    keep |= odd
            unit = to_unit(fill_absent(wide[..., i], gaps[..., i], middle), scale)
            if self.signal.spikes:
                single = np.ascontiguousarray(np.moveaxis(unit, -1, 0))
                for mask, found in zip(
                    (above, below), channel.spikes(single.clip(-BEYOND, 1 + BEYOND)), strict=True
                ):
                    if found.any():
                        mask |= found
                        gap |= found
            inner, unit = gaps[inside][..., i], unit[inside]
            if inner.any():
                noise = self._surroundings(channel, top, inner)
                unit = to_unit(fill_absent(raw[..., i], inner, noise), scale)
            units.append(unit)
        # A copy: the rows around it are not to be held.
        unit = np.concatenate(units, -1)
        if not self.signal.remove:
            kept |= hot | dead
        kept, hot, dead = (part[inside] for part in (kept, hot, dead))
        beyond = None
        if self.signal.measured:
            shown = unit.clip(-BEYOND, 1 + BEYOND)
            beyond = unit - shown if (shown != unit).any() else None
            unit = shown
        if (plane, index) >= self._next:  # blocks that are made again count once
            self._next = plane, index + 1
            self.masked += masked
            self.hot += _pixels(hot)
            self.dead += _pixels(dead)
        return _Block(raw, unit, beyond, kept.copy() if kept.any() else None)

    def _groups(self, plane: int) -> list[tuple[Channel, slice]]:
        """Return the channels of a plane, and which of its samples each stands for."""
        channels = self.signal.of(self.info, plane)
        if len(channels) == 1:
            return [(channels[0], slice(0, self.colours))]
        return [(channel, slice(i, i + 1)) for i, channel in enumerate(channels)]

    def _surroundings(self, channel: Channel, top: int, gap: Mask) -> Pixels:
        """Return noise as strong as the image's: beside a clean area a network leaves it."""
        height, width, samples = gap.shape
        draws = Draws().part(top, 0)
        first, second = (draws.uniform(step, (samples, height, width)) for step in (0, 1))
        # Box and Muller's way from even to normal numbers.
        normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
        values = channel.middle + channel.sigma * normal.transpose(1, 2, 0).astype(np.float64)
        if self.info.dtype.kind in "iu":
            limits = np.iinfo(self.info.dtype)
            values = np.rint(values).clip(limits.min, limits.max)
        surroundings: Pixels = values.astype(self.info.dtype)
        return surroundings

    def _mask(self, gaps: Mask, plane: int, top: int, bottom: int) -> None:
        """Set what the caller of the library has masked."""
        read = getattr(self.reader, "read_mask", None)
        mask = None if read is None else read(plane, top, bottom)
        if mask is not None:
            mask = np.asarray(mask, bool)
            gaps |= mask if mask.ndim == 3 else mask[..., None]


def _pixels(samples: Mask) -> int:
    """Count the pixels of which any sample is set."""
    return int(samples.any(-1).sum()) if samples.any() else 0


def _cut(top: int, bottom: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield which blocks rows lie in, with which rows of the block and of these they share."""
    for index in range(top // ROWS, -(-bottom // ROWS)):
        first, stop = max(top, index * ROWS), min(bottom, (index + 1) * ROWS)
        yield (
            index,
            slice(first - index * ROWS, stop - index * ROWS),
            slice(first - top, stop - top),
        )


def _forget(cache: dict[tuple[int, int], Any], most: int) -> None:
    """Let go of what was made first."""
    while len(cache) > most:
        del cache[next(iter(cache))]


def count_wrong(reader: Reader, signal: Signal) -> tuple[int, int, int]:
    """Count hot pixels, dead pixels, and samples that are no measurement, in all of an image."""
    view = View(reader, signal)
    for plane in range(view.info.planes):
        for top in range(0, view.info.height, ROWS):
            view.unit(plane, top, min(top + ROWS, view.info.height))
    return view.hot, view.dead, view.masked
