"""Read TIFF by planes and row bands.

A page is an array (separate samples, depth, rows, columns, samples of a pixel). A file's
axes are spread over the pages and over these five; planes and their samples are found again
through the `Geometry`. tifffile says what the pages are and decodes strips and tiles; which of
them are read, and whether they are all there, is decided here.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from denoisekit.errors import UsageError
from denoisekit.formats.base import Source
from denoisekit.formats.jpeg import ends_early
from denoisekit.image import ImageInfo, Pixels

Role = Literal["page", "separate", "depth", "row", "column", "sample", "single"]
IN_PAGE: tuple[Role, ...] = ("separate", "depth", "row", "column", "sample")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one sample of a plane, or all samples together, are found."""

    page: int
    separate: int
    depth: int
    sample: int | None
    """One sample of the pixels, or all of them."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The axes of a file in their order.

    Attributes
    ----------
    letters : str
        One letter an axis; ``Y`` rows, ``X`` columns, ``S`` samples of a pixel;
        all others number the planes.
    sizes : tuple of int
        Their lengths.
    roles : tuple of str
        Where each axis lies.
    """

    letters: str
    sizes: tuple[int, ...]
    roles: tuple[Role, ...]

    @property
    def axes(self) -> str:
        """The axes as planes are counted: all others first, then ``YX`` or ``YXS``."""
        others = "".join(letter for letter in self.letters if letter not in "YXS")
        return others + ("YXS" if "S" in self.letters else "YX")

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of `axes`."""
        lengths = list(zip(self.letters, self.sizes, strict=True))
        others = (size for letter, size in lengths if letter not in "YXS")
        return (*others, *(dict(lengths)[a] for a in "YXS" if a in self.letters))

    @property
    def sample_role(self) -> Role | None:
        """Where the samples of a pixel lie."""
        return self.roles[self.letters.index("S")] if "S" in self.letters else None

    @property
    def pages(self) -> int:
        """Number of pages."""
        pairs = zip(self.roles, self.sizes, strict=True)
        return math.prod(size for role, size in pairs if role == "page")

    @property
    def page_is_plane(self) -> bool:
        """Whether every page is one whole plane, and in the same order."""
        inside = {"separate", "depth", "sample"} - {self.sample_role}
        spread = any(
            role in inside and size > 1 for role, size in zip(self.roles, self.sizes, strict=True)
        )
        return not spread and self.sample_role != "page"

    def spots(self, plane: int) -> Iterator[Spot]:
        """Yield where the samples of a plane lie, one by one unless they lie together."""
        index = dict.fromkeys(range(len(self.letters)), 0)
        for axis in reversed([i for i, a in enumerate(self.letters) if a not in "YXS"]):
            plane, index[axis] = divmod(plane, self.sizes[axis])
        together = self.sample_role not in ("page", "separate")
        for sample in range(1 if together else self.sizes[self.letters.index("S")]):
            if not together:
                index[self.letters.index("S")] = sample
            yield self._spot(index)

    def _spot(self, index: dict[int, int]) -> Spot:
        page, inside = 0, {"separate": 0, "depth": 0, "sample": 0}
        for axis, role in enumerate(self.roles):
            if role == "page":
                page = page * self.sizes[axis] + index[axis]
            elif role in inside:
                inside[role] = index[axis]
        alone = "sample" in self.roles and self.sample_role != "sample"
        return Spot(page, inside["separate"], inside["depth"], inside["sample"] if alone else None)


def aligned(axes: str, shape: tuple[int, ...], page: tuple[int, ...]) -> Geometry:
    """Return which axis lies where.

    Parameters
    ----------
    axes : str
        The file's axes, one letter each.
    shape : tuple of int
        Their lengths.
    page : tuple of int
        Lengths of a page's five axes.

    Raises
    ------
    ValueError
        The lengths contradict each other.
    """
    roles: list[Role] = ["page"] * len(axes)
    i = len(axes) - 1
    for role, size in reversed(list(zip(IN_PAGE, page, strict=True))):
        plain = role in ("row", "column")
        if size == 1 and not plain:
            continue
        while i >= 0 and shape[i] == 1 and (size != 1 or (plain and axes[i] == "S")):
            roles[i] = "single"
            i -= 1
        if i < 0 or shape[i] != size:
            raise ValueError(f"axes {axes} {shape} do not match pages of {page}")
        roles[i] = role
        i -= 1
    letters = [_letter(*pair) for pair in zip(axes, roles, strict=True)]
    return Geometry("".join(letters), tuple(shape), tuple(roles))


def _letter(letter: str, role: Role) -> str:
    # Samples stored with a pixel stay with it, whatever the file calls them: the
    # written file then has the same layout.
    fixed = {"row": "Y", "column": "X", "separate": "S", "sample": "S"}.get(role)
    if fixed or (letter == "S" and role == "single"):
        return fixed or letter
    return "Q" if letter in "YXS" else letter


def renamed(geometry: Geometry, asked: str, name: str) -> Geometry:
    """Return the geometry with the axes called as the user says.

    Parameters
    ----------
    geometry : Geometry
        Of the file.
    asked : str
        One letter an axis; axes of length 1 may be left out together.
    name : str
        The file, for the message.

    Raises
    ------
    UsageError
        The letters cannot be the axes of this file.
    """
    asked = asked.upper()
    sizes = "×".join(str(n) for n in geometry.sizes)
    hint = f"the file has axes {geometry.letters} of {sizes}"
    if len(asked) != len(geometry.letters):  # axes of length 1 may be left out
        axes = zip(geometry.letters, geometry.sizes, geometry.roles, strict=True)
        long = [a for a in axes if a[1] > 1 or a[2] in ("row", "column")]
        letters, lengths, roles = zip(*long, strict=True)
        geometry = Geometry("".join(letters), lengths, roles)
    if len(asked) != len(geometry.letters):
        raise UsageError(f"{name}: axes '{asked}' do not fit", hint)
    if not asked.isalpha() or len(set(asked)) != len(asked) or not {"Y", "X"} <= set(asked):
        raise UsageError(f"axes '{asked}' must be different letters with Y and X among them", hint)
    fixed = [i for i, role in enumerate(geometry.roles) if role in ("row", "column")]
    if [asked[i] for i in fixed] != ["Y", "X"]:
        raise UsageError(f"{name}: axes '{asked}' do not put Y and X on the rows and columns", hint)
    return replace(geometry, letters=asked)


_MARKED, _OPEN_ENDED = (7, 33007), (2, 3, 4, 22610, 34934)
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


def page_data(tif: Any, series: Any, number: int, size: int) -> tuple[list[PageData], bool]:
    """Return where every page's pixels lie, and whether pages are plain arrays.

    Raises
    ------
    ValueError
        Pages, strips or tiles are missing, or lie beyond the end of the file.
    """
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
        if not segments or len(page.offsets) < segments or len(page.counts) < segments:
            raise ValueError("strips or tiles are missing")
        offsets = np.asarray(page.offsets[:segments], np.float64)
        counts = np.asarray(page.counts[:segments], np.float64)
        if ((counts <= 0) != (offsets <= 0)).any() or not counts.any():
            raise ValueError("a strip or tile is empty")
        if (offsets + counts > size).any():
            raise ValueError("the file ends early")
    return pages, raw


@dataclass(slots=True)
class TiffReader:
    """An open TIFF (see `denoisekit.image.Reader`).

    Attributes
    ----------
    source : Source
        The file.
    info : ImageInfo
        What it holds.
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

    source: Source
    info: ImageInfo
    geometry: Geometry
    key: Any
    pages: Sequence[PageData]
    raw: bool
    stored: np.dtype[Any]
    colours: tuple[npt.NDArray[Any], ...] | None
    # The last row of strips or tiles, for a band that ends inside it.
    _kept: dict[tuple[int, int, int], tuple[int, Pixels]] = field(default_factory=dict)

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane (see `denoisekit.image.Reader`)."""
        read = self._raw_rows if self.raw else self._decoded_rows
        with quiet():
            parts = []
            for spot in self.geometry.spots(plane):
                rows = read(spot, top, bottom)
                one = spot.sample
                parts.append(rows if one is None else rows[..., one : one + 1])
            rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        if rows.dtype.kind == "b":
            rows = rows.view(np.uint8) * np.uint8(1 if self.colours is not None else 255)
        if self.colours is not None:
            table = self.colours[min(plane, len(self.colours) - 1)]
            rows = table[np.minimum(rows[..., 0], len(table) - 1)]
        return rows.astype(self.info.dtype, copy=False)

    def close(self) -> None:
        """Let go of kept strips; the file is the caller's."""
        self._kept.clear()

    def _raw_rows(self, spot: Spot, top: int, bottom: int) -> Pixels:
        _, depth, height, width, samples = self.key.shaped
        rows = np.empty((bottom - top, width, samples), self.stored)
        above = (spot.separate * depth + spot.depth) * height + top
        file = self.source.file
        file.seek(self.pages[spot.page].offsets[0] + above * width * samples * rows.itemsize)
        if rows.size and file.readinto(rows.reshape(-1).view(np.uint8).data) != rows.nbytes:
            raise ValueError("the file ends early")
        if not rows.dtype.isnative:
            rows = rows.byteswap(inplace=True).view(rows.dtype.newbyteorder())
        return rows

    def _decoded_rows(self, spot: Spot, top: int, bottom: int) -> Pixels:
        key = self.key
        _, depth, height, width, samples = key.shaped
        step = key.tilelength if key.is_tiled else key.rowsperstrip
        across = -(-width // key.tilewidth) if key.is_tiled else 1
        above = (spot.separate * depth + spot.depth) * -(-height // step)
        rows = np.empty((bottom - top, width, samples), key.dtype)
        for number in range(top // step, -(-bottom // step)):
            first, need = number * step, min(step, height - number * step)
            block = self._block(spot, number, (above + number) * across, across, need)
            begin, end = max(top, first), min(bottom, first + need)
            rows[begin - top : end - top] = block[begin - first : end - first]
        return rows

    def _block(self, spot: Spot, number: int, segment: int, across: int, need: int) -> Pixels:
        """Return ``need`` rows of a row of strips or tiles, of which ``segment`` is the first."""
        place = (spot.page, spot.separate, spot.depth)
        kept = self._kept.get(place)
        if kept is not None and kept[0] == number:
            return kept[1]
        if any(page != spot.page for page, _, _ in self._kept):
            self._kept.clear()
        self._kept.pop(place, None)
        width, samples = self.key.shaped[3:]
        if across == 1:
            block = self._decode(spot.page, segment)[:need, :width]
        else:
            block = np.empty((need, width, samples), self.key.dtype)
            for column in range(across):
                left = column * self.key.tilewidth
                tile = self._decode(spot.page, segment + column)[:need, : width - left]
                block[:, left : left + tile.shape[1]] = tile
        self._kept[place] = (number, block)
        return block

    def _decode(self, page: int, segment: int) -> Pixels:
        """Return one strip or tile, (rows, columns, samples)."""
        key, data = self.key, self.pages[page]
        if not data.counts[segment]:  # not in the file
            _, _, shape = key.decode(None, segment)
            return np.full(shape[1:], key.nodata, key.dtype)
        stored = self.source.read(data.offsets[segment], data.counts[segment])
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

        pixels, codec = decode(stored), int(key.compression)
        if codec in (*_MARKED, *_OPEN_ENDED) and ends_early(
            stored, pixels, decode, marked=codec in _MARKED
        ):
            raise ValueError("a strip or tile ends early")
        return pixels


class RaggedReader:
    """Pages of different sizes, read as a stack of the largest (see `denoisekit.image.Reader`).

    What a smaller page lacks is its own mirror image, so that noise and structure stay like
    its own; the writer cuts it off again.

    Parameters
    ----------
    pages : sequence of TiffReader
        A reader for each; all of the same dtype and samples.
    """

    def __init__(self, pages: Sequence[TiffReader]) -> None:
        self._pages, self._last = pages, pages[0]
        parts = tuple(page.info for page in pages)
        first, count = parts[0], len(parts)
        sides = (max(getattr(p, side) for p in parts) for side in ("height", "width"))
        notes = dict.fromkeys(note for part in parts for note in part.warnings)
        container = {**first.metadata.container, "parts": parts}
        self.info = replace(
            first,
            shape=(count, *sides, *first.shape[2:]),
            axes="Q" + first.axes,
            metadata=replace(first.metadata, container=container),
            warnings=(*notes, f"{count} pages of different sizes or kinds, each written as it was"),
        )

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a page, mirrored where it ends before the largest one."""
        page = self._pages[plane]
        if page is not self._last:
            self._last.close()
            self._last = page
        rows = _mirrored(top, bottom, page.info.height)
        columns = _mirrored(0, self.info.width, page.info.width)
        first = int(rows.min())
        found = page.read_rows(0, first, int(rows.max()) + 1)
        if np.array_equal(rows, np.arange(top, bottom)) and page.info.width == self.info.width:
            return found
        return found[rows - first][:, columns]

    def close(self) -> None:
        """Let go of kept strips; the file is the caller's."""
        self._last.close()


def _mirrored(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Return positions inside 0 … ``length``, going back and forth beyond its end."""
    there = np.arange(start, stop) % (2 * length)
    return np.minimum(there, 2 * length - 1 - there)
