"""JPEG 2000: 8- and 16-bit gray or RGB, with or without alpha, in .jp2 or bare codestreams."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats import base
from denoisekit.formats import exif as exif_block
from denoisekit.formats.isobmff import Box, box, boxes
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

_SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
_STREAM = b"\xff\x4f\xff\x51"
_EXIF_UUID = b"JpgTiffExif->JP2"
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_LOSSY_DB = 50
_COMMENT = 0x64
"""Second byte of the marker."""
_INCH = 39.3701  # to a metre, as the writers of this format count


def _open(source: base.Source, axes: str | None) -> Reader:
    import imagecodecs

    data = source.read()
    parts = [] if data.startswith(_STREAM) else list(boxes(data))
    codes = [b for b in parts if b.kind == b"jp2c"]
    if parts and not codes:
        raise InputError(f"{source.path}: a JPEG 2000 file without a picture")
    start, end = (codes[0].start, codes[0].end) if codes else (0, len(data))
    if data[start : start + 4] != _STREAM:
        raise ValueError("no codestream where one belongs")
    across, down, left, top = struct.unpack_from(">IIII", data, start + 8)
    height, width, samples = down - top, across - left, data[start + 40] * 256 + data[start + 41]
    if not 1 <= samples <= 4:
        raise InputError(
            f"{source.path}: JPEG 2000 of {samples} components is not supported",
            "convert it to TIFF",
        )
    kinds = {tuple(data[start + 42 + 3 * i : start + 45 + 3 * i]) for i in range(samples)}
    depth, *steps = kinds.pop()
    if kinds or steps != [1, 1] or depth > 15:  # the first bit is for signed
        raise InputError(
            f"{source.path}: JPEG 2000 with signed, unequal or subsampled components "
            "is not supported",
            "convert it to TIFF",
        )
    segments = list(_segments(data, start))
    _check_complete(data, segments[-1][1] if segments else start + 2, end)
    style = [a for a, b in segments if data[a + 1] == 0x52 and b >= a + 14]
    container: dict[str, Any] = {
        "raw": not parts,
        "lossless": bool(style) and data[style[0] + 13] == 1,
        "comments": tuple(data[a:b] for a, b in segments if data[a + 1] == _COMMENT),
    }
    notes: list[str] = []
    metadata, size = _metadata(source, data, parts, container, notes), (height, width)
    dtype = "uint8" if depth < 8 else "uint16"
    info = base.image_info("jpeg2000", *size, samples, dtype, metadata, notes, bits=depth + 1)

    # The decoder keeps 32 bits a sample beside the result.
    return base.held(
        source,
        axes,
        info,
        samples * (4 + info.dtype.itemsize),
        lambda _: imagecodecs.jpeg2k_decode(data),
    )


def _segments(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield where the segments of a codestream's main header begin and end."""
    at = start + 2
    while at + 4 <= len(data) and data[at : at + 2] != b"\xff\x90":
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        yield at, end
        at = end


def _check_complete(data: bytes, at: int, end: int) -> None:
    """Walk the tile parts to the end marker: the decoder may fill in what is missing."""
    while data[at : at + 2] == b"\xff\x90" and at + 12 <= end:
        (length,) = struct.unpack_from(">I", data, at + 6)
        if length and length < 14:
            break
        at = at + length if length else end - 2  # none: up to the end marker
    if data[at : min(at + 2, end)] != b"\xff\xd9":
        raise ValueError("the file ends early")


def _metadata(
    source: base.Source, data: bytes, parts: list[Box], container: dict[str, Any], notes: list[str]
) -> Metadata:
    fields: dict[str, Any] = {}
    others = []
    for part in parts:
        body = b"" if part.kind == b"jp2c" else data[part.start : min(part.end, part.start + 2**26)]
        if part.kind == b"jp2h":
            fields |= _header_fields(source, body, container)
        elif part.kind == b"uuid" and body[:16] == _EXIF_UUID:
            fields["exif"] = exif_block.strip_prefix(body[16:], notes)
        elif part.kind == b"uuid" and body[:16] == _XMP_UUID:
            fields["xmp"] = body[16:]
        elif part.kind in (b"xml ", b"uuid", b"uinf"):
            others.append((part.kind, body))
        elif part.kind not in (b"jP  ", b"ftyp", b"jp2c"):
            name = part.kind.decode("ascii", "backslashreplace")
            notes.append(f"the JPEG 2000 box {name} is not kept")
    return Metadata(container={**container, "boxes": tuple(others)}, **fields)


