"""``denoisekit fit-single``: what it writes, says, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from denoisekit.cli.app import run
from denoisekit.cli.fit_single import _learned as learned
from denoisekit.options import FitOptions, Options
from processes import launch

SMALL = ("--steps", "2", "--width", "4", "--start", "none", "--device", "cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a small noisy picture and a stack of two planes."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (64, 70, 3), dtype=np.uint8)).save("photo.png")
    stack = draw.integers(100, 4000, (2, 64, 66), dtype=np.uint16)
    tifffile.imwrite("stack.tif", stack, imagej=True, metadata={"axes": "ZYX", "spacing": 0.5})
    return tmp_path


def test_the_same_kind_of_file_comes_back_and_the_curve_is_told(folder, capsys):
    assert run(["fit-single", "photo.png", *SMALL]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("photo.png -> photo_denoised.png")
    assert len(said.out.splitlines()) == 1
    assert "step 2: score" in said.err
    assert "dB, the best so far" in said.err
    with Image.open("photo_denoised.png") as image:
        assert (image.size, image.mode) == ((70, 64), "RGB")


def test_a_stack_keeps_what_it_is(folder, capsys):
    assert run(["fit-single", "stack.tif", "-o", "out.tif", *SMALL, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    with tifffile.TiffFile("out.tif") as file:
        assert file.series[0].axes == "ZYX"
        assert file.series[0].dtype == np.uint16
        assert file.imagej_metadata["spacing"] == 0.5


def test_each_plane_can_have_a_network_of_its_own(folder, capsys):
    arguments = ["stack.tif", "--planes", "each", "--json", "--save-weights", "w.safetensors"]
    assert run(["fit-single", *arguments, "--report", "curve.png", *SMALL]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["fits"]) == 2
    assert told["fits"][0]["score"] != told["fits"][1]["score"]
    names = {"w_000.safetensors", "w_001.safetensors", "curve_000.png", "curve_001.png"}
    assert names <= {path.name for path in folder.iterdir()}
    # Each plane is what its own network makes of it.
    stack = tifffile.imread("stack.tif")
    for index in range(2):
        np.save("plane.npy", stack[index])
        arguments = ["denoise", "plane.npy", "-o", "out.npy", "--overwrite", "--quiet"]
        assert run([*arguments, "--weights", f"w_00{index}.safetensors"]) == 0
        np.testing.assert_array_equal(
            np.load("out.npy"), tifffile.imread("stack_denoised.tif")[index]
        )


def test_weights_that_are_kept_do_the_same_to_the_image(folder):
    kept = ["--save-weights", "kept.safetensors"]
    assert run(["fit-single", "photo.png", *kept, *SMALL]) == 0
    weights = ["--weights", "kept.safetensors"]
    assert run(["denoise", "photo.png", "-o", "again.png", *weights]) == 0
    first, second = (np.asarray(Image.open(name)) for name in ("photo_denoised.png", "again.png"))
    np.testing.assert_array_equal(first, second)
    assert run(["denoise", "photo.png", "--method", "sdap", "-o", "no.png", *weights]) == 3


def test_a_report_is_a_picture_of_the_curve(folder):
    assert run(["fit-single", "photo.png", "--report", "curve.png", *SMALL]) == 0
    with Image.open("curve.png") as image:
        colours = {colour for _, colour in image.getcolors(2**20)}
    assert len(colours) > 3


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nothing.png"], 1, "no such file"),
        (["photo.png", "--objective", "sdpa"], 2, "sdap"),
        (["photo.png", "--preset", "slow"], 2, "balanced"),
        (["photo.png", "--planes", "some"], 2, "each"),
        (["photo.png", "--time", "soon"], 2, "soon"),
        (["photo.png", "--time", "2s"], 2, "too short"),
        (["stack.tif", "--planes", "each", "--time", "8s"], 2, "--planes shared"),
        (["photo.png", "--start", "nothing.safetensors"], 3, "no file"),
        (["."], 2, "more than one image"),
        (["photo.png", "--save-weights", "stack.tif"], 1, "exists already"),
        (["photo.png", "-o", "stack.tif"], 1, "exists already"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(folder, capsys, arguments, code, word):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    small = [] if "--start" in arguments else ["--start", "none"]
    assert run(["fit-single", *arguments, *small, "--width", "4"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert word in said.err
    assert "Traceback" not in said.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def fit_until_stopped(folder):
    os.chdir(folder)
    code = run(["fit-single", "photo.png", *SMALL, "--steps", "100000"])
    print(f"ended with {code}", flush=True)  # noqa: T201 - read by the test


def test_interrupted_once_it_writes_the_best_so_far(folder):
    log = folder / "log"
    process = launch(fit_until_stopped, folder, log=log, OMP_NUM_THREADS="1")
    # The output's place is taken when the work begins, and the handler is there before.
    while process.is_alive() and not list(folder.glob(".denoisekit-*")):
        time.sleep(0.01)
    time.sleep(0.5)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    said = log.read_text()
    assert "ended with 130" in said
    assert "the best so far is applied" in said
    assert "Traceback" not in said
    with Image.open(folder / "photo_denoised.png") as image:
        assert image.size == (70, 64)


def fit(objective, start, steps, strength="auto", ensemble=True):
    """What a fit tells of itself."""
    options = Options(self_ensemble=ensemble)
    denoiser = SimpleNamespace(options=options, strength=strength)
    return SimpleNamespace(
        objective=objective,
        start=start,
        steps=steps,
        denoiser=denoiser,
        options=FitOptions(seconds=10.0),
    )


def test_what_was_learned_is_said_and_what_would_help():
    start = "aprrd.camera"
    assert learned(fit("pairs", "", 30)) == "learned by pairs, 30 steps"
    told = learned(fit("distilled", start, 30))
    assert told == "learned by distilled, which began with aprrd.camera, 30 steps"
    told = learned(fit(start, start, 0))
    assert told == (
        "there was no time to learn: aprrd.camera was applied as it is, averaged over flips and "
        "turns and fine texture given back; more time lets it learn this image: --time 60s"
    )
    told = learned(fit(start, start, 90, strength=1.0, ensemble=False))
    assert told == (
        "what was learned in 90 steps was no better: aprrd.camera was applied as it is; "
        "more time lets it learn this image: --time 60s"
    )
