"""What is particular to WebP, BMP, JPEG XL, AVIF, JPEG 2000 and .npy."""

from __future__ import annotations

import io
import struct
from contextlib import closing
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import (
    HEIGHT,
    WIDTH,
    XMP,
    box,
    copied,
    every,
    exif,
    jp2,
    jxl,
    pillow,
    pixels,
    png,
    png_chunks,
    read,
    write,
)

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.formats import create_image, find_format, open_image
from denoisekit.formats import exif as exif_block
from denoisekit.formats import jxl as jxl_header
from denoisekit.formats.base import image_info
from denoisekit.image import Metadata


def refused(tmp_path, data: bytes, match: str) -> None:
    path = tmp_path / "refused"
    path.write_bytes(data)
    with pytest.raises(InputError, match=match) as caught:
        read(path)
    assert caught.value.hint
    assert "\n" not in caught.value.message


# --- WebP ---------------------------------------------------------------------------------


@every("samples", [3, 4])
def test_webp_stays_lossy_or_lossless(tmp_path, samples):
    for lossless in (False, True):
        data = pillow(pixels(samples), "WEBP", lossless=lossless)
        target, _, _ = copied(tmp_path, data)
        assert (b"VP8L" in target.read_bytes()) == lossless


def test_webp_keeps_colours_below_full_transparency(tmp_path):
    array = pixels(4)
    array[:10, :, 3] = 0
    target, _, seen = copied(tmp_path, pillow(array, "WEBP", lossless=True, exact=True))
    assert np.array_equal(seen, array)
    assert np.array_equal(np.asarray(Image.open(target)), array)


# --- BMP ----------------------------------------------------------------------------------


def test_bmp_palette_becomes_colours(tmp_path):
    data = pillow(pixels(3), "BMP", "P")
    target, info, seen = copied(tmp_path, data)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(seen, shown)
    assert any("palette" in note for note in info.warnings)
    assert np.array_equal(np.asarray(Image.open(target)), shown)


def test_bmp_from_top_to_bottom(tmp_path):
    data = bytearray(pillow(pixels(3), "BMP"))
    data[22:26] = struct.pack("<i", -HEIGHT)
    _, _, seen = copied(tmp_path, bytes(data))
    assert np.array_equal(seen, pixels(3)[::-1])


@every("kind", ["BMP", "PNG", "TIFF"])
def test_one_bit_becomes_gray(tmp_path, kind):
    white = pixels(1) > 120
    target, info, seen = copied(tmp_path, pillow(white, kind))
    assert np.array_equal(seen, white * 255)
    assert (info.dtype, info.bits) == (np.uint8, None)
    assert any("1 bit" in note for note in info.warnings)
    with Image.open(target) as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), seen[..., 0])


def test_what_a_png_of_one_bit_says_of_its_values_stays_true(tmp_path):
    rows = np.packbits(pixels(1)[..., 0] > 120, axis=1)
    chunks = ((b"sBIT", b"\1"), (b"bKGD", b"\0\1"), (b"tRNS", b"\0\0"))
    target, _, seen = copied(tmp_path, png(rows, 1, 0, chunks))
    after = dict(png_chunks(target.read_bytes()))
    assert (after[b"sBIT"], after[b"bKGD"]) == (b"\x08\x08", b"\0\xff")
    assert np.array_equal(seen[..., 0], seen[..., 1])


@every("compression", ["group3", "group4", "packbits", "tiff_lzw"])
def test_faxes_open_whole_and_not_in_part(tmp_path, compression):
    white = np.random.default_rng(0).random((90, 96)) > 0.5
    data = pillow(white, "TIFF", compression=compression)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert np.array_equal(read(path)[1][..., 0], white * 255)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[0].tags[279]
        whole = tag.value[0]
    for share in (0.3, 0.97):
        cut = bytearray(data)
        struct.pack_into("<I", cut, tag.valueoffset, int(share * whole))
        path.write_bytes(cut)
        with pytest.raises(InputError):
            read(path)


def test_bmp_larger_than_its_counters_is_refused():
    info = image_info("bmp", 40000, 40000, 3, "uint8", metadata=Metadata())
    with pytest.raises(OutputError, match="4 GiB"):
        find_format("bmp").check(info)


# --- JPEG XL ------------------------------------------------------------------------------


