"""JPEG 2000: 8- and 16-bit gray or RGB, with or without opacity, in .jp2 or bare codestreams."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats import exif as exif_block
from denoisekit.formats.base import Format
from denoisekit.formats.boxes import box, boxes
from denoisekit.formats.photo import (
    HeldReader,
    HeldWriter,
    check_axes,
    check_fits,
    check_picture,
    picture_info,
)
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

_SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
_STREAM = b"\xff\x4f\xff\x51"
_EXIF_UUID = b"JpgTiffExif->JP2"
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_LOSSY_DB = 50
_COMMENT = 0x64
"""Second byte of the marker."""
_INCH = 39.3701  # to a metre, as the writers of this format count


@dataclass(frozen=True, slots=True)
class Stream:
    """The main header of a codestream."""

    width: int
    height: int
    samples: int
    bits: int
    lossless: bool


def _sniff(head: bytes) -> bool:
    return head.startswith((_SIGNATURE, _STREAM))


def _open(path: Path, axes: str | None) -> Reader:
    data = path.read_bytes()
    raw = data.startswith(_STREAM)
    parts = [] if raw else list(boxes(data))
    codes = [b for b in parts if b.kind == b"jp2c"]
    if not raw and not codes:
        raise InputError(f"{path}: a JPEG 2000 file without a picture")
    start, end = (0, len(data)) if raw else (codes[0].start, codes[0].end)
    head = _main_header(path, data, start)
    _check_complete(data, start, end)
    alpha = head.samples in (2, 4)
    check_axes(path, axes, "YX" if head.samples == 1 else "YXS")
    size = 1 if head.bits <= 8 else 2
    # The decoder keeps 32 bits a sample beside the result.
    check_fits(path, head.height, head.width, head.samples * (4 + size))
    metadata, notes = _metadata(path, data, parts, head, start)
    info = picture_info(
        "jpeg2000",
        head.height,
        head.width,
        head.samples,
        f"uint{8 * size}",
        alpha=alpha,
        bits=None if head.bits == 8 * size else head.bits,
        metadata=metadata,
        warnings=tuple(notes),
    )
    return HeldReader(path, info, lambda: _decode(data))


def _main_header(path: Path, data: bytes, start: int) -> Stream:
    if data[start : start + 4] != _STREAM:
        raise ValueError("no codestream where one belongs")
    across, down, left, top = struct.unpack_from(">IIII", data, start + 8)
    samples = struct.unpack_from(">H", data, start + 40)[0]
    if not 1 <= samples <= 4:
        raise InputError(
            f"{path}: JPEG 2000 of {samples} components is not supported", "convert it to TIFF"
        )
    kinds = [tuple(data[start + 42 + 3 * i : start + 45 + 3 * i]) for i in range(samples)]
    if len(set(kinds)) != 1 or kinds[0][1:] != (1, 1) or kinds[0][0] & 0x80 or kinds[0][0] > 15:
        raise InputError(
            f"{path}: JPEG 2000 with signed, unequal or subsampled components is not supported",
            "convert it to TIFF",
        )
    style = data.find(b"\xff\x52", start)
    reversible = style > 0 and style + 14 <= len(data) and data[style + 13] == 1
    return Stream(across - left, down - top, samples, kinds[0][0] + 1, reversible)


def _check_complete(data: bytes, start: int, end: int) -> None:
    """Walk the tile parts to the end marker: the decoder may fill in what is missing."""
    at = start + 2
    while data[at : at + 2] != b"\xff\x90":
        if at + 4 > end:
            raise ValueError("the file ends early")
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    while data[at : at + 2] == b"\xff\x90":
        if at + 12 > end:
            raise ValueError("the file ends early")
        (length,) = struct.unpack_from(">I", data, at + 6)
        if length == 0:  # up to the end marker
            at = end - 2
        elif length < 14 or at + length > end:
            raise ValueError("the file ends early")
        else:
            at += length
    if data[at : at + 2] != b"\xff\xd9":
        raise ValueError("the file ends early")


def _metadata(
    path: Path, data: bytes, parts: list[Any], head: Stream, start: int
) -> tuple[Metadata, list[str]]:
    container: dict[str, Any] = {"raw": not parts, "lossless": head.lossless}
    container["comments"] = _comments(data, start)
    fields: dict[str, Any] = {}
    notes: list[str] = []
    for part in parts:
        body = data[part.start : min(part.end, part.start + 2**26)] if part.kind != b"jp2c" else b""
        if part.kind == b"jp2h":
            fields |= _header_fields(path, data, part.start, part.end, container)
        elif part.kind == b"uuid" and body[:16] == _EXIF_UUID:
            fields["exif"] = exif_block.strip_prefix(body[16:], notes)
        elif part.kind == b"uuid" and body[:16] == _XMP_UUID:
            fields["xmp"] = body[16:]
        elif part.kind in (b"xml ", b"uuid", b"uinf"):
            container.setdefault("boxes", []).append((part.kind, body))
        elif part.kind not in (b"jP  ", b"ftyp", b"jp2c"):
            name = part.kind.decode("ascii", "backslashreplace")
            notes.append(f"the JPEG 2000 box {name} is not kept")
    container["boxes"] = tuple(container.get("boxes", ()))
    return Metadata(container=MappingProxyType(container), **fields), notes


def _header_fields(
    path: Path, data: bytes, start: int, end: int, container: dict[str, Any]
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for part in boxes(data, start, end):
        body = data[part.start : part.end]
        if part.kind == b"colr" and body[:1] == b"\2":
            fields["icc"] = body[3:]
        elif part.kind == b"colr" and body[:1] == b"\1":
            space = int.from_bytes(body[3:7], "big")
            if space not in (16, 17):
                raise InputError(
                    f"{path}: JPEG 2000 in colour space {space} is not supported",
                    "convert it to sRGB, or to TIFF",
                )
        elif part.kind == b"pclr":
            raise InputError(
                f"{path}: JPEG 2000 with a palette is not supported", "convert it to PNG"
            )
        elif part.kind == b"res ":
            container["resolution"] = body
            fields["dpi"] = _dpi(body)
    return fields


def _dpi(body: bytes) -> tuple[float, float] | None:
    """Return the capture resolution, or else the display resolution, along x and y."""
    found = {b.kind: body[b.start : b.end] for b in boxes(body)}
    numbers = found.get(b"resc") or found.get(b"resd")
    if numbers is None or len(numbers) < 10:
        return None
    up, under_up, across, under_across, ten_up, ten_across = struct.unpack(">HHHHbb", numbers[:10])
    if not under_up or not under_across:
        return None
    down = up / under_up * 10.0**ten_up / _INCH
    return across / under_across * 10.0**ten_across / _INCH, down


def _decode(data: bytes) -> Pixels:
    import imagecodecs

    pixels: Pixels = imagecodecs.jpeg2k_decode(data)
    return pixels


def _check(info: ImageInfo) -> ImageInfo:
    return check_picture(
        info,
        "jpeg2000",
        "JPEG 2000",
        {"uint8": tuple(range(1, 9)), "uint16": tuple(range(9, 17))},
        longest=2**31,
    )


def _create(path: Path, info: ImageInfo) -> Writer:
    return HeldWriter(path, info, lambda pixels: _encode(pixels, info))


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    import imagecodecs

    container = info.metadata.container
    # Opacity must come back exactly, and it is compressed together with the colours.
    lossless = container.get("lossless", True) or info.alpha
    data = imagecodecs.jpeg2k_encode(
        pixels[..., 0] if info.samples == 1 else pixels,
        level=0 if lossless else _LOSSY_DB,
        reversible=lossless,
        bitspersample=info.bits,
        codecformat="j2k" if container.get("raw") else "jp2",
        resolutions=_resolutions(info),
    )
    comments = container.get("comments", ())
    if container.get("raw"):
        return _commented(bytes(data), comments)
    return _dressed(bytes(data), info, comments)


def _resolutions(info: ImageInfo) -> int:
    return int(np.clip(int(np.log2(max(1, min(info.height, info.width)))) + 1, 1, 6))


def _header_segments(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield where the segments of a codestream's main header begin and end."""
    at = start + 2
    while at + 4 <= len(data) and data[at : at + 2] != b"\xff\x90":
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        yield at, end
        at = end


