"""What is cut off or damaged inside a container that is whole is an error, or is told."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from itertools import pairwise

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import (
    IDS,
    copied,
    every,
    exif,
    icc,
    jp2,
    jpeg_with,
    jxl,
    pillow,
    pixels,
    png_chunk,
    read,
    write,
)

from denoisekit.errors import InputError
from denoisekit.formats import find_format
from denoisekit.formats import jpeg as js
from denoisekit.formats.base import image_info
from denoisekit.image import Metadata

NOISE = np.random.default_rng(0).integers(0, 256, (120, 136, 3)).astype(np.uint8)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jpeg_base_cut_eoi.jpg", "picture data are missing"),
        ("jpeg_cut.tif", "ends early"),
        ("jpg_prog_20k_claim.jpg", "20000 x 20000"),
        ("rle8_k108.bmp", "4211215 x 37"),
        ("webp_16k.webp", "in 38 bytes"),
    ],
)
def test_what_once_was_taken_for_whole_is_refused(shared, name, words):
    with pytest.raises(InputError, match=words) as caught:
        read(shared / "cases" / "faults" / name)
    assert caught.value.hint


@pytest.mark.shared
def test_a_cut_profile_is_told_and_a_comment_is_kept(shared, tmp_path):
    faults = shared / "cases" / "faults"
    info, _ = read(faults / "bmp_icc_cut.bmp")
    assert info.warnings == ("the damaged ICC profile is not kept",)
    target, _, seen = copied(tmp_path, (faults / "user_comment.jp2").read_bytes())
    assert target.read_bytes().count(b"Copyright Jane Doe") == 1
    assert np.array_equal(read(target)[1], seen)


def jpeg(**options) -> bytes:
    return pillow(NOISE, "JPEG", **options)


def scans(data: bytes) -> list[tuple[int, int]]:
    """Return where the compressed data of every scan begin and end."""
    found = list(js.segments(data))
    spans = []
    for scan, after in pairwise(found):
        if scan.marker == 0xDA:
            spans.append((scan.end, after.start - (2 if after.marker == 0xD9 else 4)))
    return spans


KINDS = [
    {},
    {"quality": 30, "subsampling": 2},
    {"progressive": True},
    {"progressive": True, "restart_marker_rows": 1},
    {"restart_marker_rows": 1},
    {"restart_marker_blocks": 1},
    {"restart_marker_blocks": 5, "quality": 30},
    {"optimize": True},
]


@every("options", KINDS, ids=str)
def test_a_whole_jpeg_opens_and_one_whose_last_scan_is_cut_does_not(tmp_path, options):
    data = jpeg(**options)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    assert np.array_equal(read(path)[1], np.asarray(Image.open(io.BytesIO(data))))
    start, end = scans(data)[-1]
    for share in (0.0, 0.1, 0.5, 0.9, 0.97):
        kept = data[: start + int(share * (end - start))].rstrip(b"\xff")
        path.write_bytes(kept + data[end:])
        with pytest.raises(InputError, match=r"missing|ends? early|too little"):
            read(path)


def test_a_middle_scan_that_is_cut_is_an_error_and_absent_passes_are_told(tmp_path):
    data = jpeg(progressive=True)
    spans = scans(data)
    start, end = spans[1]
    path = tmp_path / "a.jpg"
    path.write_bytes(data[: (start + end) // 2] + data[end:])
    with pytest.raises(InputError, match="missing"):
        read(path)
    path.write_bytes(data[: spans[-2][1]] + b"\xff\xd9")
    assert "last passes" in read(path)[0].warnings[0]
    path.write_bytes(data[: spans[0][1]].replace(b"\xff\xda\x00\x0c\x03", b"\xff\xd9"))
    with pytest.raises(InputError):
        read(path)


def test_restart_intervals_that_are_missing_are_an_error(tmp_path):
    data = jpeg(restart_marker_blocks=1)
    cut = data.rindex(b"\xff\xd3")
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:cut] + b"\xff\xd9")
    with pytest.raises(InputError, match="early"):
        read(path)


def test_a_jpeg_with_a_scan_too_many_to_be_true_is_refused(tmp_path):
    data = jpeg(progressive=True)
    start, end = scans(data)[-1]
    header = data.rindex(b"\xff\xda", 0, start)
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:end] + data[header:end] * 600 + b"\xff\xd9")
    with pytest.raises(InputError, match="scans"):
        read(path)


@every("compression", ["jpeg", "jpegxr", "zlib", "lzw", "jpeg2000", "webp"])
@every("tile", [None, (64, 64)])
def test_a_cut_strip_or_tile_is_an_error(tmp_path, compression, tile):
    path = tmp_path / "a.tif"
    rows = None if tile else 64
    tifffile.imwrite(
        path, NOISE, compression=compression, photometric="rgb", tile=tile, rowsperstrip=rows
    )
    read(path)
    with tifffile.TiffFile(path, mode="r+") as tif:
        counts = tif.pages[0].tags["TileByteCounts" if tile else "StripByteCounts"]
        whole = counts.value
    for share in (0.5, 0.95):
        with tifffile.TiffFile(path, mode="r+") as tif:
            counts = tif.pages[0].tags["TileByteCounts" if tile else "StripByteCounts"]
            counts.overwrite([whole[0], int(whole[1] * share), *whole[2:]])
        with pytest.raises(InputError):
            read(path)


@pytest.mark.parametrize("kind", ["avif", "heif"])
def test_a_tail_of_zeros_is_an_error(tmp_path, kind):
    path = tmp_path / "a"
    if kind not in IDS:
        pytest.skip("its library is not here")
    info = image_info("none", *NOISE.shape, "uint8", metadata=Metadata())
    write(path, find_format(kind).check(info), NOISE)
    data = path.read_bytes()
    half = np.where(np.arange(len(NOISE))[:, None, None] < 60, NOISE, 0)
    write(path, find_format(kind).check(info), half)
    assert np.array_equal(read(path)[1], half)  # black is not nothing
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    with pytest.raises(InputError, match="missing"):
        read(path)


@every("share", [0.2, 0.6, 0.95])
def test_run_lengths_that_end_early_are_an_error(tmp_path, share):
    rows = b"".join(bytes([29, row % 256, 0, 0]) for row in range(37))
    palette = b"".join(bytes([v, 255 - v, v, 0]) for v in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, 29, 37, 1, 8, 1, 0, 0, 0, 256, 256)

    def bmp(body: bytes) -> bytes:
        start = 14 + 40 + 1024
        return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body

    path = tmp_path / "a.bmp"
    path.write_bytes(bmp(rows + b"\0\1"))
    assert len(np.unique(read(path)[1][..., 0])) == 37
    for ending in (b"", b"\0\1"):
        path.write_bytes(bmp(rows[: int(share * len(rows)) // 4 * 4] + ending))
        with pytest.raises(InputError, match="early"):
            read(path)


def _profile_segments(*parts: tuple[int, int, bytes]) -> list[tuple[int, bytes]]:
    return [(0xE2, b"ICC_PROFILE\0" + bytes(p[:2]) + p[2]) for p in parts]


def test_profiles_of_a_jpeg_are_kept_once_or_told(tmp_path):
    whole, half = icc(), len(icc()) // 2
    path = tmp_path / "a.jpg"

    def said(*parts: tuple[int, int, bytes]) -> tuple[bytes | None, tuple[str, ...]]:
        path.write_bytes(jpeg_with(jpeg(), *_profile_segments(*parts)))
        info, _ = read(path)
        return info.metadata.icc, info.warnings

    pieces = (1, 2, whole[:half]), (2, 2, whole[half:])
    assert said(*pieces) == (whole, ())
    assert said(*pieces[::-1]) == (whole, ())
    assert said(*pieces, *pieces) == (whole, ())
    other = whole[:-1] + b"x"
    assert said((1, 1, whole), (1, 1, other)) == (whole, ("a second ICC profile is not kept",))
    damaged = "the damaged ICC profile is not kept"
    assert said(pieces[0]) == (None, (damaged,))
    assert said((1, 1, whole[:half])) == (None, (damaged,))


@every("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_a_profile_shorter_than_it_says_is_told(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(pillow(pixels(), kind, icc_profile=icc()[:300]))
    info, _ = read(path)
    assert info.metadata.icc is None
    assert "the damaged ICC profile is not kept" in info.warnings


def _with_bad_exif(kind: str) -> bytes:
    bad = b"XX*\0" + exif()[4:]
    if kind == "jpeg":
        return jpeg_with(jpeg(), (0xE1, b"Exif\0\0" + bad))
    if kind == "png":
        data = pillow(NOISE, "PNG")
        return data[:33] + png_chunk(b"eXIf", bad) + data[33:]
    if kind == "jxl":
        return jxl(NOISE, struct.pack(">I4s", 12 + len(bad), b"Exif") + bytes(4) + bad)
    if kind == "jpeg2000":
        uuid = b"JpgTiffExif->JP2" + bad
        return jp2(NOISE, after=struct.pack(">I4s", 8 + len(uuid), b"uuid") + uuid)
    return pillow(NOISE, kind.upper(), exif=exif()).replace(exif()[:8], bad[:8])


@every("kind", ["jpeg", "png", "jxl", "jpeg2000", "webp", "avif"])
def test_exif_of_no_byte_order_is_told(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(_with_bad_exif(kind))
    info, _ = read(path)
    assert info.metadata.exif is None
    assert "the damaged EXIF data are not kept" in info.warnings


def test_comments_of_a_bare_codestream_are_kept(tmp_path):
    data = bytes(imagecodecs.jpeg2k_encode(NOISE, codecformat="j2k", level=0))
    own = data.index(b"\xff\x64")
    notes = [b"\0\1first", b"\0\0\x80\x81binary"]
    parts = b"".join(b"\xff\x64" + struct.pack(">H", len(n) + 2) + n for n in notes)
    target, _, _ = copied(tmp_path, data[:own] + parts + data[own:])
    after = target.read_bytes()
    assert [after.count(b"\xff\x64" + struct.pack(">H", len(n) + 2) + n) for n in notes] == [1, 1]
    assert after.count(b"\xff\x64") == data.count(b"\xff\x64") + 2
    assert np.array_equal(imagecodecs.jpeg2k_decode(after), NOISE)


def test_libraries_print_nothing(tmp_path):
    data = pillow(NOISE, "PNG")
    at = data.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", data, at)
    body = data[at + 8 : at + 8 + length] + b"more than is needed"
    path = tmp_path / "a.png"
    path.write_bytes(data[:at] + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b""))
    code = (
        "import sys; from pathlib import Path; from denoisekit.formats import open_image\n"
        "r = open_image(Path(sys.argv[1])); r.read_rows(0, 0, r.info.height)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


@every("tile", [None, (64, 64)])
@every("compression", [None, "zlib"])
def test_strips_that_a_sparse_tiff_leaves_out_are_empty_and_told(tmp_path, tile, compression):
    path = tmp_path / "a.tif"
    gray = NOISE[..., 0]
    rows = None if tile else 32
    nodata = [(42113, "s", 0, "7", True)]
    tifffile.imwrite(
        path, gray, tile=tile, rowsperstrip=rows, compression=compression, extratags=nodata
    )
    for code in (324, 325) if tile else (273, 279):
        with tifffile.TiffFile(path, mode="r+") as tif:
            tag = tif.pages[0].tags[code]
            tag.overwrite([0 if n == 1 else v for n, v in enumerate(tag.value)])
    info, seen = read(path)
    assert any("strips or tiles are not in the file" in note for note in info.warnings)
    assert np.array_equal(seen[..., 0], tifffile.imread(path))
    hole = seen[:64, 64:128] if tile else seen[32:64]
    assert (hole == 7).all()
