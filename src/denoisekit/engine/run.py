"""One image on its way: file values to 0..1, through the network, and back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import repeat

from denoisekit.draws import Draws
from denoisekit.engine.network import Network
from denoisekit.engine.signal import Signal, channel_of
from denoisekit.engine.tiling import (
    ROWS_AT_ONCE,
    Floats,
    Piece,
    Plan,
    cut_tiles,
    join_tiles,
    plan_tiles,
    self_ensemble,
)
from denoisekit.engine.view import View
from denoisekit.engine.workers import in_one_thread
from denoisekit.image import Pixels, Reader
from denoisekit.options import Options

if TYPE_CHECKING:
    from denoisekit.engine.denoiser import Denoiser
    from denoisekit.engine.restoration import Restoring

METER = "aprrd.camera"
"""Weights that ship, and take away hardly anything but noise: they measure it."""
METER_BOXES = 256, 6, 3
"""Side of the crops in which noise is measured, most of them, and most planes of a channel."""
OWN_BOXES = 192, 1, 1
"""The same for those weights themselves, of whose work it is to be a small part."""
AGREEMENT_SIDE, AGREEMENT_BOXES = 96, 4
"""Side of the crops in which a method is compared with that network, and most of them."""
METER_LEAST = 32
"""Shortest side of an image whose noise is measured."""
CLEAN = 0.98
"""Part of what was taken away that was given back, from which on there was no noise."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was done to one image.

    Attributes
    ----------
    tile : (int, int)
        Height and width of a tile's core; the padded image's where it was not cut.
    tiles : int
        Tiles of a plane.
    range : (float, float)
        File values taken for black and white.
    warnings : tuple of str
        What the user should know.
    notes : tuple of str
        What was found in the image and done about it, where it is not plain.
    returned : float or None
        With the strength ``auto``: the part of what the network took away, in squares, that
        was no noise and was given back.
    weights, weights_sha256 : str
        Those that it was denoised with.
    estimates : tuple of (str, float)
        Where they were chosen for the image: what each set is expected to reach, PSNR in dB, the
        best first.
    """

    tile: tuple[int, int]
    tiles: int
    range: tuple[float, float]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    returned: float | None = None
    weights: str = ""
    weights_sha256: str = ""
    estimates: tuple[tuple[str, float], ...] = ()


class Run:
    """An image being denoised: an iterator of its finished rows.

    Holds all state that is the image's and not the denoiser's.

    Parameters
    ----------
    denoiser : Denoiser
        What denoises it.
    reader : Reader
        The noisy image.
    signal : Signal
        What of its values is signal.
    plan : Plan
        How a plane is cut.
    at_once : int
        Most tiles that memory allows to be computed at once.
    on_progress : callable, optional
        Called with the pixels done so far.

    Attributes
    ----------
    warnings : list of str
        What the user should know, so far.
    notes : list of str
        What was found before it is denoised.
    estimates : tuple of (str, float)
        As `Report.estimates`.

    Yields
    ------
    (int, int, numpy.ndarray)
        Plane, top row, and rows as the file keeps them, (n, W, S) in the reader's dtype; in order.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        reader: Reader,
        signal: Signal,
        plan: Plan,
        at_once: int,
        on_progress: Callable[[float], None] | None,
    ) -> None:
        from denoisekit.engine.restoration import LAG, Restored

        self.denoiser, self.reader, self.info = denoiser, reader, reader.info
        self.signal, self.plan, self.at_once = signal, plan, at_once
        under_way = denoiser.network.workers.room(at_once)
        lag = LAG + plan.rows_read_ahead(under_way)
        self.view = View(reader, signal, lag)
        self.restored = Restored()
        self.warnings: list[str] = [*reader.info.warnings]
        self.notes: list[str] = []
        self.estimates: tuple[tuple[str, float], ...] = ()
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[tuple[int, int, Pixels]]:
        return in_one_thread(self._rows())

    def _rows(self) -> Generator[tuple[int, int, Pixels], None, None]:
        from denoisekit.engine.restoration import restore

        strength = self.denoiser.strength
        if strength == 0:
            yield from self._unchanged()
            return
        size = self.info.height, self.info.width
        denoised = self._denoised()
        restoring: dict[int, Restoring] = {}
        for plane in range(self.info.planes):
            channel = channel_of(self.info, plane)
            if channel not in restoring:
                restoring[channel] = self._restoring(channel)
            what, unit = restoring[channel], partial(self.view.unit, plane)
            bands = join_tiles(denoised, self.plan)
            if what.structure or what.means:
                settled = ((top, self.view.settled(plane, top, band)) for top, band in bands)
                bands = restore(settled, unit, size, self.denoiser.device, what, self.restored)
            blend = 1.0 if strength == "auto" else strength
            for top, band in bands:
                yield plane, top, self.view.file_values(plane, top, band, blend)

    def report(self) -> Report:
        """Return what was done, once the last rows are out."""
        scale, weights = self.signal.scale, self.denoiser.weights
        return Report(
            self.plan.tile,
            self.plan.count,
            (scale.low, scale.high),
            tuple(dict.fromkeys(self.warnings)),
            (*self.notes, *self._notes()),
            self.restored.share if self.denoiser.strength == "auto" else None,
            weights.id,
            weights.sha256,
            self.estimates,
        )

    def _unchanged(self) -> Iterator[tuple[int, int, Pixels]]:
        height = self.info.height
        for plane in range(self.info.planes):
            for top in range(0, height, ROWS_AT_ONCE):
                yield plane, top, self.view.raw(plane, top, min(top + ROWS_AT_ONCE, height))

    def _denoised(self) -> Iterator[Floats]:
        """Yield what became of the tiles of all planes, one plane after the other."""
        tiles = [tile.core.pixels for band in self.plan.bands() for tile in band]
        share = self.info.height * self.info.width / sum(tiles)
        results = self.denoiser.network.workers.map(self._tile, self._pieces(), self.at_once)
        done = 0.0
        for pixels, result in zip(cycle(tiles), results, strict=False):
            done += share * pixels
            if self._on_progress is not None:
                self._on_progress(done)
            yield result

    def _pieces(self) -> Iterator[Piece]:
        """Yield the tiles of all planes."""
        draws = Draws(self.denoiser.options.seed)
        for plane in range(self.info.planes):
            contexts = self._contexts(plane)
            for piece in cut_tiles(partial(self.view.unit, plane), self.plan, draws):
                yield replace(piece, contexts=contexts)

    def _contexts(self, plane: int) -> list[Any]:
        """Show the whole plane to a method that wants to see it, for each of its passes."""
        denoiser = self.denoiser
        if not denoiser.traits.studies or self.plan.count == 1:
            return [None] * self.view.colours
        channels, seed = denoiser.traits.channels, denoiser.options.seed
        unit = partial(self.view.unit, plane)

        def one(index: int) -> Callable[[int, int], Floats]:
            def rows_of_one(top: int, bottom: int) -> Floats:
                return repeat(unit(top, bottom)[..., index], "h w -> h w c", c=channels)

            return rows_of_one

        direct = denoiser.direct(self.info)
        views = [unit] if direct else [one(i) for i in range(self.view.colours)]
        return [denoiser.network.study(view, self.plan, seed) for view in views]

    def _tile(self, piece: Piece) -> Floats:
        """Denoise a tile, or its eight flips and transposes."""
        if self.denoiser.options.self_ensemble:
            return self_ensemble(self._fitted, piece)
        return self._fitted(piece)

    def _fitted(self, piece: Piece) -> Floats:
        """Denoise a tile, and add what keeps the mean where a fit has measured it."""
        denoiser = self.denoiser
        direct = denoiser.direct(self.info)
        denoised = through(denoiser.network, piece, direct=direct, warn=self.warnings.append)
        if not denoiser.offset:
            return denoised
        offset = np.array(denoiser.offset, np.float32)
        return denoised + (offset[:, None, None] if direct else offset.mean())

    def _restoring(self, channel: int) -> Restoring:
        """Return what is given back: patterns, and texture by the noise that the meter sees."""
        from denoisekit.engine.restoration import Restoring, agreement, measure_noise

        denoiser, image, signal = self.denoiser, self.info, self.signal
        auto = denoiser.strength == "auto"
        # A fit keeps the mean by itself, or was told not to.
        what = Restoring(
            structure=auto,
            means=signal.measured and not denoiser.own_range,
            colour=image.colour == "rgb",
        )
        own = denoiser.weights.id == METER
        if not auto or min(image.height, image.width) < METER_LEAST:
            return what
        if own and signal.measured:  # no clean photograph's texture is at stake
            return what
        meter = denoiser.network if own else _meter(str(denoiser.device))
        compute = denoiser.network.workers.map
        crops = list(self._crops(channel, *(OWN_BOXES if own else METER_BOXES)))
        cleaned = compute(partial(_cleaned, meter, colour=what.colour), crops)
        pairs = list(zip(crops, cleaned, strict=True))
        noises = denoiser.network.workers.run(
            lambda: measure_noise(pairs, denoiser.device, colour=what.colour)
        )
        what = replace(what, noises=noises, trusted=own)
        if own:
            return what
        middles = [tuple(map(_middle, pair)) for pair in pairs[:AGREEMENT_BOXES]]
        mine = compute(lambda pair: _restored(denoiser, pair[0], what), middles)
        removed = [noisy - result for (noisy, _), result in zip(middles, mine, strict=True)]
        noise = [noisy - clean for noisy, clean in middles]
        return replace(what, agreed=agreement(removed, noise))

    def _crops(self, channel: int, longest: int, most: int, most_planes: int) -> Iterator[Floats]:
        """Yield crops spread over a channel of the image, (h, w, C) on 0..1."""
        image, view = self.info, View(self.reader, self.signal)
        planes = [p for p in range(image.planes) if channel_of(image, p) == channel]
        side = min(longest, image.height), min(longest, image.width)
        room = image.height // side[0], image.width // side[1]
        count = min(most_planes, len(planes))
        down = min(room[0], max(1, round((most / count * room[0] / room[1]) ** 0.5)))
        across = min(room[1], max(1, most // (count * down)))
        for index in range(count):
            plane = planes[(2 * index + 1) * len(planes) // (2 * count)]
            for top in _amid(image.height, side[0], down):
                rows = view.unit(plane, top, top + side[0])
                for left in _amid(image.width, side[1], across):
                    yield np.ascontiguousarray(rows[:, left : left + side[1]])

    def _notes(self) -> Iterator[str]:
        """Say what was found in the image and done about it."""
        signal, view = self.signal, self.view
        if line := signal.line():
            yield line
        if wrong := view.hot + view.dead:
            done = "removed" if signal.remove else "left as they are"
            yield f"{wrong} hot or dead pixels, {done} (see --hot-pixels)"
        if view.masked:
            yield "values that are no measurement were left as they are"
        if self.denoiser.strength == "auto" and self.restored.share >= CLEAN:
            told, weights = "there is no noise to speak of", self.denoiser.weights.id
            if weights != METER:
                told = f"{weights} takes hardly any noise from it"
            yield f"{told}: the picture is as it was"


def through(
    network: Network, piece: Piece, *, direct: bool, warn: Callable[[str], object] = lambda _: None
) -> Floats:
    """Fit a tile's channels to a network's.

    Colour goes through as it is (``direct``). Any other channel goes through on its own: it is
    repeated for the network's channels, and their results are averaged.
    """
    contexts = piece.contexts or [None] * len(piece.noisy)
    if direct:
        return network(piece, contexts[0], warn)
    parts = []
    for channel, context in zip(piece.noisy, contexts, strict=True):
        repeated = repeat(channel, "h w -> c h w", c=network.traits.channels)
        parts.append(network(replace(piece, noisy=repeated), context, warn).mean(0))
    return np.stack(parts)


def _cleaned(meter: Network, crop: Floats, *, colour: bool) -> Floats:
    """Return what the measuring network makes of a crop (h, w, C) on 0..1."""
    height, width, _ = crop.shape
    plan = plan_tiles(height, width, meter.traits.limits, (height, width))
    (piece,) = cut_tiles(lambda top, bottom: crop[top:bottom], plan, Draws())
    denoised = through(meter, piece, direct=colour and meter.traits.channels == crop.shape[2])
    return np.ascontiguousarray(denoised.transpose(1, 2, 0))


def _restored(denoiser: Denoiser, noisy: Floats, what: Restoring) -> Floats:
    """Return what becomes of a crop (h, w, C) on 0..1 where that is given back."""
    from denoisekit.engine.restoration import Restored, restore

    plain = denoiser.on_unit(strength=1.0)
    bands = [(0, np.asarray(plain(noisy, axes="YXS" if what.colour else "YXC")))]

    def rows(top: int, bottom: int) -> Floats:
        return noisy[top:bottom]

    parts = restore(bands, rows, noisy.shape[:2], denoiser.device, what, Restored())
    return np.concatenate([part for _, part in parts])


@cache
def _meter(device: str) -> Network:
    """Return what takes away hardly anything but noise, to measure that."""
    from denoisekit.engine.denoiser import load

    options = Options(weights=METER, strength=1.0, device=device)
    return load(options, allow_download=False).network


def _middle(crop: Floats) -> Floats:
    """Return the part of a crop in which two networks are compared."""
    top, left = (max(0, (size - AGREEMENT_SIDE) // 2) for size in crop.shape[:2])
    return np.ascontiguousarray(crop[top:, left:][:AGREEMENT_SIDE, :AGREEMENT_SIDE])


def _amid(length: int, side: int, count: int) -> list[int]:
    """Return where crops begin amid equal shares of a length."""
    return [((2 * i + 1) * length // count - side) // 2 for i in range(count)]
