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
    order, _, entries, _ = _directory(exif)
    values = [struct.unpack_from(order + "H", e, 8)[0] for e in entries if _code(e, order) == _TAG]
    return values[0] if values and 1 <= values[0] <= 8 else 1


def with_orientation(exif: bytes | None, value: int) -> bytes | None:
    """Return the block with the orientation tag set; the same block where it says so already."""
    if orientation(exif) == value:
        return exif
    order, start, entries, follow = _directory(exif)
    field = struct.pack(order + "HHIHH", _TAG, 3, 1, value, 0)
    if not exif:
        return b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + field + bytes(4)
    if not start:
        return exif  # damaged
    for number, entry in enumerate(entries):
        if _code(entry, order) == _TAG:
            at = start + 2 + 12 * number
            return exif[:at] + field + exif[at + 12 :]
    # A directory with one field more is put behind; offsets into the old block stay valid.
    entries = sorted([*entries, field], key=lambda entry: _code(entry, order))
    padded = exif + bytes(len(exif) % 2)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + follow
    return exif[:4] + struct.pack(order + "I", len(padded)) + padded[8:] + directory


def _directory(exif: bytes | None) -> tuple[str, int, list[bytes], bytes]:
    """Return byte order, place, entries of the first directory, and the pointer behind them.

    The place is 0 where there is no directory.
    """
    order = ">" if exif and exif[:2] == b"MM" else "<"
    if exif and len(exif) >= 8:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        if start >= 8 and start + 2 <= len(exif):
            (count,) = struct.unpack_from(order + "H", exif, start)
            end = start + 2 + 12 * count
            if end <= len(exif):
                entries = [exif[at : at + 12] for at in range(start + 2, end, 12)]
                return order, start, entries, exif[end : end + 4].ljust(4, b"\0")
    return order, 0, [], bytes(4)


def _code(entry: bytes, order: str) -> int:
    code: int = struct.unpack_from(order + "H", entry)[0]
    return code
