"""What a step sees: drawn from its number alone, read as denoise reads, pairs in step."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import picture, write_pictures

from denoisekit.engine.signal import nominal_scale
from denoisekit.errors import DenoisekitError, InputError, UsageError
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.learn.crops import ImageFiles, Sampler, open_images, prefetched
from denoisekit.noise import noise_of
from denoisekit.options import TrainData
from denoisekit.pairs import find_files, list_planes, pair
from denoisekit.ranges import parse_range, to_unit


def patches_of(folder, side=16, cache=10**9, channels=3, seed=(1, 0)):
    pictures = list_planes(find_files([str(folder)]))
    return Sampler(ImageFiles(pictures, channels, cache), side, seed)


def test_a_sample_depends_on_seed_step_and_place_in_the_batch_alone(noisy):
    whole, _ = patches_of(noisy).batch(7, range(4))
    parts = patches_of(noisy)
    parts.batch(3, range(4))
    for sample in (3, 1, 0, 2):
        assert np.array_equal(parts.batch(7, [sample])[0][0], whole[sample])
    assert not np.array_equal(patches_of(noisy).batch(8, range(4))[0], whole)
    assert not np.array_equal(patches_of(noisy, seed=(2, 0)).batch(7, range(4))[0], whole)


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_neither_order_nor_content(noisy, workers):
    patches = patches_of(noisy)
    wanted = [patches.batch(step, range(2))[0] for step in range(2, 9)]
    with prefetched(patches_of(noisy), range(2, 9), range(2), workers) as coming:
        got = [found for found, _ in coming]
    assert np.array_equal(got, wanted)


def test_processes_change_nothing_either(tmp_path):
    folder = write_pictures(tmp_path / "clean", sigma=0.0)
    patches = Sampler(open_images(TrainData((str(folder),), simulate="phone")).train, 24, (0, 0))
    wanted = [patches.batch(step, range(2))[0] for step in range(3)]
    with prefetched(patches, range(3), range(2), 1, processes=True) as coming:
        got = [found for found, _ in coming]
    assert np.array_equal(got, wanted)


def test_what_does_not_fit_in_the_cache_is_read_the_same(noisy):
    kept = patches_of(noisy).batch(0, range(8))[0]
    assert np.array_equal(patches_of(noisy, cache=0).batch(0, range(8))[0], kept)
    assert np.array_equal(patches_of(noisy, cache=6000).batch(0, range(8))[0], kept)


def test_every_patch_is_a_turned_part_of_a_picture(tmp_path):
    rows = np.arange(20 * 23 * 3, dtype=np.uint16).reshape(20, 23, 3) * 17
    np.save(tmp_path / "ramp.npy", rows)
    reader = ArrayReader(rows, None)
    unit = to_unit(rows, nominal_scale(parse_range("auto"), reader))
    parts = {
        np.rot90(crop, turn % 4)[:, :: -1 if turn >= 4 else 1].tobytes()
        for top in range(5)
        for left in range(8)
        for crop in [unit[top : top + 16, left : left + 16]]
        for turn in range(8)
    }
    found, _ = patches_of(tmp_path).batch(0, range(60))
    seen = {np.ascontiguousarray(patch.transpose(1, 2, 0)).tobytes() for patch in found}
    assert seen <= parts
    assert len(seen) > 40  # not always the same place


def test_planes_of_stacks_are_all_drawn_and_one_channel_fills_the_network(tmp_path):
    stack = np.stack([np.full((18, 18), value, np.uint8) for value in (10, 100, 200)])
    np.save(tmp_path / "stack.npy", stack)
    found, _ = patches_of(tmp_path, channels=3).batch(0, range(40))
    assert found.shape[1] == 3
    assert {round(float(patch.mean()) * 255) for patch in found} == {10, 100, 200}
    assert (found[:, :1] == found).all()


def test_pairs_are_cut_and_turned_alike(tmp_path):
    noisy = write_pictures(tmp_path / "a", sigma=0.02, ending="_noisy")
    clean = write_pictures(tmp_path / "b", sigma=0.0, ending="_clean")
    data = TrainData((str(noisy),), clean=(str(clean),))
    one, other = Sampler(open_images(data).train, 24, (0, 0)).batch(0, range(20))
    assert np.abs(one - other).mean() < 0.03
    assert not np.array_equal(one, other)


def test_simulated_pairs_are_noisy_and_repeatable(tmp_path):
    folder = write_pictures(tmp_path / "clean", sigma=0.0)
    data = TrainData((str(folder),), simulate="phone,gaussian:0.1")
    patches = Sampler(open_images(data).train, 24, (0, 0))
    one, other = patches.batch(0, range(8))
    again, _ = patches.batch(0, range(8))
    assert np.array_equal(one, again)
    deviations = [float(residual.std()) for residual in one - other]
    assert min(deviations) > 0
    assert sum(abs(deviation - 0.1) < 0.01 for deviation in deviations) in range(1, 8)


def names(folder, *stems):
    folder.mkdir()
    for stem in stems:
        np.save(folder / f"{stem}.npy", np.zeros((9, 9), np.uint8))
    return find_files([str(folder)])


@pytest.mark.parametrize(
    ("noisy", "clean", "wanted"),
    [
        (("b", "a"), ("a", "b", "c"), ["a", "b"]),
        (("01_real", "10_real"), ("10_mean", "01_mean"), ["01_mean", "10_mean"]),
        (("one_N",), ("one_CL",), ["one_CL"]),
    ],
)
def test_pairs_go_by_name(tmp_path, noisy, clean, wanted):
    found = pair(names(tmp_path / "n", *noisy), names(tmp_path / "c", *clean))
    assert [file.path.stem for file in found] == wanted


def test_pairs_never_go_by_order(tmp_path):
    with pytest.raises(UsageError, match="no clean picture belongs"):
        pair(names(tmp_path / "n", "a1", "b2"), names(tmp_path / "c", "x1", "y3"))


def test_matlab_and_hdf5_sets_are_read_like_stacks(tmp_path):
    h5py = pytest.importorskip("h5py")
    scipy = pytest.importorskip("scipy.io")
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 14, 3), dtype=np.uint8)
    scipy.savemat(tmp_path / "old.mat", {"blocks": blocks, "note": "x"})
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["set/blocks"] = blocks
        file["set/other"] = blocks[0, 0]
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["x"] = blocks.T  # MATLAB counts axes from the other end
    with (tmp_path / "new.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    for name in ("old.mat", "new.h5:set/blocks", "new.mat"):
        pictures = list_planes(find_files([str(tmp_path / name)]))
        assert len(pictures) == 6
        box, _ = ImageFiles(pictures, 3, 10**9).crop(4, (2, 3, 7, 8))
        assert np.array_equal(np.rint(box * 255), blocks[1, 1, 2:9, 3:11])
    with pytest.raises(UsageError, match="several arrays"):
        list_planes(find_files([str(tmp_path / "new.h5")]))


def test_a_set_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UsageError, match="package h5py") as caught:
        list_planes(find_files([str(tmp_path / "a.h5")]))
    assert "pip install" in caught.value.hint


def test_damaged_sets_are_input_errors(tmp_path):
    for name, content in (("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(600)), ("b.mat", b"x" * 300)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            list_planes(find_files([str(tmp_path / name)]))


@pytest.mark.parametrize(
    "data",
    [
        TrainData(("absent",)),
        TrainData(("{noisy}",), clean=("absent",)),
        TrainData(("{noisy}",), simulate="camera"),
        TrainData(("{noisy}",), simulate="gaussian:much"),
        TrainData(("{noisy}",), simulate="gaussian:-1"),
        TrainData(("{noisy}",), simulate="gaussian:1/0"),
        TrainData(("{gray}",), simulate="phone"),
        TrainData(("{noisy}",), clean=("{gray}",)),
    ],
)
def test_data_that_make_no_sense_are_refused(tmp_path, noisy, data):
    gray = tmp_path / "gray"
    gray.mkdir()
    for index in range(3):
        np.save(gray / f"{index}.npy", picture(index)[..., 0])
    places = {"noisy": str(noisy), "gray": str(gray)}
    changed = TrainData(
        tuple(name.format(**places) for name in data.pictures),
        tuple(name.format(**places) for name in data.clean),
        data.simulate,
    )
    with pytest.raises(DenoisekitError):
        open_images(changed)


def test_a_patch_larger_than_every_picture_is_refused(noisy):
    with pytest.raises(UsageError, match="as large as a patch of 64"):
        patches_of(noisy, side=64)


def test_noise_of_several_cameras_takes_each():
    add = noise_of("gaussian:2/255,gaussian:0.3")
    clean = np.full((30, 30, 3), 0.5, np.float32)
    draw = np.random.default_rng(0)
    deviations = sorted(float((add(clean, draw) - clean).std()) for _ in range(12))
    assert deviations[0] < 0.02
    assert deviations[-1] > 0.2
