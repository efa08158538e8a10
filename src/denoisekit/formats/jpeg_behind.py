"""What lies behind the end of a JPEG: a motion photo's video, a gain map, further pictures.

They are kept, byte for byte. Video and gain map are found by their lengths, counted from
the end of the file or of the picture, which stay true; the index of further pictures
(CIPA DC-007) counts from its own place and is mended.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from denoisekit.formats import jpeg_segments as js

_INDEX = b"MPF\0"
_ENTRIES = 0xB002
_CLAIM = rb"(?:GCamera|Camera|MiCamera):(?:MotionPhoto|MicroVideo)\w*|hdrgm:\w+|HDRGainMap:\w+"
_ATTRIBUTE = re.compile(rb"\s+(?:" + _CLAIM + rb")\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_ELEMENT = re.compile(
    rb"<(" + _CLAIM + rb"|Container:Directory)\b[^>]*?(?:/>|>.*?</\1\s*>)\s*", re.DOTALL
)


def kinds(behind: bytes, xmp: bytes | None, found: list[js.Segment], data: bytes) -> list[str]:
    """Name what lies behind a JPEG, as far as anything in it says so."""
    if not behind:
        return []
    names, xmp = [], xmp or b""
    if b"MotionPhoto" in xmp or b"MicroVideo" in xmp or behind[4:8] == b"ftyp":
        names.append("the video of this motion photo")
    if b"hdrgm:" in xmp or b"GainMap" in xmp:
        names.append("the gain map")
    elif index_at(data, found) is not None:
        names.append("further pictures in the file")
    return names


def without_claims(xmp: bytes | None) -> bytes | None:
    """Return an XMP packet that names neither video nor gain map any more."""
    return xmp and _ELEMENT.sub(b"", _ATTRIBUTE.sub(b"", xmp))


def index_at(data: bytes, found: list[js.Segment]) -> int | None:
    """Return where the index of further pictures begins, which is what it counts from."""
    for segment in found:
        if segment.marker == 0xE2 and data.startswith(_INDEX, segment.start):
            return segment.start + len(_INDEX)
    return None


def with_index(data: bytes, old_base: int, old_end: int) -> bytes:
    """Return a JPEG whose index counts to the same things behind it as before.

    Parameters
    ----------
    data : bytes
        The new file, without what lies behind.
    old_base, old_end : int
        Where the index began and the picture ended in the file that was read.
    """
    found = list(js.segments(data))
    base, end = index_at(data, found), found[-1].end
    if base is None:
        return data
    changed = bytearray(data)
    order, entries = "<" if data[base : base + 2] == b"II" else ">", list(_entries(data, base))
    for number, at in enumerate(entries):
        (offset,) = struct.unpack_from(order + "I", data, at + 8)
        if number == 0:
            struct.pack_into(order + "I", changed, at + 4, end)
        elif old_base + offset >= old_end:
            offset += old_base - old_end + end - base
            struct.pack_into(order + "I", changed, at + 8, offset)
    return bytes(changed)


def _entries(data: bytes, base: int) -> Iterator[int]:
    """Yield where each picture's entry of the index lies: 16 bytes with size and offset."""
    order = "<" if data[base : base + 2] == b"II" else ">"
    try:
        directory = base + struct.unpack_from(order + "I", data, base + 4)[0]
        (count,) = struct.unpack_from(order + "H", data, directory)
        for field in range(directory + 2, directory + 2 + 12 * count, 12):
            code, _, length, place = struct.unpack_from(order + "HHII", data, field)
            if code == _ENTRIES and base + place + length <= len(data):
                yield from range(base + place, base + place + length - 15, 16)
    except struct.error:
        return  # damaged: what it says stays as it was
