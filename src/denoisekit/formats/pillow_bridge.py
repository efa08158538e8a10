"""Pixels in and out of Pillow by bands, for the 8-bit formats that Pillow knows best.

Pillow's own limit on picture sizes is not used: `photo.check_fits` compares the
header with the memory that is free. Its file classes are called directly because
`PIL.Image.open` applies that limit through a global.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denoisekit.formats.photo import RowOrder
from denoisekit.image import ImageInfo, Pixels

if TYPE_CHECKING:
    from PIL import Image

_BAND_PIXELS = 4_000_000


def mode_of(info: ImageInfo) -> str:
    """Return Pillow's name for the samples of an 8-bit picture."""
    return {(1, False): "L", (3, False): "RGB", (4, True): "RGBA", (4, False): "CMYK"}[
        info.samples, info.alpha
    ]


def to_array(image: Image.Image) -> Pixels:
    """Decode, and copy by bands into one (H, W, S) array, so that no third copy ever lives."""
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, len(image.getbands())), np.uint8)
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        band = np.asarray(image.crop((0, top, width, bottom)))
        pixels[top:bottom] = band.reshape(bottom - top, width, -1)
    return pixels


class CanvasWriter:
    """Collects rows on a Pillow canvas, then saves it."""

    def __init__(
        self, path: Path, info: ImageInfo, save: Callable[[Image.Image, Path], None]
    ) -> None:
        from PIL import Image

        self._path = path
        self._order = RowOrder(info)
        self._save = save
        self._mode = mode_of(info)
        self._canvas: Image.Image | None = Image.new(self._mode, (info.width, info.height))

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Paste the next rows; see `denoisekit.image.Writer`."""
        from PIL import Image

        assert self._canvas is not None
        self._order.take(plane, top, rows)
        size = (rows.shape[1], rows.shape[0])
        band = Image.frombuffer(self._mode, size, rows.tobytes(), "raw", self._mode, 0, 1)
        self._canvas.paste(band, (0, top))

    def finish(self) -> None:
        """Encode and write the file."""
        self._order.complete()
        assert self._canvas is not None
        self._save(self._canvas, self._path)

    def close(self) -> None:
        """Let go of the canvas."""
        self._canvas = None
