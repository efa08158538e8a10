"""JPEG XL: 8- and 16-bit integers and floats, gray or RGB, with or without alpha.

The library at hand reads and writes pixels only: the orientation and colour space of
the codestream, EXIF and XMP boxes are handled here. An embedded ICC profile cannot be
read, and the user is told. The encoder can state neither an orientation nor a colour
space, so its header is taken apart and put together again with both; the frames after the
header begin on a byte and hold no positions, so they stay as they are.
Bit layouts: ISO/IEC 18181-1, image headers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from denoisekit.errors import InputError, OutputError
from denoisekit.formats import base
from denoisekit.formats import exif as exif_block
from denoisekit.formats.foreign import FRAMES
from denoisekit.formats.isobmff import box, boxes
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

_SIGNATURE = bytes.fromhex("0000000c4a584c200d0a870a")
_FTYP = box(b"ftyp", b"jxl \0\0\0\0jxl ")
_DISTANCE = 0.5  # visually lossless at twice the distance
_ENUM = ((0, 0), (0, 1), (4, 2), (6, 18))
_CUSTOM = ((19, 0), (19, 524288), (20, 1048576), (21, 2097152))
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def _open(source: base.Source, axes: str | None) -> Reader:
    import imagecodecs

    data = source.read()
    notes: list[str] = []
    stream, exif, xmp = _parts(data, notes)
    head = parse(stream)
    if head.animated:
        raise InputError(f"{source.path}: animated JPEG XL is not supported", FRAMES)
    if head.preview or len(head.extra) > 1 or any(kind or mul for kind, mul in head.extra):
        raise InputError(
            f"{source.path}: JPEG XL with previews, premultiplied alpha or further channels "
            "is not supported",
            "convert it to PNG or TIFF",
        )
    if head.depth not in ((16, 32) if head.floating else range(8, 17)):
        raise InputError(
            f"{source.path}: JPEG XL of {head.depth} bits of this kind is not supported",
            "convert it to TIFF",
        )
    small = "uint8" if head.depth == 8 else "uint16"
    dtype = np.dtype(f"float{head.depth}" if head.floating else small)
    samples = (1 if head.gray else 3) + len(head.extra)
    if head.icc:
        notes.append(
            "the ICC profile of this JPEG XL cannot be read and is not kept: "
            "colours are taken as sRGB"
        )
    container = {
        "lossless": not head.lossy,
        "orientation": head.orientation,
        "exif": exif,
        "colour": None if head.icc else head.colour,
    }
    # Other formats know the orientation from EXIF alone.
    told = exif_block.with_orientation(exif, head.orientation)
    metadata, size = Metadata(container=container, exif=told, xmp=xmp), (head.height, head.width)
    bits = None if head.floating else head.depth
    info = base.image_info("jxl", *size, samples, dtype.name, metadata, notes, bits=bits)

    return base.held(
        source,
        axes,
        info,
        samples * (4 + dtype.itemsize),
        lambda _: imagecodecs.jpegxl_decode(data, keeporientation=True),
    )


def _parts(data: bytes, notes: list[str]) -> tuple[bytes, bytes | None, bytes | None]:
    """Return the beginning of the codestream, EXIF and XMP; note what is not kept."""
    import imagecodecs

    if not data.startswith(_SIGNATURE):
        return data[:4096], None, None
    stream, exif, xmp = b"", None, None
    for found in boxes(data):
        kind, body = found.kind, data[found.start : min(found.end, found.start + 4096)]
        whole = data[found.start : found.end] if kind in (b"Exif", b"xml ", b"brob") else b""
        if kind == b"brob":
            kind = body[:4]
            room = min(64 * 2**20, 4096 + 256 * len(whole))
            known = kind in (b"Exif", b"xml ")
            whole = bytes(imagecodecs.brotli_decode(whole[4:], out=room)) if known else b""
        if kind == b"jxlc":
            stream = stream or body
        elif kind == b"jxlp":
            stream += body[4:] if len(stream) < 4096 else b""
        elif kind == b"Exif" and len(whole) > 4:
            block = whole[4 + int.from_bytes(whole[:4], "big") :]
            exif = exif or exif_block.strip_prefix(block, notes)
        elif kind == b"xml ":
            xmp = xmp or whole
        elif kind == b"jbrd":
            notes.append("the data to rebuild the JPEG this file was made from are not kept")
        elif kind not in (b"JXL ", b"ftyp", b"jxll", b"jxli"):
            name = kind.decode("ascii", "backslashreplace")
            notes.append(f"the JPEG XL box {name} is not kept")
    return stream, exif, xmp


def _check(info: ImageInfo) -> ImageInfo:
    if info.format != "jxl" and info.metadata.icc:
        raise OutputError(
            "JPEG XL is written without ICC profiles, and this picture has one",
            "write PNG or TIFF: --format png",
        )
    depths = {"uint8": (8,), "uint16": tuple(range(9, 17)), "float16": (16,), "float32": (32,)}
    return base.check_image(info, "jxl", "JPEG XL", depths, longest=2**30, holds=("exif", "xmp"))


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    import imagecodecs

    meta, container = info.metadata, info.metadata.container
    colour = container.get("colour")
    # Lossy files hold an absolute colour space; relabelling it would shift the colours.
    plain = colour is None or colour == (1, 1)
    lossless = container.get("lossless", True) or not plain or info.dtype.kind == "f"
    data = bytes(
        imagecodecs.jpegxl_encode(
            pixels[0, ..., 0] if info.samples == 1 else pixels[0],
            lossless=lossless,
            distance=None if lossless else _DISTANCE,
            effort=3 if lossless else 5,
            bitspersample=info.bits,
            usecontainer=False,
        )
    )
    exif, orientation = meta.exif, exif_block.orientation(meta.exif)
    if exif_block.with_orientation(container.get("exif"), orientation) == exif:
        exif = container.get("exif", exif)
    level = b""
    if data.startswith(_SIGNATURE):  # the encoder makes a container where a level must be told
        found = [(b.kind, data[b.start : b.end]) for b in boxes(data)]
        level = b"".join(box(kind, body) for kind, body in found if kind == b"jxll")
        data = b"".join(
            body[4:] if kind == b"jxlp" else body
            for kind, body in found
            if kind in (b"jxlc", b"jxlp")
        )
    if orientation != 1 or (colour is not None and colour != parse(data).colour):
        data = rewrite(data, orientation, colour)
    extra = box(b"Exif", bytes(4), exif) if exif else b""
    extra += box(b"xml ", meta.xmp) if meta.xmp else b""
    if not extra and not level:
        return data
    return b"".join([_SIGNATURE, _FTYP, level, extra, box(b"jxlc", data)])


class _Bits:
    """Reads bits, least significant first, and keeps count."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._value, self._length, self.at = int.from_bytes(data, "little"), 8 * len(data), at

    def take(self, count: int) -> int:
        """Return the next ``count`` bits as a number."""
        if self.at + count > self._length:
            raise ValueError("the JPEG XL header is cut off")
        self.at += count
        return self.piece(self.at - count, self.at)[0]

    def choice(self, *options: tuple[int, int]) -> int:
        """Return a number coded as one of four (bits, offset)."""
        bits, offset = options[self.take(2)]
        return offset + self.take(bits)

    def piece(self, start: int, end: int) -> tuple[int, int]:
        """Return the bits from ``start`` to ``end`` as (value, count)."""
        return self._value >> start & ((1 << (end - start)) - 1), end - start


