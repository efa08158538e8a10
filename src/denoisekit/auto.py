"""What `denoise` does where it is not told: weights and strength by the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial

import numpy as np

from denoisekit.engine.denoiser import Denoiser, load
from denoisekit.engine.run import Run
from denoisekit.engine.tiling import Floats
from denoisekit.engine.view import View
from denoisekit.errors import WeightsError
from denoisekit.image import ImageInfo, Reader
from denoisekit.interop import Array, denoise_array
from denoisekit.ranking import SIDE, SMALLEST, estimate_psnr, spread_crops
from denoisekit.weights import load_manifest, weights_present

MOST_CROPS = 6
"""Of an image, on which weights are tried."""
MOST_PLANES = 3
"""Of a stack, that crops are taken from."""
SHARE_OF_WORK = 1 / 3
"""Part of the denoising's work that choosing may take, one crop excepted."""
MOST_WORK = 1.5
"""Times the work of the default weights that others may take to be tried."""
LIGHTEST = {False: 0.004, True: 0.015}
"""Deviation of noise, of the image's range, from which on weights for measured data are taken,
where neighbouring pixels do not share it, and where they do: that can be a photograph, whose
texture only the others spare. (Tuned on held-out training pictures. Grey photographs with the
light noise of large cameras lose up to 3 dB to the default below, and gain 1 dB above.)"""


class Chooser:
    """Denoises each image with those of a method's weights on this machine that suit it.

    On colour images all are tried. Other images, measured data, are denoised with weights that
    were made for such. The default weights take images that are too small, and everything
    where there is nothing to choose from.

    Parameters
    ----------
    default : Denoiser
        With the method's default weights.

    Attributes
    ----------
    default : Denoiser
        That.
    """

    def __init__(self, default: Denoiser) -> None:
        self.default, self.options = default, default.options
        self._missed: list[str] = []

    def __call__(self, noisy: Array, *, axes: str | None = None) -> Array:
        """Denoise an array; see `Denoiser`."""
        return denoise_array(self.run, noisy, axes)

    def run(
        self,
        reader: Reader,
        *,
        on_progress: Callable[[float], None] | None = None,
        reserved: int = 0,
    ) -> Run:
        """Denoise an open image; see `Denoiser.run`."""
        estimates = self.estimates(reader)
        denoiser = estimates[0][0] if estimates else self._untried(reader)
        run = denoiser.run(reader, on_progress=on_progress, reserved=reserved)
        run.warnings += self._missed
        run.estimates = tuple((one.weights.id, expected) for one, expected in estimates)
        if not estimates and denoiser is not self.default:
            run.notes.append(f"method auto: {denoiser.weights.id} was made for such data")
        return run

    def estimates(self, reader: Reader) -> list[tuple[Denoiser, float]]:
        """Return what each candidate is expected to reach, PSNR in dB, the best first.

        Empty where nothing is tried.
        """
        if not self._suited(reader.info) or len(self.candidates) == 1:
            return []
        ways = [partial(denoiser.on_unit(), axes="YXS") for denoiser in self.candidates]
        crops = list(self._crops(reader))
        _, expected = estimate_psnr(crops, [[way(crop) for crop in crops] for way in ways], ways)
        found = zip(self.candidates, expected, strict=True)
        return sorted(found, key=lambda pair: -pair[1])

    def _suited(self, image: ImageInfo) -> bool:
        return (
            self.options.strength != 0
            and image.colour == "rgb"
            and min(image.height, image.width) >= SMALLEST
        )

    def _untried(self, reader: Reader) -> Denoiser:
        """Return what denoises an image without a trial."""
        if reader.info.colour == "rgb" or self.options.strength == 0 or not self.measured:
            return self.default
        noisy = any(
            one.sigma >= LIGHTEST[one.correlated] * one.scale.span
            for one in self.default.signal(reader).channels
        )
        return self.measured if noisy else self.default

    @cached_property
    def measured(self) -> Denoiser | None:
        """What is here for grey measured data; None: nothing but the default."""
        return next(self._present("measured"), None)

    @cached_property
    def candidates(self) -> list[Denoiser]:
        """The default, and what is here of the same method and about as fast."""
        return [self.default, *self._present("any")]

    def _present(self, use: str) -> Iterator[Denoiser]:
        """Yield the other weights for a use that are here and about as fast as the default."""
        default = self.default
        settings = default.settings
        most = MOST_WORK * default.traits.flop(SIDE * SIDE)
        for entry in load_manifest():
            if (entry.method, entry.use) != (default.info.id, use):
                continue
            flop = default.info.traits(entry.config, settings).flop(SIDE * SIDE)
            if entry.id != default.weights.id and flop <= most and weights_present(entry):
                options = replace(self.options, weights=entry.id)
                try:
                    yield load(options, allow_download=False)
                except WeightsError as error:
                    self._missed.append(f"not tried: {error.message}")

    def _crops(self, reader: Reader) -> Iterator[Floats]:
        """Yield crops spread over an image, (h, w, 3) on 0..1."""
        image = reader.info
        view = View(reader, self.default.signal(reader))
        pixels = image.height * image.width * image.planes
        tried = int(SHARE_OF_WORK * pixels / (2 * len(self.candidates) * SIDE**2))
        count = min(max(tried, 1), MOST_CROPS)
        planes = min(count, MOST_PLANES, image.planes)
        for index in range(planes):
            plane = (2 * index + 1) * image.planes // (2 * planes)
            for rows, columns in spread_crops(image.height, image.width, count // planes):
                yield np.ascontiguousarray(view.unit(plane, rows.start, rows.stop)[:, columns])
