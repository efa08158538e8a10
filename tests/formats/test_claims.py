"""What a header claims is held against the file and the memory allowed, before it is taken."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from samples import every, pillow, png_chunk, read

from denoisekit.errors import InputError
from denoisekit.formats import open_image

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import damaged_files

FLAT = np.full((512, 640, 3), 90, np.uint8)


@every(
    "data",
    [
        pillow(FLAT, "WEBP", lossless=True),
        pillow(FLAT, "JPEG", optimize=True),
        pillow(FLAT, "JPEG", progressive=True, restart_marker_rows=1),
        pillow(FLAT, "PNG"),
        pillow(FLAT, "AVIF"),
        pillow(FLAT, "JPEG2000"),
        bytes(imagecodecs.jpegxl_encode(FLAT)),
    ],
    ids=["webp", "jpeg", "progressive", "png", "avif", "jpeg2000", "jxl"],
)
def test_an_honest_plain_picture_opens(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    assert np.abs(read(path)[1].astype(int) - 90).max() <= 1


def test_a_large_page_that_could_be_honest_opens(tmp_path):
    """Four hundred million white pixels deflate to four hundred kilobytes."""
    path = tmp_path / "a.png"
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)),
        (b"IDAT", bytes(400_000)),
        (b"IEND", b""),
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts))
    reader = open_image(path)
    assert reader.info.shape == (20000, 20000)
    reader.close()


def webp(width: int, height: int) -> bytes:
    data = bytearray(pillow(FLAT[:16, :16], "WEBP", lossless=True))
    at = data.index(b"\x2f") + 1
    struct.pack_into("<I", data, at, (width - 1) | (height - 1) << 14)
    return bytes(data)


def png(width: int, height: int) -> bytes:
    data = pillow(FLAT[:16, :16], "PNG")
    head = struct.pack(">II", width, height) + data[24:29]
    return data[:8] + png_chunk(b"IHDR", head) + data[33:]


def jpeg(width: int, height: int, **options: object) -> bytes:
    data = bytearray(pillow(FLAT[:16, :16], "JPEG", **options))
    at = data.index(b"\xff\xc2" if options else b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def jp2(width: int, height: int) -> bytes:
    data = bytearray(imagecodecs.jpeg2k_encode(FLAT[:16, :16], codecformat="j2k"))
    struct.pack_into(">II", data, 8, width, height)
    return bytes(data)


def avif(width: int, height: int) -> bytes:
    data = bytearray(pillow(FLAT[:16, :16], "AVIF"))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, width, height)
    return bytes(data)


def tiff(width: int, height: int) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, FLAT[:16, :16, 0], compression="zlib", rowsperstrip=16)
    out.seek(0)
    with tifffile.TiffFile(out, mode="r+") as tif:
        tags = tif.pages[0].tags
        tags["ImageWidth"].overwrite(width)
        tags["ImageLength"].overwrite(height)
        tags["RowsPerStrip"].overwrite(height)
    return out.getvalue()


@every("make", [webp, png, jpeg, jp2, avif, tiff])
@every("size", [(16000, 16000), (65000, 9000), (9000, 16383)])
def test_a_small_file_cannot_claim_much(tmp_path, make, size):
    if make is webp:
        size = min(size[0], 16384), size[1]
    path = tmp_path / "a"
    path.write_bytes(make(*size))
    with pytest.raises(InputError, match=r"claims|too little data"):
        open_image(path)


def test_a_progressive_jpeg_cannot_claim_much(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(jpeg(20000, 20000, progressive=True))
    with pytest.raises(InputError, match=r"claims|too little data"):
        open_image(path)
    path.write_bytes(jpeg(1500, 1500, progressive=True))
    with pytest.raises(InputError, match="too little data"):
        open_image(path)


def test_strips_that_share_their_bytes_cannot_claim_much(tmp_path):
    """Each strip is small; together they are not."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 8192), np.uint8), compression="zlib", rowsperstrip=1)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages[0].tags
        height, rows = tags["ImageLength"].valueoffset, tags["RowsPerStrip"].valueoffset
    struct.pack_into("<I", data, height, 64 * 4096)
    struct.pack_into("<I", data, rows, 4096)
    path.write_bytes(data)
    with pytest.raises(InputError, match="claims"):
        open_image(path)


def test_max_memory_counts_before_anything_is_decoded(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(pillow(FLAT, "PNG"))
    with pytest.raises(InputError, match="more than is allowed") as caught:
        open_image(path, max_memory=2 * FLAT.nbytes - 1)
    assert "--max-memory" in caught.value.hint
    open_image(path, max_memory=2 * FLAT.nbytes).close()
    tifffile.imwrite(tmp_path / "a.tif", FLAT, photometric="rgb")
    open_image(tmp_path / "a.tif", max_memory=1000).close()  # read piece by piece


def test_damaged_files_by_the_script(tmp_path):
    """A few of those that the script makes by the thousand."""
    sound = {}
    path = tmp_path / "a"
    for name, data in damaged_files.healthy().items():
        path.write_bytes(data)
        sound[name] = damaged_files.read_all(path)
        assert sound[name][0] == "picture", sound[name]
    seen = set()
    for name, damage, data, missing in damaged_files.cases(400, seed=5):
        path.write_bytes(data)
        ended, said, total = damaged_files.read_all(path)
        assert ended in ("picture", "error"), said
        seen.add(ended)
        if missing and ended == "picture":
            assert said or total == sound[name][2], (name, damage)
    assert seen == {"picture", "error"}