@dataclass(slots=True)
class Header:
    """What the header of a codestream says.

    ``colour`` are bits that are copied unread, (value, count), and ``depth_bits`` those from
    the depth to the extra channels; ``end`` is the byte after the header, None where the
    header is not simple enough to be rewritten.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    animated: bool = False
    preview: bool = False
    floating: bool = False
    depth: int = 8
    extra: list[tuple[int, bool]] = field(default_factory=list)
    lossy: bool = True
    gray: bool = False
    icc: bool = False
    size_end: int = 0
    # Defaults: 8 bits, 16-bit buffers suffice, no extra channels, lossy; sRGB.
    depth_bits: tuple[int, int] = (0b1001000, 7)
    colour: tuple[int, int] = (1, 1)
    end: int | None = None


def parse(stream: bytes) -> Header:
    """Read the header of a codestream.

    Raises
    ------
    ValueError
        Cut off, or not a JPEG XL codestream.
    """
    if stream[:2] != b"\xff\x0a":
        raise ValueError("not a JPEG XL codestream")
    bits, head = _Bits(stream[:4096], 16), Header()
    head.width, head.height = _size(bits)
    head.size_end = bits.at
    simple = bits.take(1) or _image(bits, head)
    if simple and bits.take(1):  # the default colour transform
        head.end = -(-bits.at // 8)
    return head


def _image(bits: _Bits, head: Header) -> bool:
    """Read what is not default; return whether nothing unusual follows."""
    extra = bits.take(1)
    if extra:
        head.orientation = bits.take(3) + 1
        if bits.take(1):
            _size(bits)
        head.preview = bool(bits.take(1))
        head.animated = not head.preview and bool(bits.take(1))
        if head.preview or head.animated:
            return False
    start = bits.at
    head.floating, head.depth = _depth(bits)
    bits.take(1)  # 16-bit buffers suffice
    count = bits.choice((0, 0), (0, 1), (4, 2), (12, 1))
    head.extra = [_extra_channel(bits) for _ in range(count)]
    head.lossy = bool(bits.take(1))
    head.depth_bits = bits.piece(start, bits.at)
    start = bits.at
    head.gray, head.icc = _colour(bits)
    head.colour = bits.piece(start, bits.at)
    if extra and not bits.take(1):  # tone mapping
        bits.take(16 + 16 + 1 + 16)
    return bits.take(2) == 0 and not head.icc  # no extensions


def _size(bits: _Bits) -> tuple[int, int]:
    """Return width and height."""
    small = bits.take(1)
    sides = []
    for _ in range(2):
        long = ((9, 1), (13, 1), (18, 1), (30, 1))
        sides.append(8 * (bits.take(5) + 1) if small else bits.choice(*long))
        if len(sides) == 1 and (ratio := bits.take(3)):
            over, under = _RATIOS[ratio - 1]
            sides.append(sides[0] * over // under)
            break
    return sides[1], sides[0]


def _depth(bits: _Bits) -> tuple[bool, int]:
    """Return whether samples are floats, and their bits."""
    if not bits.take(1):
        return False, bits.choice((0, 8), (0, 10), (0, 12), (6, 1))
    depth = bits.choice((0, 32), (0, 16), (0, 24), (6, 1))
    bits.take(4)
    return True, depth


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Return the kind of the channel (0: alpha) and whether colours are multiplied by it."""
    if bits.take(1):
        return 0, False
    kind = bits.choice(*_ENUM)
    _depth(bits)
    bits.choice((0, 0), (0, 3), (0, 4), (3, 1))
    bits.take(8 * bits.choice((0, 0), (4, 0), (5, 16), (10, 48)))  # its name
    return kind, kind == 0 and bool(bits.take(1))