@every(
    ("samples", "dtype", "options"),
    [
        (1, "uint8", {"lossless": True}),
        (3, "uint8", {"lossless": True}),
        (3, "uint8", {"distance": 1.0}),
        (4, "uint8", {"distance": 1.0}),
        (4, "uint16", {"lossless": True}),
        (2, "uint16", {"lossless": True, "bitspersample": 12}),
        (3, "float32", {"lossless": True}),
        (3, "float16", {"lossless": True}),
        (1, "uint8", {"distance": 1.0}),
    ],
)
def test_jpeg_xl_header_is_read_and_rewritten(samples, dtype, options):
    bits = options.get("bitspersample", 16 if dtype == "uint16" else 8)
    array = pixels(samples, bits)
    if dtype.startswith("float"):
        array = (array / 255).astype(dtype)
    stream = imagecodecs.jpegxl_encode(array.squeeze(), usecontainer=False, **options)
    if stream[:2] != b"\xff\x0a":
        stream = stream[stream.index(b"jxlc") + 4 :]
    head = jxl_header.parse(bytes(stream))
    assert (head.width, head.height) == (WIDTH, HEIGHT)
    assert (head.gray, len(head.extra)) == (samples < 3, 1 - samples % 2)
    assert head.lossy == ("distance" in options)
    assert head.floating == dtype.startswith("float")
    if not head.floating:
        assert head.depth == bits
    turned = jxl_header.rewrite(bytes(stream), 6, None)
    assert jxl_header.parse(turned).orientation == 6
    before, after = (imagecodecs.jpegxl_decode(s) for s in (bytes(stream), turned))
    # Lossy files are dithered on decoding, by a pattern that does not turn with them.
    apart = np.abs(np.rot90(before, -1).astype(float) - after).max()
    assert apart <= (1 if head.lossy else 0)


@every("size", [(1, 1), (1, 700), (8, 8), (64, 128), (300, 400), (1080, 1920)])
def test_jpeg_xl_sizes(size):
    head = jxl_header.parse(bytes(imagecodecs.jpegxl_encode(np.zeros(size, np.uint8), effort=1)))
    assert (head.height, head.width) == size


def test_jpeg_xl_colour_space_is_kept(tmp_path):
    stream = bytes(imagecodecs.jpegxl_encode(pixels(3), lossless=True, usecontainer=False))
    # Bits, the least significant first: not default, no profile, RGB, white D65,
    # primaries P3 (11 = 2 + 9), no gamma, transfer sRGB (13 = 2 + 11), relative intent.
    bits = [(0, 1), (0, 1), (0, 2), (1, 2), (2, 2), (9, 4), (0, 1), (2, 2), (11, 4), (1, 2)]
    value = count = 0
    for part, width in bits:
        value, count = value | part << count, count + width
    data = jxl_header.rewrite(stream, 1, (value, count))
    assert np.array_equal(imagecodecs.jpegxl_decode(data), pixels(3))
    target, _, seen = copied(tmp_path, data)
    head = jxl_header.parse(target.read_bytes())
    assert head.colour == (value, count)
    assert np.array_equal(imagecodecs.jpegxl_decode(target.read_bytes()), seen)


def test_jpeg_xl_compressed_metadata(tmp_path):
    packed = box(b"brob", b"Exif", imagecodecs.brotli_encode(bytes(4) + exif(1)))
    told = box(b"brob", b"xml ", imagecodecs.brotli_encode(XMP))
    data = jxl(pixels(3), packed, told, box(b"jbrd", b"x"), lossless=True)
    target, info, _ = copied(tmp_path, data)
    assert (info.metadata.exif, info.metadata.xmp) == (exif(1), XMP)
    assert any("rebuild the JPEG" in note for note in info.warnings)
    assert read(target)[0].metadata.exif == exif(1)


def test_jpeg_xl_orientation_wins_over_exif(tmp_path):
    """Viewers obey the codestream; a different EXIF tag is carried as it is."""
    data = jxl(pixels(3), box(b"Exif", bytes(4), exif(6)), lossless=True)
    target, info, _ = copied(tmp_path, data)
    assert exif_block.orientation(info.metadata.exif) == 1
    assert exif(6) in target.read_bytes()
    assert np.array_equal(imagecodecs.jpegxl_decode(target.read_bytes()), pixels(3))


def test_profile_is_not_dropped_on_the_way_to_jpeg_xl():
    info = image_info("png", 9, 9, 3, "uint8", metadata=Metadata(icc=b"profile"))
    with pytest.raises(OutputError, match="ICC"):
        find_format("jxl").check(info)


# --- AVIF ---------------------------------------------------------------------------------


