"""Read a TIFF band by band and write it again, as a run that changes no pixel would."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import tifffile

from denoisekit.formats import open_image, write_image
from denoisekit.formats.tiff import TIFF
from denoisekit.image import ImageInfo


def copy(source: Path, target: Path, *, band: int = 7, axes: str | None = None) -> ImageInfo:
    """Copy by bands of rows; returns the description of what was written."""
    with closing(open_image(source, axes)) as reader:
        info = TIFF.check(reader.info)
        bands = (
            (plane, top, reader.read_rows(plane, top, min(info.height, top + band)))
            for plane in range(info.planes)
            for top in range(0, info.height, band)
        )
        write_image(target, info, bands, overwrite=True)
    return info


def read_all(path: Path, axes: str | None = None) -> tuple[ImageInfo, np.ndarray]:
    """Return the description and all pixels, (planes, H, W, S)."""
    with closing(open_image(path, axes)) as reader:
        info = reader.info
        planes = [reader.read_rows(p, 0, info.height) for p in range(info.planes)]
        return info, np.stack(planes)


def save(path: Path, info: ImageInfo, pixels: np.ndarray) -> None:
    """Write pixels, (planes, H, W, S), a plane at a time."""
    bands = ((plane, 0, rows) for plane, rows in enumerate(pixels))
    write_image(path, TIFF.check(info), bands, overwrite=True)


def facts(path: Path) -> dict[str, object]:
    """What another program sees of a file, pixels and positions excepted."""
    with tifffile.TiffFile(path) as tif:
        series, page = tif.series[0], tif.pages[0]
        kind = {"strips": not page.is_tiled, "tile": (page.tilewidth, page.tilelength)}
        return {
            **kind,
            "series": (len(tif.series), series.kind, series.axes, series.shape, series.dtype),
            "pages": len(tif.pages),
            "order": tif.byteorder,
            "big": tif.is_bigtiff,
            "photometric": page.photometric,
            "planar": page.planarconfig if page.samplesperpixel > 1 else None,
            "compression": page.compression,
            "predictor": page.predictor,
            "bits": page.bitspersample,
            "extra": page.extrasamples,
            "imagej": str(tif.imagej_metadata),
            "resolution": (page.resolution, page.resolutionunit),
            "texts": [str(page.tags.valueof(c)) for c in (269, 271, 272, 285, 305, 306, 315)],
        }


def pixels_of(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as tif:
        return tif.series[0].asarray()
