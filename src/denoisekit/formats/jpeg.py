"""JPEG: gray, RGB and four-ink images, 8 bits a sample.

The file comes back with its own chroma subsampling, and with its own quantisation
tables or finer ones: coding again as coarsely as a strongly compressed file was
coded takes away a good part of what denoising gained.

What lies behind its end - a motion photo's video, a gain map, further images - is kept,
byte for byte. Video and gain map are found by their lengths, counted from the end of the
file or of the image, which stay true; the index of further images (CIPA DC-007) counts
from its own place and is mended.

Decoders make gray or smeared blocks of what is missing and say nothing. Bytes put in where a
scan ends tell: a decoder that had all its data never looks at them, one that had not makes
other pixels of them, or asks for more.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from denoisekit.errors import InputError
from denoisekit.formats import base
from denoisekit.formats import exif as exif_block
from denoisekit.image import ImageInfo, Metadata, Pixels, Reader

XMP = b"http://ns.adobe.com/xap/1.0/\0"
ICC = b"ICC_PROFILE\0"
EXIF = b"Exif\0\0"
LARGEST = 65533
"""Most bytes that a segment holds."""
NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker that ends compressed data."""
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
SCAN, END, INTERVAL = 0xDA, 0xD9, 0xDD
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_SALT = bytes.fromhex("5bd1348e27c96af013b5429d7e08e4613cd7a58b5194f2264ec87a1963b00d9f")
_AHEAD = b"\xff\0" * 9
"""What a decoder may read ahead: ones, which are no code, so that they replace next to nothing."""
_MOST_SCANS = 500
"""More than any encoder makes; each costs a pass over the whole image."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: its marker's second byte, and where its payload lies."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame header: size, precision, and (id, h, v, table) of every component."""

    marker: int
    bits: int
    height: int
    width: int
    components: tuple[tuple[int, int, int, int], ...]

    @property
    def in_passes(self) -> bool:
        """Whether it is progressive."""
        return self.marker in (0xC2, 0xCA)

    def blocks(self, used: list[tuple[int, int, int, int]]) -> int:
        """Return the blocks, or groups of blocks, that a scan of these components goes through."""
        widest, highest = (max(c[n] for c in self.components) for n in (1, 2))
        if not all(c[1] and c[2] for c in self.components):
            raise ValueError("the frame header makes no sense")
        if len(used) != 1:
            return math.ceil(self.width / (8 * widest)) * math.ceil(self.height / (8 * highest))
        _, across, down, _ = used[0]
        return math.ceil(math.ceil(self.width * across / widest) / 8) * math.ceil(
            math.ceil(self.height * down / highest) / 8
        )


def segments(data: bytes) -> Iterator[Segment]:
    """Walk all segments up to the end of the image, across the compressed data.

    The last one yielded is the end marker (0xD9).

    Raises
    ------
    ValueError
        The file ends, or holds something else, before the end marker.
    """
    at = 2
    while True:
        match = NEXT.search(data, at)
        if match is None:
            raise ValueError("the file ends before the picture does")
        marker, at = data[match.start() + 1], match.end()
        if marker == END:
            yield Segment(marker, at, at)
            return
        if marker == 0x01:
            continue
        if marker < 0xC0 or marker == 0xD8 or at + 2 > len(data):
            raise ValueError(f"marker {marker:#x} where none belongs")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2 or at + length > len(data):
            raise ValueError("the file ends before the picture does")
        yield Segment(marker, at + 2, at + length)
        at += length