@every("layout", ["420", "422", "444"])
@every("bits", [8, 10, 12])
def test_avif_keeps_depth_and_layout(tmp_path, bits, layout):
    code = {"primaries": 9, "transfer": 16, "matrix": 9}
    array = pixels(3, bits)
    data = imagecodecs.avif_encode(array, level=90, bitspersample=bits, pixelformat=layout, **code)
    target, info, seen = copied(tmp_path, bytes(data))
    again, twice = read(target)
    for found in (info, again):
        assert found.metadata.container["layout"] == layout
        assert found.metadata.container["colour"] == (9, 16, 9)
        assert found.peak == 2**bits - 1
    assert np.abs(twice.astype(float) - seen).mean() / again.peak < 0.01


def test_avif_animation_is_refused(tmp_path):
    out = io.BytesIO()
    frames = [Image.fromarray(pixels(3, seed=n)) for n in (0, 1)]
    frames[0].save(out, "AVIF", save_all=True, append_images=frames[1:])
    refused(tmp_path, out.getvalue(), "animated")


def test_avif_of_sixteen_bits_is_an_error():
    info = image_info("tiff", 9, 9, 3, "uint16", metadata=Metadata())
    with pytest.raises(OutputError, match="16-bit"):
        find_format("avif").check(info)


# --- JPEG 2000 ----------------------------------------------------------------------------


@every("samples", [1, 3])
def test_bare_codestream_stays_bare(tmp_path, samples):
    array = pixels(samples).squeeze()
    data = imagecodecs.jpeg2k_encode(array, level=0, reversible=True, codecformat="j2k")
    target, _, seen = copied(tmp_path, bytes(data))
    assert target.read_bytes()[:4] == b"\xff\x4f\xff\x51"
    assert np.array_equal(read(target)[1], seen)


def test_jpeg_2000_opacity_is_marked_as_such(tmp_path):
    target, _, _ = copied(tmp_path, jp2(pixels(4), level=0, reversible=True))
    assert b"cdef" in target.read_bytes()
    with Image.open(target) as image:
        assert image.mode == "RGBA"


@every("fraction", [0.5, 0.9, 0.999])
def test_jpeg_2000_cut_short_is_an_error(tmp_path, fraction):
    data = bytes(imagecodecs.jpeg2k_encode(pixels(3), codecformat="j2k"))
    refused(tmp_path, data[: int(len(data) * fraction)], "ends early")


def test_jpeg_2000_in_other_colours_is_refused(tmp_path):
    data = jp2(pixels(3), level=0, reversible=True)
    at = data.index(b"colr") + 7
    refused(tmp_path, data[:at] + struct.pack(">I", 18) + data[at + 4 :], "colour space 18")


# --- .npy ---------------------------------------------------------------------------------


@every(
    ("shape", "axes", "colour", "alpha"),
    [
        ((9, 11), "YX", "gray", False),
        ((9, 11, 3), "YXS", "rgb", False),
        ((9, 11, 4), "YXS", "rgb", True),
        ((3, 9, 11), "QYX", "gray", False),
        ((2, 9, 3), "YXS", "rgb", False),
        ((9, 11, 1), "YXS", "gray", False),
        ((9, 11, 2), "YXS", "channels", False),
        ((2, 9, 11, 3), "QYXS", "rgb", False),
        ((2, 9, 11, 4), "QYXS", "rgb", True),
        ((41, 40, 5), "YXS", "channels", False),
        ((41, 39, 5), "QYX", "gray", False),
        ((2, 5, 9, 11), "QQYX", "gray", False),
    ],
)
def test_array_axes_are_guessed(tmp_path, shape, axes, colour, alpha):
    np.save(tmp_path / "a.npy", np.arange(np.prod(shape), dtype="f4").reshape(shape))
    with closing(open_image(tmp_path / "a.npy")) as reader:
        info = reader.info
    assert (info.axes, info.colour, info.alpha) == (axes, colour, alpha)


def test_array_axes_are_overridden(tmp_path):
    bands = np.random.default_rng(0).integers(0, 999, (9, 11, 65), dtype=np.uint16)
    np.save(tmp_path / "a.npy", bands)
    info, seen = read(tmp_path / "a.npy", axes="yxs")
    assert (info.colour, info.samples, info.planes) == ("channels", 65, 1)
    assert np.array_equal(seen, bands)
    write(tmp_path / "b.npy", info, seen)
    assert np.array_equal(np.load(tmp_path / "b.npy"), bands)


@every("axes", ["YX", "ZYXS", "YZS", "XSS", "YYX", "Y2X", ""])
def test_axes_that_do_not_fit(tmp_path, axes):
    np.save(tmp_path / "a.npy", np.zeros((9, 11, 5), np.float32))
    with pytest.raises(UsageError) as caught:
        open_image(tmp_path / "a.npy", axes)
    assert "QYX" in (caught.value.hint or "")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">f4", "i1", "f8"])
