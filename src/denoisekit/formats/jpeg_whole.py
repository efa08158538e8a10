"""Whether the compressed pixels of a JPEG are all there.

Decoders make gray or smeared blocks of what is missing and say nothing. Bytes put in
where a scan ends tell: a decoder that had all its data never looks at them, one that
had not makes other pixels of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from denoisekit.formats import jpeg_segments as js
from denoisekit.image import Pixels

_SALT = bytes.fromhex("5bd1348e27c96af013b5429d7e08e4613cd7a58b5194f2264ec87a1963b00d9f")
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_SCAN, _INTERVAL = 0xDA, 0xDD
_MOST_SCANS = 500
"""More than any encoder makes; each costs a pass over the whole picture."""


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
    for found in js.segments(data + b"\xff\xd9"):  # strips of a TIFF may lack their end
        if found.marker in js.FRAMES and found.marker not in (0xC0, 0xC1, 0xC2):
            return data
        if found.marker != _SCAN:
            continue
        parts.append(data[at : found.end])
        ending = js.NEXT.search(data, found.end)
        at = ending.start() if ending else len(data)
        while at > found.end and data[at - 1] == 0xFF:  # fill bytes belong to the marker
            at -= 1
        parts.append(_RESTART.sub(lambda m: _SALT + m.group(), data[found.end : at]) + _SALT)
    parts.append(data[at:])
    return b"".join(parts)


def appended(data: bytes) -> bytes:
    """Return the data of a codec without marks, with bytes put behind them."""
    return data + 16 * _SALT


def ends_early(
    data: bytes,
    whole: Pixels,
    decode: Callable[[bytes], Pixels],
    salt: Callable[[bytes], bytes] = salted,
) -> bool:
    """Tell whether pixels are missing, by decoding again with other bytes behind the data.

    Parameters
    ----------
    data : bytes
        A JPEG, which may lack its end marker and its tables, or what ``salt`` is for.
    whole : numpy.ndarray
        What ``decode`` makes of it.
    decode : callable
        Makes pixels of them.
    salt : callable
        Puts other bytes behind them.
    """
    try:
        changed = salt(data)
    except ValueError:
        return True
    try:
        again = decode(changed)
    except (ValueError, RuntimeError, OSError):
        return False  # a decoder that is strict by itself
    return not np.array_equal(again, whole)


def check(data: bytes, found: list[js.Segment], frame: js.Frame) -> str | None:
    """Check that the scans can hold the picture; return what is missing but can be missed.

    Raises
    ------
    ValueError
        Scans, restart intervals or bytes are missing, or there are absurdly many scans.
    """
    scans = [(s, after) for s, after in pairwise(found) if s.marker == _SCAN]
    if len(scans) > _MOST_SCANS:
        raise ValueError(f"damaged: {len(scans)} scans")
    room = 8 * sum(after.start - s.end for s, after in scans)
    # The first coefficient of every block takes a bit at least.
    least = sum(_blocks(frame, c) for c in frame.components)
    if frame.marker in (0xC0, 0xC1, 0xC2) and least > room:
        raise ValueError(f"damaged: too little data for {frame.width} x {frame.height} pixels")
    interval, missing = 0, {(c[0], k): 16 for c in frame.components for k in range(64)}
    for segment, after in zip(found, [*found[1:], found[-1]], strict=True):
        body = data[segment.start : segment.end]
        if segment.marker == _INTERVAL and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        if segment.marker == _SCAN:
            used = [c for c in frame.components if c[0] in body[1 : 1 + 2 * body[0] : 2]]
            _check_restarts(data, segment.end, after.start, interval, _steps(frame, used))
            in_passes = frame.marker in (0xC2, 0xCA)
            first, last, low = (body[-3], body[-2], body[-1] & 15) if in_passes else (0, 63, 0)
            missing |= {(c[0], k): low for c in used for k in range(first, min(last, 63) + 1)}
    if any(missing[c[0], 0] == 16 for c in frame.components):
        raise ValueError("the picture data end early: a colour is missing")
    if any(missing.values()):
        return "the last passes of this progressive JPEG are missing: it lacks fine detail"
    return None


def _blocks(frame: js.Frame, component: tuple[int, int, int, int]) -> int:
    _, across, down, _ = component
    widest = max(c[1] for c in frame.components)
    highest = max(c[2] for c in frame.components)
    if not across or not down:
        raise ValueError("the frame header makes no sense")
    return math.ceil(math.ceil(frame.width * across / widest) / 8) * math.ceil(
        math.ceil(frame.height * down / highest) / 8
    )


def _steps(frame: js.Frame, used: list[tuple[int, int, int, int]]) -> int:
    """Return the blocks, or groups of blocks, that a scan of these components goes through."""
    if len(used) == 1:
        return _blocks(frame, used[0])
    widest = max(c[1] for c in frame.components)
    highest = max(c[2] for c in frame.components)
    return math.ceil(frame.width / (8 * widest)) * math.ceil(frame.height / (8 * highest))


def _check_restarts(data: bytes, start: int, end: int, interval: int, steps: int) -> None:
    """Raise where fewer restart markers are there than intervals: whole ones are missing."""
    if interval:
        there = sum(data.count(bytes([0xFF, m]), start, end) for m in range(0xD0, 0xD8))
        if there < math.ceil(steps / interval) - 1:
            raise ValueError("the picture data end early")
