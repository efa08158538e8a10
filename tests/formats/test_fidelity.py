"""Every cell of the table in docs/formats.md, read from the page itself."""

from __future__ import annotations

import io
import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from samples import (
    HEIGHT,
    WIDTH,
    XMP,
    box,
    copied,
    every,
    exif,
    heic,
    icc,
    jp2,
    jpeg_with,
    jxl,
    pillow,
    pixels,
    png,
    png_chunk,
    read,
    write,
)

from denoisekit.errors import OutputError
from denoisekit.formats import find_format, open_image
from denoisekit.formats.base import image_info
from denoisekit.image import Metadata

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def cells() -> list[tuple[str, str, str]]:
    """Return (feature, format, claim) of every cell."""
    section = PAGE.read_text("utf-8").split("## What is kept")[1].split("\n## ")[0]
    lines = [
        [c.strip() for c in r.strip("|").split("|")] for r in section.splitlines() if r[:1] == "|"
    ]
    names = lines[0][1:]
    return [(r[0], n, claim) for r in lines[2:] for n, claim in zip(names, r[1:], strict=True)]


IDS = {"JPEG XL": "jxl", "JPEG 2000": "jpeg2000", ".npy": "npy"}
LAYOUTS = {"gray": 1, "gray and alpha": 2, "RGB": 3, "RGB and alpha": 4}
DEPTHS = {"8 bits per sample": (8,), "10 and 12 bits": (10, 12), "16 bits": (16,)}


