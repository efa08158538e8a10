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

BOXES = 6
"""Most boxes of an image on which weights are tried."""
PLANES = 3
"""Most planes of a stack that they are taken from."""
SHARE = 1 / 3
"""Part of the denoising's work that choosing may take, one box excepted."""
DEARER = 1.5
"""Times the work of the default weights that others may take to be tried."""


class Chooser:
    """Denoises each image with those of a method's weights on this machine that suit it.

    Colour images are tried; everything else is denoised with the default weights, as an image
    is that is too small, and where there is nothing to choose from.

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
        denoiser = estimates[0][0] if estimates else self.default
        run = denoiser.run(reader, on_progress=on_progress, reserved=reserved)
        run.warnings += self._missed
        run.estimates = tuple((one.weights.id, expected) for one, expected in estimates)
        return run

    def estimates(self, reader: Reader) -> list[tuple[Denoiser, float]]:
        """Return what each candidate is expected to reach, PSNR in dB, the best first.

        Empty where nothing is tried.
        """
        if not self._suited(reader.info) or len(self.candidates) == 1:
            return []
        ways = [partial(denoiser.on_unit(), axes="YXS") for denoiser in self.candidates]
        crops = list(self._boxes(reader))
        _, expected = estimate_psnr(crops, [[way(crop) for crop in crops] for way in ways], ways)
        found = zip(self.candidates, expected, strict=True)
        return sorted(found, key=lambda pair: -pair[1])

    def _suited(self, image: ImageInfo) -> bool:
        return (
            self.options.strength != 0
            and image.colour == "rgb"
            and min(image.height, image.width) >= SMALLEST
        )

    @cached_property
    def candidates(self) -> list[Denoiser]:
        """The default, and what is here of the same method and about as fast."""
        default = self.default
        settings = default.settings
        most = DEARER * default.traits.flop(SIDE * SIDE)
        found = [default]
        for entry in load_manifest():
            if entry.method != default.info.id or entry.id == default.weights.id:
                continue
            flop = default.info.traits(entry.config, settings).flop(SIDE * SIDE)
            if flop <= most and weights_present(entry):
                options = replace(self.options, weights=entry.id)
                try:
                    found.append(load(options, allow_download=False))
                except WeightsError as error:
                    self._missed.append(f"not tried: {error.message}")
        return found

    def _boxes(self, reader: Reader) -> Iterator[Floats]:
        """Yield boxes spread over an image, (h, w, 3) on 0..1."""
        image = reader.info
        view = View(reader, self.default.signal(reader))
        pixels = image.height * image.width * image.planes
        tried = int(SHARE * pixels / (2 * len(self.candidates) * SIDE**2))
        count = min(max(tried, 1), BOXES)
        planes = min(count, PLANES, image.planes)
        for index in range(planes):
            plane = (2 * index + 1) * image.planes // (2 * planes)
            for rows, columns in spread_crops(image.height, image.width, count // planes):
                yield np.ascontiguousarray(view.unit(plane, rows.start, rows.stop)[:, columns])
