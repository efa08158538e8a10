"""A copy of a TIFF is the same kind of TIFF with the same pixels."""

from __future__ import annotations

import itertools
from contextlib import closing

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import every
from tiff_copies import copy, facts, pixels_of, read_all

from denoisekit.formats import open_image

DTYPES = ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(0.5, 2.0, shape).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return rng.integers(low, high, shape, dtype=dtype, endpoint=True)


def same(source, target):
    __tracebackhide__ = True
    assert facts(target) == facts(source)
    a, b = pixels_of(source), pixels_of(target)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


# Strips and tiles, both byte orders: with every type and compression, but not with every pair.
@every(("tile", "order"), [(None, "<"), ((16, 32), ">")])
@every("dtype", DTYPES)
@every("compression", [None, "lzw", "deflate", "zstd", "packbits", "lerc"])
def test_type_compression_tile_order(tmp_path, dtype, compression, tile, order):
    if compression == "lerc":
        dtype, order = dtype.replace("f2", "f4"), "<"  # all that tifffile can write
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(
        source,
        numbers((41, 37), dtype),
        byteorder=order,
        compression=compression,
        tile=tile,
        rowsperstrip=None if tile else 16,
    )
    info = copy(source, target)
    assert info.warnings == ()
    same(source, target)


@every("predictor", [True, False])
@every("order", ["<", ">"])
@every("samples", ["gray", "rgb", "planar"])
@every("dtype", ["u1", "u2", "u4", "i2", "f4", "f2"])
def test_predictor(tmp_path, dtype, samples, order, predictor):
    shape = {"gray": (41, 37), "rgb": (41, 37, 3), "planar": (3, 41, 37)}[samples]
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(
        source,
        numbers(shape, dtype),
        photometric="minisblack" if samples == "gray" else "rgb",
        planarconfig={"gray": None, "rgb": "contig", "planar": "separate"}[samples],
        compression="deflate",
        predictor=predictor,
        byteorder=order,
        rowsperstrip=16,
    )
    assert copy(source, target).colour == ("gray" if samples == "gray" else "rgb")
    same(source, target)