def bmp(array: np.ndarray, profile: bytes = b"") -> bytes:
    """Return a BMP of version 5, the only one with alpha and profile."""
    height, width, samples = array.shape
    rows = np.zeros((height, -(-width * samples // 4) * 4), np.uint8)
    order = [2, 1, 0, 3][:samples]
    rows[:, : width * samples] = array[::-1][..., order].reshape(height, -1)
    start = 14 + 124
    head = struct.pack("<IiiHHI", 124, width, height, 1, 8 * samples, 3 if samples == 4 else 0)
    head += struct.pack("<IiiII", rows.size, 11811, 5906, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000 if samples == 4 else 0)
    head += (b"DEBM" if profile else b"BGRs") + bytes(48)
    head += struct.pack("<IIII", 4, start - 14 + rows.size, len(profile), 0)
    size = start + rows.size + len(profile)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, start) + head + rows.tobytes() + profile


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array[..., 0] if array.shape[-1] == 1 else array)
    return out.getvalue()


def flat(array: np.ndarray) -> np.ndarray:
    return array[..., 0] if array.shape[-1] == 1 else array


def lossless(name: str, array: np.ndarray, bits: int | None = None) -> bytes:
    """Return a lossless file of that format, by another writer than ours."""
    bits = bits or array.dtype.itemsize * 8
    makers: dict[str, Any] = {
        "PNG": lambda: imagecodecs.png_encode(array),
        "JPEG": lambda: pillow(array, "JPEG", quality=95),
        "WebP": lambda: pillow(array, "WEBP", lossless=True, exact=True),
        "BMP": lambda: pillow(array, "BMP") if array.shape[2] == 1 else bmp(array),
        "JPEG XL": lambda: imagecodecs.jpegxl_encode(
            flat(array), lossless=True, bitspersample=None if array.dtype.kind == "f" else bits
        ),
        "AVIF": lambda: imagecodecs.avif_encode(flat(array), level=100, bitspersample=bits),
        "HEIC": lambda: heic(array, bits),
        "JPEG 2000": lambda: jp2(flat(array), level=0, reversible=True, bitspersample=bits),
        ".npy": lambda: saved(array),
    }
    return bytes(makers[name]())


def lossy(name: str, array: np.ndarray) -> bytes:
    makers: dict[str, Any] = {
        "JPEG": lambda: pillow(array, "JPEG"),
        "WebP": lambda: pillow(array, "WEBP", exact=True),
        "JPEG XL": lambda: imagecodecs.jpegxl_encode(array, distance=1.0),
        "AVIF": lambda: imagecodecs.avif_encode(array, level=80, pixelformat="420"),
        "HEIC": lambda: heic(array, quality=80, chroma=420, matrix_coefficients=6),
        "JPEG 2000": lambda: jp2(array, level=45, reversible=False),
    }
    return bytes(makers[name]())


def dressed(name: str, feature: str) -> tuple[bytes, str, Any]:
    """Return a file with that metadata, the field it is in, and its value."""
    # JPEG XL keeps the orientation outside EXIF and believes that; see the tests below.
    array, profile, block = pixels(3), icc(), exif(1 if name == "JPEG XL" else 6)
    field, value = {
        "ICC profile": ("icc", profile),
        "EXIF": ("exif", block),
        "orientation": ("exif", block),
        "XMP": ("xmp", XMP),
        "resolution (DPI)": ("dpi", (300.0, 150.0)),
    }[feature]
    option = {"icc": "icc_profile"}.get(field, field)
    if name in ("JPEG", "WebP", "AVIF"):
        lossy = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(name, {})
        kind = {"JPEG": "JPEG", "WebP": "WEBP", "AVIF": "AVIF"}[name]
        given = b"Exif\0\0" + value if field == "exif" else value
        return pillow(array, kind, **{option: given}, **lossy), field, value
    if name == "HEIC":
        return heic(array, **{option: value}), field, value
    if name == "PNG":
        import zlib

        chunk = {
            "icc": (b"iCCP", b"name\0\0" + zlib.compress(profile)),
            "exif": (b"eXIf", block),
            "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
            "dpi": (b"pHYs", struct.pack(">IIB", 11811, 5906, 1)),
        }[field]
        return png(array.reshape(HEIGHT, -1), 8, 2, (chunk,)), field, value
    if name == "BMP":
        return bmp(array, profile if field == "icc" else b""), field, value
    if name == "JPEG XL":
        boxes = {"exif": box(b"Exif", bytes(4), block), "xmp": box(b"xml ", XMP)}
        return jxl(array, boxes[field], lossless=True), field, value
    return dressed_jp2(array, field, profile, block), field, value


def dressed_jp2(array: np.ndarray, field: str, profile: bytes, block: bytes) -> bytes:
    after = {
        "exif": box(b"uuid", b"JpgTiffExif->JP2", block),
        "xmp": box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), XMP),
    }.get(field, b"")
    inside = box(b"res ", box(b"resc", struct.pack(">HHHHbb", 5906, 1, 11811, 1, 0, 0)))
    data = jp2(array, inside if field == "dpi" else b"", after=after, level=0, reversible=True)
    if field == "icc":
        start = data.index(b"colr") - 4
        header = data.index(b"jp2h") - 4
        (length,) = struct.unpack_from(">I", data, header)
        grown = box(b"colr", b"\2\0\0", profile)
        data = data[:start] + grown + data[start + 15 :]
        size = struct.pack(">I", length + len(grown) - 15)
        data = data[:header] + size + data[header + 4 :]
    return data


def known_to_pillow(target: Path, field: str) -> Any:
    with Image.open(target) as image:
        found = image.info.get({"icc": "icc_profile"}.get(field, field))
        if field == "exif":
            return found.removeprefix(b"Exif\0\0") if found else None
        return found


