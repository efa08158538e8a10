"""The orientation tag of an EXIF block; all else in the block is carried unread."""

from __future__ import annotations

import struct

_TAG = 0x0112


def strip_prefix(block: bytes | None, notes: list[str]) -> bytes | None:
    """Return the TIFF structure of an EXIF payload; None, and a note, where it is damaged."""
    if not block:
        return None
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] in (b"II*\0", b"MM\0*"):
        return block
    notes.append("the damaged EXIF data are not kept")
    return None


def orientation(exif: bytes | None) -> int:
    """Return the orientation tag, 1 to 8; 1 where there is none or it makes no sense."""
    entry = _find(exif) if exif else None
    if exif is None or entry is None:
        return 1
    value: int = struct.unpack_from(_order(exif) + "H", exif, entry + 8)[0]
    return value if 1 <= value <= 8 else 1


def with_orientation(exif: bytes | None, value: int) -> bytes | None:
    """Return the block with the orientation tag set; the same block where it says so already."""
    if orientation(exif) == value:
        return exif
    order = "<" if not exif else _order(exif)
    field = struct.pack(order + "HHIHH", _TAG, 3, 1, value, 0)
    if not exif:
        return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + field + bytes(4)
    entry = _find(exif)
    if entry is not None:
        return exif[:entry] + field + exif[entry + 12 :]
    return _insert(exif, field, order)


def _order(exif: bytes) -> str:
    return "<" if exif[:2] == b"II" else ">"


def _fields(exif: bytes) -> tuple[int, int] | None:
    """Return where the fields of the first directory begin, and their number."""
    if len(exif) < 8:
        return None
    (start,) = struct.unpack_from(_order(exif) + "I", exif, 4)
    if start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(_order(exif) + "H", exif, start)
    return (start + 2, count) if start + 2 + 12 * count <= len(exif) else None


def _find(exif: bytes) -> int | None:
    fields = _fields(exif)
    if fields is None:
        return None
    start, count = fields
    for at in range(start, start + 12 * count, 12):
        if struct.unpack_from(_order(exif) + "H", exif, at)[0] == _TAG:
            return at
    return None


def _insert(exif: bytes, field: bytes, order: str) -> bytes:
    """Append a first directory with one field more; offsets into the old block stay valid."""
    fields = _fields(exif)
    if fields is None:
        return exif
    start, count = fields
    entries = sorted(
        [exif[at : at + 12] for at in range(start, start + 12 * count, 12)] + [field],
        key=lambda entry: int(struct.unpack_from(order + "H", entry)[0]),
    )
    follow = exif[start + 12 * count : start + 12 * count + 4].ljust(4, b"\0")
    padded = exif + bytes(len(exif) % 2)
    directory = struct.pack(order + "H", count + 1) + b"".join(entries) + follow
    return exif[:4] + struct.pack(order + "I", len(padded)) + padded[8:] + directory
