"""Sets in the layout of SIDD's benchmark and of DND: run, packed, read again."""

from __future__ import annotations

import base64
import csv

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

import box_method
from denoisekit.bench import submission
from denoisekit.bench.candidates import gather
from denoisekit.bench.images import Images, Item, KeptImages, dnd_crops, read_boxes
from denoisekit.cli import app as frame
from denoisekit.errors import InputError
from denoisekit.metrics import SRGB

VERSIONS = pytest.mark.parametrize("version", ["5", "7.3"])


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the command on sets below the folder; return the box and what is said."""
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    monkeypatch.setattr(box_method.Box, "hook", None)
    weights = box_method.write_weights(tmp_path / "box.safetensors")
    monkeypatch.chdir(tmp_path)

    def run(name):
        code = frame.run(["bench", name, "--data", "sets", "--weights", str(weights)])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out, err

    (_, box) = gather([], [str(weights)], SRGB, device="cpu")
    return run, box


def save(path, version, content):
    """Write a MATLAB file as that version does; cells of 7.3 are references."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == "5":
        savemat(path, content)
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            if value.dtype.names is None:
                file[name] = value.T
                continue
            (field,) = value.dtype.names
            references = np.empty(value.shape[::-1], h5py.ref_dtype)
            for index, entry in enumerate(value[field].ravel()):
                file[f"#refs#/{index}"] = np.asarray(entry, float).T
                references[np.unravel_index(index, references.shape)] = file[f"#refs#/{index}"].ref
            file.create_group(name)[field] = references
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")


@VERSIONS
def test_the_benchmark_of_sidd(bench, tmp_path, monkeypatch, version):
    run, box = bench
    shape = (3, 2)
    monkeypatch.setattr(submission, "BLOCKS", shape)
    blocks = np.random.default_rng(0).integers(0, 256, (*shape, 12, 16, 3), np.uint8)
    path = tmp_path / "sets" / "sidd-benchmark" / "BenchmarkNoisyBlocksSrgb.mat"
    save(path, version, {"BenchmarkNoisyBlocksSrgb": blocks})
    out, err = run("sidd-benchmark")
    assert out.splitlines()[2].split()[1:3] == ["-", "-"]  # nobody here knows how good it is
    folder = tmp_path / "bench_sidd-benchmark" / "submit" / "box.safetensors"
    assert f"to submit: {folder.relative_to(tmp_path) / 'SubmitSrgb.mat'}" in err

    wanted = {
        index: np.rint(box.run((blocks[index] / 255).astype(np.float32)).clip(0, 1) * 255)
        for index in np.ndindex(shape)
    }
    packed = loadmat(folder / "SubmitSrgb.mat")
    cell = packed["DenoisedBlocksSrgb"]
    assert cell.shape == shape
    for index, block in wanted.items():
        assert cell[index].dtype == np.uint8
        np.testing.assert_array_equal(cell[index], block)
    assert packed["TimeMPSrgb"].item() > 0
    assert packed["OptionalData"]["MethodName"].item().item() == "box.safetensors"

    with (folder / "SubmitSrgb.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ID"] for row in rows] == [str(index) for index in range(6)]
    for row, block in zip(rows, wanted.values(), strict=True):
        found = np.frombuffer(base64.b64decode(row["BLOCK"]), np.uint8).reshape(block.shape)
        np.testing.assert_array_equal(found, block)


