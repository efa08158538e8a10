"""What a TIFF says of its pixels comes back with them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import every, icc
from tiff_copies import copy, facts, pixels_of, read_all, save

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.formats import find_format, open_image
from denoisekit.formats.tiff import TIFF
from denoisekit.image import ImageInfo, Metadata

RAMP = np.arange(9 * 11, dtype=np.uint16).reshape(9, 11)
STACK = np.arange(24 * 9 * 11, dtype=np.uint16).reshape(2, 3, 4, 9, 11)


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "a.tif", tmp_path / "b.tif"


def page_tags(path, page=0):
    with tifffile.TiffFile(path) as tif:
        return {tag.code: tag.value for tag in tif.pages[page].aspage().tags}


@every("unit", [1, 2, 3])
def test_resolution_is_exact(paths, unit):
    resolution = ((1577923, 1000000), (7, 3))
    tifffile.imwrite(paths[0], RAMP, resolution=resolution, resolutionunit=unit)
    dpi = copy(*paths).metadata.dpi
    tags = page_tags(paths[1])
    assert (tags[282], tags[283], tags[296]) == (*resolution, unit)
    inch = {1: None, 2: 1.0, 3: 2.54}[unit]
    assert dpi == (inch and pytest.approx((1.577923 * inch, 7 / 3 * inch)))


IMAGEJ = {
    "axes": "TZCYX",
    "spacing": 0.25,
    "unit": "um",
    "finterval": 1.5,
    "fps": 2 / 3,
    "mode": "composite",
    "min": 3.0,
    "max": 999.0,
    "Info": "Nikon\nObjective=60x µ",
    "Labels": [f"plane {i} α" for i in range(24)],
    "Ranges": (0.0, 1.0, 0.0, 2.0, 0.5, 3.0, 0.0, 4.0),
    "LUTs": [np.stack([np.arange(256, dtype=np.uint8) // (c + 1)] * 3) for c in range(4)],
    "ROI": b"Iout" + bytes(range(60)),
    "Overlays": [b"Iout" + bytes(range(c, 60)) for c in range(2)],
}


@every("order", ["<", ">"])
def test_imagej_metadata(paths, order):
    tifffile.imwrite(
        paths[0], STACK, imagej=True, metadata=IMAGEJ, byteorder=order, resolution=(4.5, 4.5)
    )
    copy(*paths)
    with tifffile.TiffFile(paths[0]) as before, tifffile.TiffFile(paths[1]) as after:
        old, new = before.imagej_metadata, after.imagej_metadata
        assert new.keys() == old.keys() >= {"spacing", "LUTs", "ROI", "Overlays", "Labels"}
        for key, value in old.items():
            np.testing.assert_array_equal(new[key], value)
        # ImageJ reads large stacks as one block behind the first directory.
        assert after.series[0].dataoffset is not None
        assert after.pages[0].offset == 8


def test_imagej_colour_table_of_gray_pixels_is_kept(paths):
    table = np.stack([np.arange(256, dtype=np.uint16) * k for k in (257, 0, 100)])
    gray = RAMP.astype(np.uint8)
    tifffile.imwrite(paths[0], gray, imagej=True, colormap=table)
    info = copy(*paths)
    assert (info.colour, info.samples) == ("gray", 1)
    np.testing.assert_array_equal(page_tags(paths[1])[320], table)
    assert facts(paths[0]) == facts(paths[1])


@every("dtype", [np.uint8, np.uint16])
def test_palette_becomes_rgb(paths, dtype):
    levels = 2 ** (8 * np.dtype(dtype).itemsize)
    table = np.random.default_rng(1).integers(0, 256, (3, levels)).astype(np.uint16) * 257
    index = np.random.default_rng(2).integers(0, levels, (9, 11)).astype(dtype)
    tifffile.imwrite(paths[0], index, photometric="palette", colormap=table)
    info, pixels = read_all(paths[0])
    assert (info.colour, info.shape) == ("rgb", (9, 11, 3))
    assert any("palette" in warning for warning in info.warnings)
    expected = np.moveaxis(table[:, index], 0, -1)
    np.testing.assert_array_equal(pixels[0], expected >> 8 if dtype is np.uint8 else expected)
    copy(*paths)
    np.testing.assert_array_equal(pixels_of(paths[1]), pixels[0])
    assert 320 not in page_tags(paths[1])


OME = {
    "axes": "TZCYX",
    "PhysicalSizeX": 0.103,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.104,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 0.5,
    "PhysicalSizeZUnit": "µm",
    "TimeIncrement": 2.5,
    "TimeIncrementUnit": "s",
    "SignificantBits": 12,
    "Channel": {"Name": ["DAPI", "GFP", "Cy3", "Cy5"]},
    "Description": "HeLa, 37 °C",
}


def pixels_element(path):
    with tifffile.TiffFile(path) as tif:
        root = ElementTree.fromstring(tif.ome_metadata)
    namespace = root.tag.removesuffix("OME")
    return root, root.find(f"{namespace}Image/{namespace}Pixels"), namespace


@every("order", ["<", ">"])
@every("compression", [None, "zlib"])
def test_ome_metadata(paths, compression, order):
    tifffile.imwrite(
        paths[0], STACK, ome=True, metadata=OME, byteorder=order, compression=compression
    )
    assert copy(*paths).bits == 12
    (_, old, ns), (root, new, _) = pixels_element(paths[0]), pixels_element(paths[1])
    assert new.attrib == old.attrib
    assert new.attrib["PhysicalSizeX"] == "0.103"
    assert [c.attrib["Name"] for c in new.iter(f"{ns}Channel")] == ["DAPI", "GFP", "Cy3", "Cy5"]
    places = list(root.iter(f"{ns}TiffData"))
    assert [p.attrib for p in places] == [{"IFD": "0", "PlaneCount": "24"}]
    np.testing.assert_array_equal(pixels_of(paths[1]), STACK)
    assert facts(paths[1]) == facts(paths[0])


OME_XML = """<?xml version="1.0" encoding="UTF-8"?><!-- kept -->
<ome:OME xmlns:ome="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">
<ome:Image ID="Image:0" Name="µ"><ome:Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16"
 SizeX="11" SizeY="9" SizeZ="2" SizeC="1" SizeT="1" PhysicalSizeX="0.25">
