"""Boxes of the ISO base media family (JPEG 2000, AVIF, JPEG XL): a length, a type, a body."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a byte string: its type and where its body lies."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Walk the boxes of ``data[start:end]``.

    Raises
    ------
    ValueError
        A box ends outside.
    """
    end = len(data) if end is None else end
    while start < end:
        if start + 8 > end:
            raise ValueError("a box header is cut off")
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1:
            if start + 16 > end:
                raise ValueError("a box header is cut off")
            (length,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = end if length == 0 else start + length
        if stop > end or stop < start + head:
            raise ValueError(f"box {kind!r} ends outside the file")
        yield Box(kind, start + head, stop)
        start = stop


def box(kind: bytes, *parts: bytes) -> bytes:
    """Make a box of these parts."""
    body = b"".join(parts)
    if len(body) + 8 < 2**32:
        return struct.pack(">I4s", len(body) + 8, kind) + body
    return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
