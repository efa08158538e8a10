"""JPEG: tables, subsampling and every segment, and what ends too early."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from samples import XMP, copied, every, exif, icc, jpeg_with, pillow, pixels, read

from denoisekit.errors import InputError


def opened(path) -> Image.Image:
    image = Image.open(path)
    image.load()
    return image


def used_tables(image: Image.Image) -> list[list[int]]:
    """Return the quantisation table of every component."""
    return [image.quantization[c[3]] for c in image.layer]


@every("quality", [40, 75, 92, 100])
@every("subsampling", [0, 1, 2])
def test_subsampling_is_kept_and_tables_are_kept_or_finer(tmp_path, quality, subsampling):
    data = pillow(pixels(3), "JPEG", quality=quality, subsampling=subsampling)
    target, _, seen = copied(tmp_path, data)
    before, after = Image.open(io.BytesIO(data)), opened(target)
    fine = Image.open(io.BytesIO(pillow(pixels(3), "JPEG", quality=max(95, quality))))
    assert used_tables(after) == used_tables(fine)
    assert [c[1:3] for c in after.layer] == [c[1:3] for c in before.layer]
    assert np.array_equal(seen, np.asarray(before))


def test_three_tables_stay_three(tmp_path):
    tables = [[1 + i // n for i in range(64)] for n in (64, 40, 32)]  # finer than quality 95
    target, _, _ = copied(tmp_path, pillow(pixels(3), "JPEG", qtables=tables, subsampling=0))
    found = opened(target).quantization
    assert [found[n] for n in range(3)] == tables


@every("layout", ["440", "411"])
def test_unusual_subsampling_becomes_finer(tmp_path, layout):
    data = imagecodecs.jpeg8_encode(pixels(3), level=90, subsampling=layout)
    target, _, seen = copied(tmp_path, data)
    assert [c[1:3] for c in opened(target).layer] == [(1, 1)] * 3
    fine = Image.open(io.BytesIO(pillow(pixels(3), "JPEG", quality=95)))
    assert used_tables(opened(target)) == used_tables(fine)
    assert np.abs(read(target)[1].astype(int) - seen).mean() < 2


@every("progressive", [False, True])
def test_progressive_is_kept(tmp_path, progressive):
    target, _, _ = copied(tmp_path, pillow(pixels(3), "JPEG", progressive=progressive))
    assert opened(target).info.get("progressive", 0) == progressive


def test_gray_stays_gray(tmp_path):
    target, info, _ = copied(tmp_path, pillow(pixels(1), "JPEG", quality=90))
    assert info.colour == "gray"
    assert opened(target).mode == "L"


def test_cmyk_is_four_channels(tmp_path):
    array = pixels(4)
    out = io.BytesIO()
    Image.frombytes("CMYK", (29, 37), array.tobytes()).save(out, "JPEG", quality=95, dpi=(150, 150))
    data = jpeg_with(out.getvalue(), (0xE0, b"JFIF\0\1\1\1" + struct.pack(">HHBB", 150, 75, 0, 0)))
    target, info, seen = copied(tmp_path, data)
    assert (info.colour, info.samples, info.alpha) == ("channels", 4, False)
    assert info.metadata.dpi == (150, 75)
    again, twice = read(target)
    assert again.metadata.dpi == (150, 75)
    # The sense of the inks is kept: a second generation differs by rounding only.
    assert np.abs(seen.astype(int) - array).mean() < 2
    assert np.abs(twice.astype(int) - seen).mean() < 2


def test_ycck_is_told(tmp_path):
    out = io.BytesIO()
    Image.frombytes("CMYK", (29, 37), pixels(4).tobytes()).save(out, "JPEG", quality=95)
    data = out.getvalue()
    at = data.index(b"Adobe") + 11
    target, info, seen = copied(tmp_path, data[:at] + b"\2" + data[at + 1 :])
    assert any("YCCK" in note for note in info.warnings)
    assert np.abs(read(target)[1].astype(int) - seen).mean() < 2


def test_colours_stored_as_rgb_stay_so(tmp_path):
    data = pillow(pixels(3), "JPEG", keep_rgb=True, quality=95)
    target, _, seen = copied(tmp_path, data)
    assert [c[0] for c in opened(target).layer] == [ord(c) for c in "RGB"]
    assert np.abs(np.asarray(opened(target)).astype(int) - seen).mean() < 2


SEGMENTS = [
    (0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x19\0\x03dog"),
    (0xFE, "a comment, grün".encode()),
    (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40),
    (0xE4, b"a maker's own segment"),
]


@every("segment", SEGMENTS, ids=["iptc", "comment", "long-xmp", "private"])
def test_segment_is_kept(tmp_path, segment):
    target, info, _ = copied(tmp_path, jpeg_with(pillow(pixels(3), "JPEG"), segment))
    assert info.warnings == ()
    marker, body = segment
    assert struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body in target.read_bytes()


def test_profile_larger_than_a_segment(tmp_path):
    profile = icc() + bytes(150_000)
    target, info, _ = copied(tmp_path, pillow(pixels(3), "JPEG", icc_profile=profile))
    assert info.metadata.icc == profile
    assert opened(target).info["icc_profile"] == profile


@every("density", [(0, 1, 2), (1, 300, 72), (2, 118, 118)])
def test_density_is_kept_in_its_own_unit(tmp_path, density):
    data = bytearray(pillow(pixels(3), "JPEG"))
    data[13:18] = struct.pack(">BHH", *density)
    target, info, _ = copied(tmp_path, bytes(data))
    assert target.read_bytes()[13:18] == data[13:18]
    unit, across, down = density
    scale = {0: None, 1: 1, 2: 2.54}[unit]
    assert info.metadata.dpi == (None if scale is None else (across * scale, down * scale))


def test_metadata_do_not_disturb_the_pixels(tmp_path):
    plain = pillow(pixels(3), "JPEG", quality=91)
    dressed = pillow(pixels(3), "JPEG", quality=91, exif=exif(6), icc_profile=icc(), xmp=XMP)
    (tmp_path / "a").write_bytes(plain)
    (tmp_path / "b").write_bytes(dressed)
    assert np.array_equal(read(tmp_path / "a")[1], read(tmp_path / "b")[1])


@every("progressive", [False, True])
@every("fraction", [0.3, 0.6, 0.9, 0.999])
def test_cut_short_is_an_error(tmp_path, fraction, progressive):
    data = pillow(pixels(3), "JPEG", quality=95, progressive=progressive)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InputError, match="ends"):
        read(path)


def test_bytes_between_segments_mean_nothing(tmp_path):
    data = jpeg_with(pillow(pixels(3), "JPEG"), (0xE1, b"Exif\0\0" + exif(6)))
    end = data.index(b"Maker\0") + 6
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data[:end] + b"\0\4 left over" + data[end:])
    assert np.array_equal(read(tmp_path / "a")[1], read(tmp_path / "b")[1])
