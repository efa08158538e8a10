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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from denoisekit.formats.tiff_layout import (
    DESCRIPTION,
    RESOLUTION,
    Layout,
    ome_patched,
    with_profile,
)
from denoisekit.formats.tiff_tags import (
    ASCII,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    Directory,
    Order,
    Tag,
    make_tag,
    next_pointer_at,
    pack_directory,
)
from denoisekit.image import ImageInfo, Pixels

CLASSIC_LIMIT = 2**32 - 2**24
"""Bytes up to which a TIFF without 64-bit offsets is written."""
LARGEST_STRIP = 8 * 2**20
JPEG_QUALITY = 95
NONE, LZW, JPEG, DEFLATE, LERC, PACKBITS = 1, 5, 7, 8, 34887, 32773
BYTE_CODECS = frozenset({LZW, DEFLATE, PACKBITS, 32946, 34925, 50000})
IMAGE_CODECS: dict[int, dict[str, Any]] = {
    LERC: {},
    34712: {"codecformat": "j2k", "reversible": True, "level": 0},
    34933: {},
    34934: {},
    50001: {"lossless": True},
    50002: {"lossless": True},
}
"""Codecs of whole images, with the options that make them lossless."""
TITLES = {
    **{2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 22610: "JPEG XR", 33007: "JPEG"},
    **{LERC: "LERC", 34712: "JPEG 2000", 34933: "PNG", 34934: "JPEG XR", 50001: "WebP"},
    **{33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 50002: "JPEG XL"},
}
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}
"""Samples of a pixel by photometric interpretation, where more than one."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How strips and tiles are encoded.

    Attributes
    ----------
    compression, predictor, photometric, bits : int
        TIFF tags.
    order : {'<', '>'}
        Byte order of the file.
    samples : int
        Samples of a pixel in one strip or tile: 1 where planes are separate.
    warning : str or None
        What differs from the file that was read.
    """

    compression: int
    predictor: int
    photometric: int
    bits: int
    order: Order
    samples: int
    warning: str | None = None

    @property
    def plain(self) -> bool:
        """Whether samples are stored as they are in memory."""
        return self.compression == NONE and self.bits in (8, 16, 32, 64)

    def encode(self, block: Pixels) -> bytes:
        """Return one strip or tile, (rows, columns, samples), as bytes of the file."""
        import imagecodecs
        import tifffile

        data: Any = np.ascontiguousarray(block)
        image = data[..., 0] if data.shape[2] == 1 else data
        if self.compression == JPEG:
            space: dict[str, Any] = {}
            if image.ndim == 3:
                out = "YCBCR" if self.photometric == 6 else "RGB"
                space = {"colorspace": "RGB", "outcolorspace": out, "subsampling": "444"}
            return bytes(imagecodecs.jpeg8_encode(image, level=JPEG_QUALITY, **space))
        if self.compression in IMAGE_CODECS:
            options = IMAGE_CODECS[self.compression]
            return bytes(tifffile.TIFF.COMPRESSORS[self.compression](image, **options))
        if self.bits < data.dtype.itemsize * 8:  # samples of few bits, each row on whole bytes
            data = np.minimum(data, 2**self.bits - 1).astype(data.dtype)
            run = data.shape[1] * data.shape[2]
            data = imagecodecs.packints_encode(data.reshape(-1, run), self.bits, runlen=run)
        else:
            if self.predictor != 1:
                data = np.asarray(tifffile.TIFF.PREDICTORS[self.predictor](data, axis=-2))
            if self.predictor not in (3, 34894, 34895):
                # Prediction of floats sorts bytes by weight: it has its own byte order.
                data = data.astype(data.dtype.newbyteorder(self.order), copy=False)
        if self.compression == NONE:
            return data if isinstance(data, bytes) else bytes(data.tobytes())
        if self.compression == PACKBITS and not isinstance(data, bytes):
            # Rows are packed one by one, as TIFF demands.
            return bytes(tifffile.TIFF.COMPRESSORS[self.compression](data, axis=-2))
        return bytes(tifffile.TIFF.COMPRESSORS[self.compression](data))


