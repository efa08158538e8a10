"""What a file format provides, and what the formats that are decoded whole have in common.

Their readers keep the decoded image in the file's own dtype and hand out views of it;
their writers collect rows until the encoder can run. Nothing is decoded before the header
has been held against the memory that is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

if TYPE_CHECKING:
    from PIL import Image

RECOPY = "copy or download it again; where there is no better copy, save it anew in a viewer"
BILEVEL = "black and white of 1 bit; written as gray with 8 bits"
PALETTE = "a palette picture; written with full colours, not a palette"
METRE = 0.0254
"""An inch in metres."""
_UNASKED = 96 * 2**20
"""Memory that any file may take."""
_EXPANSION = 60_000
"""Bytes of memory that each byte of a file beyond `_SMALL` may claim."""
_SMALL = 8192
_ZEROS = 64
_BAND_PIXELS = 4_000_000


class Source:
    """A file that is read: opened once, for its kind, its header and its pixels.

    Attributes
    ----------
    path : pathlib.Path
        Its name.
    file : binary file
        The open file.
    size : int
        Its length in bytes.
    max_memory : int or None
        Most bytes that decoding a plane whole may take.
    """

    def __init__(self, path: Path, max_memory: int | None = None) -> None:
        self.path, self.max_memory = path, max_memory
        self._state = self._look()
        self.file: BufferedReader = path.open("rb")
        self.size = self.file.seek(0, 2)

    def read(self, start: int = 0, length: int = -1) -> bytes:
        """Return ``length`` bytes from ``start`` on, or all; fewer where the file ends."""
        self.file.seek(start)
        return self.file.read(length)

    def changed(self) -> bool:
        """Tell whether the file was changed, replaced or written on since it was opened."""
        try:
            return self._look() != self._state
        except OSError:  # it is gone
            return True

    def _look(self) -> tuple[int, ...]:
        found = self.path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def check_fits(self, height: int, width: int, bytes_per_pixel: int) -> None:
        """Refuse, before anything is decoded, what cannot fit in the memory that is free."""
        import psutil

        if height < 1 or width < 1:
            raise InputError(f"{self.path}: damaged: the header says {width} x {height} pixels")
        needed = height * width * bytes_per_pixel
        self.check_claim(f"{width} x {height} pixels", needed)
        free = psutil.virtual_memory().available
        if needed > free:
            raise InputError(
                f"{self.path}: {width} x {height} pixels need {needed / 2**30:.1f} GiB, "
                f"{free / 2**30:.1f} GiB of memory are free",
                "if the size is real, convert the file to tiled TIFF, which is read piece by piece",
            )

    def check_claim(self, pixels: str, needed: int) -> None:
        """Refuse what would take far more memory than so small a file can be trusted with.

        Some codecs make gigabytes of one colour out of a few bytes. The bound is above the
        most that deflate makes of a bilevel drawing, with the image and its copy in memory.
        """
        if needed > _UNASKED + _EXPANSION * max(0, self.size - _SMALL):
            raise InputError(
                f"{self.path}: claims {pixels}, which take {needed / 2**30:.1f} GiB of memory, "
                f"in {self.size} bytes",
                "if the size is real, convert it to PNG or TIFF, which cannot claim so much",
            )

    def check_tail(self, stream: bytes) -> None:
        """Refuse compressed pixels that end in zeros: where a copy stopped, the rest is zero.

        For codecs that adapt: of a plain area they make a few bytes, never a row of zeros.
        """
        if len(stream) > _ZEROS and not any(stream[-_ZEROS:]):
            raise InputError(f"{self.path}: the end of the picture is missing", RECOPY)


@dataclass(frozen=True, slots=True)
class Format:
    """One file format, described; its functions import their library when called.

    Attributes
    ----------
    id, title : str
        Short name (``"png"``) and the name people know.
    suffixes : tuple of str
        File name endings, lower case with the dot; the first is the usual one.
    marks : tuple of bytes
        Beginnings of its files; () where ``looks`` says it alone. The content decides, never
        the name.
    open : callable
        ``open(source, axes)`` returns a `Reader`; ``axes`` overrides what the file
        says (None: believe the file). Raises InputError. The caller closes the source.
    create : callable
        ``create(path, info)`` returns a `Writer` to a file of this format, which is given
        all rows in order. ``path`` is a temporary name; the caller renames it.
    check : callable
        ``check(info)`` returns the `ImageInfo` of what this format would store for
        that description (metadata of another format's container dropped …), and
        raises OutputError with a hint where it would lose bits, planes or channels.
    looks : callable, optional
        ``looks(head)`` tells from a file's first 512 bytes whether it is of this format, where
        its beginning fits.
    streams : bool
        Whether its writer keeps only the rows it was given last, and not a whole plane
        and then its encoded form.
    """

    id: str
    title: str
    suffixes: tuple[str, ...]
    marks: tuple[bytes, ...]
    open: Callable[[Source, str | None], Reader]
    create: Callable[[Path, ImageInfo], Writer]
    check: Callable[[ImageInfo], ImageInfo]
    looks: Callable[[bytes], bool] | None = None
    streams: bool = False

    def matches(self, head: bytes) -> bool:
        """Tell from a file's first 512 bytes whether it is of this format."""
        fits = not self.marks or head.startswith(self.marks)
        return fits and (self.looks is None or self.looks(head))


class HeldReader:
    """Planes that are decoded whole, each at its first `read_rows`; one at a time is kept.

    Parameters
    ----------
    source : Source
        The file.
    info : ImageInfo
        What its header says.
    decode : callable
        Returns the pixels of a plane.

    Raises
    ------
    InputError
        A plane with the decoder's copy of it takes more than ``source.max_memory``.
    """

    def __init__(self, source: Source, info: ImageInfo, decode: Callable[[int], Pixels]) -> None:
        self.info, self._path = info, source.path
        self._decode: Callable[[int], Pixels] | None = decode
        self._kept: tuple[int, Pixels] | None = None
        needed = 2 * info.plane_bytes
        if source.max_memory is not None and needed > source.max_memory:
            raise InputError(
                f"{source.path}: decoding it takes {needed / 2**20:.0f} MiB, more than is allowed",
                "raise --max-memory, or convert it to tiled TIFF, which is read piece by piece",
            )

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return a view of rows ``top`` to ``bottom``; see `denoisekit.image.Reader`."""
        if self._kept is None or self._kept[0] != plane:
            if self._decode is None:
                raise ValueError("the reader is closed")
            self._kept = None
            pixels, info = self._decode(plane), self.info
            shape = (info.height, info.width, info.samples)
            # A decoder that makes something else than its header said met damage.
            if pixels.dtype != info.dtype or pixels.size != np.prod(shape):
                raise InputError(f"{self._path}: damaged: the pixels do not match the header")
            pixels = pixels.reshape(shape)
            pixels.flags.writeable = False
            self._kept = plane, pixels
            if info.planes == 1:
                self._decode = None  # and with it the compressed file
        return self._kept[1][top:bottom]

    def close(self) -> None:
        """Let go of the image."""
        self._kept = self._decode = None


def held(
    source: Source,
    axes: str | None,
    info: ImageInfo,
    bytes_per_pixel: int,
    decode: Callable[[int], Pixels],
) -> HeldReader:
    """Return a reader of one image, its axes and its size checked.

    Parameters
    ----------
    source, axes
        As `Format.open` gets them.
    info : ImageInfo
        What the header says.
    bytes_per_pixel : int
        Memory that decoding takes, the result included.
    decode : callable
        Returns the pixels of plane 0.
    """
    if axes is not None and axes.upper() != info.axes:
        raise UsageError(
            f"{source.path}: axes {axes!r} do not fit: the file holds one picture, {info.axes}",
            "leave out the axes option for photo formats",
        )
    source.check_fits(info.height, info.width, bytes_per_pixel)
    return HeldReader(source, info, decode)


class HeldWriter:
    """Collects all rows, then encodes them into the file at once.

    ``encode(pixels, info)`` gets them as (planes, H, W, S) and returns the file.
    """

    def __init__(
        self, path: Path, info: ImageInfo, encode: Callable[[Pixels, ImageInfo], bytes]
    ) -> None:
        self._path, self._info, self._encode = path, info, encode
        shape = (info.planes, info.height, info.width, info.samples)
        self._pixels = [np.empty(shape, info.dtype)]

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Keep the next rows; see `denoisekit.image.Writer`."""
        self._pixels[0][plane, top : top + len(rows)] = rows

    def finish(self) -> None:
        """Encode and write the file."""
        self._path.write_bytes(self._encode(self._pixels.pop(), self._info))

    def close(self) -> None:
        """Let go of the pixels."""
        self._pixels.clear()


def encoded(encode: Callable[[Pixels, ImageInfo], bytes]) -> Callable[[Path, ImageInfo], Writer]:
    """Return the ``create`` of a `Format` whose files ``encode`` makes; see `HeldWriter`."""
    return lambda path, info: HeldWriter(path, info, encode)


def image_pixels(image: Image.Image) -> Pixels:
    """Decode by Pillow, and copy by bands into one (H, W, S) array: no third copy ever lives.

    Pillow's own limit on sizes is not used, as `Source.check_fits` compares the header with
    the memory that is free: its file classes are called directly, because `PIL.Image.open`
    applies that limit through a global.
    """
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, len(image.getbands())), np.uint8)
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        band = np.asarray(image.crop((0, top, width, bottom)))
        pixels[top:bottom] = band.reshape(bottom - top, width, -1)
    return pixels