def _colour(bits: _Bits) -> tuple[bool, bool]:
    """Read a colour encoding; return whether it is gray, and whether an ICC profile follows."""
    if bits.take(1):
        return False, False
    icc, space = bits.take(1), bits.choice(*_ENUM)
    if icc:
        return space == 1, True
    if space != 2 and bits.choice(*_ENUM) == 2:  # white point
        bits.choice(*_CUSTOM), bits.choice(*_CUSTOM)
    if space not in (1, 2) and bits.choice(*_ENUM) == 2:  # primaries
        for _ in range(6):
            bits.choice(*_CUSTOM)
    if space != 2:
        if bits.take(1):
            bits.take(24)  # gamma
        else:
            bits.choice(*_ENUM)
    bits.choice(*_ENUM)  # rendering intent
    return space == 1, False


def rewrite(stream: bytes, orientation: int, colour: tuple[int, int] | None) -> bytes:
    """Return a codestream with another orientation and, where given, colour encoding.

    Raises
    ------
    ValueError
        The stream's header is not of the simple kind that our encoder writes.
    """
    head = parse(stream)
    if head.end is None:
        raise ValueError("a JPEG XL header that cannot be rewritten")
    parts = [
        _Bits(stream[: head.end]).piece(0, head.size_end),
        (0b10, 2),  # not all default; orientation and tone mapping are written
        (orientation - 1, 3),
        (0, 3),  # no intrinsic size, preview, animation
        head.depth_bits,
        colour or head.colour,
        (0b1001, 4),  # tone mapping default, no extensions (2 bits), transform default
    ]
    value = length = 0
    for part, count in parts:
        value |= part << length
        length += count
    return value.to_bytes(-(-length // 8), "little") + stream[head.end :]


JXL = base.Format(
    "jxl", "JPEG XL", (".jxl",), (_SIGNATURE, b"\xff\x0a"), _open, base.encoded(_encode), _check
)
