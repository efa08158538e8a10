"""One image on its way: file values to 0..1, through the network, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import repeat

from denoisekit.draws import Draws
from denoisekit.engine.network import Telling
from denoisekit.engine.signal import Signal
from denoisekit.engine.tiling import Floats, Plan, run_tiled
from denoisekit.engine.view import View
from denoisekit.image import Pixels, Reader

if TYPE_CHECKING:
    from denoisekit.engine.denoiser import Denoiser
    from denoisekit.engine.restoration import Restoring

WriteRows = Callable[[int, int, Pixels], None]
"""``write(plane, top, rows)``, as `denoisekit.image.Writer.write_rows`."""


class Run:
    """An image being denoised: all state that is the image's and not the denoiser's.

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
    telling : Telling
        Hears of progress and of what the user should know.
    """

    def __init__(
        self, denoiser: Denoiser, reader: Reader, signal: Signal, plan: Plan, telling: Telling
    ) -> None:
        from denoisekit.engine.restoration import LAG, Restored

        self.denoiser, self.info, self.signal, self.plan = denoiser, reader.info, signal, plan
        self.telling = telling
        self.view = View(reader, signal, LAG + plan.largest_read[0])
        self.colours = self.view.colours
        self.strength = denoiser.strength
        self.restored = Restored()

    def bands(self, plane: int, studied: int, what: Restoring) -> Iterator[tuple[int, Pixels]]:
        """Yield the denoised rows of a plane, in order, as the file keeps them.

        Parameters
        ----------
        plane : int
            Which.
        studied : int
            Most pixels to show at once to a method that wants to see all of it.
        what : Restoring
            What of the picture is given back.
        """
        if self.strength == 0:
            for band in self.plan.bands():
                bottom = min(band.core_bottom, self.plan.height)
                yield band.core_top, self.view.raw(plane, band.core_top, bottom)
            return
        from denoisekit.engine.restoration import restore

        options = self.denoiser.options

        def unit(top: int, bottom: int) -> Floats:
            return self.view.unit(plane, top, bottom)

        contexts = self._contexts(unit, studied)

        def tile(noisy: Floats, draws: Draws) -> Floats:
            return self._tile(noisy, draws, contexts)

        draws = Draws(options.seed)
        bands = run_tiled(tile, unit, self.plan, draws=draws, ensemble=options.self_ensemble)
        if what.structure or what.means:
            settled = ((top, self.view.settled(plane, top, band)) for top, band in bands)
            size = self.info.height, self.info.width
            bands = restore(settled, unit, size, self.denoiser.device, what, self.restored)
        strength = 1.0 if self.strength == "auto" else self.strength
        for top, denoised in bands:
            yield top, self.view.file_values(plane, top, denoised, strength)

    def _contexts(self, unit: Callable[[int, int], Floats], studied: int) -> list[Any]:
        """Show the whole plane to a method that wants to see it, for each of its passes."""
        denoiser = self.denoiser
        if not denoiser.traits.studies or self.plan.count == 1:
            return [None] * self.colours
        channels = denoiser.traits.channels

        def one(index: int) -> Callable[[int, int], Floats]:
            def rows_of_one(top: int, bottom: int) -> Floats:
                return repeat(unit(top, bottom)[..., index], "h w -> h w c", c=channels)

            return rows_of_one

        views = [unit] if denoiser.direct(self.info) else [one(i) for i in range(self.colours)]
        return [
            denoiser.network.study(view, self.plan, denoiser.options.seed, studied)
            for view in views
        ]

    def _tile(self, noisy: Floats, draws: Draws, contexts: list[Any]) -> Floats:
        """Fit the image's channels to the network's.

        Colour goes through as it is. Any other channel goes through on its own: it is
        repeated for the network's channels, and their results are averaged.
        """
        denoiser = self.denoiser
        channels = denoiser.traits.channels
        if denoiser.direct(self.info):
            return self._lifted(denoiser.network(noisy, draws, contexts[0], self.telling))
        denoised = np.empty_like(noisy)
        for index, channel in enumerate(noisy):
            repeated = repeat(channel, "h w -> c h w", c=channels)
            result = denoiser.network(repeated, draws, contexts[index], self.telling)
            denoised[index] = self._lifted(result).mean(0)
        return denoised

    def _lifted(self, denoised: Floats) -> Floats:
        offset = self.denoiser.offset
        return denoised + np.array(offset, np.float32)[:, None, None] if offset else denoised
