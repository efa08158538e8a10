"""JPEG XL: 8- and 16-bit integers and floats, gray or RGB, with or without opacity.

The library at hand reads and writes pixels only: the orientation and colour space of
the codestream, EXIF and XMP boxes are handled here. An embedded ICC profile cannot be
read, and the user is told.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from denoisekit.errors import InputError, OutputError
from denoisekit.formats import exif as exif_block
from denoisekit.formats import jxl_header
from denoisekit.formats.base import Format
from denoisekit.formats.boxes import box, boxes
from denoisekit.formats.foreign import FRAMES
from denoisekit.formats.photo import (
    HeldReader,
    HeldWriter,
    check_axes,
    check_fits,
    check_picture,
    picture_info,
)
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

_SIGNATURE = bytes.fromhex("0000000c4a584c200d0a870a")
_FTYP = box(b"ftyp", b"jxl \0\0\0\0jxl ")
_DISTANCE = 0.5  # visually lossless at twice the distance


def _sniff(head: bytes) -> bool:
    return head.startswith((_SIGNATURE, b"\xff\x0a"))


def _open(path: Path, axes: str | None) -> Reader:
    data = path.read_bytes()
    stream, exif, xmp, notes = _parts(data)
    head = jxl_header.parse(stream)
    _refuse(path, head)
    alpha = bool(head.extra)
    samples = (1 if head.gray else 3) + alpha
    dtype = _dtype(path, head)
    check_axes(path, axes, "YX" if samples == 1 else "YXS")
    check_fits(path, head.height, head.width, samples * (4 + np.dtype(dtype).itemsize))
    if head.icc:
        notes.append(
            "the ICC profile of this JPEG XL cannot be read and is not kept: "
            "colours are taken as sRGB"
        )
    full = np.dtype(dtype).itemsize * 8
    info = picture_info(
        "jxl",
        head.height,
        head.width,
        samples,
        dtype,
        alpha=alpha,
        bits=None if head.floating or head.depth == full else head.depth,
        metadata=_metadata(head, exif, xmp),
        warnings=tuple(notes),
    )
    return HeldReader(path, info, lambda: _decode(data))


def _refuse(path: Path, head: jxl_header.Header) -> None:
    if head.animated:
        raise InputError(f"{path}: animated JPEG XL is not supported", FRAMES)
    if head.preview or len(head.extra) > 1 or any(kind or mul for kind, mul in head.extra):
        raise InputError(
            f"{path}: JPEG XL with previews, premultiplied opacity or further channels "
            "is not supported",
            "convert it to PNG or TIFF",
        )


def _dtype(path: Path, head: jxl_header.Header) -> str:
    if head.floating and head.depth in (16, 32):
        return f"float{head.depth}"
    if head.floating or head.depth > 16 or head.depth < 8:
        raise InputError(
            f"{path}: JPEG XL of {head.depth} bits of this kind is not supported",
            "convert it to TIFF",
        )
    return "uint8" if head.depth == 8 else "uint16"


def _parts(data: bytes) -> tuple[bytes, bytes | None, bytes | None, list[str]]:
    """Return the beginning of the codestream, EXIF, XMP, and what is not kept."""
    if not data.startswith(_SIGNATURE):
        return data[:4096], None, None, []
    stream, exif, xmp = b"", None, None
    notes: list[str] = []
    for found in boxes(data):
        kind, body = found.kind, data[found.start : min(found.end, found.start + 4096)]
        if kind == b"brob":
            kind, whole = _unpacked(data[found.start : found.end])
        else:
            whole = data[found.start : found.end] if kind in (b"Exif", b"xml ") else b""
        if kind == b"jxlc":
            stream = stream or body
        elif kind == b"jxlp":
            stream += body[4:] if len(stream) < 4096 else b""
        elif kind == b"Exif" and len(whole) > 4:
            exif = exif or exif_block.strip_prefix(
                whole[4 + int.from_bytes(whole[:4], "big") :], notes
            )
        elif kind == b"xml ":
            xmp = xmp or whole
        elif kind == b"jbrd":
            notes.append("the data to rebuild the JPEG this file was made from are not kept")
        elif kind not in (b"JXL ", b"ftyp", b"jxll", b"jxli"):
            name = kind.decode("ascii", "backslashreplace")
            notes.append(f"the JPEG XL box {name} is not kept")
    return stream, exif, xmp, notes


def _unpacked(body: bytes) -> tuple[bytes, bytes]:
    """Return kind and content of a compressed box."""
    import imagecodecs

    if body[:4] not in (b"Exif", b"xml "):
        return body[:4], b""
    return body[:4], bytes(imagecodecs.brotli_decode(body[4:], out=_roomy(body)))


def _roomy(body: bytes) -> int:
    return min(64 * 2**20, 4096 + 256 * len(body))


def _metadata(head: jxl_header.Header, exif: bytes | None, xmp: bytes | None) -> Metadata:
    container: dict[str, Any] = {
        "lossless": not head.lossy,
        "orientation": head.orientation,
        "exif": exif,
        "colour": None if head.icc else head.colour,
    }
    # Other formats know the orientation from EXIF alone.
    told = exif_block.with_orientation(exif, head.orientation)
    return Metadata(exif=told, xmp=xmp, container=MappingProxyType(container))


def _decode(data: bytes) -> Pixels:
    import imagecodecs

    pixels: Pixels = imagecodecs.jpegxl_decode(data, keeporientation=True)
    return pixels


def _check(info: ImageInfo) -> ImageInfo:
    depths = {
        "uint8": (8,),
        "uint16": (9, 10, 11, 12, 13, 14, 15, 16),
        "float16": (16,),
        "float32": (32,),
    }
    if info.format != "jxl" and info.metadata.icc:
        raise OutputError(
            "JPEG XL is written without ICC profiles, and this picture has one",
            "write PNG or TIFF: --format png",
        )
    return check_picture(info, "jxl", "JPEG XL", depths, longest=2**30, holds=("exif", "xmp"))


def _create(path: Path, info: ImageInfo) -> Writer:
    return HeldWriter(path, info, lambda pixels: _encode(pixels, info))


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    import imagecodecs

    meta, container = info.metadata, info.metadata.container
    colour = container.get("colour")
    # Lossy files hold an absolute colour space; relabelling it would shift the colours.
    plain = colour is None or colour == (1, 1)
    lossless = container.get("lossless", True) or not plain or info.dtype.kind == "f"
    stream = imagecodecs.jpegxl_encode(
        pixels[..., 0] if info.samples == 1 else pixels,
        lossless=lossless,
        distance=None if lossless else _DISTANCE,
        effort=3 if lossless else 5,
        bitspersample=info.bits,
        usecontainer=False,
    )
    exif, turned = meta.exif, exif_block.orientation(meta.exif)
    if exif_block.with_orientation(container.get("exif"), turned) == exif:
        exif = container.get("exif", exif)
    stream, level = _codestream(bytes(stream))
    if turned != 1 or (colour is not None and colour != jxl_header.parse(stream).colour):
        stream = jxl_header.rewrite(stream, turned, colour)
    extra = box(b"Exif", bytes(4), exif) if exif else b""
    extra += box(b"xml ", meta.xmp) if meta.xmp else b""
    if not extra and not level:
        return stream
    return b"".join([_SIGNATURE, _FTYP, level, extra, box(b"jxlc", stream)])


def _codestream(data: bytes) -> tuple[bytes, bytes]:
    """Return the bare codestream and the box of its level, where the encoder made one."""
    if not data.startswith(_SIGNATURE):
        return data, b""
    stream, level = [], b""
    for found in boxes(data):
        body = data[found.start : found.end]
        if found.kind in (b"jxlc", b"jxlp"):
            stream.append(body[4:] if found.kind == b"jxlp" else body)
        elif found.kind == b"jxll":
            level = box(b"jxll", body)
    return b"".join(stream), level


JXL = Format(
    id="jxl",
    title="JPEG XL",
    suffixes=(".jxl",),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
)
