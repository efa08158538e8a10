"""Write TIFF row band by row band.

Plain samples go to their place at once; encoded strips and tiles when their rows
are complete. The directories follow the pixels, except where one directory must
stand first for readers that take the planes as one block (ImageJ).
tifffile's own writer is not used: it leaves out EXIF and GPS, changes texts,
knows no page of its own tags, and wants to pull what here is pushed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np

from denoisekit.formats.tiff_codec import LERC, Coding, choose_coding
from denoisekit.formats.tiff_layout import DESCRIPTION, RESOLUTION, Layout, with_profile
from denoisekit.formats.tiff_ome import ome_patched
from denoisekit.formats.tiff_tags import (
    ASCII,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    Directory,
    Tag,
    make_tag,
    next_pointer_at,
    pack_directory,
)
from denoisekit.image import ImageInfo, Pixels

CLASSIC_LIMIT = 2**32 - 2**24
"""Bytes up to which a TIFF without 64-bit offsets is written."""
LARGEST_STRIP = 8 * 2**20
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}
"""Samples of a pixel by photometric interpretation, where more than one."""


class TiffWriter:
    """A TIFF in the making (see `denoisekit.image.Writer`)."""

    def __init__(
        self, path: Path, info: ImageInfo, layout: Layout, pointer: int | None = None
    ) -> None:
        # Where the file says what follows; pages are put behind those that are there.
        self._path, self._pointer = path, pointer
        self._info, self._layout = info, layout
        self._coding = choose_coding(layout, info)
        self._step = _segment_rows(layout, info, self._coding)
        self._direct = self._coding.plain and layout.tile is None
        wanted = layout.single or layout.kind == "imagej"
        alone = pointer is None
        self._front = self._direct and wanted and info.plane_bytes < CLASSIC_LIMIT and alone
        over = alone and not self._front and self._bound() > CLASSIC_LIMIT
        self._big = layout.big or over
        self._next = (0, 0)
        # (position, length) of the encoded segments: by plane, then by separate sample.
        self._places: list[list[list[tuple[int, int]]]] = []
        self._held: Pixels | None = None
        self._encoders: ThreadPoolExecutor | None = None
        self._file: IO[bytes] = path.open("wb" if alone else "r+b")
        self._start()

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Take the next rows (see `denoisekit.image.Writer`)."""
        info = self._info
        if (plane, top) != self._next or rows.shape[1:] != (info.width, info.samples):
            raise ValueError(f"rows {top} of plane {plane} are not those at {self._next}")
        if rows.dtype != info.dtype or top + len(rows) > info.height:
            raise ValueError(f"{len(rows)} rows of {rows.dtype} at {top} do not fit {info.dtype}")
        if self._direct:
            self._place(plane, top, rows)
        else:
            self._encode(plane, list(self._blocks(top, rows)))
        bottom = top + len(rows)
        self._next = (plane + 1, 0) if bottom == info.height else (plane, bottom)

    def finish(self) -> None:
        """Complete the file (see `denoisekit.image.Writer`)."""
        if self._next != (self._info.planes, 0):
            raise ValueError(f"rows are missing from {self._next}")
        if self._front:
            self._finish_front()
        else:
            first = 8 if self._big else 4
            pointer = first if self._pointer is None else self._pointer
            self._write_directories(range(self._info.planes), pointer)
        self._file.flush()

    def followed_by(self, info: ImageInfo, layout: Layout) -> TiffWriter:
        """Close this finished writer; return one that puts its pages behind."""
        self.close()
        return TiffWriter(self._path, info, layout, self._last)

    def close(self) -> None:
        """Release everything (see `denoisekit.image.Writer`)."""
        self._held = None
        if self._encoders is not None:
            self._encoders.shutdown(wait=True, cancel_futures=True)
        self._file.close()

    def _bound(self) -> int:
        """Bytes that the file will not exceed: encoders may inflate noise by half."""
        height, width = self._info.height, self._info.width
        if self._layout.tile is not None:
            down, across = self._layout.tile
            height, width = -(-height // down) * down, -(-width // across) * across
        pixels = height * width * self._info.samples * self._info.dtype.itemsize
        tags = sum(len(tag.data) + 32 for page in self._layout.pages for tag in page.tags)
        tables = 16 * (-(-height // self._step)) * self._info.samples + 1024
        inflated = pixels if self._coding.plain else pixels * 8 // 5
        return self._info.planes * (inflated + tables) + tags

    def _start(self) -> None:
        if self._pointer is not None:
            end = self._file.seek(0, os.SEEK_END)
            self._data = -(-end // 16) * 16
            self._file.write(bytes(self._data - end))
            return
        order, mark = self._layout.order, b"II" if self._layout.order == "<" else b"MM"
        if self._big:
            self._file.write(mark + struct.pack(order + "HHHQ", 43, 8, 0, 16))
        else:
            self._file.write(mark + struct.pack(order + "HI", 42, 8))
        self._data = 16
        if self._front:
            at = self._file.tell()
            size = len(pack_directory(self._directory(0), self._big, at))
            self._data = -(-(at + size) // 16) * 16
            self._file.write(pack_directory(self._directory(0), self._big, at))
        self._file.write(bytes(self._data - self._file.tell()))

    # Plain samples

    def _place(self, plane: int, top: int, rows: Pixels) -> None:
        """Write plain samples where they belong."""
        info = self._info
        stored = rows.astype(rows.dtype.newbyteorder(self._layout.order), copy=False)
        samples = info.samples if self._layout.planar else 1
        row_bytes = info.plane_bytes // info.height // samples
        for sample in range(samples):
            part = stored[..., sample] if samples > 1 else stored
            at = self._data + plane * info.plane_bytes
            self._file.seek(at + (sample * info.height + top) * row_bytes)
            self._file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)

    def _finish_front(self) -> None:
        """Write the other directories behind the pixels, where there are any and they fit."""
        big, planes = self._big, self._info.planes
        end = self._data + planes * self._info.plane_bytes
        room = big or end + sum(len(p.tags) * 64 + 512 for p in self._layout.pages) < CLASSIC_LIMIT
        if planes == 1 or self._layout.single or not room:
            return
        at = 16 if big else 8
        pointer = next_pointer_at(self._directory(0), big, at)
        self._write_directories(range(1, planes), pointer)

    # Encoded strips and tiles

    def _blocks(self, top: int, rows: Pixels) -> Iterator[Pixels]:
        """Yield every row of strips or tiles that these rows complete."""
        height = self._info.height
        while len(rows):
            inside = top % self._step
            need = min(self._step, height - (top - inside))
            take = min(need - inside, len(rows))
            if take == need:
                yield rows[:take]
            else:
                if self._held is None:
                    self._held = np.empty((need, *rows.shape[1:]), rows.dtype)
                self._held[inside : inside + take] = rows[:take]
                if inside + take == need:
                    yield self._held
                    self._held = None
            top, rows = top + take, rows[take:]

    def _encode(self, plane: int, blocks: Sequence[Pixels]) -> None:
        if len(self._places) <= plane:
            self._places.append([[] for _ in range(self._separate)])
        pieces = [piece for block in blocks for piece in self._pieces(block)]
        if len(pieces) > 1 and self._encoders is None:
            self._encoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        encode = self._encoders.map if self._encoders is not None else map
        parts = [part for part, _ in pieces]
        for data, (_, sample) in zip(encode(self._coding.encode, parts), pieces, strict=True):
            self._places[plane][sample].append((self._file.tell(), len(data)))
            self._file.write(data)

    def _pieces(self, block: Pixels) -> Iterator[tuple[Pixels, int]]:
        """Yield the strips or tiles of a row of them, each with its separate sample."""
        down, across = self._layout.tile or (len(block), self._info.width)
        for sample in range(self._separate):
            part = block[..., sample : sample + 1] if self._separate > 1 else block
            for left in range(0, self._info.width, across):
                piece = part[:, left : left + across]
                missing = (0, down - piece.shape[0]), (0, across - piece.shape[1]), (0, 0)
                yield np.pad(piece, missing, "edge") if any(map(any, missing)) else piece, sample

    @property
    def _separate(self) -> int:
        return self._info.samples if self._layout.planar else 1

    # Directories

    def _write_directories(self, planes: range, pointer: int) -> None:
        """Write directories at the end of the file, chained from a pointer in it."""
        order, offset = self._layout.order, "Q" if self._big else "I"
        at = self._file.seek(0, os.SEEK_END)
        at += at % 2
        first = at
        self._file.seek(at)
        for plane in planes:
            directory = self._directory(plane)
            data = bytearray(pack_directory(directory, self._big, at))
            self._last = next_pointer_at(directory, self._big, at)
            if plane != planes[-1]:
                place = self._last - at
                struct.pack_into(order + offset, data, place, at + len(data))
            self._file.write(data)
            at += len(data)
        self._file.seek(pointer)
        self._file.write(struct.pack(order + offset, first))

    def _directory(self, plane: int) -> Directory:
        layout, info = self._layout, self._info
        if plane < len(layout.pages):
            page = layout.pages[plane]
        else:
            common = (tag for tag in layout.pages[0].tags if tag.code in RESOLUTION)
            page = Directory(layout.order, tuple(common))
        page = page.to(layout.order)
        if plane == 0:
            page = with_profile(page, info.metadata)
            if layout.kind == "ome":
                xml = ome_patched(page.text(DESCRIPTION), info.planes)
                text = make_tag(DESCRIPTION, ASCII, xml + b"\0", layout.order)
                page = page.without({DESCRIPTION}).plus(text)
        return page.plus(*_pixel_tags(info, layout, self._coding), *self._place_tags(plane))

    def _place_tags(self, plane: int) -> list[Tag]:
        """Return the tags that say where the strips or tiles lie."""
        info, order, kind = self._info, self._layout.order, LONG8 if self._big else LONG
        if self._direct:
            places = list(self._strips(plane))
        else:
            places = [place for sample in self._places[plane] for place in sample]
        offsets, counts = [at for at, _ in places], [length for _, length in places]
        if self._layout.tile is not None:
            down, across = self._layout.tile
            return [
                make_tag(322, LONG, [across], order),
                make_tag(323, LONG, [down], order),
                make_tag(324, kind, offsets, order),
                make_tag(325, kind, counts, order),
            ]
        return [
            make_tag(273, kind, offsets, order),
            make_tag(278, LONG, [min(self._step, info.height)], order),
            make_tag(279, kind, counts, order),
        ]

    def _strips(self, plane: int) -> Iterator[tuple[int, int]]:
        info = self._info
        row_bytes = info.plane_bytes // info.height // self._separate
        at = self._data + plane * info.plane_bytes
        for _ in range(self._separate):
            for top in range(0, info.height, self._step):
                length = min(self._step, info.height - top) * row_bytes
                yield at, length
                at += length


def _segment_rows(layout: Layout, info: ImageInfo, coding: Coding) -> int:
    """Return the rows of a strip or tile: as in the source, within reason."""
    if layout.tile is not None:
        return layout.tile[0]
    if coding.plain:
        return min(layout.strip_rows, info.height)
    row_bytes = max(1, info.plane_bytes // info.height)
    least, most = -(-8192 // row_bytes), max(1, LARGEST_STRIP // row_bytes)
    rows = max(least, min(layout.strip_rows, most))
    # JPEG strips other than the last hold whole rows of 8 × 8 blocks.
    return info.height if rows >= info.height else -(-rows // 8) * 8


def _pixel_tags(info: ImageInfo, layout: Layout, coding: Coding) -> list[Tag]:
    """Return the tags that say what the pixels are."""
    order, samples = layout.order, info.samples
    colours = COLOURS.get(coding.photometric, 1)
    tags = [
        make_tag(256, LONG, [info.width], order),
        make_tag(257, LONG, [info.height], order),
        make_tag(258, SHORT, [coding.bits] * samples, order),
        make_tag(259, SHORT, [coding.compression], order),
        make_tag(262, SHORT, [coding.photometric], order),
        make_tag(277, SHORT, [samples], order),
    ]
    if samples > 1:
        tags.append(make_tag(284, SHORT, [2 if layout.planar else 1], order))
    if coding.predictor != 1:
        tags.append(make_tag(317, SHORT, [coding.predictor], order))
    if samples > colours:
        extra = layout.extra
        if len(extra) != samples - colours:
            extra = (*[0] * (samples - colours - 1), 2 if info.alpha else 0)
        tags.append(make_tag(338, SHORT, extra, order))
    if info.dtype.kind != "u":
        number = {"i": 2, "f": 3}[info.dtype.kind]
        tags.append(make_tag(339, SHORT, [number] * samples, order))
    if coding.photometric == 6:
        tags.append(make_tag(530, SHORT, [1, 1], order))
        white = [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1]
        tags.append(make_tag(532, RATIONAL, white, order))
    if coding.compression == LERC:
        tags.append(make_tag(50674, LONG, [4, 0], order))
    return tags
