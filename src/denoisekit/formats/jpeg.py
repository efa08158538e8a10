"""JPEG: gray, RGB and four-ink pictures, 8 bits a sample.

The file comes back with its own chroma subsampling, and with its own quantisation
tables or finer ones: coding again as coarsely as a strongly compressed file was
coded takes away a good part of what denoising gained.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from denoisekit.errors import InputError
from denoisekit.formats import exif as exif_block
from denoisekit.formats import jpeg_behind as jb
from denoisekit.formats import jpeg_segments as js
from denoisekit.formats import jpeg_whole
from denoisekit.formats.base import Format
from denoisekit.formats.photo import (
    RECOPY,
    HeldReader,
    check_axes,
    check_fits,
    check_picture,
    picture_info,
)
from denoisekit.formats.pillow_bridge import CanvasWriter, to_array
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader, Writer

if TYPE_CHECKING:
    from PIL import Image

_LONGEST = 65500  # libjpeg's limit, a little below the format's own
_SUBSAMPLING = {((1, 1), (1, 1)): 0, ((2, 1), (1, 1)): 1, ((2, 2), (1, 1)): 2}


def _sniff(head: bytes) -> bool:
    return head[:3] == b"\xff\xd8\xff"


def _open(path: Path, axes: str | None) -> Reader:
    data = path.read_bytes()
    found = list(js.segments(data))
    frame = js.frame_of(data, found)
    if frame.bits != 8 or frame.marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise InputError(
            f"{path}: a {frame.bits}-bit or lossless JPEG is not supported",
            "convert it to PNG or TIFF first",
        )
    samples = len(frame.components)
    if samples not in (1, 3, 4):
        raise InputError(f"{path}: a JPEG of {samples} components is not supported")
    check_axes(path, axes, "YX" if samples == 1 else "YXS")
    # Decoded twice (see `jpeg_whole`); in passes, the coefficients are kept too.
    passes = 2 * samples if frame.marker in (0xC2, 0xCA) else 0
    check_fits(path, frame.height, frame.width, 4 + 2 * samples + passes)
    lacking = jpeg_whole.check(data, found, frame)
    extras = js.extras_of(data, found)
    notes = [*_notes(frame, extras), *([lacking] if lacking else [])]
    exif = exif_block.strip_prefix(extras.exif, notes)
    end = found[-1].end
    names = jb.kinds(data[end:], extras.xmp, found, data)
    if "further pictures in the file" in names:
        notes.append("further pictures in the file are kept as they are, with their noise")
    container = _container(data, found, frame, extras)
    if end < len(data):
        container["behind"] = (data[end:], jb.index_at(data, found), end)
    if names:
        container["tied"] = (tuple(names), jb.without_claims(extras.xmp))
    info = picture_info(
        "jpeg",
        frame.height,
        frame.width,
        samples,
        "uint8",
        metadata=Metadata(
            icc=extras.icc,
            exif=exif,
            xmp=extras.xmp,
            dpi=_dpi(extras.jfif),
            container=MappingProxyType(container),
        ),
        warnings=tuple(notes),
    )
    stripped = js.without_extras(data, found)
    return HeldReader(path, info, lambda: _decode(path, stripped))


def _decode(path: Path, data: bytes) -> Pixels:
    pixels = _pixels(data)
    if jpeg_whole.ends_early(data, pixels, _pixels):
        raise InputError(f"{path}: damaged: picture data are missing", RECOPY)
    return pixels


def _pixels(data: bytes) -> Pixels:
    from PIL.JpegImagePlugin import JpegImageFile

    with JpegImageFile(io.BytesIO(data)) as image:
        return to_array(image)


def _dpi(jfif: tuple[int, int, int] | None) -> tuple[float, float] | None:
    if jfif is None or jfif[0] not in (1, 2) or not jfif[1] or not jfif[2]:
        return None
    scale = 1.0 if jfif[0] == 1 else 2.54
    return jfif[1] * scale, jfif[2] * scale


def _notes(frame: js.Frame, extras: js.Extras) -> list[str]:
    notes = list(extras.notes)
    if len(frame.components) == 4 and extras.adobe == 2:
        notes.append("stored as YCCK; written as CMYK, the same colours")
    return notes


def _container(
    data: bytes, found: list[js.Segment], frame: js.Frame, extras: js.Extras
) -> dict[str, Any]:
    tables = _tables(b"".join(data[s.start : s.end] for s in found if s.marker == 0xDB))
    used = [tables[table] for *_, table in frame.components if table in tables]
    if len(used) == 4:  # all four inks share one table when written: the finest of each entry
        used = [[min(entry) for entry in zip(*used, strict=True)]]
    while len(used) > 1 and used[-1] == used[-2]:
        used.pop()
    ids = bytes(c[0] for c in frame.components)
    sampling = [(h, v) for _, h, v, _ in frame.components]
    known = _SUBSAMPLING.get((sampling[0], sampling[1]), 0) if len(sampling) == 3 else 0
    return {
        "tables": tuple(tuple(t) for t in used),
        "subsampling": known if sampling[1:2] == sampling[2:3] else 0,
        "progressive": frame.marker in (0xC2, 0xCA),
        "rgb": len(ids) == 3 and (extras.adobe == 0 or (extras.adobe is None and ids == b"RGB")),
        "density": extras.jfif,
        "segments": extras.others,
    }


_QUALITY = 95
"""At least this: coding a denoised photo again then costs about 0.05 dB."""

_ZIGZAG = sorted(
    range(64),
    key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8),
)


def _tables(payload: bytes) -> dict[int, list[int]]:
    """Return the quantisation tables in row order, by their number."""
    tables: dict[int, list[int]] = {}
    at = 0
    while at < len(payload):
        wide, number = payload[at] >> 4, payload[at] & 15
        size = 128 if wide else 64
        if at + 1 + size > len(payload):
            raise ValueError("a quantisation table is cut off")
        values = struct.unpack_from(">64H" if wide else ">64B", payload, at + 1)
        table = [0] * 64
        for value, place in zip(values, _ZIGZAG, strict=True):
            table[place] = value
        tables[number] = table
        at += 1 + size
    return tables


def _check(info: ImageInfo) -> ImageInfo:
    kept = check_picture(
        info, "jpeg", "JPEG", {"uint8": (8,)}, alpha=False, cmyk=True, longest=_LONGEST
    )
    meta = kept.metadata
    fits = js.fits(meta.icc, meta.exif, meta.xmp)
    if all(fits):
        return kept
    lost = [n for n, ok in zip(("ICC profile", "EXIF", "XMP"), fits, strict=True) if not ok]
    return replace(
        kept,
        metadata=replace(
            meta,
            icc=meta.icc if fits[0] else None,
            exif=meta.exif if fits[1] else None,
            xmp=meta.xmp if fits[2] else None,
        ),
        warnings=(*kept.warnings, f"{' and '.join(lost)} too large for JPEG, not kept"),
    )


def _create(path: Path, info: ImageInfo) -> Writer:
    meta, container = info.metadata, info.metadata.container
    extra = js.emit(meta.icc, meta.exif, meta.xmp) + b"".join(
        js.segment(marker, body) for marker, body in container.get("segments", ())
    )
    density = container.get("density") or (
        (1, *(min(65535, max(1, round(d))) for d in meta.dpi)) if meta.dpi else None
    )
    if density and info.samples == 4:  # the encoder makes a JFIF segment for fewer inks only
        extra = js.segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHH", *density, 0)) + extra
    tables = _finer(container.get("tables", ()), info.samples == 3 and not container.get("rgb"))

    def save(canvas: Image.Image, to: Path) -> None:
        canvas.save(
            to,
            "JPEG",
            quality=_QUALITY if tables is None else -1,
            qtables=tables,
            subsampling=container.get("subsampling", 0) if info.samples == 3 else -1,
            progressive=container.get("progressive", False),
            keep_rgb=container.get("rgb", False),
            extra=extra,
        )
        _set_density(to, density)
        behind, base, end = container.get("behind", (b"", None, 0))
        if behind or base is not None:
            data = to.read_bytes()
            to.write_bytes((data if base is None else jb.with_index(data, base, end)) + behind)

    return CanvasWriter(path, info, save)


def _finer(tables: Sequence[Sequence[int]], chroma: bool) -> list[list[int]] | None:
    """Return the tables, no entry coarser than at `_QUALITY`; None where there are none."""
    if not tables:  # another format came in
        return None
    from PIL import Image

    sample = io.BytesIO()
    Image.new("RGB", (8, 8)).save(sample, "JPEG", quality=_QUALITY)
    fine = Image.open(sample).quantization  # type: ignore[attr-defined]
    return [
        [min(pair) for pair in zip(table, fine[1 if chroma and index else 0], strict=True)]
        for index, table in enumerate(tables)
    ]


def _set_density(path: Path, density: tuple[int, int, int] | None) -> None:
    """Write the density as it was: Pillow knows dots per inch only."""
    if density is None:
        return
    with path.open("r+b") as file:
        if file.read(11)[6:11] == b"JFIF\0":
            file.seek(13)
            file.write(struct.pack(">BHH", *density))


JPEG = Format(
    id="jpeg",
    title="JPEG",
    suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
)
