"""JPEG: gray, RGB and four-ink pictures, 8 bits a sample.

The file comes back with its own chroma subsampling, and with its own quantisation
tables or finer ones: coding again as coarsely as a strongly compressed file was
coded takes away a good part of what denoising gained.

What lies behind its end - a motion photo's video, a gain map, further pictures - is kept,
byte for byte. Video and gain map are found by their lengths, counted from the end of the
file or of the picture, which stay true; the index of further pictures (CIPA DC-007) counts
from its own place and is mended.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from denoisekit.errors import InputError
from denoisekit.formats import exif as exif_block
from denoisekit.formats import jpeg_segments as js
from denoisekit.formats.base import (
    RECOPY,
    Format,
    Source,
    check_picture,
    encoded,
    held,
    image_pixels,
    picture_info,
)
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

_LONGEST = 65500  # libjpeg's limit, a little below the format's own
_SUBSAMPLING = {((1, 1), (1, 1)): 0, ((2, 1), (1, 1)): 1, ((2, 2), (1, 1)): 2}
_QUALITY = 95
"""At least this: coding a denoised photo again then costs about 0.05 dB."""
_ZIGZAG = sorted(
    range(64),
    key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8),
)
_INDEX = b"MPF\0"
_ENTRIES = 0xB002
_CLAIM = rb"(?:GCamera|Camera|MiCamera):(?:MotionPhoto|MicroVideo)\w*|hdrgm:\w+|HDRGainMap:\w+"
_ATTRIBUTE = re.compile(rb"\s+(?:" + _CLAIM + rb")\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_ELEMENT = re.compile(
    rb"<(" + _CLAIM + rb"|Container:Directory)\b[^>]*?(?:/>|>.*?</\1\s*>)\s*", re.DOTALL
)


def _open(source: Source, axes: str | None) -> Reader:
    data = source.read()
    found = list(js.segments(data))
    frame = js.frame_of(data, found)
    samples = len(frame.components)
    if frame.bits != 8 or frame.marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise InputError(
            f"{source.path}: a {frame.bits}-bit or lossless JPEG is not supported",
            "convert it to PNG or TIFF first",
        )
    if samples not in (1, 3, 4):
        raise InputError(f"{source.path}: a JPEG of {samples} components is not supported")
    lacking = js.check_scans(data, found, frame)
    fields, container, notes = _extras(data, found, frame)
    if lacking:
        notes.append(lacking)
    fields["exif"] = exif_block.strip_prefix(fields["exif"], notes)
    behind, xmp = data[found[-1].end :], fields["xmp"] or b""
    if behind:
        index, names = _index_at(data, found), []
        if b"MotionPhoto" in xmp or b"MicroVideo" in xmp or behind[4:8] == b"ftyp":
            names.append("the video of this motion photo")
        if b"hdrgm:" in xmp or b"GainMap" in xmp:
            names.append("the gain map")
        elif index is not None:
            names.append("further pictures in the file")
            notes.append("further pictures in the file are kept as they are, with their noise")
        container["behind"] = (behind, index, found[-1].end)
        if names:
            container["tied"] = (tuple(names), without_claims(fields["xmp"]))
    size, metadata = (frame.height, frame.width), Metadata(container=container, **fields)
    info = picture_info("jpeg", *size, samples, "uint8", metadata, notes, alpha=False)
    stripped = js.without_extras(data, found)
    # The picture and its copy; in passes, the coefficients are kept too.
    memory = 4 + 2 * samples + (2 * samples if frame.in_passes else 0)
    return held(source, axes, info, memory, lambda _: _decode(source, stripped, found, frame))


def _decode(source: Source, data: bytes, found: list[js.Segment], frame: js.Frame) -> Pixels:
    from PIL.JpegImagePlugin import JpegImageFile

    def decode(data: bytes) -> Pixels:
        with JpegImageFile(io.BytesIO(data)) as image:
            return image_pixels(image)

    try:
        return js.decoded_whole(data, found, frame, decode)
    except (ValueError, OSError) as fault:
        raise InputError(f"{source.path}: damaged: picture data are missing", RECOPY) from fault


def _extras(
    data: bytes, found: list[js.Segment], frame: js.Frame
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Sort what the file says beside the picture: metadata, container, and what is not kept."""
    fields: dict[str, Any] = {"icc": None, "exif": None, "xmp": None, "dpi": None}
    icc, pieces, notes, others = dict[int, bytes](), 0, list[str](), []
    density = adobe = None
    for part in found:
        marker, body = part.marker, data[part.start : part.end]
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            continue
        if marker == 0xE0 and body[:5] in (b"JFIF\0", b"JFXX\0"):
            if density is None and len(body) >= 12 and body[:5] == b"JFIF\0":
                density = struct.unpack_from(">BHH", body, 7)
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker == 0xE1 and body.startswith(js.EXIF) and fields["exif"] is None:
            fields["exif"] = body
        elif marker == 0xE1 and body.startswith(js.XMP) and fields["xmp"] is None:
            fields["xmp"] = body[len(js.XMP) :]
        elif marker == 0xE2 and body.startswith(js.ICC) and len(body) > 14:
            if icc.setdefault(body[12], body[14:]) != body[14:]:
                notes.append("a second ICC profile is not kept")
            pieces = max(pieces, body[13])
        else:
            others.append((marker, body))
    if icc and sorted(icc) != list(range(1, pieces + 1)):
        icc = {}
        notes.append("the damaged ICC profile is not kept")
    fields["icc"] = b"".join(icc[number] for number in sorted(icc)) or None
    if density and density[0] in (1, 2) and density[1] and density[2]:
        scale = 1.0 if density[0] == 1 else 2.54
        fields["dpi"] = (density[1] * scale, density[2] * scale)
    if len(frame.components) == 4 and adobe == 2:
        notes.append("stored as YCCK; written as CMYK, the same colours")
    tables = _tables(b"".join(data[s.start : s.end] for s in found if s.marker == 0xDB))
    used = [tables[table] for *_, table in frame.components if table in tables]
    if len(used) == 4:  # all four inks share one table when written: the finest of each entry
        used = [[min(entry) for entry in zip(*used, strict=True)]]
    while len(used) > 1 and used[-1] == used[-2]:
        used.pop()
    ids = bytes(c[0] for c in frame.components)
    sampling = [(h, v) for _, h, v, _ in frame.components]
    known = _SUBSAMPLING.get((sampling[0], sampling[1]), 0) if len(sampling) == 3 else 0
    container = {
        "tables": tuple(tuple(table) for table in used),
        "subsampling": known if sampling[1:2] == sampling[2:3] else 0,
        "progressive": frame.in_passes,
        "rgb": len(ids) == 3 and (adobe == 0 or (adobe is None and ids == b"RGB")),
        "density": density,
        "segments": tuple(others),
    }
    return fields, container, list(dict.fromkeys(notes))


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
        tables[number] = [value for _, value in sorted(zip(_ZIGZAG, values, strict=True))]
        at += 1 + size
    return tables