def test_array_of_any_order_comes_back(tmp_path, dtype, order):
    array = np.random.default_rng(0).integers(0, 99, (4, 9, 11)).astype(dtype)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    reader = open_image(tmp_path / "a.npy")
    info = reader.info
    with create_image(tmp_path / "b.npy", info) as writer:
        for plane in range(4):
            for top in (0, 5):
                rows = reader.read_rows(plane, top, 5 if top == 0 else 9)
                assert rows.dtype.isnative
                writer.write_rows(plane, top, rows)
    reader.close()
    again = np.load(tmp_path / "b.npy")
    assert again.dtype == np.dtype(dtype)
    assert np.array_equal(again, array)


def test_nan_and_infinity_pass(tmp_path):
    array = pixels(1)[..., 0].astype(np.float32)
    array[3, 4], array[5, 6] = np.nan, np.inf
    np.save(tmp_path / "a.npy", array)
    info, seen = read(tmp_path / "a.npy")
    write(tmp_path / "b.npy", info, seen)
    assert np.array_equal(np.load(tmp_path / "b.npy"), array, equal_nan=True)


@every(
    "array",
    [
        np.zeros((9, 9), bool),
        np.zeros((9, 9), complex),
        np.zeros((9, 9), "M8[s]"),
        np.zeros((9, 9), "U3"),
        np.zeros((9, 9), [("a", "u1")]),
        np.zeros(9),
        np.zeros(()),
        np.zeros((0, 9)),
        np.array([[object()]]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_array_that_is_no_picture(tmp_path, array):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    refused(tmp_path, out.getvalue(), "picture|cannot be read")


def test_stack_is_not_loaded_whole(tmp_path, monkeypatch):
    """A stack is read by rows, even where its first plane would not fit."""
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint16, (2000, 1024, 1024)).flush()
    import tracemalloc

    reader = open_image(tmp_path / "a.npy")
    tracemalloc.start()
    rows = reader.read_rows(1999, 1000, 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    reader.close()
    assert rows.shape == (24, 1024, 1)
    assert peak < 4 * rows.nbytes


# --- all of them --------------------------------------------------------------------------


@every("size", [(1, 1), (1, 9), (9, 1), (3, 2)])
@every("name", ["png", "jpeg", "webp", "bmp", "jxl", "avif", "jpeg2000", "npy"])
def test_tiny_pictures(tmp_path, name, size):
    array = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    info = image_info(name, *size, 3, "uint8", metadata=Metadata())
    write(tmp_path / "a", info, array)
    again, seen = read(tmp_path / "a", axes="YXS")
    assert (again.height, again.width) == size
    assert name == "jpeg" or np.array_equal(seen, array)


@every("name", ["png", "jpeg", "webp", "bmp", "jxl", "avif", "jpeg2000"])
def test_axes_of_a_picture_are_what_they_are(tmp_path, name):
    write(
        tmp_path / "a",
        image_info(name, HEIGHT, WIDTH, 3, "uint8", metadata=Metadata()),
        pixels(3),
    )
    with closing(open_image(tmp_path / "a", "YXS")) as reader:
        assert reader.info.axes == "YXS"
    with pytest.raises(UsageError) as caught:
        open_image(tmp_path / "a", "ZYX")
    assert caught.value.hint


@every("order", ["<", ">"])
@every("value", range(1, 9))
def test_orientation_is_set_in_an_exif_block(order, value):
    for before in (exif(3, order), None, exif(3, order).replace(b"\x12\x01", b"\x13\x01")):
        block = exif_block.with_orientation(before, value)
        assert exif_block.orientation(block) == value
        tags = Image.Exif()
        tags.load(b"Exif\0\0" + (block or b""))
        assert tags.get(0x0112, 1) == value
        assert before is None or tags[0x010F] == "Maker"


@every("damage", [b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_broken_exif_has_no_orientation(damage):
    assert exif_block.orientation(damage) == 1
    exif_block.with_orientation(damage, 6)


def test_a_description_of_another_format_loses_its_container(tmp_path):
    (tmp_path / "a").write_bytes(pillow(pixels(3), "JPEG", quality=50, comment=b"note"))
    info, seen = read(tmp_path / "a")
    write(tmp_path / "b.png", replace(info, format="png"), seen)
    assert read(tmp_path / "b.png")[0].metadata.container == {"chunks": ()}
