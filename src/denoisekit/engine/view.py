"""The rows of an image as a network sees them, and what becomes of its result. Numpy only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from denoisekit.draws import Draws
from denoisekit.engine.masks import REACH, Mask, absurd, flat_windows
from denoisekit.engine.signal import BEYOND, Channel, Signal, known_values
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
            same = (raw[..., 1 : self.colours] == raw[..., :1]).all(-1, keepdims=True)
            band = np.where(same, band.mean(-1, keepdims=True), band)
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
        wide = self.raw(plane, first, stop)[..., : self.colours]
        inside = slice(top - first, bottom - first)
        holes = ~known_values(wide, self.signal.absent)
        holes |= self._masked(plane, first, stop, wide.shape)
        channels = self.signal.of(self.info, plane)
        judged = self._judged(wide, holes, channels)
        kept, gaps, hot, dead = (part[inside] for part in judged)
        raw = self._raw(plane, index)
        parts = []
        for i in range(self.colours if len(channels) > 1 else 1):
            picked = slice(i, i + 1) if len(channels) > 1 else slice(0, self.colours)
            channel = channels[i]
            values, gap = raw[..., : self.colours][..., picked], gaps[..., picked]
            fallback = self._surroundings(channel, top, gap) if gap.any() else 0.0
            filled = fill_absent(values, gap, fallback)
            parts.append(to_unit(filled, channel.scale))
        unit = np.concatenate(parts, -1) if len(parts) > 1 else parts[0]
        beyond = None
        if self.signal.measured:
            shown = unit.clip(-BEYOND, 1 + BEYOND)
            beyond = unit - shown if (shown != unit).any() else None
            unit = shown
        if (plane, index) >= self._next:  # blocks that are made again count once
            self._next = plane, index + 1
            self.masked += int(holes[inside].sum())
            self.hot += int(hot.any(-1).sum())
            self.dead += int(dead.any(-1).sum())
        return _Block(raw, unit, beyond, kept if kept.any() else None)

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

    def _masked(self, plane: int, top: int, bottom: int, shape: tuple[int, ...]) -> Mask:
        """Return what the caller of the library has masked."""
        read = getattr(self.reader, "read_mask", None)
        mask = None if read is None else read(plane, top, bottom)
        if mask is None:
            return np.zeros(shape, bool)
        mask = np.asarray(mask, bool)
        return np.broadcast_to(mask if mask.ndim == 3 else mask[..., None], shape)

    def _judged(
        self, wide: Pixels, holes: Mask, channels: tuple[Channel, ...]
    ) -> tuple[Mask, Mask, Mask, Mask]:
        """Return what comes back as it is, what is filled for the network, hot and dead pixels."""
        kept, gaps = holes.copy(), holes.copy()
        hot, dead = np.zeros_like(holes), np.zeros_like(holes)
        flat = flat_windows(wide)
        for i in range(self.colours):
            channel = channels[i if len(channels) > 1 else 0]
            scale, values, gap = channel.scale, wide[..., i], gaps[..., i]
            if flat is not None:
                kept[..., i] |= flat
                if self.signal.measured:
                    gap |= flat & ((values < scale.low) | (values > scale.high))
            if self.signal.measured:
                odd = absurd(np.where(gap, channel.middle, values), scale.low, scale.high)
                if odd is not None:
                    hot[..., i] |= odd & (values > channel.middle)
                    dead[..., i] |= odd & (values < channel.middle)
                    gap |= odd
                    kept[..., i] |= odd
            if self.signal.spikes:
                filled = fill_absent(values[..., None], gap[..., None], channel.middle)
                unit = to_unit(filled, scale)[..., 0].clip(-BEYOND, 1 + BEYOND)
                above, below = channel.spikes(unit)
                hot[..., i] |= above
                dead[..., i] |= below
                gap |= above | below
        if not self.signal.remove:
            kept |= hot | dead
        return kept, gaps, hot, dead


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
