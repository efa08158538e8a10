"""AVIF: 8, 10 and 12 bits a sample, gray or RGB, with or without alpha.

A lossless file stays lossless; a lossy one is written at quality 95 in its own chroma
layout, with alpha without loss.
"""

from __future__ import annotations

import os

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats import base, isobmff
from denoisekit.formats import exif as exif_block
from denoisekit.formats.foreign import FRAMES
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

_QUALITY = 95
_SPEED = 8
_IDENTITY = 0
_MATRICES = (0, 1, 5, 6, 9)
_BT601 = 6


def _looks(head: bytes) -> bool:
    brands = head[8 : max(16, int.from_bytes(head[:4], "big"))]
    return head[4:8] == b"ftyp" and (b"avif" in brands or b"avis" in brands)


def _open(source: base.Source, axes: str | None) -> Reader:
    import imagecodecs

    data = source.read()
    if data[8:12] == b"avis":
        raise InputError(f"{source.path}: animated AVIF is not supported", FRAMES)
    found = isobmff.parse(data)
    samples = (1 if found.layout == "400" else 3) + found.alpha
    dtype = "uint8" if found.depth == 8 else "uint16"
    source.check_tail(found.payload)
    notes = [f"{what} inside this AVIF is not kept" for what in found.others]
    exif = exif_block.strip_prefix(found.exif, notes)
    if found.exif and not exif:  # the decoder would refuse the image for it
        data = data.replace(found.exif, b"II*\0".ljust(len(found.exif), b"\0")[: len(found.exif)])
    code = found.colour_code
    container = {
        "layout": found.layout,
        "lossless": found.layout == "444" and code is not None and code[2] == _IDENTITY,
        "colour": code,
        "properties": found.properties,
        "orientation": found.orientation,
        "exif": exif,
    }
    # Other formats know the orientation from EXIF alone.
    told = exif_block.with_orientation(exif, found.orientation)
    metadata = Metadata(container=container, icc=found.icc, exif=told, xmp=found.xmp)
    size = found.height, found.width
    info = base.image_info("avif", *size, samples, dtype, metadata, notes, bits=found.depth)

    return base.held(
        source,
        axes,
        info,
        12 + samples * info.dtype.itemsize,
        lambda _: imagecodecs.avif_decode(data, numthreads=os.cpu_count()),
    )


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    meta, container = info.metadata, info.metadata.container
    lossless = container.get("lossless", True)
    quality, layout = 100 if lossless else _QUALITY, container.get("layout", "444")
    colours = np.ascontiguousarray(pixels[0, ..., :-1] if info.alpha else pixels[0])
    gray = colours.shape[2] == 1
    colour = _compressed(
        colours[..., 0] if gray else colours, info, quality, "400" if gray else layout
    )
    alpha = None
    if info.alpha:
        alpha = _compressed(np.ascontiguousarray(pixels[0, ..., -1]), info, 100, "400")
    # The file's own metadata; the orientation as EXIF now says.
    exif, properties = meta.exif, container.get("properties", ())
    orientation = exif_block.orientation(exif)
    if exif_block.with_orientation(container.get("exif"), orientation) == exif:
        exif = container.get("exif", exif)
    if orientation != container.get("orientation", 1):
        properties = isobmff.turned(properties, orientation)
    shown = isobmff.Item(icc=meta.icc, exif=exif, xmp=meta.xmp, properties=properties)
    return isobmff.build(colour, alpha, shown)


def _compressed(pixels: Pixels, info: ImageInfo, quality: int, layout: str) -> isobmff.Item:
    import imagecodecs

    primaries, transfer, matrix = info.metadata.container.get("colour") or (2, 2, _BT601)
    if quality == 100 and layout == "444":
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
    return isobmff.parse(bytes(data))


def _check(info: ImageInfo) -> ImageInfo:
    depths, holds = {"uint8": (8,), "uint16": (10, 12)}, ("icc", "exif", "xmp")
    return base.check_image(info, "avif", "AVIF", depths, longest=65535, holds=holds)


AVIF = base.Format(
    "avif", "AVIF", (".avif",), (), _open, base.encoded(_encode), _check, looks=_looks
)
