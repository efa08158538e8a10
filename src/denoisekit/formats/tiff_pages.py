"""Which pages of a TIFF are the image, and whether all their pixels are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats.photo import check_fits
from denoisekit.formats.tiff_read import PageData

ASIDE = {"thumbnail", "label", "macro", "overview", "map", "preview"}
"""Names of the small pictures that slide scanners put beside the image."""
YCBCR = 6
JPEG = frozenset({6, 7, 33007, 34892})


class Several(InputError):
    """Pages that are not one stack; ``pages`` are those that are not small copies."""

    def __init__(self, message: str, hint: str, pages: list[int]) -> None:
        super().__init__(message, hint)
        self.pages = pages


def choose(path: Path, tif: Any, page: int | None) -> tuple[Any, list[str]]:
    """Return the one series of pages that is the image, and what is said of the others.

    With ``page``, that page alone.
    """
    if page is not None:
        import tifffile

        one = tif.pages[page].aspage()
        return tifffile.TiffPageSeries([one], one.shape, one.dtype, one.axes, kind="generic"), []
    if not tif.series:
        raise InputError(f"{path}: holds no image", "the file is damaged or empty")
    series, notes = tif.series[0], []
    others = [s for s in tif.series[1:] if not _aside(s, series)]
    if others:
        shapes = ", ".join("×".join(map(str, s.shape)) for s in [series, *others][:4])
        pages = [p.index for p in tif.pages if not p.aspage().subfiletype & 0b101]
        raise Several(
            f"{path}: holds {len(others) + 1} images of different kinds ({shapes})",
            "split it into one file an image first, for example with tiffsplit, and join the "
            "results with tiffcp",
            pages,
        )
    if len(series.levels) > 1:
        notes.append("the smaller copies of the image (pyramid) will not be written")
    elif len(tif.series) > 1:
        notes.append("thumbnails, labels or masks beside the image will not be written")
    if series.is_multifile or series.transform is not None:
        raise InputError(
            f"{path}: needs other files or a conversion of its values",
            "export it as plain TIFF first",
        )
    return series, notes


def _aside(other: Any, main: Any) -> bool:
    small = other.keyframe.subfiletype & 0b101
    return bool(small) or (other.name.lower() in ASIDE and other.size < main.size)


def check_numbers(path: Path, key: Any, series: Any) -> None:
    """Raise where the numbers of a page cannot be denoised or decoded."""
    what = ""
    if key.dtype is None:
        what = f"samples of {key.bitspersample} bits cannot be read"
    elif key.dtype.kind == "b" and key.shaped[0] * key.shaped[4] > 1:
        what = "several samples of one bit cannot be denoised"
    elif key.dtype.kind not in "iufb" or not isinstance(key.bitspersample, int):
        what = f"{key.dtype.name} samples cannot be denoised"
    elif np.dtype(series.dtype) != key.dtype:
        what = "values need a conversion"
    elif math.prod(key.shaped) <= 0 or key.shaped[2] > 2**31 or key.shaped[3] > 2**31:
        what = "the size makes no sense"
    elif key.tiledepth > 1 and key.is_tiled:
        what = "tiles of several slices cannot be read"
    elif key.photometric not in (0, 1, 2, 3, 5, YCBCR, 8, 9, 10):
        what = f"photometric interpretation {int(key.photometric)} cannot be denoised"
    elif key.photometric == YCBCR and key.compression not in JPEG:
        what = "YCbCr colour is read from JPEG-compressed TIFF only"
    if what:
        raise InputError(f"{path}: {what}", "save it as 8-bit, 16-bit or float gray or RGB")


def page_data(tif: Any, series: Any, number: int, size: int) -> tuple[Sequence[PageData], bool]:
    """Return where every page's pixels lie, and whether pages are plain arrays."""
    key = series.keyframe
    raw = key.is_contiguous and key.is_final
    length = math.prod(key.shaped) * key.dtype.itemsize
    found = list(getattr(series, "_pages", None) or series)
    if len(found) == 1 and number > 1:
        if not raw or series.dataoffset is None:
            raise ValueError(f"{number} planes are announced, one is there")
        pages = [PageData((series.dataoffset + i * length,), (length,)) for i in range(number)]
    elif len(found) < number or any(p is None or p.parent is not tif for p in found[:number]):
        raise ValueError(f"{number} planes are announced, {len(found)} are there")
    elif raw:
        pages = [PageData((p.dataoffsets[0],), (length,)) for p in found[:number]]
    else:
        pages = [PageData(p.dataoffsets, p.databytecounts, p.jpegtables) for p in found[:number]]
    segments = 1 if raw else math.prod(key.chunked)
    for page in pages:
        _check_places(page, segments, size)
    return pages, raw


def _check_places(page: PageData, segments: int, size: int) -> None:
    if not segments or len(page.offsets) < segments or len(page.counts) < segments:
        raise ValueError("strips or tiles are missing")
    offsets = np.asarray(page.offsets[:segments], np.float64)
    counts = np.asarray(page.counts[:segments], np.float64)
    if ((counts <= 0) != (offsets <= 0)).any() or not counts.any():
        raise ValueError("a strip or tile is empty")
    if (offsets + counts > size).any():
        raise ValueError("the file ends early")


def told_of_holes(pages: Sequence[PageData]) -> list[str]:
    """Say how many strips or tiles were never written: sparse files leave them out."""
    holes = sum(not count for page in pages for count in page.counts)
    whole = sum(len(page.counts) for page in pages)
    text = f"{holes} of {whole} strips or tiles are not in the file: taken as empty"
    return [text] if holes else []


def check_block(path: Path, key: Any) -> None:
    """Raise where one row of strips or tiles, which is decoded whole, exceeds memory."""
    rows = key.tilelength if key.is_tiled else key.rowsperstrip
    columns = -(-key.shaped[3] // key.tilewidth) * key.tilewidth if key.is_tiled else key.shaped[3]
    # A codec's output and its copy in the picture live side by side.
    check_fits(path, rows, columns, 2 * key.shaped[4] * key.dtype.itemsize)
