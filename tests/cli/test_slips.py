"""What people type at first: it works, or one line says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import box_method
from denoisekit.cli import app as frame
from denoisekit.weights import method_of


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in a folder with a picture; return code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(3).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save("in.png")

    def call(*arguments):
        code = frame.run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def box(run, monkeypatch):
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    return run


SLIPS = [
    (("denoise", "in.png", "-o", "z.unknown"), 2, ("z.unknown", ".unknown", ".tif", "folder")),
    (("simulate", "in.png", "--camera", "gaussian", "-o", "z.pngg"), 2, (".pngg",)),
    (("compare", "in.png", "-o", "x.png"), 2, ("HTML", "-o x.html")),
    (("train", "single"), 2, ("fit-single",)),
    (("train", "single", "in.png", "--out", "run"), 2, ("fit-single",)),
    (("denoise", "in.png", "--gpu"), 2, ("No such option: --gpu", "--device cuda")),
    (("denoise", "in.png", "--cpu"), 2, ("--device cpu",)),
    (("denoise", "in.png", "--force"), 2, ("--overwrite",)),
    (("denoise", "in.png", "--verbose"), 2, ("--debug",)),
    (("denoise", "in.png", "-v"), 2, ("--debug",)),
    (("denoise", "in.png", "--sigma", "25"), 2, ("--strength",)),
    (("denoise", "in.png", "--weights", "empty/"), 3, ("empty", "without weights")),
]


@pytest.mark.parametrize(("arguments", "code", "words"), SLIPS)
def test_one_line_says_what_to_do(run, arguments, code, words):
    Path("empty").mkdir()
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert all(word in err for word in words), err
    assert sorted(p.name for p in Path().iterdir()) == ["empty", "in.png"]


def test_a_second_name_is_not_that_of_the_result(box):
    weights = box_method.write_weights(Path("box.safetensors").absolute())
    code, out, err = box("denoise", "in.png", "out.png", "--weights", weights)
    assert code == 1
    assert "error: out.png: no such file" in err
    assert "hint: all names are of images to read; to name the result: in.png -o out.png" in err
    assert "in.png -> in_denoised.png" in out
    # Of other names it is not guessed.
    code, _, err = box("denoise", "in.png", "no.png", "no2.png", "--weights", weights)
    assert "to name the result" not in err


def test_a_name_for_a_folder_is_taken_for_one(box):
    weights = box_method.write_weights(Path("box.safetensors").absolute())
    Path("my.photos").mkdir()
    for output in ("out", "out.v2", "2024.05", "my.photos"):
        assert box("denoise", "in.png", "-o", output, "--weights", weights)[0] == 0
        assert Path(output, "in.png").exists()


def test_the_folder_of_a_run_stands_for_its_weights(box):
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/config.toml").write_text("")
    last = box_method.write_weights(Path("run/checkpoints/last.safetensors").absolute())
    for name in ("run", "run/", "./run"):
        code, _, err = box("denoise", "in.png", "--method", "box", "--weights", name)
        assert code == 3
        assert "is not over" in err
        assert "run/checkpoints/last.safetensors" in err
    last.rename("run/weights.safetensors")
    for name in ("run", "run/", "./run"):
        assert method_of(name) == "box"
        code, out, err = box("denoise", "in.png", "--weights", name, "--json", "--overwrite")
        assert code == 0, err
        assert json.loads(out)["weights"] == "weights.safetensors"


@pytest.mark.parametrize("command", [(), ("denoise",), ("bench",), ("bench", "sets"), ("weights",)])
def test_h_is_help(run, command):
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short == long
    assert short[0] == 0
    assert "Usage: denoisekit" in short[1]


def test_r_is_recursive_and_q_is_quiet(box):
    weights = box_method.write_weights(Path("box.safetensors").absolute())
    Path("a/b").mkdir(parents=True)
    Path("in.png").rename("a/b/in.png")
    assert box("denoise", "a", "-r", "-q", "-o", "out", "--weights", weights) == (0, "", "")
    assert Path("out/b/in.png").exists()


@pytest.mark.parametrize("option", ["-v", "-V", "--version"])
def test_v_is_the_version(run, option):
    code, out, err = run(option)
    assert (code, err) == (0, "")
    assert out.startswith("denoisekit ")


def test_names_too_long_and_folders_that_are_closed_are_one_line(box):
    weights = box_method.write_weights(Path("box.safetensors").absolute())
    long = "x" * 300
    for arguments in (
        (long,),
        ("in.png", long),
        ("in.png", "-o", f"{long}.png"),
        ("in.png", "-o", f"{long}.unknown"),
    ):
        code, _, err = box("denoise", *arguments, "--weights", weights)
        assert code in {1, 2}
        assert "bug" not in err
    for name in (long, f"{long}/", f"{long}.safetensors"):
        code, _, err = box("denoise", "in.png", "--method", "box", "--weights", name)
        assert code in {1, 2, 3}
        assert "bug" not in err
