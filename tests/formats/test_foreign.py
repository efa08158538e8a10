"""Files of kinds that are not read are named, and the way to convert them is told."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from samples import every, pillow, pixels, read

from denoisekit.batch.naming import find_sources, left_out
from denoisekit.errors import InputError
from denoisekit.formats import FORMATS, foreign, open_image

MARKED = [(kind, mark) for kind in foreign.KINDS for mark in kind.marks]


@every(("kind", "mark"), MARKED, ids=lambda v: getattr(v, "one", None))
def test_every_mark_is_known_by_content(tmp_path, kind, mark):
    at, bytes_ = mark
    path = tmp_path / ("a" + (kind.suffixes[0] if kind.named else ".png"))
    path.write_bytes(bytes(at) + bytes_ + bytes(600))
    with pytest.raises(InputError) as caught:
        open_image(path)
    if not any(known.matches(path.read_bytes()[: foreign.HEAD]) for known in FORMATS) or kind.first:
        assert "which is not supported" in caught.value.message
        assert caught.value.hint == kind.hint


@every(
    ("name", "words", "hint"),
    [
        ("a.tga", "Targa", "convert"),
        ("a.ND2", "ND2", "OME-TIFF"),
        ("a.dcm", "DICOM", "TIFF"),
        ("a.arw", "raw photo", "develop"),
        ("a.zarr", "Zarr", "npy"),
        ("a.mrc", "MRC", "mrcfile"),
    ],
)
def test_what_has_no_mark_is_known_by_name(tmp_path, name, words, hint):
    path = tmp_path / name
    path.write_bytes(b"whatever it holds")
    with pytest.raises(InputError, match=words) as caught:
        open_image(path)
    assert hint in caught.value.hint


def test_the_content_wins_over_the_name(tmp_path):
    path = tmp_path / "a.tga"
    path.write_bytes(pillow(pixels(), "PNG"))
    assert read(path)[0].format == "png"


def test_a_zarr_store_is_named_and_counted_once(tmp_path):
    store = tmp_path / "a.zarr"
    (store / "0").mkdir(parents=True)
    (store / "0" / "b.dcm").write_bytes(b"")
    with pytest.raises(InputError, match="Zarr"):
        open_image(store)
    lines = left_out([str(tmp_path)], recursive=True)
    assert len(lines) == 1
    assert lines[0].startswith("1 × Zarr files (.zarr)")


@every("suffix", ["nef", "arw", "dng", "pef", "srw", "3fr", "erf", "nrw"])
def test_a_raw_photo_that_looks_like_a_tiff_is_named_by_its_name(tmp_path, suffix):
    path = tmp_path / f"a.{suffix.upper()}"
    tifffile.imwrite(path, pixels(3), photometric="rgb")
    with pytest.raises(InputError, match="a raw photo") as caught:
        open_image(path)
    assert "develop" in caught.value.hint


def test_a_raw_photo_named_as_a_tiff_is_known_by_its_content(tmp_path):
    path = tmp_path / "a.tif"
    mosaic = np.zeros((64, 64), np.uint16)
    with tifffile.TiffWriter(path) as tif:
        tif.write(pixels(3), photometric="rgb", subfiletype=1, subifds=1)
        tif.write(mosaic, photometric=32803)
    with pytest.raises(InputError, match="a raw photo"):
        open_image(path)
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint16), photometric=34892)
    with pytest.raises(InputError, match="a raw photo"):
        open_image(path)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "words"), [("CT_small.dcm", "DICOM"), ("DSC_nikon.NEF", "raw")])
def test_sound_files_are_not_called_damaged(shared, name, words):
    with pytest.raises(InputError, match=words) as caught:
        open_image(shared / "cases" / name)
    assert "damaged" not in caught.value.message + caught.value.hint


def test_a_folder_says_what_it_holds_beside_pictures(tmp_path):
    for name in ("a.nef", "b.NEF", "c.arw", "d.czi", ".e.dng", "f.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "g.dcm").write_bytes(b"")
    (source,) = find_sources([str(tmp_path)])
    assert "that can be read" in source.error.message
    assert "3 × raw photos (.arw, .nef): develop" in source.error.hint
    assert "1 × CZI (Zeiss) files (.czi): convert" in source.error.hint
    (tmp_path / "h.png").write_bytes(b"")
    assert [s.path.name for s in find_sources([str(tmp_path)])] == ["h.png"]
    assert len(left_out([str(tmp_path)])) == 2
    assert len(left_out([str(tmp_path)], recursive=True)) == 3
    assert left_out([str(tmp_path / "h.png")]) == []
