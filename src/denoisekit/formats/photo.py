"""What the formats that are decoded whole have in common: one picture, one buffer.

A reader keeps the decoded picture in the file's own dtype and hands out views of
it; a writer collects rows until its encoder can run. Nothing is decoded before the
header has been held against the memory that is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.image import ImageInfo, Metadata, Pixels

RECOPY = "copy or download it again; where there is no better copy, save it anew in a viewer"
BILEVEL = "black and white of 1 bit; written as gray with 8 bits"
_UNASKED = 96 * 2**20
"""Memory that any file may take."""
_EXPANSION = 60_000
"""Bytes of memory that each byte of a file beyond `_SMALL` may claim."""
_SMALL = 8192
_ZEROS = 64


class HeldReader:
    """A picture decoded whole at the first `read_rows`."""

    def __init__(self, path: Path, info: ImageInfo, decode: Callable[[], Pixels]) -> None:
        self._path = path
        self._info = info
        self._decode: Callable[[], Pixels] | None = decode
        self._pixels: Pixels | None = None

    @property
    def info(self) -> ImageInfo:
        """What the file holds."""
        return self._info

    def check_memory(self, limit: int) -> None:
        """Refuse a picture that, with the decoder's copy of it, takes more than the limit."""
        needed = 2 * self._info.plane_bytes
        if needed > limit:
            raise InputError(
                f"{self._path}: decoding it takes {needed / 2**20:.0f} MiB, more than is allowed",
                "raise --max-memory, or convert it to tiled TIFF, which is read piece by piece",
            )

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return a view of rows ``top`` to ``bottom``; see `denoisekit.image.Reader`."""
        del plane  # there is one
        if self._pixels is None:
            if self._decode is None:
                raise ValueError("the reader is closed")
            self._pixels = self._checked(self._decode())
            self._decode = None  # and with it the compressed file
        return self._pixels[top:bottom]

    def _checked(self, pixels: Pixels) -> Pixels:
        info = self._info
        shape = (info.height, info.width, info.samples)
        # A decoder that makes something else than its header said met damage.
        if pixels.dtype != info.dtype or pixels.size != np.prod(shape):
            raise InputError(f"{self._path}: damaged: the pixels do not match the header")
        pixels = pixels.reshape(shape)
        pixels.flags.writeable = False
        return pixels

    def close(self) -> None:
        """Let go of the picture."""
        self._pixels = self._decode = None


class RowOrder:
    """Checks that rows arrive as promised: in order, complete, in the right shape and dtype."""

    def __init__(self, info: ImageInfo) -> None:
        self._info = info
        self._next = (0, 0)

    def take(self, plane: int, top: int, rows: Pixels) -> None:
        """Accept the next rows, or raise ValueError: the caller has a bug."""
        info = self._info
        shape = (rows.shape[0], info.width, info.samples)
        if (plane, top) != self._next or rows.shape != shape or rows.dtype != info.dtype:
            raise ValueError(f"rows {rows.shape} {rows.dtype} at {(plane, top)}: out of order")
        bottom = top + rows.shape[0]
        if bottom > info.height:
            raise ValueError(f"rows to {bottom} of {info.height}")
        self._next = (plane + 1, 0) if bottom == info.height else (plane, bottom)

    def complete(self) -> None:
        """Raise ValueError where rows are still missing."""
        if self._next != (self._info.planes, 0):
            raise ValueError(f"finished at {self._next}: rows are missing")


class HeldWriter:
    """Collects a whole picture, then encodes it into the file."""

    def __init__(self, path: Path, info: ImageInfo, encode: Callable[[Pixels], bytes]) -> None:
        self._path = path
        self._order = RowOrder(info)
        self._encode = encode
        shape = (info.height, info.width, info.samples)
        self._pixels: Pixels | None = np.empty(shape, info.dtype)

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Keep the next rows; see `denoisekit.image.Writer`."""
        assert self._pixels is not None
        self._order.take(plane, top, rows)
        self._pixels[top : top + rows.shape[0]] = rows

    def finish(self) -> None:
        """Encode and write the file."""
        self._order.complete()
        assert self._pixels is not None
        data = self._encode(self._pixels)
        self._pixels = None
        self._path.write_bytes(data)

    def close(self) -> None:
        """Let go of the picture."""
        self._pixels = None


def picture_info(
    format_id: str,
    height: int,
    width: int,
    samples: int,
    dtype: str,
    *,
    alpha: bool = False,
    bits: int | None = None,
    metadata: Metadata,
    warnings: tuple[str, ...] = (),
) -> ImageInfo:
    """Describe one picture of ``samples`` samples, alpha included."""
    colours = samples - alpha
    return ImageInfo(
        format=format_id,
        shape=(height, width) if samples == 1 else (height, width, samples),
        axes="YX" if samples == 1 else "YXS",
        dtype=np.dtype(dtype),
        colour="gray" if colours == 1 else "rgb" if colours == 3 else "channels",
        alpha=alpha,
        bits=bits,
        metadata=metadata,
        warnings=warnings,
    )


def check_axes(path: Path, asked: str | None, found: str) -> None:
    """Refuse axes other than those a picture has."""
    if asked is not None and asked.upper() != found:
        raise UsageError(
            f"{path}: axes {asked!r} do not fit: the file holds one picture, {found}",
            "leave out the axes option for photo formats",
        )


