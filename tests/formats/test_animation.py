"""Animated PNG and WebP are stacks, and come back animated, with their timing."""

from __future__ import annotations

import io
from contextlib import closing

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import exif, icc, pixels

from denoisekit.errors import InputError, OutputError
from denoisekit.formats import create_image, find_format, open_image

TIMES = [100, 50, 70, 200]
KINDS = [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})]


def frames(count: int = 4, samples: int = 4) -> list[np.ndarray]:
    # Colours that nothing shows, below no alpha at all, are the encoder's own affair.
    return [np.maximum(pixels(samples, seed=n), 1) for n in range(count)]


def animated(kind: str, **options: object) -> bytes:
    first, *others = (Image.fromarray(frame) for frame in frames())
    out = io.BytesIO()
    first.save(out, kind, save_all=True, append_images=others, duration=TIMES, loop=3, **options)
    return out.getvalue()


def shown(path) -> tuple[list[np.ndarray], list[float]]:
    with Image.open(path) as image:
        seen, times = [], []
        for number in range(image.n_frames):
            image.seek(number)
            seen.append(np.array(image.convert("RGBA")))
            times.append(image.info["duration"])
        assert image.info["loop"] == 3
        return seen, times


def read_frames(path) -> tuple:
    with closing(open_image(path)) as reader:
        info = reader.info
        return info, [np.array(reader.read_rows(n, 0, info.height)) for n in range(info.planes)]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_an_animation_comes_back_as_it_was(tmp_path, kind, options):
    path, target = tmp_path / "a", tmp_path / "b"
    path.write_bytes(animated(kind, icc_profile=icc(), **options))
    info, seen = read_frames(path)
    assert (info.axes, info.shape) == ("TYXS", (4, 37, 29, 4))
    expected, _ = shown(path)
    assert all(map(np.array_equal, seen, expected))
    with create_image(target, find_format(info.format).check(info)) as writer:
        for number, frame in enumerate(seen):
            for top in range(0, 37, 10):
                writer.write_rows(number, top, frame[top : top + 10])
    back, times = shown(target)
    assert times == TIMES
    assert all(map(np.array_equal, back, expected))
    with Image.open(target) as image:
        assert image.info["icc_profile"] == icc()
    with closing(open_image(path)) as reader:  # frames may be asked for in any order
        for number in (3, 0, 2):
            assert np.array_equal(reader.read_rows(number, 5, 9), expected[number][5:9])


def test_a_lossy_animation_stays_lossy_and_close(tmp_path):
    path, target = tmp_path / "a", tmp_path / "b"
    path.write_bytes(animated("WEBP", quality=80, exif=exif(6)))
    info, seen = read_frames(path)
    assert info.metadata.exif == exif(6)
    with create_image(target, info) as writer:
        for number, frame in enumerate(seen):
            writer.write_rows(number, 0, frame)
    again, back = read_frames(target)
    assert not again.metadata.container["lossless"]
    assert again.metadata.exif == exif(6)
    assert np.abs(np.array(back, int) - np.array(seen))[..., :3].mean() < 4


def test_a_tiff_takes_the_frames_and_a_jpeg_does_not(tmp_path):
    path, target = tmp_path / "a.png", tmp_path / "b.tif"
    path.write_bytes(animated("PNG"))
    info, seen = read_frames(path)
    with create_image(target, find_format("tiff").check(info)) as writer:
        for number, frame in enumerate(seen):
            writer.write_rows(number, 0, frame)
    assert np.array_equal(tifffile.imread(target), np.array(seen))
    with pytest.raises(OutputError, match="one picture"):
        find_format("jpeg").check(info)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_an_animation_that_ends_early_is_an_error(tmp_path, kind, options):
    data = animated(kind, **options)
    path = tmp_path / "a"
    for share in (0.2, 0.5, 0.8, 0.99):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError):
            read_frames(path)


def test_other_animations_are_refused_with_the_way_to_their_frames(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(animated("GIF"))
    with pytest.raises(InputError, match="is a GIF") as caught:
        open_image(path)
    assert "frames" in caught.value.hint