@pytest.mark.parametrize(("feature", "name", "claim"), cells())
def test_cell(tmp_path, feature, name, claim):
    if name == "HEIC":
        pytest.importorskip("pillow_heif")
    if claim == "–":
        has_no_place_for(name, feature)
    elif feature in LAYOUTS:
        array = pixels(LAYOUTS[feature])
        target, info, _ = copied(tmp_path, lossless(name, array))
        assert info.samples == array.shape[2]
        assert info.alpha == (array.shape[2] % 2 == 0)
        again, _ = read(target)
        assert replace(again, metadata=info.metadata) == info
    elif feature in DEPTHS:
        for bits in DEPTHS[feature]:
            array = pixels(3, bits)
            target, info, seen = copied(tmp_path, lossless(name, array, bits))
            assert info.peak == 2**bits - 1
            assert info.dtype == array.dtype
            if name != "JPEG":
                assert np.array_equal(seen, array)
            assert read(target)[0].peak == info.peak
    elif feature == "32-bit float":
        array = (pixels(1, 16) / 65535).astype(np.float32)
        target, info, seen = copied(tmp_path, lossless(name, array))
        assert info.dtype == np.float32
        assert np.array_equal(seen, array)
        assert np.array_equal(read(target)[1], array)
    elif feature == "four inks (CMYK)":
        data = io.BytesIO()
        Image.frombytes("CMYK", (WIDTH, HEIGHT), pixels(4).tobytes()).save(data, "JPEG")
        target, info, _ = copied(tmp_path, data.getvalue())
        assert info.colour == read(target)[0].colour == "channels"
        with Image.open(target) as image:
            assert image.mode == "CMYK"
    elif feature == "stacks of planes":
        (tmp_path / "a").write_bytes(lossless(name, pixels(5).transpose(2, 0, 1).copy()))
        assert read(tmp_path / "a")[0].planes == 5
    elif feature == "lossless stays lossless":
        for samples in (3, 4):
            array = pixels(samples)
            target, _, seen = copied(tmp_path, lossless(name, array))
            assert np.array_equal(seen, array)
            assert np.array_equal(read(target)[1], array)
    elif feature.startswith("alpha"):
        target, _, seen = copied(tmp_path, lossy(name, pixels(4)))
        again = read(target)[1]
        assert np.array_equal(again[..., 3], seen[..., 3])
        assert np.abs(again[..., :3].astype(int) - seen[..., :3]).mean() < 2
    elif feature.startswith("comments"):
        comments_are_kept(tmp_path, name)
    elif (name, feature) == ("JPEG XL", "ICC profile"):
        assert claim == "no"
        data = bytes(imagecodecs.jpegxl_encode(pixels(3), lossless=True))
        source = tmp_path / "a.jxl"
        source.write_bytes(with_icc_flag(data))
        with closing(open_image(source)) as reader:
            assert any("ICC" in note for note in reader.info.warnings)
    else:
        data, field, value = dressed(name, feature)
        target, info, _ = copied(tmp_path, data)
        again = read(target)[0]
        first, second = (getattr(i.metadata, field) for i in (info, again))
        assert first == second
        if field == "dpi":
            assert first == pytest.approx(value, rel=1e-4)
        elif (name, field) == ("AVIF", "exif"):  # this writer moves the tag out of EXIF
            assert b"Maker" in first
        else:
            assert first == value
        if name in ("PNG", "JPEG", "WebP", "AVIF") or (name, field) == ("BMP", "dpi"):
            shown = known_to_pillow(target, field)
            if field == "dpi":
                assert shown == pytest.approx(value, rel=1e-3)
            elif (name, field) != ("AVIF", "exif"):
                assert shown == first
            else:  # Pillow rebuilds the block
                with Image.open(target) as image:
                    assert dict(image.getexif()) == {0x010F: "Maker", 0x0112: 6}
        elif field != "dpi":
            assert value in target.read_bytes()
        assert info.warnings == again.warnings == ()


def has_no_place_for(name: str, feature: str) -> None:
    """Show that the format refuses, or says that it leaves out, what it does not hold."""
    target = find_format(IDS.get(name, name.lower()))
    fields = {
        "ICC profile": "icc",
        "EXIF": "exif",
        "orientation": "exif",
        "XMP": "xmp",
        "resolution (DPI)": "dpi",
    }
    if feature in fields:
        value = (300.0, 300.0) if fields[feature] == "dpi" else exif(6)
        metadata = replace(Metadata(), **{fields[feature]: value})
        kept = target.check(image_info("tiff", 9, 9, 3, "uint8", metadata=metadata))
        assert getattr(kept.metadata, fields[feature]) is None
        assert any("no place" in note for note in kept.warnings)
        return
    if feature.startswith(("lossless", "alpha", "comments")) or target.id == "npy":
        return  # the format has one kind of compression, or no such thing to lose
    samples = LAYOUTS.get(feature, 4 if "inks" in feature else 3)
    dtype = "float32" if "float" in feature else "uint16" if feature in DEPTHS else "uint8"
    info = image_info(
        "tiff", 9, 9, samples, dtype, alpha=feature.endswith("alpha"), metadata=Metadata()
    )
    if "stacks" in feature:
        info = replace(info, shape=(2, 9, 9, 3), axes="TYXS")
    for bits in DEPTHS.get(feature, (None,)):
        if target.id == "png" and bits in (10, 12):
            kept = target.check(replace(info, bits=bits))
            assert any("unscaled" in note for note in kept.warnings)
            continue
        with pytest.raises(OutputError) as caught:
            target.check(replace(info, bits=bits))
        assert caught.value.hint