def segment(marker: int, body: bytes) -> bytes:
    """Make one segment."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame_of(data: bytes, found: list[Segment]) -> Frame:
    """Return the only frame header, or raise ValueError."""
    frames = [s for s in found if s.marker in FRAMES]
    if len(frames) != 1:
        raise ValueError(f"{len(frames)} frame headers")
    payload = data[frames[0].start : frames[0].end]
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise ValueError("the frame header is cut off")
    bits, height, width, count = struct.unpack_from(">BHHB", payload)
    parts = [payload[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    components = tuple((p[0], p[1] >> 4, p[1] & 15, p[2]) for p in parts)
    return Frame(frames[0].marker, bits, height, width, components)


def without_extras(data: bytes, found: list[Segment]) -> bytes:
    """Return the file without metadata, so that the decoder meets only what it needs."""
    parts = [data[:2]]
    for part, after in pairwise(found):
        needed = data[part.start : part.start + 5] in (b"JFIF\0", b"Adobe")
        if (0xE0 <= part.marker <= 0xEF and not needed) or part.marker == 0xFE:
            continue
        # What stands between segments means nothing, unless they are followed by pixels.
        pixels = part.marker == SCAN
        end = after.start - (2 if after.marker == END else 4) if pixels else part.end
        parts.append(data[part.start - 4 : end])
    return b"".join([*parts, b"\xff\xd9"])


def check_scans(data: bytes, found: list[Segment], frame: Frame) -> str | None:
    """Check that the scans can hold the image; return what is missing but can be missed.

    Raises
    ------
    ValueError
        Scans, restart intervals or bytes are missing, or there are absurdly many scans.
    """
    scans = [(s, after) for s, after in pairwise(found) if s.marker == SCAN]
    if len(scans) > _MOST_SCANS:
        raise ValueError(f"damaged: {len(scans)} scans")
    # The first coefficient of every block takes a bit at least.
    room = 8 * sum(after.start - scan.end for scan, after in scans)
    if frame.marker <= 0xC2 and sum(frame.blocks([c]) for c in frame.components) > room:
        raise ValueError(f"damaged: too little data for {frame.width} x {frame.height} pixels")
    # The bits that every coefficient lacks; 16: all.
    interval, lacking = 0, {(c[0], k): 16 for c in frame.components for k in range(64)}
    for part, after in pairwise(found):
        body = data[part.start : part.end]
        if part.marker == INTERVAL and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        if part.marker != SCAN:
            continue
        used = [c for c in frame.components if c[0] in body[1 : 1 + 2 * body[0] : 2]]
        if interval:
            there = sum(
                data.count(bytes([0xFF, m]), part.end, after.start) for m in range(0xD0, 0xD8)
            )
            if there < math.ceil(frame.blocks(used) / interval) - 1:
                raise ValueError("the picture data end early")
        first, last, low = (body[-3], body[-2], body[-1] & 15) if frame.in_passes else (0, 63, 0)
        lacking |= {(c[0], k): low for c in used for k in range(first, min(last, 63) + 1)}
    if any(lacking[c[0], 0] == 16 for c in frame.components):
        raise ValueError("the picture data end early: a colour is missing")
    if any(lacking.values()):
        return "the last passes of this progressive JPEG are missing: it lacks fine detail"
    return None


def salted(data: bytes) -> bytes:
    """Return the file with bytes put in at the end of every piece of compressed data.

    One that is coded arithmetically, where what is missing means zeros by the standard,
    or without loss, is returned as it is.

    Raises
    ------
    ValueError
        It ends inside a header, or is no JPEG.
    """
    parts, at = [], 0
    for found in segments(data + b"\xff\xd9"):  # strips of a TIFF may lack their end
        if found.marker in FRAMES and found.marker > 0xC2:
            return data
        if found.marker != SCAN:
            continue
        parts.append(data[at : found.end])
        ending = NEXT.search(data, found.end)
        at = ending.start() if ending else len(data)
        while at > found.end and data[at - 1] == 0xFF:  # fill bytes belong to the marker
            at -= 1
        parts.append(_RESTART.sub(lambda m: _SALT + m.group(), data[found.end : at]) + _SALT)
    parts.append(data[at:])
    return b"".join(parts)


def ends_early(
    data: bytes, whole: Pixels, decode: Callable[[bytes], Pixels], *, marked: bool = True
) -> bool:
    """Tell whether pixels are missing, by decoding again with other bytes behind the data.

    Parameters
    ----------
    data : bytes
        A JPEG, which may lack its end marker and its tables; or, where not ``marked``, the
        data of a codec without marks, which are put behind it.
    whole : numpy.ndarray
        What ``decode`` makes of it.
    decode : callable
        Makes pixels of it.
    """
    try:
        changed = salted(data) if marked else data + 16 * _SALT
    except ValueError:
        return True
    try:
        again = decode(changed)
    except (ValueError, RuntimeError, OSError):
        return False  # a decoder that is strict by itself
    return not np.array_equal(again, whole)


_LONGEST = 65500  # libjpeg's limit, a little below the format's own
_SUBSAMPLING = {((1, 1), (1, 1)): 0, ((2, 1), (1, 1)): 1, ((2, 2), (1, 1)): 2}
_QUALITY = 95
"""At least this: coding a denoised photo again then costs about 0.05 dB."""
_INDEX = b"MPF\0"
_ENTRIES = 0xB002
_CLAIM = rb"(?:GCamera|Camera|MiCamera):(?:MotionPhoto|MicroVideo)\w*|hdrgm:\w+|HDRGainMap:\w+"
_ATTRIBUTE = re.compile(rb"\s+(?:" + _CLAIM + rb")\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_ELEMENT = re.compile(
    rb"<(" + _CLAIM + rb"|Container:Directory)\b[^>]*?(?:/>|>.*?</\1\s*>)\s*", re.DOTALL
)


def _open(source: base.Source, axes: str | None) -> Reader:
    from PIL.JpegImagePlugin import JpegImageFile

    data = source.read()
    found = list(segments(data))
    frame = frame_of(data, found)
    samples = len(frame.components)
    if frame.bits != 8 or frame.marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise InputError(
            f"{source.path}: a {frame.bits}-bit or lossless JPEG is not supported",
            "convert it to PNG or TIFF first",
        )
    if samples not in (1, 3, 4):
        raise InputError(f"{source.path}: a JPEG of {samples} components is not supported")
    lacking = check_scans(data, found, frame)
    stripped = without_extras(data, found)
    with JpegImageFile(io.BytesIO(stripped)) as image:
        tables: dict[int, list[int]] = image.quantization
    fields, container, notes = _extras(data, found, frame, tables)
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
    info = base.image_info("jpeg", *size, samples, "uint8", metadata, notes, alpha=False)
    once = frame.marker <= 0xC1 and sum(s.marker == SCAN for s in found) == 1
    # The image and its copy; in passes, the coefficients are kept too.
    memory = 4 + 2 * samples + (2 * samples if frame.in_passes else 0)
    return base.held(source, axes, info, memory, lambda _: _decode(source, stripped, once))


def _decode(source: base.Source, data: bytes, once: bool) -> Pixels:
    """Return the pixels of a file by `without_extras`, where none are missing.

    An image in one scan, as cameras make it, is decoded once: without the end marker, the
    decoder has to have all its data. One in several scans is decoded twice, see `ends_early`.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    def decode(data: bytes) -> Pixels:
        with JpegImageFile(io.BytesIO(data)) as image:
            return base.image_pixels(image)

    lacking = InputError(f"{source.path}: damaged: picture data are missing", base.RECOPY)
    try:
        pixels = decode(data[:-2].rstrip(b"\xff") + _AHEAD if once else data)
    except (ValueError, OSError) as fault:
        raise lacking from fault
    if not once and ends_early(data, pixels, decode):
        raise lacking
    return pixels


