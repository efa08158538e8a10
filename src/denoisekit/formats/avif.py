"""AVIF: 8, 10 and 12 bits a sample, gray or RGB, with or without opacity.

A lossless file stays lossless; a lossy one is written at quality 95 in its own chroma
layout, with opacity without loss.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats import avif_boxes as ab
from denoisekit.formats import avif_build
from denoisekit.formats import exif as exif_block
from denoisekit.formats.base import Format
from denoisekit.formats.foreign import FRAMES
from denoisekit.formats.photo import (
    HeldReader,
    HeldWriter,
    check_axes,
    check_fits,
    check_picture,
    check_tail,
    picture_info,
)
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

_QUALITY = 95
_SPEED = 8
_IDENTITY = 0
_MATRICES = (0, 1, 5, 6, 9)
_BT601 = 6


def _sniff(head: bytes) -> bool:
    length = int.from_bytes(head[:4], "big")
    brands = head[8 : max(16, length)]
    return head[4:8] == b"ftyp" and (b"avif" in brands or b"avis" in brands)


def _open(path: Path, axes: str | None) -> Reader:
    data = path.read_bytes()
    if data[8:12] == b"avis":
        raise InputError(f"{path}: animated AVIF is not supported", FRAMES)
    found = ab.parse(data)
    samples = (1 if found.layout == "400" else 3) + found.alpha
    check_axes(path, axes, "YX" if samples == 1 else "YXS")
    check_fits(path, found.height, found.width, 12 + samples * (1 if found.depth == 8 else 2))
    notes = [f"{what} inside this AVIF is not kept" for what in found.others]
    check_tail(path, found.payload)
    metadata = _metadata(found, notes)
    if found.exif and not metadata.exif:  # the decoder would refuse the picture for it
        data = data.replace(found.exif, b"II*\0".ljust(len(found.exif), b"\0")[: len(found.exif)])
    info = picture_info(
        "avif",
        found.height,
        found.width,
        samples,
        "uint8" if found.depth == 8 else "uint16",
        alpha=found.alpha,
        bits=None if found.depth == 8 else found.depth,
        metadata=metadata,
        warnings=tuple(notes),
    )
    return HeldReader(path, info, lambda: _decode(data))


def _metadata(found: ab.Picture, notes: list[str]) -> Metadata:
    exif = exif_block.strip_prefix(found.exif, notes)
    code = ab.colour_code(found.nclx)
    container: dict[str, Any] = {
        "layout": found.layout,
        "lossless": found.layout == "444" and code is not None and code[2] == _IDENTITY,
        "colour": code,
        "properties": found.properties,
        "orientation": found.orientation,
        "exif": exif,
    }
    # Other formats know the orientation from EXIF alone.
    told = exif_block.with_orientation(exif, found.orientation)
    return Metadata(icc=found.icc, exif=told, xmp=found.xmp, container=MappingProxyType(container))


def _decode(data: bytes) -> Pixels:
    import imagecodecs

    pixels: Pixels = imagecodecs.avif_decode(data, numthreads=os.cpu_count())
    return pixels


def _check(info: ImageInfo) -> ImageInfo:
    depths = {"uint8": (8,), "uint16": (10, 12)}
    return check_picture(info, "avif", "AVIF", depths, longest=65535, holds=("icc", "exif", "xmp"))


def _create(path: Path, info: ImageInfo) -> Writer:
    return HeldWriter(path, info, lambda pixels: _encode(pixels, info))


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    container = info.metadata.container
    layout = container.get("layout", "444")
    lossless = container.get("lossless", True)
    colours = np.ascontiguousarray(pixels[..., :-1] if info.alpha else pixels)
    if colours.shape[2] == 1:
        colour = _compressed(colours[..., 0], info, _QUALITY if not lossless else 100, "400")
    else:
        colour = _compressed(colours, info, 100 if lossless else _QUALITY, layout)
    alpha = None
    if info.alpha:
        alpha = _compressed(np.ascontiguousarray(pixels[..., -1]), info, 100, "400")
    return avif_build.build(colour, alpha, _shown(info))


def _compressed(pixels: Pixels, info: ImageInfo, quality: int, layout: str) -> ab.Picture:
    import imagecodecs

    primaries, transfer, matrix = info.metadata.container.get("colour") or (2, 2, _BT601)
    exact = quality == 100 and layout == "444"
    if exact:
        matrix = _IDENTITY
    elif matrix == _IDENTITY or matrix not in _MATRICES:
        matrix = _BT601
    data = imagecodecs.avif_encode(
        pixels,
        level=quality,
        speed=_SPEED,
        bitspersample=info.bits or 8,
        pixelformat=layout,
        primaries=primaries,
        transfer=transfer,
        matrix=matrix,
        numthreads=os.cpu_count(),
    )
    return ab.parse(bytes(data))


def _shown(info: ImageInfo) -> ab.Picture:
    """Return the metadata to write: the file's own, the orientation as EXIF now says."""
    meta, container = info.metadata, info.metadata.container
    exif, turned = meta.exif, exif_block.orientation(meta.exif)
    if exif_block.with_orientation(container.get("exif"), turned) == exif:
        exif = container.get("exif", exif)
    properties = container.get("properties", ())
    if turned != container.get("orientation", 1):
        kept = tuple(p for p in properties if p[0] not in (b"irot", b"imir"))
        properties = (*kept, *ab.orient(turned))
    return ab.Picture(icc=meta.icc, exif=exif, xmp=meta.xmp, properties=properties)


AVIF = Format(
    id="avif",
    title="AVIF",
    suffixes=(".avif",),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
)
