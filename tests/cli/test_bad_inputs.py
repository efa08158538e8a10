"""Bad inputs through the command line: one line and a hint, or a right result; nothing partial."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import box_method
from denoisekit.cli import app as frame


@pytest.fixture
def denoise(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    weights = box_method.write_weights(tmp_path / "box.safetensors")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def run(*arguments):
        options = ("--method", "box", "--weights", str(weights))
        code = frame.run(["denoise", *map(str, arguments), *options])
        return code, *capsys.readouterr()

    return run


def noise(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def refuse(denoise, *arguments):
    """Run, and check that it is refused in one error line with a hint, leaving no file."""
    before = sorted(path.name for path in Path().iterdir())
    code, out, err = denoise(*arguments)
    assert (code, out) == (1, "")
    lines = [line for line in err.splitlines() if not line.startswith(("box with", "warning: "))]
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], err
    assert sorted(path.name for path in Path().iterdir()) == before
    return err


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "bmp", "npy"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated(denoise, ending, share):
    if ending == "npy":
        np.save("a.npy", noise(90, 80, 3))
    else:
        Image.fromarray(noise(90, 80, 3)).save(f"a.{ending}")
    data = Path(f"a.{ending}").read_bytes()
    Path(f"a.{ending}").write_bytes(data[: int(len(data) * share)])
    refuse(denoise, f"a.{ending}")


@pytest.mark.parametrize("content", [b"", b"hello, I am a text file\n" * 9, b"\x89PNG\r\n\x1a\n"])
def test_not_a_picture(denoise, content):
    Path("a.png").write_bytes(content)
    refuse(denoise, "a.png")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), bool),
        np.zeros((4, 4), complex),
        np.zeros((0, 4)),
        np.zeros(4),
        np.array([{}, {}], dtype=object),
        np.array([["a", "b"]]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_that_are_no_pictures(denoise, array):
    np.save("a.npy", array, allow_pickle=True)
    refuse(denoise, "a.npy")


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (1, 1, 3), (30, 1, 3)])
@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_tiny(denoise, shape, ending):
    Image.fromarray(noise(*shape)).save(f"a.{ending}")
    assert denoise(f"a.{ending}")[0] == 0
    with Image.open(f"a_denoised.{ending}") as image:
        assert np.array(image).shape == shape


def test_65_channels(denoise):
    np.save("a.npy", noise(9, 8, 65))
    assert denoise("a.npy", "--axes", "YXS")[0] == 0
    assert np.load("a_denoised.npy").shape == (9, 8, 65)


def test_numbers_that_are_none(denoise):
    pixels = noise(9, 8).astype(np.float32)
    pixels[2, 3], pixels[4], pixels[8, 7] = np.nan, np.inf, -np.inf
    np.save("a.npy", pixels)
    code, _, err = denoise("a.npy")
    assert code == 0
    assert "no measurement were left as they are" in err
    denoised = np.load("a_denoised.npy")
    np.testing.assert_array_equal(np.isfinite(denoised), np.isfinite(pixels))


def test_values_too_far_apart(denoise):
    np.save("a.npy", np.array([[-1.7e308, 1.7e308]] * 4))
    refuse(denoise, "a.npy")


def test_a_decompression_bomb(denoise):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body)
    refuse(denoise, "a.png")


def test_names_with_nothing_to_read_behind_them(denoise):
    Path("loop.png").symlink_to("loop.png")
    os.mkfifo("pipe.png")
    Path("folder.png").mkdir()
    for name in ("none.png", "loop.png", "pipe.png", "folder.png", "x" * 300 + ".png"):
        refuse(denoise, name)
    refuse(denoise, "loop.png/a.png")


def test_a_file_that_may_not_be_read(denoise, monkeypatch):
    Image.fromarray(noise(9, 8)).save("a.png")
    real = Path.open

    def forbidden(self, *arguments, **options):
        if self.name == "a.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", forbidden)
    assert "no permission" in refuse(denoise, "a.png")


def test_a_folder_that_cannot_be_made(denoise):
    Image.fromarray(noise(9, 8)).save("a.png")
    Path("file").touch()
    refuse(denoise, "a.png", "-o", "file/out")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_does_not_take_it(denoise, monkeypatch, code):
    Image.fromarray(noise(9, 8)).save("a.png")

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    refuse(denoise, "a.png")


@pytest.mark.parametrize("name", ["a b.png", "bild ä 写真.png", "[a]*.png", "-a.png", "\udcff.png"])
def test_odd_names(denoise, name):
    Image.fromarray(noise(9, 8)).save(Path("a.png"))
    Path("a.png").rename(name)
    assert denoise("./" + name)[0] == 0
    assert Path(name).with_stem(Path(name).stem + "_denoised").exists()