LAYOUTS = {
    "rgba": ((9, 11, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "premultiplied": ((9, 11, 4), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    "rgb and mask": ((9, 11, 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "gray alpha": ((9, 11, 2), {"photometric": "minisblack", "planarconfig": "contig"}),
    "cmyk": ((9, 11, 4), {"photometric": "separated"}),
    "cmyk planar": ((4, 9, 11), {"photometric": "separated", "planarconfig": "separate"}),
    "five": ((9, 11, 5), {"photometric": "minisblack", "planarconfig": "contig"}),
    "five planar": ((5, 9, 11), {"photometric": "minisblack", "planarconfig": "separate"}),
    "white is zero": ((9, 11), {"photometric": "miniswhite"}),
    "lab": ((9, 11, 3), {"photometric": "cielab"}),
}


@every("tile", [None, (16, 16)])
@every("compression", [None, "deflate"])
@every("layout", LAYOUTS)
def test_samples(tmp_path, layout, compression, tile):
    shape, options = LAYOUTS[layout]
    if layout == "gray alpha":
        options = options | {"extrasamples": ["unassalpha"]}
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(source, numbers(shape, "u2"), compression=compression, tile=tile, **options)
    info = copy(source, target, band=4)
    same(source, target)
    colour, alpha = {
        "rgba": ("rgb", True),
        "premultiplied": ("rgb", True),
        "rgb and mask": ("rgb", True),
        "gray alpha": ("gray", True),
        "white is zero": ("gray", False),
    }.get(layout, ("channels", False))
    assert (info.colour, info.alpha) == (colour, alpha)


STACKS = {
    "3 gray slices": ((3, 9, 11), {"photometric": "minisblack"}, "QYX"),
    "4 gray slices": (
        (4, 9, 11),
        {"photometric": "minisblack", "metadata": {"axes": "ZYX"}},
        "ZYX",
    ),
    "rgb film": ((3, 9, 11, 3), {"photometric": "rgb", "metadata": {"axes": "TYXS"}}, "TYXS"),
    "planar film": (
        (2, 3, 9, 11),
        {"photometric": "rgb", "planarconfig": "separate", "metadata": {"axes": "TSYX"}},
        "TYXS",
    ),
    "five axes": (
        (2, 3, 4, 9, 11),
        {"photometric": "minisblack", "metadata": {"axes": "TZCYX"}},
        "TZCYX",
    ),
    "no axes": ((4, 9, 11), {"photometric": "minisblack", "metadata": None}, "IYX"),
    "one slice": ((1, 1, 9, 11), {"photometric": "minisblack"}, "QQYX"),
    "imagej z": ((5, 9, 11), {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 0.5}}, "ZYX"),
    "imagej 4d": ((2, 3, 4, 9, 11), {"imagej": True, "metadata": {"axes": "TZCYX"}}, "TZCYX"),
    "imagej rgb": ((2, 9, 11, 3), {"imagej": True, "metadata": {"axes": "TYXS"}}, "TYXS"),
    "ome": ((2, 3, 4, 9, 11), {"ome": True, "metadata": {"axes": "TZCYX"}}, "TZCYX"),
    "ome ctz": ((2, 3, 4, 9, 11), {"ome": True, "metadata": {"axes": "CTZYX"}}, "CTZYX"),
    "ome rgb": (
        (4, 9, 11, 3),
        {"ome": True, "photometric": "rgb", "metadata": {"axes": "ZYXS"}},
        "ZYXS",
    ),
}


@every("big", [False, True])
@every("order", ["<", ">"])
@every("compression", [None, "deflate"])
@every("stack", STACKS)
def test_stacks(tmp_path, stack, compression, order, big):
    shape, options, axes = STACKS[stack]
    imagej = "imagej" in options
    if big and imagej:
        big = False  # ImageJ has no BigTIFF of its own
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    data = numbers(shape, "u1" if imagej else "u2")
    tifffile.imwrite(source, data, byteorder=order, bigtiff=big, compression=compression, **options)
    info = copy(source, target, band=4)
    assert info.axes == axes
    assert info.warnings == ()
    same(source, target)


def test_planes_are_counted_in_the_order_of_the_axes(tmp_path):
    data = numbers((2, 3, 4, 5, 6), "u2")
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", metadata={"axes": "TZCYX"})
    reader = open_image(tmp_path / "a.tif")
    for plane, (t, z, c) in enumerate(itertools.product(range(2), range(3), range(4))):
        np.testing.assert_array_equal(reader.read_rows(plane, 1, 4)[..., 0], data[t, z, c, 1:4])
    reader.close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_row_bands_are_the_whole(tmp_path, data):
    height, width = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 40))
    planar = data.draw(st.booleans())
    samples = data.draw(st.integers(2, 4))
    dtype = data.draw(st.sampled_from(["u1", "u2", "f4"]))
    shape = (samples, height, width) if planar else (height, width, samples)
    pixels = numbers(shape, dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="minisblack",
        planarconfig="separate" if planar else "contig",
        compression=data.draw(st.sampled_from([None, "deflate", "lzw"])),
        tile=data.draw(st.sampled_from([None, (16, 16), (32, 48)])),
        rowsperstrip=data.draw(st.integers(1, 80)),
        byteorder=data.draw(st.sampled_from("<>")),
        metadata={"axes": "SYX" if planar else "YXS"},
    )
    whole = np.moveaxis(pixels, 0, -1) if planar else pixels
    with closing(open_image(tmp_path / "a.tif")) as reader:
        for _ in range(4):
            top = data.draw(st.integers(0, height - 1))
            bottom = data.draw(st.integers(top + 1, height))
            rows = reader.read_rows(0, top, bottom)
            assert rows.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(rows, whole[top:bottom])


@every("tile", [None, (16, 16)])
@every(
    ("compression", "dtype", "shape"),
    [
        ("jpeg2000", "u1", (40, 33, 3)),
        ("jpeg2000", "u2", (40, 33)),
        ("png", "u2", (40, 33, 3)),
        ("webp", "u1", (40, 33, 3)),
        ("jpegxl", "u1", (40, 33, 3)),
        ("jpegxl", "f4", (40, 33)),
        ("jpegxr", "u2", (40, 33, 3)),
        ("lzma", "u2", (40, 33)),
    ],
)
def test_codecs_of_pictures_come_back_lossless(tmp_path, compression, dtype, shape, tile):
    source, target, again = (tmp_path / name for name in ("a.tif", "b.tif", "c.tif"))
    tifffile.imwrite(
        source,
        numbers(shape, dtype),
        photometric="rgb" if len(shape) == 3 else "minisblack",
        compression=compression,
        tile=tile,
        rowsperstrip=None if tile else 40,
    )
    assert copy(source, target).warnings == ()
    same(source, target)
    copy(target, again)
    same(target, again)


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_jpeg_stays_jpeg_and_near(tmp_path, photometric, tile):
    y, x = np.mgrid[:64, :80]
    gray = (128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)
    data = (
        gray
        if photometric == "minisblack"
        else np.stack([gray, gray.T[:64, :].repeat(2, 1)[:, :80], 255 - gray], -1)
    )
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(source, data, photometric=photometric, compression="jpeg", tile=tile)
    info, before = read_all(source)
    assert info.colour == ("rgb" if photometric == "rgb" else "gray")
    written = copy(source, target)
    assert any("JPEG" in warning for warning in written.warnings)
    assert facts(target) == facts(source)
    _, after = read_all(target)
    assert np.abs(after.astype(int) - before.astype(int)).max() <= 12
    assert np.abs(after.astype(int) - before.astype(int)).mean() < 1.0
    np.testing.assert_array_equal(after[0].squeeze(), pixels_of(target))


def test_what_cannot_be_compressed_alike_is_deflated_and_said(tmp_path):
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(
        source, numbers((40, 33, 4), "u1"), photometric="separated", compression="jpeg"
    )
    info = copy(source, target)
    assert any("deflate" in warning for warning in info.warnings)
    np.testing.assert_array_equal(read_all(source)[1], read_all(target)[1])


@every("bits", [2, 4, 6, 10, 12, 15])
@every("width", [8, 11])
def test_packed_bits(tmp_path, bits, width):
    dtype = "u1" if bits < 8 else "u2"
    data = numbers((9, width), dtype) >> (np.dtype(dtype).itemsize * 8 - bits)
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(source, data, bitspersample=bits)
    info = copy(source, target)
    assert (info.bits, info.peak) == (bits, 2**bits - 1)
    same(source, target)


def test_one_pixel_and_one_row(tmp_path):
    for shape in [(1, 1), (1, 9), (9, 1), (1, 1, 3), (2, 1, 1)]:
        photometric = "rgb" if shape[-1] == 3 else "minisblack"
        source, target = tmp_path / "a.tif", tmp_path / "b.tif"
        tifffile.imwrite(source, numbers(shape, "u2"), photometric=photometric)
        copy(source, target)
        same(source, target)
