"""PNG: 8 and 16 bits a sample, gray or RGB, with or without opacity, and gray of 2 or 4 bits.

Pictures are written row band by row band; nothing but the band is held.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats import exif as exif_block
from denoisekit.formats import png_chunks as pc
from denoisekit.formats.animation import AnimationReader, AnimationWriter, animation_info
from denoisekit.formats.base import Format
from denoisekit.formats.foreign import FRAMES
from denoisekit.formats.photo import (
    BILEVEL,
    HeldReader,
    RowOrder,
    check_axes,
    check_fits,
    check_picture,
    picture_info,
)
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_MOST_DEFLATED = 1040
_METRE = 0.0254
_BAND = 2**20


def _sniff(head: bytes) -> bool:
    return head.startswith(pc.SIGNATURE)


def _open(path: Path, axes: str | None) -> Reader:
    moving = pc.animation(path)
    if moving is not None:
        return _open_animation(path, axes, *moving)
    found = pc.read_chunks(path)
    _check_header(path, found)
    samples = (1 if _gray_palette(found) else _SAMPLES[found.colour_type]) + (
        found.transparency is not None
    )
    check_axes(path, axes, "YX" if samples == 1 else "YXS")
    small = found.colour_type == 0 and found.depth in (2, 4) and found.transparency is None
    check_fits(path, found.height, found.width, 2 * samples * (2 if found.depth == 16 else 1))
    metadata, notes = _metadata(found, samples)
    info = picture_info(
        "png",
        found.height,
        found.width,
        samples,
        "uint16" if found.depth == 16 else "uint8",
        alpha=samples in (2, 4),
        bits=found.depth if small else None,
        metadata=metadata,
        warnings=tuple(notes),
    )
    return HeldReader(path, info, lambda: _decode(path, found, info.bits))


def _open_animation(
    path: Path, axes: str | None, plays: int, times: list[float], bodies: dict[bytes, bytes]
) -> Reader:
    from PIL.PngImagePlugin import PngImageFile

    with path.open("rb") as file:
        width, height, depth = struct.unpack(">IIB", file.read(25)[16:])
    if depth > 8:
        raise InputError(f"{path}: animated PNG of 16 bits is not supported", FRAMES)
    notes = ["an animated PNG; written with full colours and opacity, text is not kept"]
    icc = pc.read_profile(bodies[b"iCCP"])[1] if b"iCCP" in bodies else None
    exif = exif_block.strip_prefix(bodies.get(b"eXIf"), notes)
    metadata = Metadata(icc=icc, exif=exif)
    info = animation_info(path, axes, "png", (width, height), times, True, metadata, loop=plays)
    return AnimationReader(path, PngImageFile, replace(info, warnings=tuple(notes)))


def _check_header(path: Path, found: pc.Chunks) -> None:
    if found.depth not in _DEPTHS.get(found.colour_type, ()):
        raise InputError(f"{path}: damaged: no PNG has {found.depth} bits of this colour type")
    if found.colour_type in (4, 6) and found.transparency is not None:
        raise InputError(f"{path}: damaged: two kinds of transparency")
    if found.colour_type == 3 and not found.palette:
        raise InputError(f"{path}: damaged: the palette is missing")
    channels = 1 if found.colour_type in (0, 3) else _SAMPLES[found.colour_type]
    raw = found.height * (found.width * channels * found.depth // 8)
    if raw > found.pixel_bytes * _MOST_DEFLATED:  # no deflate stream expands further
        raise InputError(
            f"{path}: damaged: too little data for {found.width} x {found.height} pixels",
            "copy or download it again",
        )


def _gray_palette(found: pc.Chunks) -> bool:
    """Tell whether a palette holds grays alone: such a picture stays gray."""
    palette = found.palette
    return (
        found.colour_type == 3
        and palette is not None
        and palette[0::3] == palette[1::3] == palette[2::3]
    )


def _decode(path: Path, found: pc.Chunks, bits: int | None) -> Pixels:
    import imagecodecs

    pixels: Pixels = imagecodecs.png_decode(pc.pixel_file(path, found))
    if bits is not None:  # the decoder spreads 2 and 4 bits over 8
        np.floor_divide(pixels, 255 // (2**bits - 1), out=pixels)
    if _gray_palette(found):
        pixels = np.ascontiguousarray(pixels[..., ::3])
    return pixels


def _metadata(found: pc.Chunks, samples: int) -> tuple[Metadata, list[str]]:
    notes = list(found.notes)
    if found.colour_type == 3:
        notes.append("a palette picture; written with full colours, not a palette")
    elif found.depth == 1:
        notes.append(BILEVEL)
    container: dict[str, Any] = {"chunks": []}
    fields: dict[str, Any] = {}
    for kind, body in found.others:
        if kind == b"iCCP" and "icc" not in fields:
            container["profile_name"], fields["icc"] = pc.read_profile(body)
            if fields["icc"] is None:
                notes.append("the damaged ICC profile is not kept")
        elif kind == b"eXIf" and "exif" not in fields:
            fields["exif"] = exif_block.strip_prefix(body, notes)
        elif kind == b"iTXt" and "xmp" not in fields and (xmp := pc.read_xmp(body)) is not None:
            fields["xmp"] = xmp
        elif kind == b"pHYs" and len(body) == 9 and body[8] == 1:
            across, down = struct.unpack_from(">II", body)
            fields["dpi"] = (across * _METRE, down * _METRE)
        else:
            container["chunks"].append((kind, _adapted(kind, body, found, samples)))
    container["chunks"] = tuple(c for c in container["chunks"] if c[1] is not None)
    return Metadata(container=MappingProxyType(container), **fields), notes


def _adapted(kind: bytes, body: bytes, found: pc.Chunks, samples: int) -> bytes | None:
    """Rewrite the two chunks whose form follows the colour type, where that changes."""
    if found.colour_type != 3 and found.transparency is None and found.depth > 1:
        return body
    colours = samples - (found.transparency is not None)
    if kind == b"sBIT":
        full = 8 if found.depth < 8 else found.depth
        if found.depth == 1:
            return bytes([full] * samples)
        return body[:colours] + bytes([full] * (samples - colours))
    if kind == b"bKGD" and found.colour_type == 3 and found.palette is not None:
        colour = found.palette[3 * body[0] : 3 * body[0] + 3] if body else b""
        return struct.pack(f">{colours}H", *colour[:colours]) if len(colour) == 3 else None
    if kind == b"bKGD" and found.colour_type == 0 and found.depth < 8 and len(body) == 2:
        return struct.pack(">H", struct.unpack(">H", body)[0] * 255 // (2**found.depth - 1))
    return body


def _check(info: ImageInfo) -> ImageInfo:
    if info.format == "png" and info.metadata.container.get("frames"):
        return info
    return check_picture(info, "png", "PNG", {"uint8": (2, 4, 8), "uint16": (16,)})


def _create(path: Path, info: ImageInfo) -> Writer:
    if info.metadata.container.get("frames"):
        return AnimationWriter(path, info, "PNG", {"disposal": 0, "blend": 0})
    return PngWriter(path, info)


class PngWriter:
    """Filters and compresses each band of rows as it comes."""

    def __init__(self, path: Path, info: ImageInfo) -> None:
        self._info = info
        self._order = RowOrder(info)
        self._small = info.bits if info.bits in (2, 4) else None
        self._step = 1 if self._small else info.samples * info.dtype.itemsize
        self._above: Pixels | None = None
        self._packer: Any = None
        self._file = path.open("wb")
        self._file.write(pc.SIGNATURE + _header(info, self._small) + _ancillary(info))

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Write the next rows; see `denoisekit.image.Writer`."""
        self._order.take(plane, top, rows)
        step = max(1, _BAND // max(1, rows[:1].nbytes))
        for start in range(0, rows.shape[0], step):
            self._pack(_lines(rows[start : start + step], self._small))

    def _pack(self, lines: Pixels) -> None:
        if self._above is None:
            self._above = np.zeros((1, lines.shape[1]), np.uint8)
        # Samples below a byte compress best as they are.
        code, above = (0, lines) if self._small else (4, np.vstack([self._above, lines[:-1]]))
        out = np.empty((lines.shape[0], lines.shape[1] + 1), np.uint8)
        out[:, 0] = code
        out[:, 1:] = lines if self._small else lines - _paeth(lines, above, self._step)
        self._above = lines[-1:].copy()
        if self._packer is None:
            self._packer = _best_packer(out)
        self._put(self._packer.compress(out))

    def _put(self, data: bytes) -> None:
        if data:
            self._file.write(pc.chunk(b"IDAT", data))

    def finish(self) -> None:
        """Write what is left."""
        self._order.complete()
        self._put(self._packer.flush())
        self._file.write(pc.chunk(b"IEND", b""))
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _header(info: ImageInfo, small: int | None) -> bytes:
    colour_type = (2 if info.colour == "rgb" else 0) + (4 if info.alpha else 0)
    depth = small or info.dtype.itemsize * 8
    return pc.chunk(
        b"IHDR", struct.pack(">IIBBBBB", info.width, info.height, depth, colour_type, 0, 0, 0)
    )


def _ancillary(info: ImageInfo) -> bytes:
    meta, container = info.metadata, info.metadata.container
    parts = [pc.chunk(kind, body) for kind, body in container.get("chunks", ())]
    if meta.icc:
        parts.insert(0, pc.emit_profile(container.get("profile_name", b"ICC profile"), meta.icc))
    if meta.dpi:
        across, down = (max(1, round(d / _METRE)) for d in meta.dpi)
        parts.append(pc.chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if meta.exif:
        parts.append(pc.chunk(b"eXIf", meta.exif))
    if meta.xmp:
        parts.append(pc.emit_xmp(meta.xmp))
    return b"".join(parts)


def _lines(rows: Pixels, small: int | None) -> Pixels:
    """Return the bytes of each row as PNG stores them, unfiltered."""
    count = rows.shape[0]
    if small is None:
        stored = rows.astype(">u2") if rows.dtype == np.uint16 else np.ascontiguousarray(rows)
        return stored.reshape(count, -1).view(np.uint8)
    per = 8 // small
    flat = rows.reshape(count, -1)
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % per))).reshape(count, -1, per)
    shifts = np.arange(per - 1, -1, -1, dtype=np.uint8) * small
    packed: Pixels = np.bitwise_or.reduce(padded << shifts, axis=2)
    return packed


def _paeth(lines: Pixels, above: Pixels, step: int) -> Pixels:
    """Predict every byte from its neighbours left, above and above left (the Paeth filter)."""
    up = above.astype(np.int16)
    left = np.zeros_like(up)
    left[:, step:] = lines[:, :-step]
    corner = np.zeros_like(up)
    corner[:, step:] = up[:, :-step]
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
    sample = first.reshape(-1)[: 256 * 1024]
    runs, search = (
        _packer(level, strategy) for level, strategy in ((1, zlib.Z_RLE), (6, zlib.Z_FILTERED))
    )
    sizes = [len(p.compress(sample)) + len(p.flush()) for p in (runs, search)]
    return _packer(1, zlib.Z_RLE) if sizes[0] < 1.15 * sizes[1] else _packer(6, zlib.Z_FILTERED)


def _packer(level: int, strategy: int) -> Any:
    return zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)


PNG = Format(
    id="png",
    title="PNG",
    suffixes=(".png",),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
    streams=True,
)
