"""``denoisekit denoise``: what it writes, says, and returns."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import box_method
from denoisekit import methods
from denoisekit.cli import app as frame
from denoisekit.formats.guard import GuardedWriter
from processes import launch


@pytest.fixture
def box(tmp_path, monkeypatch, capsys):
    """Run the command with the box method in a folder of its own; return code, stdout, stderr."""
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    weights = box_method.write_weights(tmp_path / "box.safetensors")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, method=("--method", "box")):
        code = frame.run(["denoise", *map(str, arguments), *method, "--weights", str(weights)])
        return code, *capsys.readouterr()

    return run


def pixels_of(name):
    with Image.open(name) as image:
        return np.array(image)


def picture(name, *shape, dtype=np.uint8):
    pixels = np.random.default_rng(3).integers(0, 256, shape or (20, 24, 3)).astype(dtype)
    if str(name).endswith(".npy"):
        np.save(name, pixels)
    else:
        Image.fromarray(pixels).save(name)
    return pixels


def test_a_file(box, tmp_path):
    picture("a b.png")
    code, out, err = box("a b.png")
    assert code == 0
    assert out.startswith("a b.png -> a b_denoised.png")
    assert len(out.splitlines()) == 1
    assert err.startswith("box with box.safetensors on CPU")
    assert pixels_of("a b_denoised.png").shape == (20, 24, 3)


def test_quiet_says_nothing_but_errors(box):
    picture("a.png")
    assert box("a.png", "--quiet") == (0, "", "")
    code, out, err = box("a.png", "none.png", "--quiet")
    assert (code, out) == (1, "")
    assert {line.split(":")[0] for line in err.splitlines()} == {"error", "hint"}


def test_json_is_one_object_a_file(box):
    picture("a.png", 20, 24)
    code, out, _ = box("a.png", "none.png", "--json", "--tile", "8", "--range", "dtype")
    failed, done = map(json.loads, out.splitlines())
    assert code == 1
    assert failed["input"] == "none.png"
    assert "no such file" in failed["error"]
    expected = {
        "input": "a.png",
        "output": "a_denoised.png",
        "method": "box",
        "weights": "box.safetensors",
        "device": "cpu",
        "precision": "fp32",
        "tile": [8, 8],
        "tiles": 9,
        "range": [0.0, 255.0],
        "megapixels": 20 * 24 / 1e6,
        "warnings": [],
    }
    assert {key: done[key] for key in expected} == expected
    assert set(done) == {*expected, "estimates", "notes", "returned", "seconds", "weights_sha256"}
    assert done["returned"] is done["estimates"] is None
    assert len(done["weights_sha256"]) == 64


def test_one_bad_file_is_reported_and_the_rest_goes_on(box):
    for name in ("a.png", "c.png"):
        picture(name)
    Path("b.png").write_text("not a picture")
    code, out, err = box("a.png", "b.png", "c.png")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["a.png", "c.png"]
    assert "error: b.png" in err
    assert "2 done, 1 failed" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "b.png", "-o", "c.png"], "2 inputs"),
        (["a.png", "none.png", "-o", "c.png"], "2 inputs"),
        (["a.png", "--suffix", ""], "is an input"),
        (["a.png", "-o", "a.png", "--overwrite"], "is an input"),
        (["a.png", "a.bmp", "--format", "png"], "both be written"),
        (["a.png", "--overwrite", "--skip-existing"], "exclude"),
        (["a.png", "--format", "pgn"], "did you mean 'png'"),
        (["a.png", "--device", "cdua"], "did you mean 'cuda'"),
        (["a.png", "--device", "cuda:99999999999999999999"], "CUDA devices"),
        (["a.png", "--precision", "bf61"], "did you mean 'bf16'"),
        (["a.png", "--precision", "fp16"], "--precision bf16"),
        (["a.png", "--tile", "big"], "--tile big"),
        (["a.png", "--max-memory", "lots"], "'lots'"),
        (["a.png", "--max-memory", ""], "amount of memory"),
        (["a.png", "--max-memory", "9" * 400], "amount of memory"),
        (["a.png", "--strength", "2"], "strength"),
        (["a.png", "--seed", "99999999999999999999"], "seed"),
        (["a.png", "--range", "minmix"], "did you mean 'minmax'"),
        (["a.png", "-o", "a.gif"], ".gif"),
        (["none.png", "--method", "bux"], "did you mean 'box'"),
    ],
)
def test_what_makes_no_sense_ends_before_any_work(box, arguments, words):
    picture("a.png")
    picture("b.png")
    picture("a.bmp")
    before = sorted(path.name for path in Path().iterdir())
    code, out, err = box(*arguments, method=() if "--method" in arguments else ("--method", "box"))
    assert (code, out) == (2, "")
    assert words in err
    assert all(line.startswith(("error: ", "hint: ")) for line in err.splitlines())
    assert sorted(path.name for path in Path().iterdir()) == before


def test_absent_gpu_is_an_error_and_not_a_fallback(box, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    picture("a.png")
    code, _, err = box("a.png", "--device", "cuda")
    assert code == 2
    assert "torch sees 0 CUDA devices" in err


def test_no_weights_and_no_network_names_two_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    picture(tmp_path / "a.png")
    assert frame.run(["denoise", str(tmp_path / "a.png"), "--weights", "aprrd.sidd"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "denoisekit weights pull" in err
    assert "denoisekit weights import" in err
    assert frame.run(["denoise", str(tmp_path / "a.png"), "--weights", "aprrd.sid"]) == 2
    assert "did you mean 'aprrd.sidd'" in capsys.readouterr().err


def test_existing_outputs(box):
    picture("a.png")
    Path("a_denoised.png").write_text("mine")
    code, _, err = box("a.png")
    assert (code, Path("a_denoised.png").read_text()) == (1, "mine")
    assert "--overwrite" in err
    code, out, err = box("a.png", "--skip-existing")
    assert (code, out, Path("a_denoised.png").read_text()) == (0, "", "mine")
    assert "skipped 1" in err
    assert box("a.png", "--overwrite")[0] == 0
    assert pixels_of("a_denoised.png").shape == (20, 24, 3)


def test_a_folder_is_mirrored_and_a_second_run_finds_only_the_inputs(box):
    Path("in/x").mkdir(parents=True)
    picture("in/a.png")
    picture("in/x/ä [1].png")
    for extra in ([], ["--overwrite"], ["--skip-existing"]):
        assert box("in", "--recursive", "-o", "in/clean", *extra)[0] == 0
    assert Path("in/clean/x/ä [1].png").exists()
    assert not Path("in/clean/clean").exists()


def test_the_output_is_in_the_format_of_its_name(box):
    picture("a.png")
    assert box("a.png", "-o", "b.tif")[0] == 0
    assert Path("b.tif").read_bytes()[:2] in (b"II", b"MM")


def test_a_wrong_name_is_told_and_the_content_counts(box):
    picture("a.bmp")
    Path("a.bmp").rename("a.png")
    code, out, err = box("a.png")
    assert code == 0
    assert "a_denoised.bmp" in out
    assert "named .png but holds" in err


def test_axes_and_range(box):
    pixels = picture("a.npy", 3, 12, 10, dtype=np.uint16)
    assert box("a.npy", "--axes", "TYX", "--range", "0,255", "-o", "one.npy")[0] == 0
    np.save("b.npy", pixels[1])
    assert box("b.npy", "--range", "0,255", "-o", "two.npy")[0] == 0
    np.testing.assert_array_equal(np.load("one.npy")[1], np.load("two.npy"))
    code, _, err = box("a.npy", "--axes", "YX", "-o", "c.npy")
    assert code == 1
    assert "axes" in err


def test_memory_limits_give_identical_results(box, monkeypatch):
    picture("a.png", 150, 160, 3)
    monkeypatch.setattr("denoisekit.engine.device.used_memory", lambda: 0)
    tiles = []
    for limit in ("178MiB", "1GiB"):
        code, out, _ = box("a.png", "-o", f"{limit}.png", "--max-memory", limit, "--json")
        assert code == 0
        tiles.append(json.loads(out)["tiles"])
    assert tiles[0] > tiles[1] == 1
    np.testing.assert_array_equal(pixels_of("178MiB.png"), pixels_of("1GiB.png"))


def test_too_little_memory_is_exit_4(box):
    picture("a.png")
    code, _, err = box("a.png", "--max-memory", "1MiB")
    assert code == 4
    assert "--max-memory" in err
    assert not Path("a_denoised.png").exists()


def work(where, folder, arguments):
    """Denoise, slowly."""
    os.chdir(folder)
    methods.METHODS = (box_method.METHOD,)
    pause = {"network": 60, "writer": 1}[where]

    def slow(*_):
        sys.stderr.write("at work\n")
        sys.stderr.flush()
        time.sleep(pause)

    if where == "network":
        box_method.Box.hook = slow
    else:
        GuardedWriter.write_rows = slow
    sys.argv = ["denoisekit", *arguments]
    frame.main()


@pytest.mark.parametrize(
    ("where", "request_to_end"),
    [("network", signal.SIGTERM), ("writer", signal.SIGINT), ("network", signal.SIGHUP)],
)
def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path, tmp_path_factory, where, request_to_end
):
    picture(tmp_path / "a.npy", 60, 20)
    weights = box_method.write_weights(tmp_path / "box.safetensors")
    options = ["--method", "box", "--weights", str(weights), "--tile", "4"]
    log = tmp_path_factory.mktemp("said") / "log"
    process = launch(work, where, tmp_path, ["denoise", "a.npy", *options], log=log)
    try:
        while process.is_alive() and "at work" not in (log.read_text() if log.exists() else ""):
            time.sleep(0.01)
        os.kill(process.pid, request_to_end)
        process.join(timeout=30)
    finally:
        process.kill()
    said = log.read_text()
    assert process.exitcode == 130, said
    assert [line for line in said.splitlines() if line != "at work"][1:] == ["interrupted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "box.safetensors"]
