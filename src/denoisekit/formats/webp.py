"""WebP: 8-bit RGB with or without alpha; lossless stays lossless.

A lossy file does not say how finely it was quantised, so lossy files are written at
quality 95, alpha without loss.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

from denoisekit.formats import base
from denoisekit.formats import exif as exif_block
from denoisekit.formats.animation import encode_animation, open_animation
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

_KNOWN = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"EXIF", b"XMP "}


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Walk the RIFF chunks: kind and body."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise ValueError("the file ends early")
    at = 12
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise ValueError("the file ends early")
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _open(source: base.Source, axes: str | None) -> Reader:
    import imagecodecs

    data = source.read()
    chunks = list(_chunks(data))
    found = dict(reversed(chunks))  # of several, the first one counts
    notes: list[str] = []
    exif = exif_block.strip_prefix(found.get(b"EXIF"), notes)
    fields: dict[str, Any] = {"icc": found.get(b"ICCP"), "exif": exif, "xmp": found.get(b"XMP ")}
    if b"ANIM" in found or b"ANMF" in found:
        return _open_animation(source, axes, chunks, fields, notes)
    if b"VP8L" in found:
        head = found[b"VP8L"]
        if len(head) < 5 or head[0] != 0x2F:
            raise ValueError("no lossless WebP header")
        (bits,) = struct.unpack_from("<I", head, 1)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        alpha = bool(bits >> 28 & 1)  # a hint for decoders, which wins over the container's flag
    else:
        head = found.get(b"VP8 ", b"")
        if len(head) < 10 or head[3:6] != b"\x9d\x01\x2a":
            raise ValueError("no WebP picture inside")
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 6))
        alpha = b"ALPH" in found
    for kind in found.keys() - _KNOWN:
        notes.append(f"the WebP chunk {kind.decode('ascii', 'backslashreplace')} is not kept")
    metadata = Metadata(container={"lossless": b"VP8L" in found}, **fields)
    info = base.image_info("webp", height, width, 3 + alpha, "uint8", metadata, notes)

    return base.held(
        source, axes, info, 2 * (3 + alpha), lambda _: imagecodecs.webp_decode(data, hasalpha=alpha)
    )


def _open_animation(
    source: base.Source,
    axes: str | None,
    chunks: list[tuple[bytes, bytes]],
    fields: dict[str, Any],
    notes: list[str],
) -> Reader:
    from PIL.WebPImagePlugin import WebPImageFile

    frames = [body for kind, body in chunks if kind == b"ANMF"]
    head = dict(chunks)
    if not frames or not {b"VP8X", b"ANIM"} <= head.keys() or min(map(len, frames)) < 24:
        raise ValueError("the animation is damaged")
    flags, sides = head[b"VP8X"][0], head[b"VP8X"][4:10]
    size = 1 + int.from_bytes(sides[:3], "little"), 1 + int.from_bytes(sides[3:], "little")
    container = {
        "loop": int.from_bytes(head[b"ANIM"][4:6], "little"),
        "lossless": all(frame[16:20] not in (b"VP8 ", b"ALPH") for frame in frames),
    }
    times = [int.from_bytes(frame[12:15], "little") for frame in frames]
    metadata = Metadata(container=container, **fields)
    alpha = bool(flags & 0x10)
    return open_animation(source, axes, WebPImageFile, "webp", size, times, alpha, metadata, notes)


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    from PIL import Image

    meta = info.metadata
    lossless = meta.container.get("lossless", True)
    options = {
        "lossless": lossless,
        "quality": 50 if lossless else 95,  # for lossless: the effort, not the quality
        "alpha_quality": 100,
        "exact": True,  # colours under full transparency are pixels too
    }
    if meta.container.get("frames"):
        # Frames that build on others would be rounded where alpha is partial.
        return encode_animation(pixels, info, "WEBP", method=2, kmin=0, kmax=1, **options)
    out = io.BytesIO()
    Image.fromarray(pixels[0]).save(
        out,
        "WEBP",
        method=2 if lossless else 4,
        icc_profile=meta.icc or b"",
        exif=meta.exif or b"",
        xmp=meta.xmp or b"",
        **options,
    )
    return out.getvalue()


def _check(info: ImageInfo) -> ImageInfo:
    depths, holds = {"uint8": (8,)}, ("icc", "exif", "xmp")
    return base.check_image(info, "webp", "WebP", depths, gray=False, longest=16383, holds=holds)


WEBP = base.Format(
    "webp",
    "WebP",
    (".webp",),
    (b"RIFF",),
    _open,
    base.encoded(_encode),
    _check,
    looks=lambda head: head[8:12] == b"WEBP",
)
