"""HEIC: 8, 10 and 12 bits a sample, gray or RGB, with or without alpha.

Read and written by pillow-heif, an extra: the libraries inside it are under LGPL and GPL.
A lossless file stays lossless; a lossy one is written at quality 95 in its own chroma
layout, or without loss where there is alpha, which must come back exactly.
"""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np

from denoisekit.errors import InputError, OutputError
from denoisekit.formats import base, isobmff
from denoisekit.formats import exif as exif_block
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

_INSTALL = "it can be read and written after pip install 'denoisekit[heif]'"
SUFFIXES = (".heic", ".heif", ".hif")
_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")
_QUALITY = 95
_COLOUR = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")


def missing() -> bool:
    """Tell whether the library that reads HEIC is not installed."""
    return importlib.util.find_spec("pillow_heif") is None


def _open(source: base.Source, axes: str | None) -> Reader:
    if missing():
        raise InputError(f"{source.path}: is a HEIC picture", _INSTALL)
    data = source.read()
    found = isobmff.parse(data)
    source.check_tail(found.payload)
    unturned = bytearray(data)
    for turn in isobmff.pool_of(data):  # turns and mirrors by nothing: pixels stay as stored
        if turn.kind in (b"irot", b"imir"):
            unturned[turn.start - 4 : turn.start + 1] = b"irot\0"
    image = _opened(unturned)
    kind, _, depth = image.mode.partition(";")
    samples = {"L": 1, "I": 1, "LA": 2, "RGB": 3, "RGBA": 4}.get(kind)
    if samples == 4 and found.config[16:17] != b"" and found.config[16] & 3 == 0:
        samples = 2  # the codec's configuration says that there is no chroma
    bits = int(depth or 8)
    if samples is None or bits not in (8, 10, 12):
        raise InputError(
            f"{source.path}: HEIC of kind {image.mode} is not supported", "convert it to PNG"
        )
    width, height = image.size
    notes = [f"{what} inside this HEIC is not kept" for what in dict.fromkeys(found.others)]
    code, chroma = found.colour_code, image.info.get("chroma")
    container = {
        "chroma": chroma or 444,
        "colour": (*code, found.nclx[10] >> 7) if code and found.nclx else None,
        # Beside a profile nothing says it; cameras halve the chroma.
        "lossless": code[2] == 0 if code else chroma == 444,
    }
    # The container's orientation counts; other formats know that of EXIF alone.
    exif = exif_block.strip_prefix(found.exif, notes)
    exif = exif_block.with_orientation(exif, found.orientation)
    metadata = Metadata(container=container, icc=found.icc, exif=exif, xmp=found.xmp)
    dtype = "uint8" if bits == 8 else "uint16"
    info = base.image_info("heif", height, width, samples, dtype, metadata, notes, bits=bits)
    memory = 12 + 2 * samples * info.dtype.itemsize
    return base.held(source, axes, info, memory, lambda _: _decode(unturned, samples))


def _opened(data: bytearray) -> Any:
    import pillow_heif

    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    return file[file.primary_index]


def _decode(data: bytearray, samples: int) -> Pixels:
    image = _opened(data)
    width, height = image.size
    # Rows may be longer than the image.
    rows = np.asarray(image).reshape(height, -1, len(image.mode.partition(";")[0]))
    # Gray with alpha may come as RGB with alpha.
    return np.ascontiguousarray(rows[:, :width, :: 3 if samples == 2 < rows.shape[2] else 1])


def _check(info: ImageInfo) -> ImageInfo:
    if missing():
        raise OutputError("HEIC cannot be written here", _INSTALL)
    depths = {"uint8": (8,), "uint16": (10, 12)}
    return base.check_image(
        info, "heif", "HEIC", depths, longest=16384, holds=("icc", "exif", "xmp")
    )


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    import pillow_heif

    meta, container = info.metadata, info.metadata.container
    lossless = container.get("lossless", True) or info.alpha
    primaries, transfer, matrix, full = container.get("colour") or (1, 13, 6, 1)
    if lossless:
        matrix, full = 0, 1
    elif matrix == 0:
        matrix = 6
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[info.samples]
    extra = {"icc_profile": meta.icc, "exif": meta.exif, "xmp": meta.xmp}
    out = io.BytesIO()
    pillow_heif.encode(
        mode if info.bits is None else f"{mode};{info.bits}",
        (info.width, info.height),
        pixels.tobytes(),
        out,
        quality=-1 if lossless else _QUALITY,
        chroma=444 if lossless else container.get("chroma", 444),
        bit_depth=info.bits or 8,
        **dict(zip(_COLOUR, (primaries, transfer, matrix, full), strict=True)),
        **{name: value for name, value in extra.items() if value},
    )
    return out.getvalue()


HEIF = base.Format(
    "heif",
    "HEIC",
    SUFFIXES,
    (),
    _open,
    base.encoded(_encode),
    _check,
    looks=lambda head: head[4:8] == b"ftyp" and head[8:12] in _BRANDS,
)
