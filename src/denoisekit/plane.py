"""One plane of an image: file values to 0..1, through the network, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import repeat

from denoisekit.draws import Draws
from denoisekit.image import Pixels, Reader
from denoisekit.ranges import Range, fill_nonfinite, from_unit, to_unit
from denoisekit.tiling import Floats, Plan, run_tiled

if TYPE_CHECKING:
    from denoisekit.pipeline import Denoiser

WriteRows = Callable[[int, int, Pixels], None]
"""``write(plane, top, rows)``, as `denoisekit.image.Writer.write_rows`."""


class Plane:
    """One plane on its way.

    Parameters
    ----------
    denoiser : Denoiser
        What denoises it.
    reader : Reader
        The noisy image.
    plane : int
        Which of its planes.
    scale : Range
        File values of black and white.
    """

    def __init__(self, denoiser: Denoiser, reader: Reader, plane: int, scale: Range) -> None:
        self.denoiser, self.reader, self.plane, self.scale = denoiser, reader, plane, scale
        self.info = reader.info
        self.colours = self.info.samples - self.info.alpha
        self.strength = denoiser.strength
        self.contexts: list[Any] = [None] * self.colours

    def run(self, plan: Plan, write: WriteRows, studied: int) -> None:
        """Denoise it and hand its rows over, in order.

        Parameters
        ----------
        plan : Plan
            How it is cut.
        write : callable
            Takes the rows.
        studied : int
            Most pixels to show at once to a method that wants to see all of it.
        """
        if self.strength == 0:
            self._copy(plan, write)
            return
        options = self.denoiser.options
        draws = Draws(options.seed)
        if self.denoiser.traits.studies and plan.count > 1:
            self._study(plan, studied)
        bands = run_tiled(self._tile, self._unit, plan, draws=draws, ensemble=options.self_ensemble)
        if self.strength == "auto":
            bands = self._with_picture(bands)
        for top, band in bands:
            write(self.plane, top, self._file_values(top, band))

    def _with_picture(self, bands: Iterator[tuple[int, Floats]]) -> Iterator[tuple[int, Floats]]:
        """Give back what was taken away and was not noise."""
        from denoisekit.choosing.giving import give_back

        denoiser, size = self.denoiser, (self.info.height, self.info.width)
        colour = denoiser.direct(self.info) and self.colours == 3
        return give_back(bands, self._unit, size, denoiser.device, denoiser.tally, colour=colour)

    def _study(self, plan: Plan, pixels: int) -> None:
        """Show the whole plane to a method that wants to see it, for each of its passes."""
        denoiser = self.denoiser
        channels = denoiser.traits.channels

        def one(index: int) -> Callable[[int, int], Floats]:
            def rows_of_one(top: int, bottom: int) -> Floats:
                return repeat(self._unit(top, bottom)[..., index], "h w -> h w c", c=channels)

            return rows_of_one

        views = (
            [self._unit] if denoiser.direct(self.info) else [one(i) for i in range(self.colours)]
        )
        self.contexts = [
            denoiser.network.study(view, plan, denoiser.options.seed, pixels) for view in views
        ]

    def _copy(self, plan: Plan, write: WriteRows) -> None:
        for band in plan.bands():
            bottom = min(band.core_bottom, plan.height)
            # A copy, because a reader may hand out the same buffer again.
            write(self.plane, band.core_top, np.array(self._read(band.core_top, bottom)))

    def _read(self, top: int, bottom: int) -> Pixels:
        return self.reader.read_rows(self.plane, top, bottom)

    def _unit(self, top: int, bottom: int) -> Floats:
        """Return rows for the network: (n, W, C) float32 on 0..1, finite."""
        rows = self._read(top, bottom)[..., : self.colours]
        filled, holes = fill_nonfinite(rows)
        if holes is not None:
            self.denoiser.warn("pixels that are not numbers were left as they are")
        return to_unit(filled, self.scale)

    def _tile(self, noisy: Floats, draws: Draws) -> Floats:
        """Fit the image's channels to the network's.

        Colour goes through as it is. Any other channel goes through on its own: it is
        repeated for the network's channels, and their results are averaged.
        """
        denoiser = self.denoiser
        channels = denoiser.traits.channels
        if denoiser.direct(self.info):
            return self._lifted(denoiser.network(noisy, draws, self.contexts[0]))
        denoised = np.empty_like(noisy)
        for index, channel in enumerate(noisy):
            repeated = repeat(channel, "h w -> c h w", c=channels)
            result = denoiser.network(repeated, draws, self.contexts[index])
            denoised[index] = self._lifted(result).mean(0)
        return denoised

    def _lifted(self, denoised: Floats) -> Floats:
        offset = self.denoiser.offset
        return denoised + np.array(offset, np.float32)[:, None, None] if offset else denoised

    def _file_values(self, top: int, band: Floats) -> Pixels:
        """Return denoised rows as the file keeps them, with the input's alpha and holes."""
        info = self.info
        floats = info.dtype.kind == "f"
        whole = self.strength in (1, "auto")
        if whole and not info.alpha and not floats:
            return from_unit(band, self.scale, info)
        noisy = self._read(top, top + len(band))
        rows = np.array(noisy)
        colour = noisy[..., : self.colours]
        filled, holes = fill_nonfinite(colour)
        if self.strength != "auto" and self.strength < 1:
            unit = to_unit(filled, self.scale)
            band = unit + np.float32(self.strength) * (band - unit)
        denoised = from_unit(band, self.scale, info)
        rows[..., : self.colours] = denoised if holes is None else np.where(holes, colour, denoised)
        return rows
