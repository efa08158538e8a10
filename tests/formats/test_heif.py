"""HEIC: what it holds comes back, turned as it was."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from samples import XMP, box, copied, exif, heic, icc, pixels, read

from denoisekit.batch.naming import find_sources
from denoisekit.errors import InputError, OutputError
from denoisekit.formats import exif as exif_block
from denoisekit.formats import find_format, heif, open_image
from denoisekit.formats.base import image_info
from denoisekit.image import Metadata

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)


@pytest.mark.parametrize(
    ("samples", "bits"), [(1, 8), (1, 10), (2, 8), (3, 8), (3, 10), (3, 12), (4, 8), (4, 10)]
)
def test_a_lossless_heic_comes_back_the_same(tmp_path, samples, bits):
    array = pixels(samples, bits)
    target, info, seen = copied(tmp_path, heic(array, bits))
    assert np.array_equal(seen, array)
    assert info.bits == (None if bits == 8 else bits)
    assert info.alpha == (samples in (2, 4))
    again, back = read(target)
    assert np.array_equal(back, array)
    assert (again.format, again.bits, again.shape) == ("heif", info.bits, info.shape)


@pytest.mark.parametrize("chroma", [420, 422, 444])
def test_a_lossy_heic_keeps_its_chroma_and_is_close(tmp_path, chroma):
    smooth = np.add.outer(np.arange(64), np.arange(96))[..., None].repeat(3, 2).astype(np.uint8)
    data = heic(smooth, quality=80, chroma=chroma, matrix_coefficients=6)
    target, info, seen = copied(tmp_path, data)
    again, back = read(target)
    assert info.metadata.container["chroma"] == again.metadata.container["chroma"] == chroma
    assert np.abs(back.astype(int) - seen).mean() < 1


@pytest.mark.parametrize("turn", range(1, 9))
def test_pixels_stay_as_stored_and_the_turn_is_kept(tmp_path, turn):
    library = pytest.importorskip("pillow_heif")
    array = pixels(3)
    target, info, seen = copied(tmp_path, heic(array, exif=exif(turn), xmp=XMP, icc_profile=icc()))
    assert np.array_equal(seen, array)
    assert exif_block.orientation(info.metadata.exif) == turn
    again, _ = read(target)
    assert again.metadata.exif == info.metadata.exif == exif(turn)
    assert (again.metadata.xmp, again.metadata.icc) == (XMP, icc())
    shown = library.open_heif(target)
    assert shown.size == ((37, 29) if turn > 4 else (29, 37))
    assert np.array_equal(np.asarray(shown.to_pillow()), _turned(array, turn))


def _turned(array: np.ndarray, turn: int) -> np.ndarray:
    from PIL import ImageOps

    image = Image.fromarray(array)
    image.getexif()[0x0112] = turn
    return np.asarray(ImageOps.exif_transpose(image))


def test_a_turn_without_exif_reaches_other_formats(tmp_path):
    library = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    library.encode("RGB", (29, 37), pixels(3).tobytes(), out, quality=-1, exif=exif(6))
    data = out.getvalue().replace(exif(6), exif(1))
    path = tmp_path / "a.heic"
    path.write_bytes(data)
    info, _ = read(path)
    png = find_format("png").check(info)
    assert exif_block.orientation(png.metadata.exif) == 6


def test_tiles_and_a_cut(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (140, 150, 3)).astype(np.uint8)
    data = heic(array, tile_size=64)
    path = tmp_path / "a.heic"
    path.write_bytes(data)
    assert np.array_equal(read(path)[1], array)
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError):
            read(path)


def test_other_formats_become_heic_or_say_why_not(tmp_path):
    pytest.importorskip("pillow_heif")
    info = image_info("png", 37, 29, 3, "uint8", metadata=Metadata(exif=exif(3), dpi=(72, 72)))
    kept = find_format("heic").check(info)
    assert kept.metadata.exif == exif(3)
    assert kept.warnings == ("HEIC has no place for the resolution",)
    with pytest.raises(OutputError):
        find_format("heic").check(image_info("png", 9, 9, 3, "uint16", metadata=Metadata()))


def test_without_the_library_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(heif, "missing", lambda: True)
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC)
    with pytest.raises(InputError, match="is a HEIC picture") as caught:
        open_image(path)
    assert "denoisekit[heif]" in caught.value.hint
    (source,) = find_sources([str(tmp_path)])
    assert "1 × HEIC pictures (.heic)" in source.error.hint
    info = image_info("png", 9, 9, 3, "uint8", metadata=Metadata())
    with pytest.raises(OutputError, match="cannot be written"):
        find_format("heif").check(info)


def test_the_video_of_a_motion_photo_is_told_and_no_longer_claimed(tmp_path):
    xmp = b'<x:xmpmeta><rdf:Description dc:title="kept" GCamera:MotionPhoto="1"/></x:xmpmeta>'
    path = tmp_path / "a.heic"
    path.write_bytes(heic(pixels(3), xmp=xmp) + box(b"mpvd", b"a video"))
    info, _ = read(path)
    assert info.warnings == ("the video of a motion photo inside this HEIC is not kept",)
    assert info.metadata.xmp == b'<x:xmpmeta><rdf:Description dc:title="kept"/></x:xmpmeta>'
