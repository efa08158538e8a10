"""The marker segments of a JPEG file: what they hold beside the pixels, and the frame header."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_ICC = b"ICC_PROFILE\0"
_EXIF = b"Exif\0\0"
NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that ends compressed data."""
LARGEST = 65533
"""Most bytes that a segment holds."""

FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: its marker's second byte, and where its payload lies."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame header: size, precision, and (id, h, v, table) of every component."""

    marker: int
    bits: int
    height: int
    width: int
    components: tuple[tuple[int, int, int, int], ...]


def segments(data: bytes) -> Iterator[Segment]:
    """Walk all segments up to the end of the picture, across the compressed data.

    The last one yielded is the end marker (0xD9).

    Raises
    ------
    ValueError
        The file ends, or holds something else, before the end marker.
    """
    at = 2
    while True:
        match = NEXT.search(data, at)
        if match is None:
            raise ValueError("the file ends before the picture does")
        marker, at = data[match.start() + 1], match.end()
        if marker == 0xD9:
            yield Segment(marker, at, at)
            return
        if marker == 0x01:
            continue
        if marker < 0xC0 or marker == 0xD8 or at + 2 > len(data):
            raise ValueError(f"marker {marker:#x} where none belongs")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2 or at + length > len(data):
            raise ValueError("the file ends before the picture does")
        yield Segment(marker, at + 2, at + length)
        at += length


def frame_of(data: bytes, found: list[Segment]) -> Frame:
    """Return the only frame header, or raise ValueError."""
    frames = [s for s in found if s.marker in FRAMES]
    if len(frames) != 1:
        raise ValueError(f"{len(frames)} frame headers")
    payload = data[frames[0].start : frames[0].end]
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise ValueError("the frame header is cut off")
    bits, height, width, count = struct.unpack_from(">BHHB", payload)
    parts = [payload[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    components = tuple((p[0], p[1] >> 4, p[1] & 15, p[2]) for p in parts)
    return Frame(frames[0].marker, bits, height, width, components)


@dataclass(frozen=True, slots=True)
class Extras:
    """What the segments say beside the picture.

    ``jfif`` is (unit, x, y) of the density; ``adobe`` the colour transform; ``others``
    all remaining application segments and comments, whole, in order; ``notes`` what is
    not kept.
    """

    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    jfif: tuple[int, int, int] | None
    adobe: int | None
    others: tuple[tuple[int, bytes], ...]
    notes: tuple[str, ...]


def extras_of(data: bytes, found: list[Segment]) -> Extras:
    """Sort the application segments and comments of a file."""
    icc: dict[int, bytes] = {}
    pieces, notes = 0, []
    exif = xmp = jfif = adobe = None
    others: list[tuple[int, bytes]] = []
    for segment in found:
        marker = segment.marker
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            continue
        body = data[segment.start : segment.end]
        if marker == 0xE0 and body[:5] in (b"JFIF\0", b"JFXX\0"):
            if jfif is None and len(body) >= 12 and body[:5] == b"JFIF\0":
                jfif = struct.unpack_from(">BHH", body, 7)
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker == 0xE1 and body.startswith(_EXIF) and exif is None:
            exif = body
        elif marker == 0xE1 and body.startswith(_XMP) and xmp is None:
            xmp = body[len(_XMP) :]
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > 14:
            if icc.setdefault(body[12], body[14:]) != body[14:]:
                notes.append("a second ICC profile is not kept")
            pieces = max(pieces, body[13])
        else:
            others.append((marker, body))
    if icc and sorted(icc) != list(range(1, pieces + 1)):
        icc = {}
        notes.append("the damaged ICC profile is not kept")
    profile = b"".join(icc[number] for number in sorted(icc)) or None
    notes = list(dict.fromkeys(notes))
    return Extras(profile, exif, xmp, jfif, adobe, tuple(others), tuple(notes))


def without_extras(data: bytes, found: list[Segment]) -> bytes:
    """Return the file without metadata, so that the decoder meets only what it needs."""
    parts = [data[:2]]
    for segment, after in pairwise(found):
        needed = data[segment.start : segment.start + 5] in (b"JFIF\0", b"Adobe")
        if (0xE0 <= segment.marker <= 0xEF and not needed) or segment.marker == 0xFE:
            continue
        # What stands between segments means nothing, unless they are followed by pixels.
        pixels = segment.marker == 0xDA
        end = after.start - (2 if after.marker == 0xD9 else 4) if pixels else segment.end
        parts.append(data[segment.start - 4 : end])
    return b"".join([*parts, b"\xff\xd9"])


def emit(icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """Make the segments of EXIF, XMP and the colour profile."""
    parts = []
    if exif:
        parts.append(segment(0xE1, _EXIF + exif))
    if xmp:
        parts.append(segment(0xE1, _XMP + xmp))
    if icc:
        step = LARGEST - 14
        pieces = [icc[at : at + step] for at in range(0, len(icc), step)]
        for number, piece in enumerate(pieces, 1):
            parts.append(segment(0xE2, _ICC + bytes([number, len(pieces)]) + piece))
    return b"".join(parts)


def fits(icc: bytes | None, exif: bytes | None, xmp: bytes | None) -> tuple[bool, bool, bool]:
    """Tell which of the three fit into segments."""
    return (
        len(icc or b"") <= 255 * (LARGEST - 14),
        len(exif or b"") <= LARGEST - len(_EXIF),
        len(xmp or b"") <= LARGEST - len(_XMP),
    )


def segment(marker: int, body: bytes) -> bytes:
    """Make one segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
