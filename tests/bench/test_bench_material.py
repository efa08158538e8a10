"""Pictures of a set: found, paired, and the same whatever else lies beside them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from denoisekit.bench.material import Material, as_files
from denoisekit.bench.sets import DATA, SETS, data_folder, find_files, find_set
from denoisekit.errors import InputError, UsageError


def picture(index, dtype=np.uint8, size=(20, 24, 3)):
    draw = np.random.default_rng(index)
    return draw.integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)


def write(folder, ending, count=3):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(picture(index + 10 * ("N" in ending))).save(folder / f"{index}{ending}")
    return sorted(folder.iterdir())


def test_pairs_are_by_name_and_read_on_one_scale(tmp_path):
    noisy, clean = write(tmp_path / "n", "_N.png"), write(tmp_path / "c", "_CL.png")
    material = Material("x", as_files(noisy[::-1]), as_files(clean))
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
    material = Material("x", *files)
    one, other = material.read(material.items[0])
    np.testing.assert_allclose(one[..., 0], noisy / 1000, atol=1e-6)
    np.testing.assert_allclose(other[..., 0], clean / 1000, atol=1e-6)
    material = Material("x", *files, range="0,2000")
    np.testing.assert_allclose(material.read(material.items[0])[0][..., 0], noisy / 2000, atol=1e-6)


def test_noise_belongs_to_the_seed_and_the_name(tmp_path):
    clean = write(tmp_path / "c", ".png")

    def noisy(name, files, seed=0, noise="gaussian:50/255"):
        material = Material("x", [], as_files(files), noise=noise, seed=seed)
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


@pytest.mark.parametrize("version", [5, 7.3])
def test_blocks_of_a_matlab_file(tmp_path, version):
    blocks = np.stack([picture(i) for i in range(6)]).reshape(2, 3, 20, 24, 3)
    for name, array in (
        ("ValidationNoisyBlocksSrgb", blocks),
        ("ValidationGtBlocksSrgb", 255 - blocks),
    ):
        path = tmp_path / "sidd" / f"{name}.mat"
        path.parent.mkdir(exist_ok=True)
        if version == 5:
            savemat(path, {name: array})
        else:
            with h5py.File(path, "w", userblock_size=512) as file:
                file[name] = array.T
            with path.open("r+b") as raw:
                raw.write(b"MATLAB 7.3 MAT-file")
    noisy, clean = find_files(find_set("sidd"), tmp_path)
    material = Material("sidd", as_files(noisy), as_files(clean))
    assert [item.name[-5:] for item in material.items] == [f":{i:04d}" for i in range(6)]
    for index, item in enumerate(material.items):
        one, other = material.read(item)
        np.testing.assert_allclose(one * 255, picture(index), atol=1e-4)
        np.testing.assert_allclose(one + other, 1, atol=1e-6)
    material.close()


def test_what_does_not_belong_together_is_refused(tmp_path):
    noisy, clean = write(tmp_path / "n", "_N.png"), write(tmp_path / "c", "_CL.png", 2)
    with pytest.raises(UsageError, match="no clean picture belongs to"):
        Material("x", as_files(noisy), as_files(clean))
    np.save(tmp_path / "a.npy", picture(0, size=(8, 9)))
    np.save(tmp_path / "b.npy", picture(0, size=(9, 8)))
    with pytest.raises(UsageError, match="not of one size"):
        Material("x", as_files([tmp_path / "a.npy"]), as_files([tmp_path / "b.npy"]))
    with pytest.raises(InputError, match="nothing to denoise"):
        Material("x", [], as_files(clean))
    with pytest.raises(UsageError, match="noisy already"):
        Material("x", as_files(noisy), [], noise="gaussian:0.1")
    with pytest.raises(UsageError, match="gausian"):
        Material("x", [], as_files(clean), noise="gausian:1")


def test_every_set_says_where_it_is_from_and_finds_its_files(tmp_path):
    assert len({info.id for info in SETS}) == len(SETS)
    for info in SETS:
        assert info.home.startswith("https://")
        assert info.licence
        assert info.noisy or info.noise
        assert info.clean or not info.noise
        with pytest.raises(InputError) as caught:
            find_files(info, tmp_path)
        assert info.home in caught.value.hint
        for pattern in filter(None, (info.noisy, info.clean)):
            path = tmp_path / info.id / "deeper" / pattern.replace("*", "x").upper()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        noisy, clean = find_files(info, tmp_path)
        assert (len(noisy), len(clean)) == (bool(info.noisy), bool(info.clean))


def test_the_folder_of_data(tmp_path, monkeypatch):
    monkeypatch.delenv(DATA, raising=False)
    assert data_folder() is None
    with pytest.raises(InputError, match="no folder of data") as caught:
        find_files(find_set("kodak"), data_folder())
    assert "--data" in caught.value.hint
    monkeypatch.setenv(DATA, str(tmp_path))
    assert data_folder() == tmp_path
    assert data_folder(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(UsageError) as caught:
        find_set("kodk")
    assert "kodak" in caught.value.hint
