"""What lies behind a JPEG stays there, and no metadata speak of what is not."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import copied, exif, jpeg_with, pillow, pixels, read, write

from denoisekit.formats import find_format

VIDEO = struct.pack(">I4s", 24, b"ftyp") + b"mp42" + bytes(12) + b"a video" * 300
XMP_KEY = b"http://ns.adobe.com/xap/1.0/\0"
MOTION = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description dc:title="kept" '
    b"GCamera:MotionPhoto=\"1\" GCamera:MicroVideoOffset='%d'/></rdf:RDF></x:xmpmeta>"
)
GAIN = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description hdrgm:Version="1.0">'
    b"<hdrgm:GainMapMax><rdf:Seq><rdf:li>2</rdf:li></rdf:Seq></hdrgm:GainMapMax>"
    b"<Container:Directory><rdf:Seq><rdf:li>GainMap</rdf:li></rdf:Seq></Container:Directory>"
    b"<dc:title>kept</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def motion() -> bytes:
    photo = jpeg_with(pillow(pixels(), "JPEG"), (0xE1, XMP_KEY + MOTION % len(VIDEO)))
    return photo + VIDEO


def several(count: int = 3) -> tuple[bytes, list[np.ndarray]]:
    frames = [Image.fromarray(pixels(seed=n)) for n in range(count)]
    out = io.BytesIO()
    frames[0].save(out, "MPO", save_all=True, append_images=frames[1:])
    image = Image.open(out)
    seen = []
    for number in range(count):
        image.seek(number)
        seen.append(np.asarray(image))
    return out.getvalue(), seen


def test_a_video_comes_back_byte_for_byte_where_the_metadata_say(tmp_path):
    target, info, _ = copied(tmp_path, motion())
    after = target.read_bytes()
    assert after.endswith(VIDEO)
    assert read(target)[0].metadata.xmp == MOTION % len(VIDEO)  # counted from the end
    assert info.warnings == ()


@pytest.mark.parametrize("name", ["png", "tiff", "webp", "npy"])
def test_a_format_without_room_for_the_video_says_so_and_claims_nothing(tmp_path, name):
    path = tmp_path / "a.jpg"
    path.write_bytes(motion())
    info, array = read(path)
    there = find_format(name).check(info)
    assert any("the video of this motion photo" in note for note in there.warnings)
    write(tmp_path / "b", there, array)
    written = (tmp_path / "b").read_bytes()
    assert b"MotionPhoto" not in written
    assert b"MicroVideo" not in written
    if name != "npy":
        assert b'dc:title="kept"' in written


def test_a_gain_map_is_kept_or_its_claims_go(tmp_path):
    data = jpeg_with(pillow(pixels(), "JPEG"), (0xE1, XMP_KEY + GAIN))
    behind = pillow(pixels()[::2, ::2], "JPEG")
    target, info, _ = copied(tmp_path, data + behind)
    assert target.read_bytes().endswith(behind)
    there = find_format("png").check(info)
    assert any("the gain map" in note for note in there.warnings)
    assert there.metadata.xmp is not None
    assert b"hdrgm:" not in there.metadata.xmp
    assert b"Container" not in there.metadata.xmp
    assert b"<dc:title>kept</dc:title>" in there.metadata.xmp


def test_the_index_leads_to_the_same_pictures(tmp_path):
    data, seen = several()
    target, info, first = copied(tmp_path, jpeg_with(data, (0xFE, b"moves everything by a bit")))
    assert np.array_equal(first, seen[0])
    assert any("with their noise" in note for note in info.warnings)
    with Image.open(target) as image:
        assert (image.format, image.n_frames) == ("MPO", 3)
        for number in (1, 2):
            image.seek(number)
            assert np.array_equal(np.asarray(image), seen[number])
        # The size of the first picture is that of its part of the file.
        size = image.mpinfo[0xB002][0]["Size"]
    assert target.read_bytes()[size - 2 : size + 2] == b"\xff\xd9\xff\xd8"


def test_a_damaged_index_does_no_harm(tmp_path):
    data, _ = several()
    at = data.index(b"MPF\0") + 4
    for place, value in ((4, 2**31), (8, 65535), (0, 0)):
        changed = bytearray(data)
        struct.pack_into(">I", changed, at + place, value)
        target, _, _ = copied(tmp_path, bytes(changed))
        assert target.stat().st_size > len(data) // 2


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "words"), [("MVIMG_motion.jpg", "video"), ("ultrahdr.jpg", "gain map")]
)
def test_photos_of_phones_keep_what_is_behind(shared, tmp_path, name, words):
    data = (shared / "cases" / name).read_bytes()
    target, info, _ = copied(tmp_path, data)
    behind = info.metadata.container["behind"][0]
    assert len(behind) > 1000
    assert target.read_bytes().endswith(behind)
    assert read(target)[0].metadata.xmp == info.metadata.xmp
    assert any(words in note for note in find_format("png").check(info).warnings)


def test_orientation_of_a_converted_photo_is_untouched_by_it(tmp_path):
    photo = pillow(pixels(), "JPEG", exif=b"Exif\0\0" + exif(6))
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with(photo, (0xE1, XMP_KEY + MOTION % len(VIDEO))) + VIDEO)
    info, array = read(path)
    write(tmp_path / "b.tif", find_format("tiff").check(info), array)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.pages[0].tags[274].value == 6
        assert b"MotionPhoto" not in tif.pages[0].tags[700].value