def image_info(
    format_id: str,
    height: int,
    width: int,
    samples: int,
    dtype: str,
    metadata: Metadata | None = None,
    warnings: Sequence[str] = (),
    *,
    alpha: bool | None = None,
    bits: int | None = None,
) -> ImageInfo:
    """Describe one image of ``samples`` samples, alpha included: the last of 2 and of 4.

    ``bits`` that are all of the dtype's say nothing.
    """
    alpha = samples in (2, 4) if alpha is None else alpha
    colours, kind = samples - alpha, np.dtype(dtype)
    return ImageInfo(
        format=format_id,
        shape=(height, width) if samples == 1 else (height, width, samples),
        axes="YX" if samples == 1 else "YXS",
        dtype=kind,
        colour="gray" if colours == 1 else "rgb" if colours == 3 else "channels",
        alpha=alpha,
        bits=None if bits == 8 * kind.itemsize else bits,
        metadata=metadata or Metadata(),
        warnings=tuple(warnings),
    )


def check_image(
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
    """Return what a one-image format would store for ``info``, or say why it cannot.

    Parameters
    ----------
    info : ImageInfo
        Description of the pixels that are to be written.
    format_id, title : str
        The format that is to hold them.
    depths : mapping of str to tuple of int
        Per dtype name, the bits a sample that the format stores for it.
    alpha, gray, cmyk : bool
        Whether the format holds alpha, single-sample images, four-ink images.
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
    if info.format == format_id and info.metadata.container.get("frames"):
        return info  # an animation that stays one
    full, to_tiff = info.dtype.itemsize * 8, "write TIFF: --format tiff"
    bits, allowed = info.bits or full, depths.get(info.dtype.name, ())
    # 12 bits kept in uint16 are still whole in 16 stored bits; only their number is not told.
    unscaled = info.dtype.name == "uint16" and bits not in allowed and full in allowed
    inks = info.colour == "channels" and info.samples == 4 and not info.alpha and cmyk
    if info.planes > 1:
        raise OutputError(
            f"{title} holds one picture, not a stack of {info.planes} planes", to_tiff
        )
    if bits not in allowed and not unscaled:
        raise OutputError(
            f"{title} cannot hold {bits}-bit {info.dtype.name} samples without loss", to_tiff
        )
    if (info.colour == "channels" and not inks) or (info.colour == "gray" and not gray):
        raise OutputError(f"{title} cannot hold {info.samples} channels of this kind", to_tiff)
    if info.alpha and not alpha:
        raise OutputError(f"{title} cannot hold alpha", "write PNG: --format png")
    if longest and max(info.height, info.width) > longest:
        raise OutputError(
            f"{title} holds at most {longest} pixels a side, not {info.width} x {info.height}",
            "write PNG or TIFF: --format png",
        )
    notes, metadata = list(info.warnings), info.metadata
    if unscaled:
        notes.append(f"{info.bits}-bit values are kept unscaled in {title}'s 16 bits")
    if info.format != format_id:
        metadata, lost = carried(metadata, holds)
        if lost:
            notes.append(f"{title} has no place for {' and '.join(lost)}")
    samples = (info.samples,) if info.axes.endswith("S") and info.samples > 1 else ()
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
