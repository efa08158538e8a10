"""A damaged TIFF is an error in words or a correct result, never anything else."""

from __future__ import annotations

import io
import logging
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiff_copies import read_all

from denoisekit.errors import DenoisekitError, InputError, UsageError
from denoisekit.formats import open_image

SLOW = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def saved(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 4096, (24, 30)).astype(np.uint16)
RGB = RNG.integers(0, 255, (24, 30, 3)).astype(np.uint8)
STACK = RNG.integers(0, 255, (3, 20, 30)).astype(np.uint8)
FILES = {
    "plain": saved(GRAY),
    "strips": saved(GRAY, rowsperstrip=5, compression="lzw", predictor=True),
    "tiles": saved(RGB, photometric="rgb", tile=(16, 16), compression="deflate"),
    "planar": saved(
        np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate", compression="zstd"
    ),
    "jpeg": saved(RGB, photometric="rgb", compression="jpeg"),
    "packbits": saved(RGB, photometric="rgb", compression="packbits"),
    "lerc": saved(GRAY.astype(np.float32), compression="lerc"),
    "float": saved(GRAY.astype(np.float32), compression="deflate", predictor=True, byteorder=">"),
    "twelve bits": saved(GRAY, bitspersample=12),
    "palette": saved(
        RGB[..., 0], photometric="palette", colormap=np.ones((3, 256), np.uint16) * 257
    ),
    "imagej": saved(STACK, imagej=True, metadata={"axes": "ZYX", "Labels": list("abc")}),
    "ome": saved(STACK, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5}),
    "big": saved(STACK, photometric="minisblack", bigtiff=True),
    "pages": saved(STACK, photometric="minisblack", metadata=None, compression="deflate"),
}


def attempt(path, data):
    """Read all of a file; return its pixels, or None where it was refused in words."""
    path.write_bytes(data)
    try:
        return everything(path)
    except DenoisekitError as error:
        refused = error
    assert "\n" not in refused.message
    assert refused.hint
    return None


def everything(path):
    reader = open_image(path)
    try:
        info = reader.info
        assert info.planes < 1000
        return np.stack([reader.read_rows(p, 0, info.height) for p in range(info.planes)])
    finally:
        reader.close()


@pytest.mark.parametrize("name", FILES)
@SLOW
@given(data=st.data())
def test_a_file_that_was_cut_gives_no_wrong_pixels(tmp_path, caplog, name, data):
    whole = FILES[name]
    expected = attempt(tmp_path / "whole.tif", whole)
    assert expected is not None
    end = data.draw(st.integers(0, len(whole) - 1))
    with caplog.at_level(logging.DEBUG):
        pixels = attempt(tmp_path / "cut.tif", whole[:end])
    if pixels is not None:
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", FILES)
@SLOW
@given(data=st.data())
def test_flipped_bits_are_an_error_or_pixels(tmp_path, name, data):
    damaged = bytearray(FILES[name])
    # Directories, at the ends of a small file, are where damage is interesting.
    places = st.one_of(
        st.integers(0, min(600, len(damaged) - 1)),
        st.integers(max(0, len(damaged) - 600), len(damaged) - 1),
        st.integers(0, len(damaged) - 1),
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(places)
        damaged[place] = data.draw(st.one_of(st.sampled_from([0, 1, 255]), st.integers(0, 255)))
    attempt(tmp_path / "damaged.tif", bytes(damaged))


def patched(data, code, value, kind=None):
    """Return a little-endian TIFF with the inline value of a tag of its first page replaced."""
    data = bytearray(data)
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == code:
            if kind is not None:
                struct.pack_into("<H", data, entry + 2, kind)
            struct.pack_into("<I", data, entry + 8, value)
            return bytes(data)
    raise AssertionError(code)


ABSURD = {
    "wide": (256, 2**31),
    "high": (257, 2**32 - 1),
    "no width": (256, 0),
    "no height": (257, 0),
    "strip elsewhere": (273, 2**31),
    "strip of nothing": (273, 0),
    "short strip": (279, 100),
    "deep samples": (277, 65535),
    "unknown compression": (259, 9999),
    "unknown photometric": (262, 999),
}


@pytest.mark.parametrize("case", ABSURD)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_absurd_tags(tmp_path, case, compression):
    code, value = ABSURD[case]
    whole = saved(GRAY, compression=compression)
    pixels = attempt(tmp_path / "a.tif", patched(whole, code, value))
    if pixels is not None:
        np.testing.assert_array_equal(pixels.squeeze(), GRAY)
    else:
        assert not (case == "short strip" and compression is None)


@pytest.mark.parametrize("to", [0, 1])
def test_pages_in_a_circle(tmp_path, to):
    data = bytearray(FILES["pages"])
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        offsets = [page.offset for page in tif.pages]
    (count,) = struct.unpack_from("<H", data, offsets[2])
    struct.pack_into("<I", data, offsets[2] + 2 + 12 * count, offsets[to])
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match="circle"):
        open_image(tmp_path / "a.tif")


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    small = saved(np.zeros((64, 64), np.uint8), compression="deflate")
    data = small
    for code, value in [(256, 2**20), (257, 2**20), (278, 2**20)]:
        data = patched(data, code, value, 4)
    (tmp_path / "bomb.tif").write_bytes(data)
    with pytest.raises(InputError, match="GiB"):
        open_image(tmp_path / "bomb.tif")


def test_pages_that_the_description_promises_must_be_there(tmp_path):
    for data, (old, new) in [
        (FILES["imagej"], (b"slices=3", b"slices=9")),
        (FILES["ome"], (b'SizeZ="3"', b'SizeZ="9"')),
    ]:
        (tmp_path / "a.tif").write_bytes(data.replace(old, new))
        try:
            info, pixels = read_all(tmp_path / "a.tif")
        except (DenoisekitError, ValueError):
            continue
        # Some readers count the pages themselves; then there are three, all good.
        assert info.planes == 3
        np.testing.assert_array_equal(pixels[..., 0], STACK)


def test_raw_photos_are_refused_with_advice(tmp_path):
    for name, tags in {"dng": [(50706, 1, 4, (1, 4, 0, 0), True)]}.items():
        path = tmp_path / f"a.{name}"
        tifffile.imwrite(path, GRAY, extratags=tags)
        with pytest.raises(InputError, match="raw") as caught:
            open_image(path)
        assert "develop" in caught.value.hint
    (tmp_path / "a.cr2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(100))
    with pytest.raises(InputError, match="raw"):
        open_image(tmp_path / "a.cr2")


def test_damage_is_not_told_to_the_terminal(tmp_path, capfd):
    data = patched(FILES["plain"], 279, 2**30)
    path = tmp_path / "a.tif"
    for broken in (data, FILES["ome"][:-200], FILES["strips"][:300]):
        attempt(path, broken)
    assert capfd.readouterr() == ("", "")


def test_the_file_is_closed_when_opening_fails(tmp_path):
    # An unclosed file is a ResourceWarning, which the test run turns into an error.
    path = tmp_path / "a.tif"
    path.write_bytes(FILES["plain"][:200])
    with pytest.raises(InputError):
        open_image(path)
    path.write_bytes(FILES["plain"])
    with pytest.raises(UsageError):
        open_image(path, axes="TZYX")