def choose_coding(layout: Layout, info: ImageInfo) -> Coding:
    """Return how an image is encoded: like the file it comes from, where that can be.

    Parameters
    ----------
    layout : Layout
        Of the file read, or a new one.
    info : ImageInfo
        What will be written.
    """
    samples = 1 if layout.planar else info.samples
    whole = info.dtype.itemsize * 8
    packed = info.dtype.kind == "u" and layout.bits < whole
    compression, photometric = layout.compression, layout.photometric
    predictor = 1 if packed or compression not in BYTE_CODECS else layout.predictor
    bits = layout.bits if packed and compression in (NONE, *BYTE_CODECS) else whole
    coding = Coding(compression, predictor, photometric, bits, layout.order, samples)
    flat = replace(coding, photometric=2 if photometric == 6 else photometric)
    if compression in (6, JPEG, 33007, 34892):
        kinds = (1, 0), (1, 1), (3, 2), (3, 6)
        edges = layout.tile or (layout.strip_rows, info.width)
        eight_bits = info.dtype == np.uint8 and not layout.planar
        if eight_bits and (samples, photometric) in kinds and max(edges) < 65500:
            text = f"JPEG-compressed TIFF: compressed again at quality {JPEG_QUALITY}"
            return replace(coding, compression=JPEG, warning=text)
    elif compression in (NONE, *BYTE_CODECS, *IMAGE_CODECS) and _lossless(flat, info.dtype):
        return flat
    title = TITLES.get(compression, f"compression {compression}")
    predictor = 2 if info.dtype.kind in "iu" and info.dtype.itemsize <= 4 else 1
    text = f"{title} of this kind cannot be written; compressed with deflate instead"
    return replace(flat, compression=DEFLATE, predictor=predictor, warning=text)


def _lossless(coding: Coding, dtype: np.dtype[Any]) -> bool:
    """Whether a small block of numbers of every size survives."""
    if coding.compression not in IMAGE_CODECS:
        return True
    if coding.compression == LERC and coding.order == ">":
        return False  # programs differ over the byte order of what comes out
    import tifffile

    rng = np.random.default_rng(0)
    block: npt.NDArray[Any] = rng.integers(0, 256, 24 * 16 * coding.samples * dtype.itemsize)
    block = block.astype(np.uint8).view(dtype).reshape(24, 16, coding.samples)
    if dtype.kind == "f":
        block = np.random.default_rng(0).normal(0.0, 1e3, block.shape).astype(dtype)
    try:
        back = tifffile.TIFF.DECOMPRESSORS[coding.compression](coding.encode(block))
    except Exception:  # noqa: BLE001 - a codec refuses types with errors of its own
        return False
    return back.dtype == dtype and np.array_equal(back.reshape(block.shape), block)


