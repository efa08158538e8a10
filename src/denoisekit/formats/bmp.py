"""BMP: 8-bit gray, RGB, and RGB with alpha, not compressed.

Read by Pillow; written here, row by row from the bottom as the format wants it,
because Pillow writes neither alpha that readers see nor a colour profile.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from denoisekit.errors import InputError, OutputError
from denoisekit.formats import base
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

_HEADERS = [struct.pack("<I", n) for n in (12, 16, 40, 52, 56, 64, 108, 124)]
_PROFILE = b"DEBM"  # 'MBED' as a little-endian number: the profile is in the file
_LINKED = b"KNIL"
_SRGB = b"BGRs"
_MASKS = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def _open(source: base.Source, axes: str | None) -> Reader:
    from PIL.BmpImagePlugin import BmpImageFile

    head = source.read(0, 14 + 124)
    source.file.seek(0)
    image = BmpImageFile(source.file)
    mode, (width, height) = image.mode, image.size
    bands = {"1": 1, "L": 1, "P": 3, "RGB": 3, "RGBA": 4}.get(mode)
    if bands is None:
        raise InputError(f"{source.path}: BMP of kind {mode} is not supported", "convert it to PNG")
    (depth,) = struct.unpack_from("<H", head, 24 if head[14] == 12 else 28)
    packed = head[14] != 12 and struct.unpack_from("<I", head, 30)[0] in (1, 2)
    # Rows fill whole words; the last one's padding does no harm when missing.
    row_bits = width * depth
    needed = (height - 1) * (-(-row_bits // 32) * 4) + -(-row_bits // 8)
    (start,) = struct.unpack_from("<I", head, 10)
    early = InputError(f"{source.path}: the file ends early", base.RECOPY)
    notes: list[str] = []
    metadata = _metadata(source, head, notes)
    notes += [base.PALETTE] * (mode == "P") + [base.BILEVEL] * (mode == "1")
    notes += ["5 bits a colour; written with 8"] * (depth == 16)
    info = base.image_info("bmp", height, width, bands, "uint8", metadata, notes)
    plain = {"P": "RGB", "1": "L"}.get(mode)

    def decode(_: int) -> Pixels:
        try:
            return base.image_pixels(image.convert(plain) if plain else image)
        except (ValueError, OSError) as fault:  # run lengths of fewer pixels
            raise early from fault

    reader = base.held(source, axes, info, 4 + bands, decode)
    if not packed and start + needed > source.size:
        raise early
    return reader


def _metadata(source: base.Source, head: bytes, notes: list[str]) -> Metadata:
    (size,) = struct.unpack_from("<I", head, 14)
    if size < 40:
        return Metadata()
    across, down = struct.unpack_from("<ii", head, 38)
    icc = None
    if size == 124 and head[70:74] == _PROFILE:
        start, length = struct.unpack_from("<II", head, 14 + 112)
        icc = source.read(14 + start, length)
        if len(icc) < length:
            icc = None
            notes.append("the damaged ICC profile is not kept")
    elif size == 124 and head[70:74] == _LINKED:
        notes.append("the colour profile in another file is not kept")
    dpi = (across * base.METRE, down * base.METRE) if across > 0 and down > 0 else None
    return Metadata(container={"density": (across, down)}, icc=icc, dpi=dpi)


def _check(info: ImageInfo) -> ImageInfo:
    title = "BMP in gray" if info.colour == "gray" and info.alpha else "BMP"
    kept = base.check_image(
        info,
        "bmp",
        title,
        {"uint8": (8,)},
        alpha=title == "BMP",
        longest=2**31 - 1,
        holds=("icc", "dpi"),
    )
    if info.height * (info.width * info.samples + 3) + 2048 >= 2**32:
        raise OutputError("BMP holds at most 4 GiB", "write PNG or TIFF: --format png")
    return kept


class BmpWriter:
    """Writes rows to their place, which is counted from the bottom."""

    def __init__(self, path: Path, info: ImageInfo) -> None:
        self._info = info
        self._stride = -(-info.width * info.samples // 4) * 4
        self._head = _head(info, self._stride)
        self._file = path.open("wb")
        self._file.write(self._head)

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Write the next rows; see `denoisekit.image.Writer`."""
        del plane
        count, width, samples = rows.shape
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[samples]
        lines = np.zeros((count, self._stride), np.uint8)
        lines[:, : width * samples] = rows[::-1][..., order].reshape(count, -1)
        below = self._info.height - top - count
        self._file.seek(len(self._head) + below * self._stride)
        self._file.write(lines.data)

    def finish(self) -> None:
        """Append the profile."""
        self._file.seek(0, 2)
        self._file.write(self._info.metadata.icc or b"")
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _head(info: ImageInfo, stride: int) -> bytes:
    meta = info.metadata
    density = tuple(round(d / base.METRE) for d in meta.dpi) if meta.dpi else None
    across, down = density or meta.container.get("density", (0, 0))
    palette = b"".join(bytes([v, v, v, 0]) for v in range(256)) if info.samples == 1 else b""
    long = info.alpha or meta.icc is not None
    size, pixels = (124 if long else 40), stride * info.height
    start, colours = 14 + size + len(palette), 256 if palette else 0
    body = struct.pack("<IiiHH", size, info.width, info.height, 1, 8 * info.samples)
    body += struct.pack("<IIiiII", 3 if info.alpha else 0, pixels, across, down, colours, colours)
    if long:
        masks = _MASKS if info.alpha else bytes(16)
        profile = (start - 14 + pixels, len(meta.icc)) if meta.icc else (0, 0)
        body += masks + (_PROFILE if meta.icc else _SRGB) + bytes(48)
        body += struct.pack("<IIII", 4, *profile, 0)
    total = start + pixels + len(meta.icc or b"")
    return b"BM" + struct.pack("<IHHI", total, 0, 0, start) + body + palette


BMP = base.Format(
    "bmp",
    "BMP",
    (".bmp", ".dib"),
    (b"BM",),
    _open,
    BmpWriter,
    _check,
    streams=True,
    looks=lambda head: head[14:18] in _HEADERS,
)
