"""The two doors: what opens, what is refused and how, and files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections import Counter, namedtuple
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from samples import (
    HEIGHT,
    IDS,
    copied,
    every,
    exif,
    icc,
    pillow,
    pixels,
    png,
    png_chunk,
    read,
    write,
)

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.formats import FORMATS, create_image, find_format, open_image, write_image
from denoisekit.formats.base import image_info
from denoisekit.formats.guard import writing
from denoisekit.image import ImageInfo, Metadata

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def plain(name: str = "png") -> ImageInfo:
    return image_info(name, HEIGHT, 29, 3, "uint8", metadata=Metadata())


def test_ids_and_suffixes_belong_to_one_format():
    names = [n for f in FORMATS for n in (f.id, *f.suffixes)]
    assert len(names) == len(set(names))


@every("name", ["png", ".PNG", "jpg", "jpeg", ".tif", "tiff", "jxl", "jp2", "npy"])
def test_format_by_id_or_suffix(name):
    found = find_format(name)
    assert name.lower().lstrip(".") in (found.id, *(s[1:] for s in found.suffixes))


def test_unknown_format_suggests_one():
    with pytest.raises(UsageError) as caught:
        find_format("jepg")
    assert "jpeg" in (caught.value.hint or "")


# --- reading ------------------------------------------------------------------------------


BAD = {
    "empty": b"",
    "one byte": b"\x89",
    "text": b"Dear photographer,\nthis is no picture.\n",
    "gif": b"GIF89a" + bytes(40),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40),
    "pdf": b"%PDF-1.7 and so on",
    "zip": b"PK\x03\x04" + bytes(40),
    "png signature": b"\x89PNG\r\n\x1a\n",
    "jpeg signature": b"\xff\xd8\xff",
    "tiff signature": b"II*\0",
    "webp signature": b"RIFF\x10\0\0\0WEBP",
    "bmp signature": b"BM" + bytes(12) + b"\x28\0\0\0",
    "jxl signature": b"\xff\x0a",
    "jxl container": bytes.fromhex("0000000c4a584c200d0a870a"),
    "avif signature": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf",
    "jp2 signature": bytes.fromhex("0000000c6a5020200d0a870a"),
    "j2k signature": b"\xff\x4f\xff\x51",
    "npy signature": b"\x93NUMPY\1\0",
    "npy nonsense": b"\x93NUMPY\1\0\x10\0import os; 1/0 \n",
    "zeros": bytes(4096),
}


@every("content", BAD.values(), ids=BAD)
def test_what_is_no_picture_is_one_line_and_a_hint(tmp_path, content):
    path = tmp_path / "noisy.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_paths_that_lead_to_no_file(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("absent.png", ".", "loop", "pipe", "file/inside", "n" * 300):
        with pytest.raises(InputError) as caught:
            open_image(tmp_path / name)
        assert "\n" not in caught.value.message
        assert caught.value.hint


@every("name", ["a b.png", "grün 画像.png", "no-suffix", "photo.jpg", "photo.tif"])
def test_the_name_does_not_matter(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pillow(pixels(3), "PNG"))
    info, seen = read(path)
    assert info.format == "png"
    assert np.array_equal(seen, pixels(3))
    assert any("handled as PNG" in note for note in info.warnings) == name.startswith("photo")


def test_size_is_compared_with_memory_before_decoding(tmp_path, monkeypatch):
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(100))
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "AVIF", "JPEG2000"):
        path = tmp_path / kind
        path.write_bytes(pillow(pixels(3), kind))
        with pytest.raises(InputError, match="29 x 37 pixels need") as caught:
            open_image(path)
        assert caught.value.hint


def test_large_pictures_are_not_called_bombs(tmp_path):
    # Pillow alone warns above 89 megapixels and gives up above 179.
    out = tmp_path / "large"
    height, width = 10_000, 18_000
    info = image_info("jpeg", height, width, 1, "uint8", metadata=Metadata())
    with create_image(out, info) as writer:
        for top in range(0, height, 1000):
            writer.write_rows(0, top, np.full((1000, width, 1), 7, np.uint8))
    with closing(open_image(out)) as reader:
        assert (reader.read_rows(0, 0, height) == 7).all()


def test_header_of_absurd_size_is_refused(tmp_path):
    data = pillow(pixels(3), "BMP")
    (tmp_path / "a").write_bytes(data[:18] + b"\xff\xff\xff\x0f\xff\xff\xff\x0f" + data[26:])
    with pytest.raises(InputError, match="GiB"):
        open_image(tmp_path / "a")


def test_rows_outside_are_a_bug_of_the_caller(tmp_path):
    (tmp_path / "a").write_bytes(pillow(pixels(3), "PNG"))
    with closing(open_image(tmp_path / "a")) as reader:
        for wrong in ((1, 0, 1), (0, 0, HEIGHT + 1), (0, 5, 5), (0, -1, 2)):
            with pytest.raises(ValueError, match="outside"):
                reader.read_rows(*wrong)


opened: Counter[str] = Counter()


def count_opened(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and isinstance(args[0], str | os.PathLike):
        opened[os.fspath(args[0])] += 1


@pytest.fixture(scope="module")
def counting() -> None:
    sys.addaudithook(count_opened)  # there to stay


@every("name", IDS)
def test_a_file_is_opened_once(tmp_path, counting, name):
    write(tmp_path / "a", find_format(name).check(plain("none")), pixels(3))
    before = opened[str(tmp_path / "a")]
    read(tmp_path / "a")
    assert opened[str(tmp_path / "a")] == before + 1


def test_a_photo_of_one_scan_is_decoded_once(tmp_path, monkeypatch):
    from denoisekit.formats import base

    decoded = []
    real = base.image_pixels
    monkeypatch.setattr(base, "image_pixels", lambda image: decoded.append(1) or real(image))
    (tmp_path / "a").write_bytes(pillow(pixels(3), "JPEG"))
    read(tmp_path / "a")
    assert len(decoded) == 1


# --- writing ------------------------------------------------------------------------------


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@every("fault", [ValueError("no"), KeyboardInterrupt(), MemoryError()])
@every("name", IDS)
def test_a_failed_write_leaves_nothing(tmp_path, name, fault):
    seen = []

    def stopped():
        with create_image(tmp_path / "a", plain(name)) as writer:
            writer.write_rows(0, 0, pixels(3)[:7])
            seen.extend(leftovers(tmp_path))
            raise fault

    with pytest.raises(type(fault)):
        stopped()
    assert len(seen) == 1
    assert re.fullmatch(r"\.denoisekit-[0-9a-f]+-[0-9a-f]+\.part", seen[0])
    assert leftovers(tmp_path) == []


@every("name", [name for name in IDS if name != "tiff"])
def test_missing_rows_leave_nothing(tmp_path, name):
    with (
        pytest.raises(ValueError, match="missing"),
        create_image(tmp_path / "a", plain(name)) as writer,
    ):
        writer.write_rows(0, 0, pixels(3)[:7])
    assert leftovers(tmp_path) == []


def test_a_file_is_replaced_only_when_complete(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def stopped():
        with create_image(path, plain(), overwrite=True) as writer:
            writer.write_rows(0, 0, pixels(3))
            assert path.read_bytes() == b"before"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped()
    assert path.read_bytes() == b"before"
    write(path, plain(), pixels(3))
    assert np.array_equal(read(path)[1], pixels(3))
    assert leftovers(tmp_path) == ["a.png"]


def test_bands_of_an_iterator_make_a_file_or_none(tmp_path):
    bands = [(0, top, pixels(3)[top : top + 5]) for top in range(0, HEIGHT, 5)]
    write_image(tmp_path / "a.png", plain(), iter(bands))
    assert np.array_equal(read(tmp_path / "a.png")[1], pixels(3))

    def interrupted():
        yield from bands[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "a.png", plain(), interrupted(), overwrite=True)
    for wrong in (bands[:2], bands[1:], bands[::-1]):
        with pytest.raises(ValueError, match="rows"):
            write_image(tmp_path / "a.png", plain(), wrong, overwrite=True)
    assert np.array_equal(read(tmp_path / "a.png")[1], pixels(3))
    assert leftovers(tmp_path) == ["a.png"]


def test_an_existing_file_is_left_alone(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with pytest.raises(OutputError, match="exists") as caught, create_image(path, plain()):
        pytest.fail("opened")
    assert "--overwrite" in (caught.value.hint or "")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists"), create_image(tmp_path / "dangling", plain()):
        pytest.fail("opened")
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path, monkeypatch, links):
    if not links:

        def link(*_args):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "a.png"

    def overtaken():
        with create_image(path, plain()) as writer:
            writer.write_rows(0, 0, pixels(3))
            path.write_bytes(b"someone else's")

    with pytest.raises(OutputError, match="exists"):
        overtaken()
    assert path.read_bytes() == b"someone else's"
    assert leftovers(tmp_path) == ["a.png"]
    with create_image(tmp_path / "b.png", plain()) as writer:
        writer.write_rows(0, 0, pixels(3))
    assert np.array_equal(read(tmp_path / "b.png")[1], pixels(3))
    assert leftovers(tmp_path) == ["a.png", "b.png"]


def test_where_neither_links_nor_renames_work_no_empty_file_is_left(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="Input/output"):
        write(tmp_path / "a.png", plain(), pixels(3))
    assert leftovers(tmp_path) == []


def test_a_file_that_changes_while_it_is_read_is_said(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, pixels(3))
    with closing(open_image(path)) as reader:
        reader.read_rows(0, 0, 5)
        with path.open("r+b") as file:
            file.seek(-9, 2)
            file.write(b"changed")
        with pytest.raises(InputError, match="changed while it was read") as caught:
            reader.read_rows(0, 5, 10)
        assert caught.value.hint


def test_a_file_that_grows_while_it_is_opened_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    data = pillow(pixels(3), "PNG")
    path.write_bytes(data[:200])
    known = find_format("png")

    def opened(source, axes):
        try:
            return known.open(source, axes)
        finally:
            source.path.write_bytes(data)

    monkeypatch.setattr("denoisekit.formats._identify", lambda *_: replace(known, open=opened))
    with pytest.raises(InputError, match="changed while it was read"):
        open_image(path)
    monkeypatch.undo()
    open_image(path).close()


def test_permissions_are_those_of_any_new_file(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "a.png", plain(), pixels(3))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_missing_folders_are_made(tmp_path):
    write(tmp_path / "one" / "two" / "a.png", plain(), pixels(3))
    assert leftovers(tmp_path / "one" / "two") == ["a.png"]


def test_long_names_leave_room_for_the_temporary_one(tmp_path):
    name = "ü" * 120 + ".png"
    write(tmp_path / name, plain(), pixels(3))
    assert leftovers(tmp_path) == [name]


def test_targets_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, tmp_path / "file" / "a.png", tmp_path / ("n" * 300), loop / "a.png"):
        for overwrite in (False, True):
            with (
                pytest.raises(OutputError) as caught,
                create_image(path, plain(), overwrite=overwrite),
            ):
                pytest.fail("opened")
            assert "\n" not in caught.value.message
            assert caught.value.hint


def test_folder_that_may_not_be_written(tmp_path, monkeypatch):
    if ROOT:  # who may write anywhere gets the same answer from the system here

        def refuse(*_args, **_options):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    else:
        tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission"), create_image(tmp_path / "a", plain()):
            pytest.fail("opened")
    finally:
        tmp_path.chmod(0o700)
    assert leftovers(tmp_path) == []


@every("name", IDS)
def test_no_space_left(tmp_path, name):
    """Write for real into a file system that is always full."""
    target = find_format(name)
    full = Path("/dev/full")
    assert full.is_char_device()
    info = target.check(image_info(name, 200, 300, 3, "uint8", metadata=Metadata()))
    array = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)

    def filled():
        with writing(full):
            writer = target.create(full, info)
            try:
                writer.write_rows(0, 0, array)
                writer.finish()
            finally:
                with suppress(OSError):
                    writer.close()

    with pytest.raises(OutputError, match="space") as caught:
        filled()
    assert "free some space" in (caught.value.hint or "")


def test_no_space_left_leaves_nothing(tmp_path, monkeypatch):
    def full(_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="space"), create_image(tmp_path / "a", plain()) as writer:
        writer.write_rows(0, 0, pixels(3))
    assert leftovers(tmp_path) == []


# --- converting ---------------------------------------------------------------------------


@every("name", IDS)
def test_metadata_go_along_where_there_is_a_place(tmp_path, name):
    has_icc = name not in ("jxl", "npy")
    has_exif = name not in ("bmp", "npy")
    options = {"icc_profile": icc()} if name != "jxl" else {}
    data = pillow(pixels(3), "JPEG", exif=b"Exif\0\0" + exif(6), quality=90, **options)
    _, info, seen = copied(tmp_path, data)
    converted = find_format(name).check(
        ImageInfo(name, info.shape, info.axes, info.dtype, "rgb", metadata=info.metadata)
        if name == "jpeg"
        else info
    )
    write(tmp_path / "b", converted, seen)
    again, twice = read(tmp_path / "b")
    assert again.format == name
    assert name in ("jpeg",) or np.array_equal(twice, seen)
    if has_icc:
        assert again.metadata.icc == icc()
    if has_exif and name != "tiff":  # TIFF keeps these tags in its own directory
        assert again.metadata.exif == exif(6)


def test_check_may_be_asked_twice():
    for known in map(find_format, IDS):
        once = known.check(plain("jpeg"))
        assert known.check(once) == once


def test_twelve_bits_in_sixteen_go_into_png_unscaled(tmp_path):
    info = image_info("tiff", HEIGHT, 29, 1, "uint16", bits=12, metadata=Metadata())
    kept = find_format("png").check(info)
    assert any("unscaled" in note for note in kept.warnings)
    write(tmp_path / "a", kept, pixels(1, 12))
    assert np.array_equal(read(tmp_path / "a")[1], pixels(1, 12))


def test_metadata_too_large_for_jpeg_are_told():
    metadata = Metadata(exif=b"II*\0" + bytes(70_000), xmp=b"<x/>")
    kept = find_format("jpeg").check(image_info("png", 9, 9, 3, "uint8", metadata=metadata))
    assert kept.metadata.exif is None
    assert kept.metadata.xmp == b"<x/>"
    assert any("EXIF" in note for note in kept.warnings)


def test_a_bomb_of_a_profile_is_not_unpacked(tmp_path):
    import zlib

    packed = zlib.compress(bytes(65 * 2**20), 1)  # it stops at 64
    body = b"name\0\0" + packed
    assert len(png_chunk(b"iCCP", body)) < 2**20
    path = tmp_path / "a"
    path.write_bytes(png(pixels(3).reshape(HEIGHT, -1), 8, 2, ((b"iCCP", body),)))
    info, _ = read(path)
    assert info.metadata.icc is None
    assert any("profile" in note for note in info.warnings)
