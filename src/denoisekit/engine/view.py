"""The rows of an image as a network sees them, and what becomes of its result. Numpy only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        self._raws: OrderedDict[tuple[int, int], Pixels] = OrderedDict()
        self._blocks: OrderedDict[tuple[int, int], _Block] = OrderedDict()
        self._next = (0, 0)
        self.hot = self.dead = self.masked = 0

    def unit(self, plane: int, top: int, bottom: int) -> Floats:
        """Return rows for the network: (n, W, C) float32 on 0..1, finite."""
        found = [
            self._block(plane, index).unit[first - index * ROWS : stop - index * ROWS]
            for index, first, stop in _blocks(top, bottom)
        ]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def settled(self, plane: int, top: int, band: Floats) -> Floats:
        """Return denoised rows with the network's input where a file keeps what it has."""
        parts, any_kept = [], False
        for index, first, stop in _blocks(top, top + len(band)):
            block, part = self._block(plane, index), band[first - top : stop - top]
            if block.kept is not None:
                inside = slice(first - index * ROWS, stop - index * ROWS)
                part = np.where(block.kept[inside], block.unit[inside], part)
                any_kept = True
            parts.append(part)
        return np.concatenate(parts) if any_kept else band

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
        out = []
        for index, first, stop in _blocks(top, top + len(band)):
            block = self._block(plane, index)
            inside = slice(first - index * ROWS, stop - index * ROWS)
            out.append(self._back(plane, block, inside, band[first - top : stop - top], strength))
        return np.concatenate(out) if len(out) > 1 else out[0]

    def _back(
        self, plane: int, block: _Block, rows: slice, band: Floats, strength: float
    ) -> Pixels:
        info = self.info
        if strength < 1:
            unit = block.unit[rows]
            band = unit + np.float32(strength) * (band - unit)
        if block.beyond is not None:
            band = band + block.beyond[rows]
        raw = block.raw[rows]
        if self.signal.grey:
            mean = (band[..., :1] + band[..., 1:2] + band[..., 2:3]) / np.float32(3)
            band = np.where(without_colour(raw)[..., None], mean, band)
        channels = self.signal.of(info, plane)
        if len(channels) == 1:
            values = channels[0].file_values(band, info)
        else:
            parts = [one.file_values(band[..., i], info) for i, one in enumerate(channels)]
            values = np.stack(parts, -1)
        if block.kept is not None:
            values = np.where(block.kept[rows], raw[..., : self.colours], values)
        if not info.alpha:
            return values
        whole = np.array(raw)
        whole[..., : self.colours] = values
        return whole

    def raw(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of the file as they are, all samples."""
        found = [
            self._raw(plane, index)[first - index * ROWS : stop - index * ROWS]
            for index, first, stop in _blocks(top, bottom)
        ]
        return np.concatenate(found) if len(found) > 1 else found[0]

    def _raw(self, plane: int, index: int) -> Pixels:
        key = plane, index
        if key not in self._raws:
            bottom = min((index + 1) * ROWS, self.info.height)
            # A copy, because a reader may hand out the same buffer again.
            self._raws[key] = np.array(self.reader.read_rows(plane, index * ROWS, bottom))
            while len(self._raws) > self._most:
                self._raws.popitem(last=False)
        return self._raws[key]

    def _block(self, plane: int, index: int) -> _Block:
        key = plane, index
        if key not in self._blocks:
            self._blocks[key] = self._made(plane, index)
            while len(self._blocks) > self._most:
                self._blocks.popitem(last=False)
        return self._blocks[key]

    def _made(self, plane: int, index: int) -> _Block:
        top, bottom = index * ROWS, min((index + 1) * ROWS, self.info.height)
        first, stop = max(0, top - REACH), min(self.info.height, bottom + REACH)
        inside = slice(top - first, bottom - first)
        wide = self.raw(plane, first, stop)[..., : self.colours]
        groups = self._groups(plane)
        gaps = ~known_values(wide, self.signal.absent)
        self._mask(gaps, plane, first, stop)
        masked = int(np.count_nonzero(gaps[inside]))
        kept, hot, dead = gaps.copy(), np.zeros_like(gaps), np.zeros_like(gaps)
        flat = flat_windows(wide)
        if flat is not None:
            kept |= flat[..., None]
        for channel, i in groups if self.signal.measured else ():
            low, high, middle = channel.scale.low, channel.scale.high, channel.middle
            values, gap = wide[..., i], gaps[..., i]
            if flat is not None:
                gap |= flat[..., None] & ((values < low) | (values > high))
            for one, single in enumerate(range(i.start, i.stop)):
                odd = absurd(np.where(gap[..., one], middle, values[..., one]), low, high)
                if odd is not None:
                    hot[..., single] |= odd & (values[..., one] > middle)
                    dead[..., single] |= odd & (values[..., one] < middle)
                    gap[..., one] |= odd
                    kept[..., single] |= odd
        unit = self._on_unit(wide, groups, gaps, [channel.middle for channel, _ in groups])
        if self.signal.spikes:
            shown = unit.clip(-BEYOND, 1 + BEYOND)
            for channel, i in groups:
                for single in range(i.start, i.stop):
                    above, below = channel.spikes(np.ascontiguousarray(shown[..., single]))
                    hot[..., single] |= above
                    dead[..., single] |= below
                    gaps[..., single] |= above | below
        if not self.signal.remove:
            kept |= hot
            kept |= dead
        unit = unit[inside]
        kept, gaps, hot, dead = (part[inside] for part in (kept, gaps, hot, dead))
        raw = self._raw(plane, index)
        if gaps.any():
            draws = [self._surroundings(channel, top, gaps[..., i]) for channel, i in groups]
            unit = self._on_unit(raw[..., : self.colours], groups, gaps, draws)
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
        # A copy, because the rows around it are not to be held.
        return _Block(raw, unit.copy(), beyond, kept.copy() if kept.any() else None)

    def _groups(self, plane: int) -> list[tuple[Channel, slice]]:
        """Return the channels of a plane, and which of its samples each stands for."""
        channels = self.signal.of(self.info, plane)
        if len(channels) == 1:
            return [(channels[0], slice(0, self.colours))]
        return [(channel, slice(i, i + 1)) for i, channel in enumerate(channels)]

    def _on_unit(
        self,
        rows: Pixels,
        groups: list[tuple[Channel, slice]],
        gaps: Mask,
        fallbacks: Sequence[float | Pixels],
    ) -> Floats:
        """Return rows on 0..1, with gaps filled."""
        parts = [
            to_unit(fill_absent(rows[..., i], gaps[..., i], fallback), channel.scale)
            for (channel, i), fallback in zip(groups, fallbacks, strict=True)
        ]
        return np.concatenate(parts, -1) if len(parts) > 1 else parts[0]

    def _surroundings(self, channel: Channel, top: int, gap: Mask) -> Pixels:
        """Return noise as strong as the image's: beside a clean area a network leaves it."""
        if not gap.any():
            return np.zeros(gap.shape, self.info.dtype)
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


def _blocks(top: int, bottom: int) -> Iterator[tuple[int, int, int]]:
    """Yield which block, and its first and last row within the range."""
    for index in range(top // ROWS, -(-bottom // ROWS)):
        yield index, max(top, index * ROWS), min(bottom, (index + 1) * ROWS)


def count_wrong(reader: Reader, signal: Signal) -> tuple[int, int, int]:
    """Count hot pixels, dead pixels, and samples that are no measurement, in all of an image."""
    view = View(reader, signal)
    for plane in range(view.info.planes):
        for top in range(0, view.info.height, ROWS):
            view.unit(plane, top, min(top + ROWS, view.info.height))
    return view.hot, view.dead, view.masked
