"""The marker segments of a JPEG: what they hold beside the pixels, and whether all is there.

Decoders make gray or smeared blocks of what is missing and say nothing. Bytes put in
where a scan ends tell: a decoder that had all its data never looks at them, one that
had not makes other pixels of them, or asks for more.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from denoisekit.image import Pixels

XMP = b"http://ns.adobe.com/xap/1.0/\0"
ICC = b"ICC_PROFILE\0"
EXIF = b"Exif\0\0"
LARGEST = 65533
"""Most bytes that a segment holds."""
NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that ends compressed data."""
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
SCAN, END, INTERVAL = 0xDA, 0xD9, 0xDD
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_SALT = bytes.fromhex("5bd1348e27c96af013b5429d7e08e4613cd7a58b5194f2264ec87a1963b00d9f")
_AHEAD = b"\xff\0" * 9
"""What a decoder may read ahead: ones, which are no code, so that they replace next to nothing."""
_MOST_SCANS = 500
"""More than any encoder makes; each costs a pass over the whole picture."""


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

    @property
    def in_passes(self) -> bool:
        """Whether it is progressive."""
        return self.marker in (0xC2, 0xCA)

    def blocks(self, used: list[tuple[int, int, int, int]]) -> int:
        """Return the blocks, or groups of blocks, that a scan of these components goes through."""
        widest, highest = (max(c[n] for c in self.components) for n in (1, 2))
        if not all(c[1] and c[2] for c in self.components):
            raise ValueError("the frame header makes no sense")
        if len(used) != 1:
            return math.ceil(self.width / (8 * widest)) * math.ceil(self.height / (8 * highest))
        _, across, down, _ = used[0]
        return math.ceil(math.ceil(self.width * across / widest) / 8) * math.ceil(
            math.ceil(self.height * down / highest) / 8
        )


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
        if marker == END:
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


def segment(marker: int, body: bytes) -> bytes:
    """Make one segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


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


def without_extras(data: bytes, found: list[Segment]) -> bytes:
    """Return the file without metadata, so that the decoder meets only what it needs."""
    parts = [data[:2]]
    for part, after in pairwise(found):
        needed = data[part.start : part.start + 5] in (b"JFIF\0", b"Adobe")
        if (0xE0 <= part.marker <= 0xEF and not needed) or part.marker == 0xFE:
            continue
        # What stands between segments means nothing, unless they are followed by pixels.
        pixels = part.marker == SCAN
        end = after.start - (2 if after.marker == END else 4) if pixels else part.end
        parts.append(data[part.start - 4 : end])
    return b"".join([*parts, b"\xff\xd9"])


def check_scans(data: bytes, found: list[Segment], frame: Frame) -> str | None:
    """Check that the scans can hold the picture; return what is missing but can be missed.

    Raises
    ------
    ValueError
        Scans, restart intervals or bytes are missing, or there are absurdly many scans.
    """
    scans = [(s, after) for s, after in pairwise(found) if s.marker == SCAN]
    if len(scans) > _MOST_SCANS:
        raise ValueError(f"damaged: {len(scans)} scans")
    # The first coefficient of every block takes a bit at least.
    room = 8 * sum(after.start - scan.end for scan, after in scans)
    if frame.marker <= 0xC2 and sum(frame.blocks([c]) for c in frame.components) > room:
        raise ValueError(f"damaged: too little data for {frame.width} x {frame.height} pixels")
    # The bits that every coefficient lacks; 16: all.
    interval, lacking = 0, {(c[0], k): 16 for c in frame.components for k in range(64)}
    for part, after in pairwise(found):
        body = data[part.start : part.end]
        if part.marker == INTERVAL and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        if part.marker != SCAN:
            continue
        used = [c for c in frame.components if c[0] in body[1 : 1 + 2 * body[0] : 2]]
        if interval:
            there = sum(
                data.count(bytes([0xFF, m]), part.end, after.start) for m in range(0xD0, 0xD8)
            )
            if there < math.ceil(frame.blocks(used) / interval) - 1:
                raise ValueError("the picture data end early")
        first, last, low = (body[-3], body[-2], body[-1] & 15) if frame.in_passes else (0, 63, 0)
        lacking |= {(c[0], k): low for c in used for k in range(first, min(last, 63) + 1)}
    if any(lacking[c[0], 0] == 16 for c in frame.components):
        raise ValueError("the picture data end early: a colour is missing")
    if any(lacking.values()):
        return "the last passes of this progressive JPEG are missing: it lacks fine detail"
    return None


def decoded_whole(
    data: bytes, found: list[Segment], frame: Frame, decode: Callable[[bytes], Pixels]
) -> Pixels:
    """Return what ``decode`` makes of a file by `without_extras`.

    A picture in one scan, as cameras make it, is decoded once: without the end marker, the
    decoder has to have all its data. One in several scans is decoded twice, see `ends_early`.

    Raises
    ------
    ValueError, OSError
        Pixels are missing.
    """
    if frame.marker <= 0xC1 and sum(s.marker == SCAN for s in found) == 1:
        return decode(data[:-2].rstrip(b"\xff") + _AHEAD)
    pixels = decode(data)
    if ends_early(data, pixels, decode):
        raise ValueError("picture data are missing")
    return pixels


def salted(data: bytes) -> bytes:
    """Return the file with bytes put in at the end of every piece of compressed data.

    One that is coded arithmetically, where what is missing means zeros by the standard,
    or without loss, is returned as it is.

    Raises
    ------
    ValueError
        It ends inside a header, or is no JPEG.
    """
    parts, at = [], 0
    for found in segments(data + b"\xff\xd9"):  # strips of a TIFF may lack their end
        if found.marker in FRAMES and found.marker > 0xC2:
            return data
        if found.marker != SCAN:
            continue
        parts.append(data[at : found.end])
        ending = NEXT.search(data, found.end)
        at = ending.start() if ending else len(data)
        while at > found.end and data[at - 1] == 0xFF:  # fill bytes belong to the marker
            at -= 1
        parts.append(_RESTART.sub(lambda m: _SALT + m.group(), data[found.end : at]) + _SALT)
    parts.append(data[at:])
    return b"".join(parts)


def ends_early(
    data: bytes, whole: Pixels, decode: Callable[[bytes], Pixels], *, marked: bool = True
) -> bool:
    """Tell whether pixels are missing, by decoding again with other bytes behind the data.

    Parameters
    ----------
    data : bytes
        A JPEG, which may lack its end marker and its tables; or, where not ``marked``, the
        data of a codec without marks, which are put behind it.
    whole : numpy.ndarray
        What ``decode`` makes of it.
    decode : callable
        Makes pixels of it.
    """
    try:
        changed = salted(data) if marked else data + 16 * _SALT
    except ValueError:
        return True
    try:
        again = decode(changed)
    except (ValueError, RuntimeError, OSError):
        return False  # a decoder that is strict by itself
    return not np.array_equal(again, whole)