def _comments(data: bytes, start: int) -> tuple[bytes, ...]:
    """Return the comments of a codestream, whole segments."""
    return tuple(data[a:b] for a, b in _header_segments(data, start) if data[a + 1] == _COMMENT)


def _commented(stream: bytes, comments: tuple[bytes, ...]) -> bytes:
    """Return a fresh codestream with these comments instead of the encoder's own."""
    if not comments:
        return stream
    spans = list(_header_segments(stream, 0))
    kept = [stream[a:b] for a, b in spans if stream[a + 1] != _COMMENT]
    return stream[:2] + b"".join([*kept, *comments]) + stream[spans[-1][1] :]


def _dressed(data: bytes, info: ImageInfo, comments: tuple[bytes, ...]) -> bytes:
    """Put profile, opacity, resolution, EXIF and XMP around a fresh picture."""
    meta, container = info.metadata, info.metadata.container
    out = []
    for part in boxes(data):
        body = data[part.start : part.end]
        if part.kind == b"jp2h":
            out.append(box(b"jp2h", _header(body, info)))
            if meta.exif:
                out.append(box(b"uuid", _EXIF_UUID, meta.exif))
            if meta.xmp:
                out.append(box(b"uuid", _XMP_UUID, meta.xmp))
            out += [box(kind, inside) for kind, inside in container.get("boxes", ())]
        elif part.kind == b"jp2c":
            out.append(box(b"jp2c", _commented(body, comments)))
        else:
            out.append(box(part.kind, body))
    return b"".join(out)


def _header(body: bytes, info: ImageInfo) -> bytes:
    meta = info.metadata
    out = []
    for part in boxes(body):
        inside = body[part.start : part.end]
        if part.kind == b"colr" and meta.icc:
            inside = b"\2\0\0" + meta.icc
        out.append(box(part.kind, inside))
    if info.alpha:
        last = info.samples - 1
        entries = [struct.pack(">HHH", n, 0, n + 1) for n in range(last)]
        entries.append(struct.pack(">HHH", last, 1, 0))
        out.append(box(b"cdef", struct.pack(">H", info.samples), *entries))
    resolution = meta.container.get("resolution")
    if resolution is None and meta.dpi:
        across, down = (min(65535, max(1, round(d * _INCH))) for d in meta.dpi)
        resolution = box(b"resc", struct.pack(">HHHHbb", down, 1, across, 1, 0, 0))
    if resolution:
        out.append(box(b"res ", resolution))
    return b"".join(out)


JPEG2000 = Format(
    id="jpeg2000",
    title="JPEG 2000",
    suffixes=(".jp2", ".j2k", ".j2c", ".jpc", ".jpx"),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
)
