"""Pictures of a set: found, paired, and the same whatever else lies beside them."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatch

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from tifffile import imwrite

from denoisekit.bench.datasets import (
    ABSENT,
    DATA,
    DATASETS,
    OTHER,
    SAME,
    check_files,
    check_words,
    checksums,
    data_folder,
    files_of,
    find_dataset,
)
from denoisekit.bench.images import paired_images
from denoisekit.errors import InputError, UsageError
from denoisekit.metrics import find_protocol, fit_levels
from denoisekit.pairs import File


def picture(index, dtype=np.uint8, size=(20, 24, 3)):
    draw = np.random.default_rng(index)
    return draw.integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)


def as_files(paths):
    return [File(path) for path in paths]


def write(folder, ending, count=3):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(picture(index + 10 * ("N" in ending))).save(folder / f"{index}{ending}")
    return sorted(folder.iterdir())


def test_pairs_are_by_name_and_read_on_one_scale(tmp_path):
    noisy, clean = write(tmp_path / "n", "_N.png"), write(tmp_path / "c", "_CL.png")
    material = paired_images("x", as_files(noisy[::-1]), as_files(clean))
    assert material.known
    assert [item.name for item in material.items] == ["0_N", "1_N", "2_N"]
    for index, item in enumerate(material.items):
        one, other = material.read(item)
        np.testing.assert_allclose(one, picture(index + 10) / 255, atol=1e-7)
        np.testing.assert_allclose(other, picture(index) / 255, atol=1e-7)
        assert one.dtype == other.dtype == np.float32


def test_the_clean_picture_says_what_is_white(tmp_path):
    noisy = np.random.default_rng(0).normal(500, 400, (20, 24)).astype(np.float32)
    clean = np.linspace(0, 1000, 480, dtype=np.float32).reshape(20, 24)
    np.save(tmp_path / "n.npy", noisy)
    np.save(tmp_path / "c.npy", clean)
    files = as_files([tmp_path / "n.npy"]), as_files([tmp_path / "c.npy"])
    material = paired_images("x", *files)
    one, other = material.read(material.items[0])
    np.testing.assert_allclose(one[..., 0], noisy / 1000, atol=1e-6)
    np.testing.assert_allclose(other[..., 0], clean / 1000, atol=1e-6)
    material = paired_images("x", *files, range="0,2000")
    np.testing.assert_allclose(material.read(material.items[0])[0][..., 0], noisy / 2000, atol=1e-6)


def test_noise_belongs_to_the_seed_and_the_name(tmp_path):
    clean = write(tmp_path / "c", ".png")

    def noisy(name, files, seed=0, noise="gaussian:50/255"):
        material = paired_images("x", [], as_files(files), noise=noise, seed=seed)
        (item,) = (item for item in material.items if item.name == name)
        found, original = material.read(item)
        np.testing.assert_allclose(original, picture(int(name)) / 255, atol=1e-7)
        return found

    first = noisy("1", clean)
    np.testing.assert_array_equal(noisy("1", clean[1:2]), first)
    residual = first - picture(1) / 255
    assert residual.std() == pytest.approx(50 / 255, rel=0.05)
    assert first.min() < 0  # not clipped
    assert np.abs(noisy("1", clean, seed=1) - first).mean() > 0.1
    other = noisy("2", clean) - picture(2) / 255
    assert abs(np.corrcoef(other.ravel(), residual.ravel())[0, 1]) < 0.1
    assert np.unique(np.round(noisy("1", clean, noise="poisson:10") * 10, 4) % 1).tolist() == [0]


def write_matlab(folder, version, arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        path = folder / f"{name}.mat"
        if version == 5:
            savemat(path, {name: array})
            continue
        with h5py.File(path, "w", userblock_size=512) as file:
            file[name] = array.T
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file")


@pytest.mark.parametrize("version", [5, 7.3])
def test_blocks_of_a_matlab_file(tmp_path, version):
    blocks = np.stack([picture(i) for i in range(6)]).reshape(2, 3, 20, 24, 3)
    arrays = {"ValidationNoisyBlocksSrgb": blocks, "ValidationGtBlocksSrgb": 255 - blocks}
    write_matlab(tmp_path / "sidd", version, arrays)
    material = paired_images("sidd", *files_of(find_dataset("sidd"), tmp_path))
    assert [item.name[-5:] for item in material.items] == [f":{i:04d}" for i in range(6)]
    for index, item in enumerate(material.items):
        one, other = material.read(item)
        np.testing.assert_allclose(one * 255, picture(index), atol=1e-4)
        np.testing.assert_allclose(one + other, 1, atol=1e-6)
    material.close()


@pytest.mark.parametrize("version", [5, 7.3])
def test_raw_blocks_are_floats_of_0_to_1_whatever_they_hold(tmp_path, version):
    noisy = np.random.default_rng(0).normal(0.1, 0.2, (2, 3, 20, 24)).astype(np.float32)
    clean = noisy.clip(0, 0.5)
    arrays = {"ValidationNoisyBlocksRaw": noisy, "ValidationGtBlocksRaw": clean}
    write_matlab(tmp_path / "sidd-raw", version, arrays)
    info = find_dataset("sidd-raw")
    files = files_of(info, tmp_path)
    material = paired_images("sidd-raw", *files, range=info.range)
    assert len(material.items) == 6
    for index, item in enumerate(material.items):
        one, other = material.read(item)
        place = np.unravel_index(index, (2, 3))
        np.testing.assert_array_equal(one, noisy[place][..., None])
        np.testing.assert_array_equal(other, clean[place][..., None])
    material.close()


@pytest.mark.parametrize("names", [("{}.tif", "{}.tif"), ("input_avg1_{}.tif", "t_avg400_{}.tif")])
def test_frames_of_w2s_find_their_means(tmp_path, names):
    info = find_dataset("w2s")
    for folder, name, offset in (("avg1", names[0], 100), ("avg400", names[1], 0)):
        for index in (9, 10, 110):
            path = tmp_path / "w2s" / folder / name.format(f"{index:03d}_0")
            path.parent.mkdir(parents=True, exist_ok=True)
            # Each has a range of its own.
            pixels = np.arange(400, dtype=np.uint16).reshape(20, 20) * index + offset
            imwrite(path, pixels)
    (tmp_path / "w2s" / "avg16").mkdir()
    imwrite(tmp_path / "w2s" / "avg16" / "009_0.tif", np.zeros((20, 20), np.uint16))
    files = files_of(info, tmp_path)
    material = paired_images("w2s", *files, range=info.range, apart=True)
    assert len(material.items) == 3
    for item in material.items:
        assert item.noisy.file.path.stem[-5:] == item.clean.file.path.stem[-5:]
        for pixels in material.read(item):
            np.testing.assert_allclose(pixels.ravel(), np.arange(400) / 399, atol=1e-6)


@pytest.mark.shared
def test_real_frames_of_w2s_are_darker_and_noisier_than_their_means(shared):
    info = find_dataset("w2s")
    noisy, clean = info.find(shared / "data" / "w2s")
    material = paired_images("w2s", as_files(noisy[:3]), as_files(clean[:3]), apart=True)
    for item in material.items:
        one, other = material.read(item)
        gain, offset = fit_levels(other, one)
        assert 0.5 < gain < 0.9
        assert 0 < offset < 0.1
        assert 15 < find_protocol("w2s").measure(other, one, one)["psnr"] < 23


def test_files_are_compared_with_those_of_the_owner(tmp_path, monkeypatch):
    for info in DATASETS:
        digests = checksums(info.id)
        assert len(digests) in (0, info.pictures, 2 * info.pictures)
        assert all(len(digest) == 64 for digest in digests.values())
        files = [tmp_path / name for name in digests]
        patterns = [pattern for pattern in (info.noisy, info.clean) if pattern]
        assert all(
            any(fnmatch(f"/{file.name}".lower(), f"*/{pattern}") for pattern in patterns)
            for file in files
        )
    assert check_files("kodak", []) == {}
    monkeypatch.setattr("denoisekit.bench.datasets.CHECKSUMS", tmp_path)
    lines = [f"{hashlib.sha256(text).hexdigest()}  {text.decode()}.png" for text in (b"a", b"b")]
    (tmp_path / "x.sha256").write_text("\n".join([*lines, f"{'0' * 64}  with spaces.png"]))
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(b"other")
    found = check_files("x", [tmp_path / "a.png", tmp_path / "b.png"])
    assert found == {"a.png": SAME, "b.png": OTHER, "with spaces.png": ABSENT}
    assert check_words(found) == "1 of 3 are the owner's, 1 are not"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "folder", "count"), [("set12", "set12_gray", 12), ("polyu", "polyu50", 100)]
)
def test_pinned_hashes_are_those_of_real_files(shared, name, folder, count):
    found = check_files(name, (shared / "data" / folder).iterdir())
    states = list(found.values())
    assert (states.count(SAME), states.count(OTHER)) == (count, 0)


def test_what_does_not_belong_together_is_refused(tmp_path):
    noisy, clean = write(tmp_path / "n", "_N.png"), write(tmp_path / "c", "_CL.png", 2)
    with pytest.raises(UsageError, match="no clean picture belongs to"):
        paired_images("x", as_files(noisy), as_files(clean))
    np.save(tmp_path / "a.npy", picture(0, size=(8, 9)))
    np.save(tmp_path / "b.npy", picture(0, size=(9, 8)))
    with pytest.raises(UsageError, match="not of one size"):
        paired_images("x", as_files([tmp_path / "a.npy"]), as_files([tmp_path / "b.npy"]))
    with pytest.raises(InputError, match="nothing to denoise"):
        paired_images("x", [], as_files(clean))
    with pytest.raises(UsageError, match="noisy already"):
        paired_images("x", as_files(noisy), [], noise="gaussian:0.1")
    with pytest.raises(UsageError, match="gausian"):
        paired_images("x", [], as_files(clean), noise="gausian:1")


def test_every_set_says_where_it_is_from_and_finds_its_files(tmp_path):
    assert len({info.id for info in DATASETS}) == len(DATASETS)
    for info in DATASETS:
        assert info.home.startswith("https://")
        assert info.licence
        assert info.noisy or info.noise
        assert info.clean or not info.noise
        if info.id == "sidd-sample":  # it ships
            continue
        with pytest.raises(InputError) as caught:
            files_of(info, tmp_path)
        assert info.home in caught.value.hint
        for pattern in filter(None, (info.noisy, info.clean)):
            name = pattern.replace("[_/]", "_").replace("[0-9]", "7").replace("*", "x")
            path = tmp_path / info.id / "deeper" / name.upper()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        noisy, clean = files_of(info, tmp_path)
        assert (len(noisy), len(clean)) == (bool(info.noisy), bool(info.clean))


def test_the_folder_of_data(tmp_path, monkeypatch):
    monkeypatch.delenv(DATA, raising=False)
    assert data_folder().name == "sets"
    with pytest.raises(InputError) as caught:
        files_of(find_dataset("kodak"), data_folder())
    assert "bench sets get kodak" in caught.value.hint
    monkeypatch.setenv(DATA, str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(UsageError) as caught:
        find_dataset("kodk")
    assert "kodak" in caught.value.hint
