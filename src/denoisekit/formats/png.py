"""PNG: 8 and 16 bits a sample, gray or RGB, with or without alpha, and gray of 2 or 4 bits.

The pixel decoder is given the chunks it needs and no others, so a broken comment can
never spoil an image, and no library prints warnings about a profile it dislikes.
Images are written row band by row band; nothing but the band is held.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats import base
from denoisekit.formats import exif as exif_block
from denoisekit.formats.animation import encode_animation, open_animation
from denoisekit.formats.foreign import FRAMES
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP_KEY = b"XML:com.adobe.xmp"
_INFLATED = 64 * 2**20
_PIXEL = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
# Unsafe to copy by the letter of the standard, yet true of the new pixels as of the old.
_LASTING = {
    *(b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"tIME"),
    *(b"sCAL", b"pCAL", b"sTER", b"sPLT"),
}
_MEANINGLESS = {b"hIST", b"iDOT"}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_MOST_DEFLATED = 1040
_RECOPY = "copy or download it again"
_BAND = 2**20


@dataclass(slots=True)
class _Header:
    """What decides what the pixels are; where the compressed ones lie (start, length)."""

    width: int = 0
    height: int = 0
    depth: int = 0
    colour_type: int = 0
    palette: bytes = b""
    transparency: bytes | None = None
    pixels: list[tuple[int, int]] = field(default_factory=list)
    samples: int = 0
    """Of a pixel as decoded, alpha included."""
    gray_palette: bool = False
    """The palette holds grays alone: such an image stays gray."""


def _chunks(source: base.Source) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and length of every chunk's body; the last one is IEND."""
    at = len(_SIGNATURE)
    while True:
        head = source.read(at, 8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (source.size, b"")
        if at + 12 + length > source.size:
            raise InputError(f"{source.path}: the file ends early", _RECOPY)
        if (at == len(_SIGNATURE)) != (kind == b"IHDR"):
            raise InputError(f"{source.path}: damaged: the header is not where it belongs")
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length


def _open(source: base.Source, axes: str | None) -> Reader:
    chunks = list(_chunks(source))
    for kind, _, _ in chunks:
        if kind == b"acTL":
            return _open_animation(source, axes, chunks)
        if kind == b"IDAT":
            break
    head, others, notes = _sorted(source, chunks)
    few_bits = head.colour_type == 0 and head.depth in (2, 4) and head.transparency is None
    bits, dtype = (head.depth if few_bits else None), "uint16" if head.depth == 16 else "uint8"
    metadata, size = _metadata(head, others, notes), (head.height, head.width)
    info = base.image_info("png", *size, head.samples, dtype, metadata, notes, bits=bits)
    memory = 2 * head.samples * info.dtype.itemsize
    return base.held(source, axes, info, memory, lambda _: _decode(source, head, bits))


def _open_animation(
    source: base.Source, axes: str | None, chunks: list[tuple[bytes, int, int]]
) -> Reader:
    from PIL.PngImagePlugin import PngImageFile

    plays, times, bodies = 0, list[float](), dict[bytes, bytes]()
    for kind, start, length in chunks:
        if kind == b"IDAT" and not times:
            raise InputError(f"{source.path}: animated PNG with a still picture beside it", FRAMES)
        if kind not in (b"IDAT", b"fdAT") and length < _INFLATED:
            body = bodies.setdefault(kind, source.read(start, length))
            if kind == b"fcTL" and length >= 24:
                count, parts = struct.unpack(">HH", source.read(start + 20, 4))
                times.append(1000 * count / (parts or 100))
            elif kind == b"acTL":
                plays = int.from_bytes(body[4:8], "big")
    width, height, depth = struct.unpack_from(">IIB", bodies[b"IHDR"])
    if depth > 8:
        raise InputError(f"{source.path}: animated PNG of 16 bits is not supported", FRAMES)
    notes = ["an animated PNG; written with full colours and alpha, text is not kept"]
    icc = _profile(bodies[b"iCCP"])[1] if b"iCCP" in bodies else None
    exif = exif_block.strip_prefix(bodies.get(b"eXIf"), notes)
    metadata = Metadata(container={"loop": plays}, icc=icc, exif=exif)
    size = width, height
    return open_animation(source, axes, PngImageFile, "png", size, times, True, metadata, notes)


def _sorted(
    source: base.Source, chunks: list[tuple[bytes, int, int]]
) -> tuple[_Header, list[tuple[bytes, bytes]], list[str]]:
    """Return what decides the pixels, the chunks to keep, and notes on those that are not."""
    path, head, others, notes = source.path, _Header(), [], []
    packed = 0
    for kind, start, length in chunks:
        if kind in _ANIMATION:
            raise InputError(f"{path}: animated PNG is not supported", FRAMES)
        if kind == b"IDAT":
            head.pixels.append((start, length))
            packed += length
            continue
        body = source.read(start, length)
        sound = zlib.crc32(kind + body) == int.from_bytes(source.file.read(4), "big")
        name, optional = kind.decode("ascii", "backslashreplace"), bool(kind[0] & 0x20)
        if not sound and (kind in _PIXEL or not optional):
            raise InputError(f"{path}: damaged: the checksum of {kind!r} is wrong")
        if kind == b"IHDR":
            *facts, packing, filters, interlaced = struct.unpack(">IIBBBBB", body)
            head = _Header(*facts)
            if packing or filters or interlaced > 1:
                methods = [packing, filters, interlaced]
                raise InputError(f"{path}: damaged: unknown PNG methods {methods}")
        elif kind == b"PLTE":
            head.palette = body
        elif kind == b"tRNS":
            head.transparency = body
        elif kind != b"IEND" and not optional:
            raise InputError(f"{path}: needs the PNG extension {kind!r}, which is not supported")
        elif not sound:
            notes.append(f"the damaged PNG chunk {name} is not kept")
        elif kind in _LASTING or kind[3] & 0x20:  # lower case: safe to copy when pixels change
            others.append((kind, body))
        elif kind not in _MEANINGLESS and kind != b"IEND":
            notes.append(f"the PNG chunk {name} speaks of the old pixels and is not kept")
    colours, clear = head.palette, head.transparency is not None
    if head.depth not in _DEPTHS.get(head.colour_type, ()):
        raise InputError(f"{path}: damaged: no PNG has {head.depth} bits of this colour type")
    if head.colour_type in (4, 6) and clear:
        raise InputError(f"{path}: damaged: two kinds of transparency")
    if head.colour_type == 3 and not colours:
        raise InputError(f"{path}: damaged: the palette is missing")
    channels = 1 if head.colour_type == 3 else _SAMPLES[head.colour_type]
    raw = head.height * (head.width * channels * head.depth // 8)
    if raw > _MOST_DEFLATED * packed:  # no deflate stream expands further
        raise InputError(
            f"{path}: damaged: too little data for {head.width} x {head.height} pixels", _RECOPY
        )
    head.gray_palette = head.colour_type == 3 and colours[::3] == colours[1::3] == colours[2::3]
    head.samples = (1 if head.gray_palette else _SAMPLES[head.colour_type]) + clear
    return head, others, notes


def _decode(source: base.Source, head: _Header, bits: int | None) -> Pixels:
    import imagecodecs

    parts = [_SIGNATURE, source.read(8, 25)]
    if head.palette:
        parts.append(_chunk(b"PLTE", head.palette))
    if head.transparency is not None:
        parts.append(_chunk(b"tRNS", head.transparency))
    for start, length in head.pixels:
        parts.append(source.read(start - 8, length + 12))
        stated = int.from_bytes(parts[-1][-4:], "big")
        if zlib.crc32(memoryview(parts[-1])[4:-4]) != stated:
            raise InputError(f"{source.path}: damaged: a checksum of the pixels is wrong", _RECOPY)
    pixels: Pixels = imagecodecs.png_decode(b"".join([*parts, _chunk(b"IEND", b"")]))
    if bits is not None:  # the decoder spreads 2 and 4 bits over 8
        np.floor_divide(pixels, 255 // (2**bits - 1), out=pixels)
    return np.ascontiguousarray(pixels[..., ::3]) if head.gray_palette else pixels


def _metadata(head: _Header, others: list[tuple[bytes, bytes]], notes: list[str]) -> Metadata:
    if head.colour_type == 3:
        notes.append(base.PALETTE)
    elif head.depth == 1:
        notes.append(base.BILEVEL)
    chunks: list[tuple[bytes, bytes]] = []
    container: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for kind, body in others:
        if kind == b"iCCP" and "icc" not in fields:
            container["profile_name"], fields["icc"] = _profile(body)
            if fields["icc"] is None:
                notes.append("the damaged ICC profile is not kept")
        elif kind == b"eXIf" and "exif" not in fields:
            fields["exif"] = exif_block.strip_prefix(body, notes)
        elif kind == b"iTXt" and "xmp" not in fields and (xmp := _xmp(body)) is not None:
            fields["xmp"] = xmp
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:
            across, down = struct.unpack_from(">II", body)
            fields["dpi"] = (across * base.METRE, down * base.METRE)
        elif (adapted := _adapted(kind, body, head)) is not None:
            chunks.append((kind, adapted))
    return Metadata(container={**container, "chunks": tuple(chunks)}, **fields)


def _adapted(kind: bytes, body: bytes, head: _Header) -> bytes | None:
    """Rewrite the two chunks whose form follows the colour type, where that changes."""
    if head.colour_type != 3 and head.transparency is None and head.depth > 1:
        return body
    colours = head.samples - (head.transparency is not None)
    if kind == b"sBIT":
        full = bytes([max(8, head.depth)])
        kept = b"" if head.depth == 1 else body[:colours]
        return kept + full * (head.samples - len(kept))
    if kind == b"bKGD" and head.colour_type == 3:
        colour = head.palette[3 * body[0] : 3 * body[0] + 3] if body else b""
        return struct.pack(f">{colours}H", *colour[:colours]) if len(colour) == 3 else None
    if kind == b"bKGD" and head.colour_type == 0 and head.depth < 8 and len(body) == 2:
        return struct.pack(">H", int.from_bytes(body, "big") * 255 // (2**head.depth - 1))
    return body


def _inflate(data: bytes) -> bytes | None:
    """Decompress a profile or packet of sane size; None where it is damaged."""
    try:
        worker = zlib.decompressobj()
        out = worker.decompress(data, _INFLATED)
    except zlib.error:
        return None
    return out if worker.eof else None


def _profile(body: bytes) -> tuple[bytes, bytes | None]:
    """Return name and content of an iCCP chunk."""
    name, _, packed = body.partition(b"\0")
    return name, _inflate(packed[1:]) if packed[:1] == b"\0" else None


def _xmp(body: bytes) -> bytes | None:
    """Return the packet of an iTXt chunk that holds XMP."""
    if not body.startswith(_XMP_KEY + b"\0") or len(body) < len(_XMP_KEY) + 5:
        return None
    packed = body[len(_XMP_KEY) + 1]
    rest = body[len(_XMP_KEY) + 3 :].split(b"\0", 2)
    if len(rest) < 3:
        return None
    return _inflate(rest[2]) if packed else rest[2]


def _chunk(kind: bytes, body: bytes) -> bytes:
    """Make one chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _check(info: ImageInfo) -> ImageInfo:
    return base.check_image(info, "png", "PNG", {"uint8": (2, 4, 8), "uint16": (16,)})


def _create(path: Path, info: ImageInfo) -> Writer:
    if info.metadata.container.get("frames"):
        return base.HeldWriter(
            path, info, partial(encode_animation, kind="PNG", disposal=0, blend=0)
        )
    return PngWriter(path, info)


class PngWriter:
    """Filters and compresses each band of rows as it comes."""

    def __init__(self, path: Path, info: ImageInfo) -> None:
        meta, container = info.metadata, info.metadata.container
        self._few_bits = info.bits if info.bits in (2, 4) else None
        self._step = 1 if self._few_bits else info.samples * info.dtype.itemsize
        self._above: Pixels | None = None
        self._packer: Any = None
        depth = self._few_bits or info.dtype.itemsize * 8
        colour_type = (2 if info.colour == "rgb" else 0) + (4 if info.alpha else 0)
        head = struct.pack(">IIBBBBB", info.width, info.height, depth, colour_type, 0, 0, 0)
        chunks = [(b"IHDR", head)]
        if meta.icc:
            name = container.get("profile_name", b"ICC profile")
            chunks.append((b"iCCP", name + b"\0\0" + zlib.compress(meta.icc, 9)))
        chunks += container.get("chunks", ())
        if meta.dpi:
            across, down = (
                max(1, round(meta.dpi[0] / base.METRE)),
                max(1, round(meta.dpi[1] / base.METRE)),
            )
            chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
        if meta.exif:
            chunks.append((b"eXIf", meta.exif))
        if meta.xmp:  # not compressed, as the XMP standard asks
            chunks.append((b"iTXt", _XMP_KEY + b"\0\0\0\0\0" + meta.xmp))
        self._file = path.open("wb")
        self._file.write(_SIGNATURE + b"".join(starmap(_chunk, chunks)))

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Write the next rows; see `denoisekit.image.Writer`."""
        del plane, top
        step = max(1, _BAND // max(1, rows[:1].nbytes))
        for start in range(0, len(rows), step):
            lines = _lines(rows[start : start + step], self._few_bits)
            if self._above is None:
                self._above = np.zeros((1, lines.shape[1]), np.uint8)
            out = np.empty((lines.shape[0], lines.shape[1] + 1), np.uint8)
            if self._few_bits:  # samples below a byte compress best as they are
                out[:, 0], out[:, 1:] = 0, lines
            else:
                above = np.vstack([self._above, lines[:-1]])
                out[:, 0], out[:, 1:] = 4, lines - _paeth(lines, above, self._step)
            self._above = lines[-1:].copy()
            self._packer = self._packer or _best_packer(out)
            if data := self._packer.compress(out.data):
                self._file.write(_chunk(b"IDAT", data))

    def finish(self) -> None:
        """Write what is left."""
        self._file.write(_chunk(b"IDAT", self._packer.flush()) + _chunk(b"IEND", b""))
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines(rows: Pixels, bits: int | None) -> Pixels:
    """Return the bytes of each row as PNG stores them, unfiltered."""
    count = len(rows)
    if bits is None:
        stored = rows.astype(">u2") if rows.dtype == np.uint16 else np.ascontiguousarray(rows)
        return stored.reshape(count, -1).view(np.uint8)
    per = 8 // bits
    flat = rows.reshape(count, -1)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % per))).reshape(count, -1, per)
    shifts = np.arange(per - 1, -1, -1, dtype=np.uint8) * bits
    packed: Pixels = np.bitwise_or.reduce(padded << shifts, axis=2)
    return packed


def _paeth(lines: Pixels, above: Pixels, step: int) -> Pixels:
    """Predict every byte from its neighbours left, above and above left (the Paeth filter)."""
    up = above.astype(np.int16)
    left, corner = np.zeros_like(up), np.zeros_like(up)
    left[:, step:], corner[:, step:] = lines[:, :-step], up[:, :-step]
    by_left, by_up = np.abs(up - corner), np.abs(left - corner)
    by_corner = np.abs(up + left - 2 * corner)
    best = np.where(by_up <= by_corner, up, corner)
    np.copyto(best, left, where=(by_left <= by_up) & (by_left <= by_corner))
    return best.astype(np.uint8)


def _best_packer(first: Pixels) -> Any:
    """Choose how to deflate by trying the first rows.

    On photos, run lengths with Huffman codes are as small as level 6 and five times
    faster; drawings and screenshots repeat themselves and need the search for matches.
    """
    sample, sizes = first.reshape(-1)[: 256 * 1024], []
    ways = (1, zlib.Z_RLE), (6, zlib.Z_FILTERED)
    for level, strategy in ways:
        packer = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
        sizes.append(len(packer.compress(sample.data)) + len(packer.flush()))
    level, strategy = ways[0] if sizes[0] < 1.15 * sizes[1] else ways[1]
    return zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)


PNG = base.Format("png", "PNG", (".png",), (_SIGNATURE,), _open, _create, _check, streams=True)