def check_fits(path: Path, height: int, width: int, bytes_per_pixel: int) -> None:
    """Refuse, before anything is decoded, what cannot fit in the memory that is free."""
    import psutil

    if height < 1 or width < 1:
        raise InputError(f"{path}: damaged: the header says {width} x {height} pixels")
    needed = height * width * bytes_per_pixel
    check_claim(path, f"{width} x {height} pixels", needed)
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{path}: {width} x {height} pixels need {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB of memory are free",
            "if the size is real, convert the file to tiled TIFF, which is read piece by piece",
        )


def check_claim(path: Path, pixels: str, needed: int) -> None:
    """Refuse what would take far more memory than so small a file can be trusted with.

    Some codecs make gigabytes of one colour out of a few bytes. The bound is above the
    most that deflate makes of a bilevel drawing, with the picture and its copy in memory.
    """
    size = path.stat().st_size
    if needed > _UNASKED + _EXPANSION * max(0, size - _SMALL):
        raise InputError(
            f"{path}: claims {pixels}, which take {needed / 2**30:.1f} GiB of memory, "
            f"in {size} bytes",
            "if the size is real, convert it to PNG or TIFF, which cannot claim so much",
        )


def check_tail(path: Path, stream: bytes) -> None:
    """Refuse compressed pixels that end in zeros: where a copy stopped, the rest is zero.

    For codecs that adapt: of a plain area they make a few bytes, never a row of zeros.
    """
    if len(stream) > _ZEROS and not any(stream[-_ZEROS:]):
        raise InputError(f"{path}: the end of the picture is missing", RECOPY)


def check_picture(
    info: ImageInfo,
    format_id: str,
    title: str,
    depths: Mapping[str, tuple[int, ...]],
    *,
    alpha: bool = True,
    gray: bool = True,
    cmyk: bool = False,
    longest: int | None = None,
    holds: tuple[str, ...] = ("icc", "exif", "xmp", "dpi"),
) -> ImageInfo:
    """Return what a one-picture format would store for ``info``, or say why it cannot.

    Parameters
    ----------
    info : ImageInfo
        Description of the pixels that are to be written.
    format_id, title : str
        The format that is to hold them.
    depths : mapping of str to tuple of int
        Per dtype name, the bits a sample that the format stores for it.
    alpha, gray, cmyk : bool
        Whether the format holds opacity, single-sample pictures, four-ink pictures.
    longest : int, optional
        Most pixels along a side.
    holds : tuple of str
        Fields of `Metadata` that the format has a place for; others are left out, which
        the warnings of the result say.

    Raises
    ------
    OutputError
        Bits, planes or channels would be lost.
    """
    if info.planes > 1:
        raise OutputError(
            f"{title} holds one picture, not a stack of {info.planes} planes",
            "write TIFF: --format tiff",
        )
    full = info.dtype.itemsize * 8
    bits = info.bits or full
    allowed = depths.get(info.dtype.name, ())
    # 12 bits kept in uint16 are still whole in 16 stored bits; only their number is not told.
    unscaled = info.dtype.name == "uint16" and bits not in allowed and full in allowed
    if bits not in allowed and not unscaled:
        raise OutputError(
            f"{title} cannot hold {bits}-bit {info.dtype.name} samples without loss",
            "write TIFF: --format tiff",
        )
    inks = info.colour == "channels" and info.samples == 4 and not info.alpha and cmyk
    if (info.colour == "channels" and not inks) or (info.colour == "gray" and not gray):
        raise OutputError(
            f"{title} cannot hold {info.samples} channels of this kind", "write TIFF: --format tiff"
        )
    if info.alpha and not alpha:
        raise OutputError(f"{title} cannot hold opacity", "write PNG: --format png")
    if longest and max(info.height, info.width) > longest:
        raise OutputError(
            f"{title} holds at most {longest} pixels a side, not {info.width} x {info.height}",
            "write PNG or TIFF: --format png",
        )
    return _described(info, format_id, title, unscaled, holds)


def _described(
    info: ImageInfo, format_id: str, title: str, unscaled: bool, holds: tuple[str, ...]
) -> ImageInfo:
    """Return ``info`` as a picture of that format, with what it has no place for dropped."""
    notes = list(info.warnings)
    if unscaled:
        notes.append(f"{info.bits}-bit values are kept unscaled in {title}'s 16 bits")
    samples = (info.samples,) if info.axes.endswith("S") and info.samples > 1 else ()
    metadata = info.metadata
    if info.format != format_id:
        metadata, lost = carried(metadata, holds)
        if lost:
            notes.append(f"{title} has no place for {' and '.join(lost)}")
    return replace(
        info,
        format=format_id,
        axes="YXS" if samples else "YX",
        shape=(info.height, info.width, *samples),
        bits=None if unscaled else info.bits,
        metadata=metadata,
        warnings=tuple(notes),
    )


_NAMES = {"icc": "the ICC profile", "exif": "EXIF", "xmp": "XMP", "dpi": "the resolution"}


def untied(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Return metadata that no longer speak of what only the file's own format can hold.

    A reader names these things, with the XMP packet that does without them, as "tied" in
    the container.
    """
    names, xmp = metadata.container.get("tied", ((), metadata.xmp))
    return replace(metadata, xmp=xmp), list(names)


def carried(metadata: Metadata, holds: tuple[str, ...]) -> tuple[Metadata, list[str]]:
    """Return what another format takes over, and the names of what it has no place for."""
    if metadata.container.get("parts"):
        raise OutputError("pages of different sizes fit into a TIFF only", "leave out --format")
    metadata, tied = untied(metadata)
    lost = [name for name in _NAMES if name not in holds and getattr(metadata, name)]
    kept = replace(metadata, container=Metadata().container, **dict.fromkeys(lost))
    return kept, tied + [_NAMES[name] for name in lost]