def _extras(
    data: bytes, found: list[Segment], frame: Frame, tables: dict[int, list[int]]
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Sort what the file says beside the image: metadata, container, and what is not kept."""
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
        elif marker == 0xE1 and body.startswith(EXIF) and fields["exif"] is None:
            fields["exif"] = body
        elif marker == 0xE1 and body.startswith(XMP) and fields["xmp"] is None:
            fields["xmp"] = body[len(XMP) :]
        elif marker == 0xE2 and body.startswith(ICC) and len(body) > 14:
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


def without_claims(xmp: bytes | None) -> bytes | None:
    """Return an XMP packet that names neither video nor gain map any more."""
    return xmp and _ELEMENT.sub(b"", _ATTRIBUTE.sub(b"", xmp))


def _index_at(data: bytes, found: list[Segment]) -> int | None:
    """Return where the index of further images begins, which is what it counts from."""
    starts = [s.start for s in found if s.marker == 0xE2 and data.startswith(_INDEX, s.start)]
    return starts[0] + len(_INDEX) if starts else None


def _with_index(data: bytes, old_base: int, old_end: int) -> bytes:
    """Return a JPEG whose index counts to the same things behind it as before.

    Parameters
    ----------
    data : bytes
        The new file, without what lies behind.
    old_base, old_end : int
        Where the index began and the image ended in the file that was read.
    """
    found = list(segments(data))
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
    """Yield where each image's entry of the index lies: 16 bytes with size and offset."""
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
    kept = base.check_image(
        info, "jpeg", "JPEG", {"uint8": (8,)}, alpha=False, cmyk=True, longest=_LONGEST
    )
    meta = kept.metadata
    most = {
        "icc": ("ICC profile", 255 * (LARGEST - 14)),
        "exif": ("EXIF", LARGEST - len(EXIF)),
        "xmp": ("XMP", LARGEST - len(XMP)),
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
        parts.append(segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHH", *density, 0)))
    if meta.exif:
        parts.append(segment(0xE1, EXIF + meta.exif))
    if meta.xmp:
        parts.append(segment(0xE1, XMP + meta.xmp))
    icc, step = meta.icc or b"", LARGEST - 14
    count = -(-len(icc) // step)
    for number in range(count):
        piece = icc[number * step : (number + 1) * step]
        parts.append(segment(0xE2, ICC + bytes([number + 1, count]) + piece))
    parts += [segment(*each) for each in container.get("segments", ())]
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
JPEG = base.Format(
    "jpeg", "JPEG", _SUFFIXES, (b"\xff\xd8\xff",), _open, base.encoded(_encode), _check
)
