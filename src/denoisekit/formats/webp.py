"""WebP: 8-bit RGB with or without opacity; lossless stays lossless.

A lossy file does not say how finely it was quantised, so lossy files are written at
quality 95, opacity without loss.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from denoisekit.formats import exif as exif_block
from denoisekit.formats.animation import AnimationReader, AnimationWriter, animation_info
from denoisekit.formats.base import Format
from denoisekit.formats.photo import (
    HeldReader,
    check_axes,
    check_fits,
    check_picture,
    picture_info,
)
from denoisekit.formats.pillow_bridge import CanvasWriter
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

if TYPE_CHECKING:
    from PIL import Image

_ANIMATED = (b"VP8X", b"ANIM")
_KNOWN = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP", b"EXIF", b"XMP "}


def _sniff(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk the RIFF chunks: kind, start and end of the body."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise ValueError("the file ends early")
    at = 12
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise ValueError("the file ends early")
        yield kind, at + 8, at + 8 + length
        at += 8 + length + length % 2


def _open(path: Path, axes: str | None) -> Reader:
    data = path.read_bytes()
    found: dict[bytes, tuple[int, int]] = {}
    for kind, start, end in _chunks(data):
        found.setdefault(kind, (start, end))
    bodies = {
        kind: data[slice(*found[kind])] for kind in (b"ICCP", b"EXIF", b"XMP ") & found.keys()
    }
    if b"ANIM" in found or b"ANMF" in found:
        return _open_animation(path, axes, data, bodies)
    width, height, alpha, lossless = _frame(data, found)
    check_axes(path, axes, "YXS")
    check_fits(path, height, width, 2 * (3 + alpha))
    notes = [
        f"the WebP chunk {kind.decode('ascii', 'backslashreplace')} is not kept"
        for kind in found.keys() - _KNOWN
    ]
    exif = exif_block.strip_prefix(bodies.get(b"EXIF"), notes)
    info = picture_info(
        "webp",
        height,
        width,
        3 + alpha,
        "uint8",
        alpha=alpha,
        metadata=Metadata(
            icc=bodies.get(b"ICCP"),
            exif=exif,
            xmp=bodies.get(b"XMP "),
            container=MappingProxyType({"lossless": lossless}),
        ),
        warnings=tuple(notes),
    )
    return HeldReader(path, info, lambda: _decode(data, alpha))


def _open_animation(
    path: Path, axes: str | None, data: bytes, bodies: dict[bytes, bytes]
) -> Reader:
    from PIL.WebPImagePlugin import WebPImageFile

    frames = [(start, end) for kind, start, end in _chunks(data) if kind == b"ANMF"]
    head = {kind: data[start:end] for kind, start, end in _chunks(data) if kind in _ANIMATED}
    if not frames or len(head) < 2 or any(end - start < 24 for start, end in frames):
        raise ValueError("the animation is damaged")
    flags, sides = head[b"VP8X"][0], head[b"VP8X"][4:10]
    notes: list[str] = []
    info = animation_info(
        path,
        axes,
        "webp",
        (1 + int.from_bytes(sides[:3], "little"), 1 + int.from_bytes(sides[3:], "little")),
        [int.from_bytes(data[start + 12 : start + 15], "little") for start, _ in frames],
        bool(flags & 0x10),
        Metadata(
            icc=bodies.get(b"ICCP"),
            exif=exif_block.strip_prefix(bodies.get(b"EXIF"), notes),
            xmp=bodies.get(b"XMP "),
        ),
        loop=int.from_bytes(head[b"ANIM"][4:6], "little"),
        lossless=all(b"VP8 " != data[start + 16 : start + 20] != b"ALPH" for start, _ in frames),
    )
    return AnimationReader(path, WebPImageFile, replace(info, warnings=tuple(notes)))


def _frame(data: bytes, found: dict[bytes, tuple[int, int]]) -> tuple[int, int, bool, bool]:
    """Return width, height, whether there is opacity, and whether compression is lossless."""
    if b"VP8L" in found:
        start, end = found[b"VP8L"]
        if end - start < 5 or data[start] != 0x2F:
            raise ValueError("no lossless WebP header")
        (bits,) = struct.unpack_from("<I", data, start + 1)
        # The bit here is a hint for decoders; it wins over the container's flag.
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1, bool(bits >> 28 & 1), True
    start, end = found.get(b"VP8 ", (0, 0))
    if end - start < 10 or data[start + 3 : start + 6] != b"\x9d\x01\x2a":
        raise ValueError("no WebP picture inside")
    width, height = struct.unpack_from("<HH", data, start + 6)
    return width & 0x3FFF, height & 0x3FFF, b"ALPH" in found, False


def _decode(data: bytes, alpha: bool) -> Pixels:
    import imagecodecs

    pixels: Pixels = imagecodecs.webp_decode(data, hasalpha=alpha)
    return pixels


def _check(info: ImageInfo) -> ImageInfo:
    if info.format == "webp" and info.metadata.container.get("frames"):
        return info
    return check_picture(
        info,
        "webp",
        "WebP",
        {"uint8": (8,)},
        gray=False,
        longest=16383,
        holds=("icc", "exif", "xmp"),
    )


def _create(path: Path, info: ImageInfo) -> Writer:
    meta = info.metadata
    lossless = meta.container.get("lossless", True)
    if meta.container.get("frames"):
        options = {"lossless": lossless, "quality": 50 if lossless else 95, "method": 2}
        # Frames that build on others would be rounded where opacity is partial.
        whole = {"kmin": 0, "kmax": 1, "exact": True, "alpha_quality": 100}
        return AnimationWriter(path, info, "WEBP", options | whole)

    def save(canvas: Image.Image, to: Path) -> None:
        canvas.save(
            to,
            "WEBP",
            lossless=lossless,
            quality=50 if lossless else 95,  # for lossless: the effort, not the quality
            method=2 if lossless else 4,
            alpha_quality=100,
            exact=True,  # colours under full transparency are pixels too
            icc_profile=meta.icc or b"",
            exif=meta.exif or b"",
            xmp=meta.xmp or b"",
        )

    return CanvasWriter(path, info, save)


WEBP = Format(
    id="webp",
    title="WebP",
    suffixes=(".webp",),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
)