<ome:Channel ID="Channel:0:0" SamplesPerPixel="1"><ome:LightPath/></ome:Channel>
<ome:TiffData FirstZ="0" IFD="{0}" PlaneCount="1"><ome:UUID FileName="{2}">urn:uuid:1</ome:UUID>
</ome:TiffData><ome:TiffData FirstZ="1" IFD="{1}" PlaneCount="1">
<ome:UUID FileName="{2}">urn:uuid:1</ome:UUID></ome:TiffData>
<ome:Plane TheZ="0" TheC="0" TheT="0" PositionX="5"/></ome:Pixels></ome:Image></ome:OME>"""


def write_ome(path, xml, pages):
    tifffile.imwrite(path, pages, photometric="minisblack", metadata=None, description=xml.encode())


def test_ome_planes_out_of_order_and_of_another_name(paths):
    write_ome(paths[0], OME_XML.format(1, 0, "before it was renamed.ome.tif"), STACK[0, 0, :2])
    info, pixels = read_all(paths[0])
    assert info.axes == "ZYX"
    np.testing.assert_array_equal(pixels[..., 0], STACK[0, 0, 1::-1])
    copy(*paths)
    np.testing.assert_array_equal(pixels_of(paths[1]), STACK[0, 0, 1::-1])
    root, new, ns = pixels_element(paths[1])
    with tifffile.TiffFile(paths[1]) as tif:
        assert "<!-- kept -->" in tif.ome_metadata
        assert tif.series[0].axes == "ZYX"
    assert new.attrib["PhysicalSizeX"] == "0.25"
    assert root.attrib["UUID"] != "urn:uuid:1"
    assert new.find(f"{ns}Plane").attrib["PositionX"] == "5"


def test_ome_with_planes_that_are_not_there_is_refused(paths):
    xml = OME_XML.format(0, 1, "a.tif").replace('SizeT="1"', 'SizeT="2000000000"')
    write_ome(paths[0], xml, STACK[0, 0, :2])
    with pytest.raises(InputError, match="4000000000 planes"):
        open_image(paths[0])


def picture_with_exif(path):
    exif = Image.Exif()
    exif[271], exif[272], exif[306] = "Maker", "Model", "2024:01:02 03:04:05"
    exif[315], exif[33432] = "Artist ä", "© someone"
    # Pillow saves a directory only where the block had one when it was loaded.
    exif[34665], exif[34853] = 0, 0
    exif._ifds[34665] = {33434: (1, 250), 34855: 3200, 36867: "2024:01:02 03:04:05"}
    exif._ifds[34853] = {1: "N", 2: (52.0, 31.0, 12.5), 29: "2024:01:02"}
    pixels = np.random.default_rng(0).integers(0, 255, (16, 12, 3)).astype(np.uint8)
    options = {"icc_profile": icc(), "dpi": (300, 300)}
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return pixels


def test_exif_gps_icc(paths):
    pixels = picture_with_exif(paths[0])
    info = copy(*paths)
    with Image.open(paths[0]) as a, Image.open(paths[1]) as b:
        old, new = a.getexif(), b.getexif()
        for ifd in (34665, 34853):
            assert dict(new.get_ifd(ifd)) == dict(old.get_ifd(ifd)) != {}
        for code in (271, 272, 306, 315, 33432):
            assert new[code] == old[code]
        assert b.info["icc_profile"] == icc()
        assert b.info["dpi"] == (300, 300)
        np.testing.assert_array_equal(np.asarray(b), pixels)
    assert info.metadata.icc == icc()
    assert info.metadata.dpi == (300, 300)


def test_exif_block_for_other_formats(paths):
    picture_with_exif(paths[0])
    info, _ = read_all(paths[0])
    block = Image.Exif()
    block.load(info.metadata.exif)
    assert block[271] == "Maker"
    assert block.get_ifd(34665)[34855] == 3200
    assert block.get_ifd(34853)[2] == (52.0, 31.0, 12.5)


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_metadata_of_another_format_are_taken(tmp_path, order):
    picture_with_exif(tmp_path / "a.tif")
    source = read_all(tmp_path / "a.tif")[0].metadata
    block = source.exif
    if order == b"MM":
        from denoisekit.formats.tiff_tags import pack_block, parse_block

        block = pack_block(parse_block(block).to(">"))
    metadata = Metadata(icc=b"icc", exif=block, xmp=b"<x:xmpmeta/>", dpi=(72.5, 96.0))
    info = ImageInfo("png", (9, 11, 4), "YXS", np.dtype("u2"), "rgb", True, metadata=metadata)
    pixels = np.arange(9 * 11 * 4, dtype=np.uint16).reshape(1, 9, 11, 4)
    save(tmp_path / "b.tif", info, pixels)
    with Image.open(tmp_path / "b.tif") as written:
        exif = written.getexif()
        assert exif[271] == "Maker"
        assert exif.get_ifd(34665)[34855] == 3200
        assert exif.get_ifd(34853)[1] == "N"
        assert written.info["icc_profile"] == b"icc"
    tags = page_tags(tmp_path / "b.tif")
    assert tags[700] == b"<x:xmpmeta/>"
    assert tags[338] == (2,)
    np.testing.assert_array_equal(pixels_of(tmp_path / "b.tif"), pixels[0])
    back = read_all(tmp_path / "b.tif")[0]
    assert (back.colour, back.alpha, back.metadata.xmp) == ("rgb", True, b"<x:xmpmeta/>")


def test_stack_of_another_format_keeps_its_axes(tmp_path):
    for shape, axes, colour in [
        ((3, 9, 11), "ZYX", "gray"),
        ((2, 3, 9, 11), "TCYX", "gray"),
        ((2, 9, 11, 3), "TYXS", "rgb"),
        ((9, 11, 5), "YXS", "channels"),
        ((3, 9, 11, 3), "ZYXS", "channels"),
    ]:
        info = ImageInfo("npy", shape, axes, np.dtype("f4"), colour)
        pixels = np.random.default_rng(0).normal(size=shape).astype("f4")
        save(tmp_path / "b.tif", info, pixels.reshape(info.planes, 9, 11, info.samples))
        with tifffile.TiffFile(tmp_path / "b.tif") as tif:
            assert (tif.series[0].axes, tif.series[0].shape) == (axes, shape)
            np.testing.assert_array_equal(tif.series[0].asarray(), pixels)
        back = read_all(tmp_path / "b.tif")[0]
        assert (back.axes, back.shape) == (axes, shape)


@every("orientation", range(1, 9))
def test_orientation_is_told_and_pixels_stay(paths, orientation):
    extratags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(paths[0], RAMP, extratags=extratags)
    info = copy(*paths)
    assert page_tags(paths[1])[274] == orientation
    np.testing.assert_array_equal(pixels_of(paths[1]), RAMP)
    block = Image.Exif()
    block.load(info.metadata.exif)
    assert block[274] == orientation


def test_tags_that_are_values_are_copied_and_positions_are_not(paths):
    extratags = [
        (269, 2, 0, "document", True),
        (700, 1, None, b"<x:xmpmeta/>", True),
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (34735, 3, 4, (1, 1, 0, 0), True),
        (34737, 2, 0, "WGS 84", True),
        (42113, 2, 0, "-9999", True),
        (65000, 2, 0, "private text", True),
        (65001, 11, 2, (1.5, -2.5), True),
        (65002, 4, 1, 40, True),
        (65003, 13, 1, 8, True),
        (37724, 7, None, b"Adobe Photoshop Document Data Block", True),
    ]
    tifffile.imwrite(paths[0], RAMP, extratags=extratags, byteorder=">", metadata=None)
    info = copy(*paths)
    old, new = page_tags(paths[0]), page_tags(paths[1])
    assert old.keys() - new.keys() == {65002, 65003, 37724}
    for code in new.keys() - {273}:
        assert new[code] == old[code], code
    assert any("Photoshop" in warning for warning in info.warnings)


def test_every_page_keeps_its_own_tags(paths):
    with tifffile.TiffWriter(paths[0]) as tif:
        for i in range(3):
            tif.write(
                RAMP, description=f"page {i}", metadata=None, datetime=f"2024:01:0{i + 1} 00:00:00"
            )
    copy(*paths)
    for i in range(3):
        tags = page_tags(paths[1], i)
        assert (tags[270], tags[306]) == (f"page {i}", f"2024:01:0{i + 1} 00:00:00")


def test_pyramid_gives_its_full_size_and_says_so(paths):
    big = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    with tifffile.TiffWriter(paths[0]) as tif:
        tif.write(big, subifds=2, tile=(32, 32))
        tif.write(big[::2, ::2], subfiletype=1, tile=(32, 32))
        tif.write(big[::4, ::4], subfiletype=1, tile=(16, 16))
    info = copy(*paths)
    assert any("pyramid" in warning for warning in info.warnings)
    np.testing.assert_array_equal(pixels_of(paths[1]), big)
    assert 330 not in page_tags(paths[1])


def test_thumbnail_is_left_out_and_said(paths):
    with tifffile.TiffWriter(paths[0]) as tif:
        tif.write(RAMP, metadata=None)
        tif.write(RAMP[:4, :5].astype(np.uint8), subfiletype=1, metadata=None)
    info = copy(*paths)
    assert any("thumbnail" in warning or "pyramid" in warning for warning in info.warnings)
    np.testing.assert_array_equal(pixels_of(paths[1]), RAMP)


def test_images_of_different_kinds_are_refused(paths):
    with tifffile.TiffWriter(paths[0]) as tif:
        tif.write(RAMP, metadata=None)
        tif.write(RAMP[:4].astype(np.float32), metadata=None)
    with pytest.raises(InputError, match="2 images of different kinds") as caught:
        open_image(paths[0])
    assert "split" in caught.value.hint


@every("options", [{}, {"compression": "zlib", "tile": (16, 16)}, {"compression": "lzw"}], ids=str)
@every("samples", [1, 3])
@every("big", [False, True])
def test_pages_of_different_sizes_come_back_as_they_were(paths, options, samples, big):
    rng = np.random.default_rng(0)
    sizes = ((30, 40), (20, 50), (30, 40), (3, 70), (31, 1))
    pages = [rng.integers(0, 2**16, (*size, samples)).astype(np.uint16) for size in sizes]
    colour = "rgb" if samples == 3 else "minisblack"
    with tifffile.TiffWriter(paths[0], bigtiff=big) as tif:
        for number, page in enumerate(pages):
            page = page if samples == 3 else page[..., 0]
            text = f"page {number}"
            tif.write(page, metadata=None, photometric=colour, description=text, **options)
    info = copy(*paths)
    assert info.shape[:3] == (5, 31, 70)
    assert any("5 pages of different sizes" in note for note in info.warnings)
    with tifffile.TiffFile(paths[1]) as tif:
        assert tif.is_bigtiff == big
        assert len(tif.pages) == 5
        for number, (old, new) in enumerate(zip(pages, tif.pages, strict=True)):
            np.testing.assert_array_equal(new.asarray().reshape(old.shape), old)
            assert new.description == f"page {number}"
            assert new.compression == {"zlib": 8, "lzw": 5}.get(options.get("compression"), 1)


def test_what_a_smaller_page_lacks_is_its_mirror_image(paths):
    with tifffile.TiffWriter(paths[0]) as tif:
        tif.write(RAMP, metadata=None)
        tif.write(RAMP[:4, :3], metadata=None)
    info, seen = read_all(paths[0])
    assert info.shape == (2, 9, 11)
    expected = np.pad(RAMP[:4, :3], ((0, 5), (0, 8)), "symmetric")
    np.testing.assert_array_equal(seen[1, ..., 0], expected)
    with pytest.raises(OutputError, match="TIFF only"):
        find_format("npy").check(info)


@pytest.mark.parametrize("pixels", [RAMP.astype(np.complex64), RAMP.astype(np.complex128)])
def test_numbers_that_cannot_be_denoised_are_refused(paths, pixels):
    tifffile.imwrite(paths[0], pixels)
    with pytest.raises(InputError) as caught:
        open_image(paths[0])
    assert caught.value.hint
    info = ImageInfo("npy", RAMP.shape, "YX", pixels.dtype)
    with pytest.raises(OutputError):
        TIFF.check(info)


AXES = {
    "ZYX": ((4, 9, 11), "ZYX", "gray", True),
    "tyx": ((4, 9, 11), "TYX", "gray", True),
    "SYX": ((9, 11, 4), "YXS", "channels", False),
}


@pytest.mark.parametrize("asked", AXES)
def test_axes_are_called_as_the_user_says(paths, asked):
    stack = STACK[0, 0]
    shape, axes, colour, kept = AXES[asked]
    tifffile.imwrite(paths[0], stack, photometric="minisblack")
    info, pixels = read_all(paths[0], asked)
    assert (info.shape, info.axes, info.colour) == (shape, axes, colour)
    expected = stack[..., None] if kept else np.moveaxis(stack, 0, -1)[None]
    np.testing.assert_array_equal(pixels, expected)
    copy(*paths, axes=asked)
    expected = stack if kept else expected[0]
    np.testing.assert_array_equal(pixels_of(paths[1]), expected)


def test_three_pages_called_samples_are_rgb(paths):
    tifffile.imwrite(paths[0], STACK[0, 0, :3], photometric="minisblack")
    info = copy(*paths, axes="SYX")
    assert (info.colour, info.shape) == ("rgb", (9, 11, 3))
    assert page_tags(paths[1])[262] == 2


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_called_planes(paths, planar):
    stack = STACK[0, 0, :3]
    stored = stack if planar == "separate" else np.moveaxis(stack, 0, -1).copy()
    tifffile.imwrite(paths[0], stored, photometric="rgb", planarconfig=planar)
    asked = "ZYX" if planar == "separate" else "YXZ"
    info, pixels = read_all(paths[0], asked)
    assert (info.axes, info.shape, info.colour) == ("ZYX", (3, 9, 11), "gray")
    np.testing.assert_array_equal(pixels[..., 0], stack)
    copy(*paths, axes=asked)
    with tifffile.TiffFile(paths[1]) as tif:
        assert tif.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tif.series[0].asarray(), stack)


@pytest.mark.parametrize("asked", ["YX", "TZYX", "ZZX", "XYZ", "YXZ", "ZY", "Z1X", "SSYX"])
def test_axes_that_cannot_be_are_refused(paths, asked):
    tifffile.imwrite(paths[0], STACK[0, 0], photometric="minisblack")
    with pytest.raises(UsageError) as caught:
        open_image(paths[0], asked)
    assert "4×9×11" in caught.value.hint
    assert "QYX" in caught.value.hint


def test_metadata_that_fit_no_longer_are_left_out(paths):
    tifffile.imwrite(paths[0], STACK, ome=True, metadata=OME)
    info, _ = read_all(paths[0])
    half = replace(info, shape=(2, 9, 11), axes="ZYX", dtype=np.dtype("f4"), bits=None)
    checked = TIFF.check(half)
    assert any("ome" in warning for warning in checked.warnings)
    pixels = STACK[0, :2, 0, :, :, None].astype("f4")
    save(paths[1], checked, pixels)
    with tifffile.TiffFile(paths[1]) as tif:
        assert tif.ome_metadata is None
        assert tif.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tif.series[0].asarray(), pixels[..., 0])


@pytest.mark.shared
@pytest.mark.parametrize("folder", ["formats", "uint16", "w2s", "fluorescence"])
def test_real_files(shared, tmp_path, folder):
    files = sorted((shared / "data" / folder).glob("*.tif"))
    assert files
    for source in files:
        target = tmp_path / "copy.tif"
        info = copy(source, target, band=100)
        assert info.warnings == ()
        assert facts(target) == facts(source), source.name
        assert info.shape == tuple(facts(source)["series"][3])
        old, new = pixels_of(source), pixels_of(target)
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(old, new, err_msg=source.name)
        before, after = page_tags(source), page_tags(target)
        written_anew = {259, 273, 278, 279, 284}
        for code in before.keys() - written_anew:
            np.testing.assert_array_equal(after[code], before[code])


def test_slide_gives_its_full_size_and_says_what_is_lost(paths):
    slide = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    text = "Aperio Image Library v11\r\n96x64 [0,0 96x64] (32x32)|AppMag = 20|MPP = 0.5"
    options = {"photometric": "rgb", "metadata": None, "software": ""}
    with tifffile.TiffWriter(paths[0]) as tif:
        tif.write(slide, tile=(32, 32), description=text, **options)
        tif.write(slide[::4, ::4], description=text, **options)
        tif.write(slide[::2, ::2], tile=(32, 32), description=text, **options)
        tif.write(slide[:9, :9], subfiletype=9, description="Aperio\r\nmacro 9x9", **options)
    info = copy(*paths)
    assert len(info.warnings) == 2
    np.testing.assert_array_equal(pixels_of(paths[1]), slide)
    assert "MPP = 0.5" in page_tags(paths[1])[270]


def ome_set(folder):
    """Make an OME-TIFF set of two files by hand; return their stacks."""
    stacks = np.random.default_rng(0).integers(0, 4000, (2, 3, 16, 20)).astype(np.uint16)
    ids = [f"urn:uuid:0000000{n}-0000-0000-0000-000000000000" for n in range(2)]
    places = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" FirstC="0" IFD="{z}" PlaneCount="1">'
        f'<UUID FileName="s_{t}.ome.tif">{ids[t]}</UUID></TiffData>'
        for t in range(2)
        for z in range(3)
    )
    for t, own in enumerate(ids):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="20" SizeY="16" SizeZ="3" SizeC="1" SizeT="2">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{places}</Pixels></Image></OME>'
        )
        path = folder / f"s_{t}.ome.tif"
        tifffile.imwrite(path, stacks[t], description=xml, metadata=None, photometric="minisblack")
    return stacks


def test_a_file_of_an_ome_set_gives_its_own_planes_and_the_set_opens_again(tmp_path):
    stacks = ome_set(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    for t in range(2):
        name = f"s_{t}.ome.tif"
        info = copy(tmp_path / name, out / name)
        assert info.shape == (3, 16, 20)
        assert any("one file of an OME-TIFF set" in note for note in info.warnings)
        np.testing.assert_array_equal(read_all(out / name)[1][..., 0], stacks[t])
    np.testing.assert_array_equal(tifffile.imread(out / "s_0.ome.tif"), stacks)