def without_claims(xmp: bytes | None) -> bytes | None:
    """Return an XMP packet that names neither video nor gain map any more."""
    return xmp and _ELEMENT.sub(b"", _ATTRIBUTE.sub(b"", xmp))


def _index_at(data: bytes, found: list[js.Segment]) -> int | None:
    """Return where the index of further pictures begins, which is what it counts from."""
    starts = [s.start for s in found if s.marker == 0xE2 and data.startswith(_INDEX, s.start)]
    return starts[0] + len(_INDEX) if starts else None


def _with_index(data: bytes, old_base: int, old_end: int) -> bytes:
    """Return a JPEG whose index counts to the same things behind it as before.

    Parameters
    ----------
    data : bytes
        The new file, without what lies behind.
    old_base, old_end : int
        Where the index began and the picture ended in the file that was read.
    """
    found = list(js.segments(data))
    base, end = _index_at(data, found), found[-1].end
    if base is None:
        return data
    changed = bytearray(data)
    order = "<" if data[base : base + 2] == b"II" else ">"
    for number, at in enumerate(_entries(data, base, order)):
        (offset,) = struct.unpack_from(order + "I", data, at + 8)
        if number == 0:
            struct.pack_into(order + "I", changed, at + 4, end)
        elif old_base + offset >= old_end:
            offset += old_base - old_end + end - base
            struct.pack_into(order + "I", changed, at + 8, offset)
    return bytes(changed)