def comments_are_kept(tmp_path: Path, name: str) -> None:
    if name == "PNG":
        note = png_chunk(b"tEXt", b"Comment\0a note")
        data = png(pixels(3).reshape(HEIGHT, -1), 8, 2, ((b"tEXt", b"Comment\0a note"),))
    elif name == "JPEG":
        note = b"\xff\xfe\0\x08a note"
        data = jpeg_with(pillow(pixels(3), "JPEG"), (0xFE, b"a note"))
    else:
        note = box(b"xml ", b"<note>a note</note>")
        data = jp2(pixels(3), after=note, level=0, reversible=True)
    target, _, _ = copied(tmp_path, data)
    assert note in target.read_bytes()


def with_icc_flag(data: bytes) -> bytes:
    """Return a JPEG XL codestream whose header announces an ICC profile."""
    from denoisekit.formats import jxl as jxl_header

    # Bits, the least significant first: not all default, a profile follows, RGB.
    return jxl_header.rewrite(data, 1, (0b0010, 4))


@every("orientation", range(1, 9))
@every("order", ["<", ">"])
@every("kind", ["PNG", "JPEG", "WEBP"])
def test_orientation_in_exif(tmp_path, kind, order, orientation):
    block = exif(orientation, order)
    given = b"Exif\0\0" + block
    data = pillow(pixels(3), kind, exif=given, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as image:
        stored = np.asarray(image)
    target, info, seen = copied(tmp_path, data)
    assert info.metadata.exif == block
    assert np.array_equal(seen, stored)
    with Image.open(target) as image:
        assert image.size == (WIDTH, HEIGHT)
        assert image.getexif()[0x0112] == orientation


@every("orientation", range(1, 9))
def test_orientation_of_avif(tmp_path, orientation):
    data = pillow(pixels(3), "AVIF", exif=exif(orientation), quality=100, subsampling="4:4:4")
    with Image.open(io.BytesIO(data)) as image:
        stored, tag = np.asarray(image), image.getexif().get(0x0112, 1)
    assert tag == orientation
    target, info, seen = copied(tmp_path, data)
    assert np.array_equal(seen, stored)
    with Image.open(target) as image:
        assert image.getexif().get(0x0112, 1) == orientation
    # Another format learns it from EXIF.
    write(tmp_path / "a.png", find_format("png").check(info), seen)
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif().get(0x0112, 1) == orientation


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@every("orientation", range(1, 9))
def test_orientation_of_jpeg_xl(tmp_path, orientation):
    from denoisekit.formats import jxl as jxl_header

    array = pixels(3)
    stream = bytes(imagecodecs.jpegxl_encode(array, lossless=True, usecontainer=False))
    data = jxl_header.rewrite(stream, orientation, None)
    shown = TURNS[orientation](array)
    assert np.array_equal(imagecodecs.jpegxl_decode(data), shown)  # the file is what we say
    target, info, seen = copied(tmp_path, data)
    assert np.array_equal(seen, array)
    assert np.array_equal(imagecodecs.jpegxl_decode(target.read_bytes()), shown)
    write(tmp_path / "a.png", find_format("png").check(info), seen)
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif().get(0x0112, 1) == orientation


@every("orientation", range(1, 9))
def test_orientation_of_jpeg_2000(tmp_path, orientation):
    block = exif(orientation)
    after = box(b"uuid", b"JpgTiffExif->JP2", block)
    target, _, seen = copied(tmp_path, jp2(pixels(3), after=after, level=0, reversible=True))
    assert np.array_equal(seen, pixels(3))
    assert after in target.read_bytes()