def _header_fields(source: base.Source, head: bytes, container: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for part in boxes(head):
        body = head[part.start : part.end]
        if part.kind == b"colr" and body[:1] == b"\2":
            fields["icc"] = body[3:]
        elif part.kind == b"colr" and body[:1] == b"\1":
            space = int.from_bytes(body[3:7], "big")
            if space not in (16, 17):
                raise InputError(
                    f"{source.path}: JPEG 2000 in colour space {space} is not supported",
                    "convert it to sRGB, or to TIFF",
                )
        elif part.kind == b"pclr":
            raise InputError(
                f"{source.path}: JPEG 2000 with a palette is not supported", "convert it to PNG"
            )
        elif part.kind == b"res ":
            container["resolution"] = body
            # The capture resolution, or else the display resolution.
            found = {b.kind: body[b.start : b.end] for b in boxes(body)}
            numbers = found.get(b"resc") or found.get(b"resd") or b""
            if len(numbers) >= 10:
                up, under, across, below, ten, tens = struct.unpack(">HHHHbb", numbers[:10])
                if under and below:
                    down = up / under * 10.0**ten / _INCH
                    fields["dpi"] = (across / below * 10.0**tens / _INCH, down)
    return fields


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    import imagecodecs

    container, raw = info.metadata.container, bool(info.metadata.container.get("raw"))
    # Alpha must come back exactly, and it is compressed together with the colours.
    lossless = container.get("lossless", True) or info.alpha
    levels = int(np.clip(int(np.log2(max(1, min(info.height, info.width)))) + 1, 1, 6))
    data = bytes(
        imagecodecs.jpeg2k_encode(
            pixels[0, ..., 0] if info.samples == 1 else pixels[0],
            level=0 if lossless else _LOSSY_DB,
            reversible=lossless,
            bitspersample=info.bits,
            codecformat="j2k" if raw else "jp2",
            resolutions=levels,
        )
    )
    comments = container.get("comments", ())
    return _commented(data, comments) if raw else _dressed(data, info, comments)


def _commented(stream: bytes, comments: tuple[bytes, ...]) -> bytes:
    """Return a fresh codestream with these comments instead of the encoder's own."""
    if not comments:
        return stream
    spans = list(_segments(stream, 0))
    kept = [stream[a:b] for a, b in spans if stream[a + 1] != _COMMENT]
    return stream[:2] + b"".join([*kept, *comments]) + stream[spans[-1][1] :]


def _dressed(data: bytes, info: ImageInfo, comments: tuple[bytes, ...]) -> bytes:
    """Put profile, alpha, resolution, EXIF and XMP around a fresh image."""
    meta, out = info.metadata, []
    for part in boxes(data):
        body = data[part.start : part.end]
        if part.kind == b"jp2h":
            out.append(box(b"jp2h", _header(body, info)))
            if meta.exif:
                out.append(box(b"uuid", _EXIF_UUID, meta.exif))
            if meta.xmp:
                out.append(box(b"uuid", _XMP_UUID, meta.xmp))
            out += [box(kind, inside) for kind, inside in meta.container.get("boxes", ())]
        elif part.kind == b"jp2c":
            out.append(box(b"jp2c", _commented(body, comments)))
        else:
            out.append(box(part.kind, body))
    return b"".join(out)


def _header(body: bytes, info: ImageInfo) -> bytes:
    meta, out = info.metadata, []
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


def _check(info: ImageInfo) -> ImageInfo:
    depths = {"uint8": tuple(range(1, 9)), "uint16": tuple(range(9, 17))}
    return base.check_image(info, "jpeg2000", "JPEG 2000", depths, longest=2**31)


_SUFFIXES = (".jp2", ".j2k", ".j2c", ".jpc", ".jpx")
JPEG2000 = base.Format(
    "jpeg2000", "JPEG 2000", _SUFFIXES, (_SIGNATURE, _STREAM), _open, base.encoded(_encode), _check
)