@VERSIONS
def test_dnd(bench, tmp_path, version):
    run, box = bench
    draw = np.random.default_rng(0)
    images = [draw.random((30 + 4 * index, 40, 3), np.float32) for index in range(2)]
    # From 1, the last included: (top, left, bottom, right).
    boxes = [
        np.array([[1, 1, 16, 20], [15, 21, 30, 40]]),
        np.array([[3, 4, 18, 23], [1, 1, 34, 40]]),
    ]
    folder = tmp_path / "sets" / "dnd"
    info = np.zeros((1, 2), [("boundingboxes", object)])
    for index, (image, own) in enumerate(zip(images, boxes, strict=True)):
        info[0, index]["boundingboxes"] = np.array(own, float)
        save(folder / "images_srgb" / f"{index + 1:04d}.mat", version, {"InoisySRGB": image})
    save(folder / "info.mat", version, {"info": info})

    assert read_boxes(folder / "info.mat")[0] == [(0, 0, 16, 20), (14, 20, 30, 40)]
    crops = dnd_crops(folder)
    np.testing.assert_array_equal(crops.read(crops.items[2])[0], images[1][2:18, 3:23])
    crops.close()
    run("dnd")
    for index, (image, own) in enumerate(zip(images, boxes, strict=True)):
        packed = loadmat(tmp_path / f"bench_dnd/submit/box.safetensors/{index + 1:04d}.mat")
        assert packed["Idenoised"].shape == (1, 2)
        assert packed["israw"].item() == 0
        assert packed["eval_version"].item() == "1.0"
        for crop, (top, left, bottom, right) in zip(packed["Idenoised"][0], own, strict=True):
            noisy = np.ascontiguousarray(image[top - 1 : bottom, left - 1 : right])
            assert crop.dtype == np.float32
            np.testing.assert_allclose(crop, box.run(noisy).clip(0, 1), atol=1e-6)


def test_a_resumed_run_packs_what_was_kept(bench, tmp_path, monkeypatch):
    run, _ = bench
    monkeypatch.setattr(submission, "BLOCKS", (1, 2))
    blocks = np.random.default_rng(0).integers(0, 256, (1, 2, 12, 16, 3), np.uint8)
    path = tmp_path / "sets" / "sidd-benchmark" / "BenchmarkNoisyBlocksSrgb.mat"
    save(path, "5", {"BenchmarkNoisyBlocksSrgb": blocks})
    run("sidd-benchmark")
    submit = tmp_path / "bench_sidd-benchmark" / "submit" / "box.safetensors"
    before = (submit / "SubmitSrgb.csv").read_bytes()
    (submit / "SubmitSrgb.csv").unlink()
    box_method.CALLS.clear()
    run("sidd-benchmark")
    assert not box_method.CALLS
    assert (submit / "SubmitSrgb.csv").read_bytes() == before
    monkeypatch.setattr(submission, "BLOCKS", (40, 32))
    weights = str(tmp_path / "box.safetensors")
    assert frame.run(["bench", "sidd-benchmark", "--data", "sets", "--weights", weights]) == 1


def test_what_does_not_fit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "BLOCKS", (1, 2))
    block = np.zeros((8, 8, 3), np.uint8)
    for number, (blocks, words) in enumerate(
        (
            ([block], "1 blocks; the benchmark has 2"),
            ([block, block[:4]], "of one size"),
            ([block[..., :1]] * 2, "colour"),
            ([block, None], "made of 1 is gone"),
        )
    ):
        kept = KeptImages(tmp_path / str(number))
        items = [Item(str(index), None, None) for index in range(len(blocks))]
        for item, pixels in zip(items, blocks, strict=True):
            if pixels is not None:
                kept.put("m", item.name, pixels)
        images = Images(items, {"id": "sidd-benchmark", "noise": ""})
        with pytest.raises(InputError, match=words):
            submission.pack(images, kept, "m", tmp_path / "x", 1.0)
    assert not (tmp_path / "x").exists()
    with pytest.raises(InputError, match="no such file"):
        dnd_crops(tmp_path)
    for content in ({"info": np.zeros(3)}, {"other": np.zeros(3)}):
        savemat(tmp_path / "info.mat", content)
        with pytest.raises(InputError, match="boxes"):
            read_boxes(tmp_path / "info.mat")
    (tmp_path / "info.mat").write_bytes(b"no MATLAB")
    with pytest.raises(InputError):
        read_boxes(tmp_path / "info.mat")
