"""Small files of every kind, made by other programs' writers or by hand, and their metadata.

Nothing here uses the readers and writers under test, except to name formats.
"""

from __future__ import annotations

import functools
import inspect
import io
import struct
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from denoisekit.formats import FORMATS, create_image, heif, open_image
from denoisekit.image import ImageInfo

HEIGHT, WIDTH = 37, 29
IDS = [f.id for f in FORMATS if f.id != "heif" or not heif.missing()]
"""Of the formats whose library is here."""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- \xc3\xa9 --></x:xmpmeta>'


@cache  # it holds the time of its making
def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int = 1, order: str = "<") -> bytes:
    """Return an EXIF block of a maker's name and an orientation."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = struct.pack(order + "HHII", 0x010F, 2, 6, 38) + struct.pack(
        order + "HHIHH", 0x0112, 3, 1, orientation, 0
    )
    return head + struct.pack(order + "IH", 8, 2) + entries + bytes(4) + b"Maker\0"


def pixels(samples: int = 3, bits: int = 8, seed: int = 0) -> np.ndarray:
    """Return a smooth, slightly noisy picture (H, W, samples), of as many bits, all used."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(HEIGHT) / HEIGHT, np.arange(WIDTH) / WIDTH) / 2
    planes = [np.roll(slope, 5 * n, axis=1) for n in range(samples)]
    values = np.clip(
        np.stack(planes, axis=-1) + rng.normal(0, 0.02, (HEIGHT, WIDTH, samples)), 0, 1
    )
    values[0, 0], values[-1, -1] = 0, 1
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def pillow(array: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    image = Image.fromarray(flat)
    if mode:
        image = image.convert(mode)
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    rows: np.ndarray, depth: int, colour_type: int, before: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Return a PNG file of unfiltered rows of bytes, with these chunks before the pixels."""
    height = rows.shape[0]
    width = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    across = rows.shape[1] * 8 // (depth * width)
    head = struct.pack(">IIBBBBB", across, height, depth, colour_type, 0, 0, 0)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = [(b"IHDR", head), *before, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def jxl(array: np.ndarray, *extra: bytes, **options: object) -> bytes:
    """Return a JPEG XL container with these boxes before the picture."""
    stream = imagecodecs.jpegxl_encode(array, usecontainer=False, **options)
    head = bytes.fromhex("0000000c4a584c200d0a870a") + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    return head + b"".join(extra) + box(b"jxlc", bytes(stream))


def heic(array: np.ndarray, bits: int = 8, **options: object) -> bytes:
    """Return a HEIC file, without loss unless the options say so."""
    library = pytest.importorskip("pillow_heif")
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[array.shape[2]]
    out = io.BytesIO()
    options = {"quality": -1, "chroma": 444, "matrix_coefficients": 0, "bit_depth": bits} | options
    size = array.shape[1], array.shape[0]
    library.encode(mode if bits == 8 else f"{mode};{bits}", size, array.tobytes(), out, **options)
    return out.getvalue()


def jp2(array: np.ndarray, *inside: bytes, after: bytes = b"", **options: object) -> bytes:
    """Return a JP2 file with boxes added to its header, and others after that."""
    data = bytes(imagecodecs.jpeg2k_encode(array, codecformat="jp2", **options))
    start = data.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", data, start)
    header = data[start + 8 : start + length] + b"".join(inside)
    return data[:start] + box(b"jp2h", header) + after + data[start + length :]


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """Return a JPEG with these segments put in after the first marker."""
    parts = [struct.pack(">BBH", 0xFF, m, len(body) + 2) + body for m, body in segments]
    return data[:2] + b"".join(parts) + data[2:]


def read(path: Path, band: int = 11, axes: str | None = None) -> tuple[ImageInfo, np.ndarray]:
    """Open a file and return what it says and its first plane, (H, W, S), read by bands."""
    reader = open_image(path, axes)
    try:
        info = reader.info
        tops = range(0, info.height, band)
        rows = [reader.read_rows(0, t, min(t + band, info.height)) for t in tops]
        return info, np.concatenate(rows)
    finally:
        reader.close()


def write(path: Path, info: ImageInfo, array: np.ndarray, band: int = 7) -> None:
    """Write the only plane by bands."""
    with create_image(path, info, overwrite=True) as writer:
        for top in range(0, info.height, band):
            writer.write_rows(0, top, array[top : top + band])


def copied(folder: Path, data: bytes) -> tuple[Path, ImageInfo, np.ndarray]:
    """Pass a file through reader and writer; return the copy, and what was read first."""
    source, target = folder / "source", folder / "copy"
    source.write_bytes(data)
    info, array = read(source)
    write(target, info, array)
    return target, info, array


def every(names: str | tuple[str, ...], cases: Iterable[Any], ids: object = None) -> Any:
    """Run a test on every case, as `pytest.mark.parametrize` does, but as one test.

    Hundreds of cases of a few milliseconds would otherwise take seconds to be counted. A
    failure names its case; all cases of a test share its folder.
    """
    names, cases = ((names,) if isinstance(names, str) else names), list(cases)

    def decorate(test: Any) -> Any:
        @functools.wraps(test)
        def run(**given: Any) -> None:
            for case in cases:
                values = (case,) if len(names) == 1 else case
                own = dict(zip(names, values, strict=True))
                try:
                    test(**given, **own)
                except BaseException as error:
                    error.add_note(f"with {own}"[:300])
                    raise

        signature = inspect.signature(test)
        kept = [p for name, p in signature.parameters.items() if name not in names]
        run.__signature__ = signature.replace(parameters=kept)  # what pytest has to give
        return run

    return decorate