class _Image:
    """Planes of one size and layout, and where in the file their strips or tiles lie."""

    def __init__(self, info: ImageInfo, layout: Layout) -> None:
        self.info, self.layout = info, layout
        self.coding = choose_coding(layout, info)
        self.step = self._segment_rows()
        self.direct = self.coding.plain and layout.tile is None
        self.separate = info.samples if layout.planar else 1
        self.data = 0
        """Where the first plane begins."""
        self.places: dict[tuple[int, int], list[tuple[int, int]]] = {}
        """Position and length of encoded segments, by plane and separate sample."""

    def _segment_rows(self) -> int:
        """Return the rows of a strip or tile: as in the source, within reason."""
        layout, info = self.layout, self.info
        if layout.tile is not None:
            return layout.tile[0]
        if self.coding.plain:
            return min(layout.strip_rows, info.height)
        row_bytes = max(1, info.plane_bytes // info.height)
        least, most = -(-8192 // row_bytes), max(1, LARGEST_STRIP // row_bytes)
        rows = max(least, min(layout.strip_rows, most))
        # JPEG strips other than the last hold whole rows of 8 × 8 blocks.
        return info.height if rows >= info.height else -(-rows // 8) * 8

    def bound(self) -> int:
        """Return bytes that the image will not exceed: encoders may inflate noise by half."""
        height, width = self.info.height, self.info.width
        if self.layout.tile is not None:
            down, across = self.layout.tile
            height, width = -(-height // down) * down, -(-width // across) * across
        pixels = height * width * self.info.samples * self.info.dtype.itemsize
        tags = sum(len(tag.data) + 32 for page in self.layout.pages for tag in page.tags)
        tables = 16 * (-(-height // self.step)) * self.info.samples + 1024
        inflated = pixels if self.coding.plain else pixels * 8 // 5
        return self.info.planes * (inflated + tables) + tags

    def pieces(self, block: Pixels) -> Iterator[tuple[Pixels, int]]:
        """Yield the strips or tiles of a row of them, each with its separate sample."""
        down, across = self.layout.tile or (len(block), self.info.width)
        for sample in range(self.separate):
            part = block[..., sample : sample + 1] if self.separate > 1 else block
            for left in range(0, self.info.width, across):
                piece = part[:, left : left + across]
                missing = (0, down - piece.shape[0]), (0, across - piece.shape[1]), (0, 0)
                yield np.pad(piece, missing, "edge") if any(map(any, missing)) else piece, sample

    def directory(self, plane: int, big: bool) -> Directory:
        """Return the directory of a plane."""
        layout, info = self.layout, self.info
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
        return page.plus(*self._pixel_tags(), *self._place_tags(plane, LONG8 if big else LONG))

    def _pixel_tags(self) -> list[Tag]:
        """Return the tags that say what the pixels are."""
        info, coding, order, samples = self.info, self.coding, self.layout.order, self.info.samples
        colours = COLOURS.get(coding.photometric, 1)
        values: list[tuple[int, int, Sequence[int]]] = [
            (256, LONG, [info.width]),
            (257, LONG, [info.height]),
            (258, SHORT, [coding.bits] * samples),
            (259, SHORT, [coding.compression]),
            (262, SHORT, [coding.photometric]),
            (277, SHORT, [samples]),
        ]
        if samples > 1:
            values.append((284, SHORT, [2 if self.layout.planar else 1]))
        if coding.predictor != 1:
            values.append((317, SHORT, [coding.predictor]))
        if samples > colours:
            extra = self.layout.extra
            if len(extra) != samples - colours:
                extra = (*[0] * (samples - colours - 1), 2 if info.alpha else 0)
            values.append((338, SHORT, extra))
        if info.dtype.kind != "u":
            values.append((339, SHORT, [{"i": 2, "f": 3}[info.dtype.kind]] * samples))
        if coding.photometric == 6:
            values.append((530, SHORT, [1, 1]))
            values.append((532, RATIONAL, [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1]))
        if coding.compression == LERC:
            values.append((50674, LONG, [4, 0]))
        return [make_tag(*value, order) for value in values]

    def _place_tags(self, plane: int, kind: int) -> list[Tag]:
        """Return the tags that say where the strips or tiles lie."""
        info, order, places = self.info, self.layout.order, list[tuple[int, int]]()
        row_bytes = info.plane_bytes // info.height // self.separate
        at = self.data + plane * info.plane_bytes
        for sample in range(self.separate):
            places += self.places.get((plane, sample), [])
            for top in range(0, info.height if self.direct else 0, self.step):
                places.append((at, min(self.step, info.height - top) * row_bytes))
                at += places[-1][1]
        offsets, counts = [at for at, _ in places], [length for _, length in places]
        if self.layout.tile is None:
            rows = make_tag(278, LONG, [min(self.step, info.height)], order)
            return [make_tag(273, kind, offsets, order), rows, make_tag(279, kind, counts, order)]
        down, across = self.layout.tile
        return [
            make_tag(322, LONG, [across], order),
            make_tag(323, LONG, [down], order),
            make_tag(324, kind, offsets, order),
            make_tag(325, kind, counts, order),
        ]


class TiffWriter:
    """A TIFF in the making (see `denoisekit.image.Writer`).

    Parameters
    ----------
    path : pathlib.Path
        The file.
    parts : sequence of (ImageInfo, Layout)
        One image; or several of one plane each, of which the rows come mirrored to the size
        of the largest: what is beyond a page's own size is left away.
    """

    def __init__(self, path: Path, parts: Sequence[tuple[ImageInfo, Layout]]) -> None:
        self._images = [_Image(*part) for part in parts]
        first = self._images[0]
        self._order, several = first.layout.order, len(parts) > 1
        wanted = first.layout.single or first.layout.kind == "imagej"
        fits = first.info.plane_bytes < CLASSIC_LIMIT
        self._front = first.direct and wanted and fits and not several
        over = not self._front and sum(image.bound() for image in self._images) > CLASSIC_LIMIT
        self._big = first.layout.big or over
        self._held: Pixels | None = None
        self._encoders: ThreadPoolExecutor | None = None
        self._file: IO[bytes] = path.open("wb")
        self._start()

    def _start(self) -> None:
        order, mark = self._order, b"II" if self._order == "<" else b"MM"
        if self._big:
            self._file.write(mark + struct.pack(order + "HHHQ", 43, 8, 0, 16))
        else:
            self._file.write(mark + struct.pack(order + "HI", 42, 8))
        if self._front:
            first, at = self._images[0], self._file.tell()
            end = at + len(pack_directory(first.directory(0, self._big), self._big, at))
            first.data = -(-end // 16) * 16
            self._file.write(pack_directory(first.directory(0, self._big), self._big, at))

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Take the next rows (see `denoisekit.image.Writer`)."""
        image, page = self._images[0], plane
        if len(self._images) > 1:
            image, page = self._images[plane], 0
            rows = rows[: max(0, image.info.height - top), : image.info.width]
        if page == top == 0:
            end = self._file.seek(0, os.SEEK_END)
            image.data = -(-end // 16) * 16
            self._file.write(bytes(image.data - end))
        if image.direct:
            self._place(image, page, top, rows)
            return
        pieces = [p for block in self._blocks(image, top, rows) for p in image.pieces(block)]
        if len(pieces) > 1 and self._encoders is None:
            self._encoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        encode = self._encoders.map if self._encoders is not None else map
        parts = [part for part, _ in pieces]
        for data, (_, sample) in zip(encode(image.coding.encode, parts), pieces, strict=True):
            place = self._file.tell(), len(data)
            image.places.setdefault((page, sample), []).append(place)
            self._file.write(data)

    def _place(self, image: _Image, plane: int, top: int, rows: Pixels) -> None:
        """Write plain samples where they belong."""
        info = image.info
        stored = rows.astype(rows.dtype.newbyteorder(self._order), copy=False)
        row_bytes = info.plane_bytes // info.height // image.separate
        for sample in range(image.separate):
            part = stored[..., sample] if image.separate > 1 else stored
            at = image.data + plane * info.plane_bytes
            self._file.seek(at + (sample * info.height + top) * row_bytes)
            self._file.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)

    def _blocks(self, image: _Image, top: int, rows: Pixels) -> Iterator[Pixels]:
        """Yield every row of strips or tiles that these rows complete."""
        height, step = image.info.height, image.step
        while len(rows):
            inside = top % step
            need = min(step, height - (top - inside))
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

    def finish(self) -> None:
        """Write the directories, chained from a pointer at the beginning."""
        big, offset = self._big, self._order + ("Q" if self._big else "I")
        pages = [(image, plane) for image in self._images for plane in range(image.info.planes)]
        pointer, first = (8 if big else 4), self._images[0]
        if self._front:
            # One for all planes stands there; the others follow where they fit.
            tags = sum(len(page.tags) * 64 + 512 for page in first.layout.pages)
            room = big or first.data + len(pages) * first.info.plane_bytes + tags < CLASSIC_LIMIT
            pages = pages[1:] if room and not first.layout.single else []
            pointer = next_pointer_at(first.directory(0, big), big, 16 if big else 8)
        for image, plane in pages:
            directory, end = image.directory(plane, big), self._file.seek(0, os.SEEK_END)
            at = end + end % 2
            self._file.seek(pointer)
            self._file.write(struct.pack(offset, at))
            self._file.seek(at)
            self._file.write(pack_directory(directory, big, at))
            pointer = next_pointer_at(directory, big, at)
        self._file.flush()

    def close(self) -> None:
        """Release everything (see `denoisekit.image.Writer`)."""
        self._held = None
        if self._encoders is not None:
            self._encoders.shutdown(wait=True, cancel_futures=True)
        self._file.close()
