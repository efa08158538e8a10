"""The chunks of a PNG file: walking them, and what becomes of each when pixels change.

The pixel decoder is given the chunks it needs and no others, so a broken comment can
never spoil a picture, and no library prints warnings about a profile it dislikes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from denoisekit.errors import InputError
from denoisekit.formats.foreign import FRAMES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEY = b"XML:com.adobe.xmp"
_INFLATED = 64 * 2**20
_PIXEL = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
# Unsafe to copy by the letter of the standard, yet true of the new pixels as of the old.
_LASTING = {
    *(b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"tIME"),
    *(b"sCAL", b"pCAL", b"sTER", b"sPLT"),
}
_MEANINGLESS = {b"hIST", b"iDOT"}


@dataclass(slots=True)
class Chunks:
    """Everything in a PNG file but its compressed pixels."""

    width: int = 0
    height: int = 0
    depth: int = 0
    colour_type: int = 0
    palette: bytes | None = None
    transparency: bytes | None = None
    pixel_parts: list[tuple[int, int]] = field(default_factory=list)
    pixel_bytes: int = 0
    others: list[tuple[bytes, bytes]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_chunks(path: Path) -> Chunks:
    """Walk a PNG file; compressed pixels are only located.

    Raises
    ------
    InputError
        Cut off, animated, or not as PNG must be.
    """
    found = Chunks()
    end = path.stat().st_size
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        while True:
            at = file.tell()
            head = file.read(8)
            if len(head) < 8:
                raise InputError(f"{path}: the file ends early", "copy or download it again")
            length, kind = struct.unpack(">I4s", head)
            if at + 12 + length > end:
                raise InputError(f"{path}: the file ends early", "copy or download it again")
            if (at == len(SIGNATURE)) != (kind == b"IHDR"):
                raise InputError(f"{path}: damaged: the header is not where it belongs")
            if kind == b"IEND":
                return found
            if kind == b"IDAT":
                found.pixel_parts.append((at, length + 12))
                found.pixel_bytes += length
                file.seek(length + 4, 1)
            else:
                _take(path, found, kind, file, length)


def animation(path: Path) -> tuple[int, list[float], dict[bytes, bytes]] | None:
    """Return an animation's plays, the milliseconds of its frames, and other chunks.

    None where there is none.

    Raises
    ------
    InputError
        Cut off, or with a still picture that is no frame.
    """
    end, plays = path.stat().st_size, None
    times: list[float] = []
    bodies: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        at = file.seek(len(SIGNATURE))
        while at + 12 <= end:
            length, kind = struct.unpack(">I4s", file.read(8))
            if kind == b"IDAT" and plays is None:
                return None
            if at + 12 + length > end:
                break
            if kind == b"IDAT" and not times:
                raise InputError(f"{path}: animated PNG with a still picture beside it", FRAMES)
            if kind == b"IEND":
                return (plays, times, bodies) if plays is not None else None
            if kind in (b"acTL", b"fcTL") or (kind not in _PIXEL and length < _INFLATED):
                body = file.read(length)
                bodies.setdefault(kind, body)
                if kind == b"acTL":
                    plays = int.from_bytes(body[4:8], "big")
                elif kind == b"fcTL" and length >= 24:
                    count, parts = struct.unpack_from(">HH", body, 20)
                    times.append(1000 * count / (parts or 100))
            at = file.seek(at + 12 + length)
    raise InputError(f"{path}: the file ends early", "copy or download it again")


def _take(path: Path, found: Chunks, kind: bytes, file: BinaryIO, length: int) -> None:
    body = file.read(length)
    sound = zlib.crc32(kind + body) == int.from_bytes(file.read(4), "big")
    if kind in _ANIMATION:
        raise InputError(f"{path}: animated PNG is not supported", FRAMES)
    if not sound and (kind in _PIXEL or not kind[0] & 0x20):
        raise InputError(f"{path}: damaged: the checksum of {kind!r} is wrong")
    if kind == b"IHDR":
        found.width, found.height, found.depth, found.colour_type, *method = struct.unpack(
            ">IIBBBBB", body
        )
        if method[:2] != [0, 0] or method[2] > 1:
            raise InputError(f"{path}: damaged: unknown PNG methods {method}")
    elif kind == b"PLTE":
        found.palette = body
    elif kind == b"tRNS":
        found.transparency = body
    elif not kind[0] & 0x20:
        raise InputError(f"{path}: needs the PNG extension {kind!r}, which is not supported")
    elif not sound:
        found.notes.append(f"the damaged PNG chunk {_name(kind)} is not kept")
    elif kind in _LASTING or kind[3] & 0x20:  # lower case: safe to copy when pixels change
        found.others.append((kind, body))
    elif kind not in _MEANINGLESS:
        found.notes.append(f"the PNG chunk {_name(kind)} speaks of the old pixels and is not kept")


def _name(kind: bytes) -> str:
    return kind.decode("ascii", "backslashreplace")


def pixel_file(path: Path, found: Chunks) -> bytearray:
    """Return a PNG file of the pixels alone."""
    size = sum(length for _, length in found.pixel_parts)
    parts = [SIGNATURE]
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        parts.append(file.read(25))
        for kind, body in ((b"PLTE", found.palette), (b"tRNS", found.transparency)):
            if body is not None:
                parts.append(chunk(kind, body))
        head = b"".join(parts)
        tail = chunk(b"IEND", b"")
        data = bytearray(len(head) + size + len(tail))
        data[: len(head)] = head
        at = len(head)
        view = memoryview(data)
        for start, length in found.pixel_parts:
            file.seek(start)
            if file.readinto(view[at : at + length]) != length:
                raise InputError(f"{path}: the file ends early", "copy or download it again")
            stated = int.from_bytes(view[at + length - 4 : at + length], "big")
            if zlib.crc32(view[at + 4 : at + length - 4]) != stated:
                raise InputError(
                    f"{path}: damaged: a checksum of the pixels is wrong",
                    "copy or download it again",
                )
            at += length
        view[at:] = tail
    return data


def chunk(kind: bytes, body: bytes) -> bytes:
    """Make one chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def inflate(data: bytes) -> bytes | None:
    """Decompress a profile or packet of sane size; None where it is damaged."""
    try:
        worker = zlib.decompressobj()
        out = worker.decompress(data, _INFLATED)
    except zlib.error:
        return None
    return out if worker.eof else None


def read_profile(body: bytes) -> tuple[bytes, bytes | None]:
    """Return name and content of an iCCP chunk."""
    name, _, packed = body.partition(b"\0")
    return name, inflate(packed[1:]) if packed[:1] == b"\0" else None


def read_xmp(body: bytes) -> bytes | None:
    """Return the packet of an iTXt chunk that holds XMP."""
    if not body.startswith(XMP_KEY + b"\0") or len(body) < len(XMP_KEY) + 5:
        return None
    packed = body[len(XMP_KEY) + 1]
    rest = body[len(XMP_KEY) + 3 :].split(b"\0", 2)
    if len(rest) < 3:
        return None
    return inflate(rest[2]) if packed else rest[2]


def emit_profile(name: bytes, icc: bytes) -> bytes:
    """Make an iCCP chunk."""
    return chunk(b"iCCP", name + b"\0\0" + zlib.compress(icc, 9))


def emit_xmp(xmp: bytes) -> bytes:
    """Make an iTXt chunk that holds XMP, not compressed, as the XMP standard asks."""
    return chunk(b"iTXt", XMP_KEY + b"\0\0\0\0\0" + xmp)