def _entries(data: bytes, base: int, order: str) -> Iterator[int]:
    """Yield where each picture's entry of the index lies: 16 bytes with size and offset."""
    try:
        directory = base + struct.unpack_from(order + "I", data, base + 4)[0]
        (count,) = struct.unpack_from(order + "H", data, directory)
        for field in range(directory + 2, directory + 2 + 12 * count, 12):
            code, _, length, place = struct.unpack_from(order + "HHII", data, field)
            if code == _ENTRIES and base + place + length <= len(data):
                yield from range(base + place, base + place + length - 15, 16)
    except struct.error:
        return  # damaged: what it says stays as it was


def _check(info: ImageInfo) -> ImageInfo:
    kept = check_picture(
        info, "jpeg", "JPEG", {"uint8": (8,)}, alpha=False, cmyk=True, longest=_LONGEST
    )
    meta = kept.metadata
    most = {
        "icc": ("ICC profile", 255 * (js.LARGEST - 14)),
        "exif": ("EXIF", js.LARGEST - len(js.EXIF)),
        "xmp": ("XMP", js.LARGEST - len(js.XMP)),
    }
    lost = [key for key, (_, size) in most.items() if len(getattr(meta, key) or b"") > size]
    if not lost:
        return kept
    note = f"{' and '.join(most[key][0] for key in lost)} too large for JPEG, not kept"
    nothing: dict[str, Any] = dict.fromkeys(lost)
    return replace(
        kept,
        metadata=replace(meta, **nothing),
        warnings=(*kept.warnings, note),
    )


def _encode(pixels: Pixels, info: ImageInfo) -> bytes:
    from PIL import Image

    meta, container, out = info.metadata, info.metadata.container, io.BytesIO()
    density = container.get("density") or (
        (1, *(min(65535, max(1, round(d))) for d in meta.dpi)) if meta.dpi else None
    )
    parts = []
    if density and info.samples == 4:  # the encoder makes a JFIF segment for fewer inks only
        parts.append(js.segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHH", *density, 0)))
    if meta.exif:
        parts.append(js.segment(0xE1, js.EXIF + meta.exif))
    if meta.xmp:
        parts.append(js.segment(0xE1, js.XMP + meta.xmp))
    icc, step = meta.icc or b"", js.LARGEST - 14
    count = -(-len(icc) // step)
    for number in range(count):
        piece = icc[number * step : (number + 1) * step]
        parts.append(js.segment(0xE2, js.ICC + bytes([number + 1, count]) + piece))
    parts += [js.segment(*segment) for segment in container.get("segments", ())]
    tables = _finer(container.get("tables", ()), info.samples == 3 and not container.get("rgb"))
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[info.samples]
    size = info.width, info.height
    Image.frombuffer(mode, size, pixels.reshape(-1), "raw", mode, 0, 1).save(
        out,
        "JPEG",
        quality=_QUALITY if tables is None else -1,
        qtables=tables,
        subsampling=container.get("subsampling", 0) if info.samples == 3 else -1,
        progressive=container.get("progressive", False),
        keep_rgb=container.get("rgb", False),
        extra=b"".join(parts),
    )
    if density and out.getvalue()[6:11] == b"JFIF\0":
        # The density as it was: Pillow knows dots per inch only.
        out.getbuffer()[13:18] = struct.pack(">BHH", *density)
    behind, base, end = container.get("behind", (b"", None, 0))
    data = out.getvalue()
    return bytes(data if base is None else _with_index(data, base, end)) + bytes(behind)


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


_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
JPEG = Format("jpeg", "JPEG", _SUFFIXES, (b"\xff\xd8\xff",), _open, encoded(_encode), _check)
