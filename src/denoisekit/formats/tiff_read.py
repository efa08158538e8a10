"""Read TIFF by planes and row bands.

tifffile says what the pages are and decodes strips and tiles; which of them are
read, and whether they are all there, is decided here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from denoisekit.formats import jpeg_whole
from denoisekit.formats.tiff_axes import Geometry, Spot
from denoisekit.image import ImageInfo, Pixels

JPEG, OPEN_ENDED = (7, 33007), (2, 3, 4, 22610, 34934)
"""Compression tags of codecs that make something of what is not there: JPEG; CCITT, JPEG XR."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep tifffile's log of damaged files from the user's terminal."""
    thread = threading.get_ident()
    log = logging.getLogger("tifffile")

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    log.addFilter(others)
    try:
        yield
    finally:
        log.removeFilter(others)


@dataclass(frozen=True, slots=True)
class PageData:
    """Where the pixels of a page lie."""

    offsets: Sequence[int]
    counts: Sequence[int]
    jpegtables: bytes | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """All that is needed to read pixels, found when the file was opened.

    Attributes
    ----------
    geometry : Geometry
        Which axis lies where.
    key : tifffile.TiffPage
        The page that stands for all: layout and decoder.
    pages : sequence of PageData
        Every page's strips or tiles; one strip a page where ``raw``.
    raw : bool
        Pages lie in the file as plain arrays.
    stored : numpy.dtype
        Type of the numbers in the file, in its byte order.
    colours : tuple of ndarray or None
        Colour tables (entries, 3), a page each, where pixels are palette indices.
    """

    geometry: Geometry
    key: Any
    pages: Sequence[PageData]
    raw: bool
    stored: np.dtype[Any]
    colours: tuple[npt.NDArray[Any], ...] | None = None


class TiffReader:
    """An open TIFF (see `denoisekit.image.Reader`)."""

    def __init__(self, info: ImageInfo, source: Source, file: IO[bytes]) -> None:
        self.info = info
        self._source = source
        self._file = file
        # The last row of strips or tiles, for a band that ends inside it.
        self._kept: dict[tuple[int, int, int], tuple[int, Pixels]] = {}

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane (see `denoisekit.image.Reader`)."""
        info = self.info
        if not (0 <= plane < info.planes and 0 <= top <= bottom <= info.height):
            raise ValueError(f"no rows {top}:{bottom} of plane {plane} in {info.shape}")
        with quiet():
            parts = [self._part(s, top, bottom) for s in self._source.geometry.spots(plane)]
            rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
            if rows.dtype.kind == "b":
                whole = 1 if self._source.colours is not None else 255
                rows = rows.view(np.uint8) * np.uint8(whole)
            if self._source.colours is not None:
                table = self._source.colours[min(plane, len(self._source.colours) - 1)]
                rows = table[np.minimum(rows[..., 0], len(table) - 1)]
            return rows.astype(info.dtype, copy=False)

    def close(self) -> None:
        """Let go of the file and of kept strips."""
        self._kept.clear()
        self._file.close()

    def _part(self, spot: Spot, top: int, bottom: int) -> Pixels:
        read = self._raw_rows if self._source.raw else self._decoded_rows
        rows = read(spot, top, bottom)
        return rows if spot.sample is None else rows[..., spot.sample : spot.sample + 1]

    def _raw_rows(self, spot: Spot, top: int, bottom: int) -> Pixels:
        _, depth, height, width, samples = self._source.key.shaped
        rows = np.empty((bottom - top, width, samples), self._source.stored)
        above = (spot.separate * depth + spot.depth) * height + top
        row_bytes = width * samples * rows.itemsize
        self._file.seek(self._source.pages[spot.page].offsets[0] + above * row_bytes)
        if rows.size and self._file.readinto(rows.reshape(-1).view(np.uint8)) != rows.nbytes:  # type: ignore[attr-defined]
            raise ValueError("the file ends early")
        if not rows.dtype.isnative:
            rows = rows.byteswap(inplace=True).view(rows.dtype.newbyteorder())
        return rows

    def _decoded_rows(self, spot: Spot, top: int, bottom: int) -> Pixels:
        key = self._source.key
        _, _, height, width, samples = key.shaped
        step = key.tilelength if key.is_tiled else key.rowsperstrip
        rows = np.empty((bottom - top, width, samples), key.dtype)
        for number in range(top // step, -(-bottom // step)):
            block = self._block(spot, number)
            first = number * step
            begin, end = max(top, first), min(bottom, first + step, height)
            rows[begin - top : end - top] = block[begin - first : end - first]
        return rows

    def _block(self, spot: Spot, number: int) -> Pixels:
        """Return one row of strips or tiles, decoded."""
        place = (spot.page, spot.separate, spot.depth)
        kept = self._kept.get(place)
        if kept is not None and kept[0] == number:
            return kept[1]
        if any(page != spot.page for page, _, _ in self._kept):
            self._kept.clear()
        self._kept.pop(place, None)
        block = self._decode_block(spot, number)
        self._kept[place] = (number, block)
        return block

    def _decode_block(self, spot: Spot, number: int) -> Pixels:
        key = self._source.key
        _, depth, height, width, samples = key.shaped
        step = key.tilelength if key.is_tiled else key.rowsperstrip
        across = -(-width // key.tilewidth) if key.is_tiled else 1
        down = -(-height // step)
        first = ((spot.separate * depth + spot.depth) * down + number) * across
        need = min(step, height - number * step)
        if across == 1:
            return self._decode(spot.page, first)[:need, :width]
        block = np.empty((need, width, samples), key.dtype)
        for column in range(across):
            left = column * key.tilewidth
            tile = self._decode(spot.page, first + column)[:need, : width - left]
            block[:, left : left + tile.shape[1]] = tile
        return block

    def _hole(self, segment: int) -> Pixels:
        """Return what stands for a strip or tile that is not in the file."""
        key = self._source.key
        _, _, shape = key.decode(None, segment)
        return np.full(shape[1:], key.nodata, key.dtype)

    def _decode(self, page: int, segment: int) -> Pixels:
        """Return one strip or tile, (rows, columns, samples)."""
        key, data = self._source.key, self._source.pages[page]
        if not data.counts[segment]:
            return self._hole(segment)
        self._file.seek(data.offsets[segment])
        stored = self._file.read(data.counts[segment])
        if len(stored) < data.counts[segment] or not stored:
            raise ValueError("the file ends early")

        def decode(stored: bytes) -> Pixels:
            pixels, _, _ = key.decode(
                stored, segment, jpegtables=data.jpegtables, jpegheader=key.jpegheader
            )
            if pixels is not None and key.dtype.kind == "b":
                pixels = pixels.astype(bool, copy=False)
            if pixels is None or pixels.dtype != key.dtype or pixels.ndim != 4:
                raise ValueError("a strip or tile holds other data than the file says")
            return np.asarray(pixels[0])

        pixels = decode(stored)
        salt = dict.fromkeys(JPEG, jpeg_whole.salted) | dict.fromkeys(
            OPEN_ENDED, jpeg_whole.appended
        )
        salted = salt.get(int(key.compression))
        if salted and jpeg_whole.ends_early(stored, pixels, decode, salted):
            raise ValueError("a strip or tile ends early")
        return pixels
