"""``denoisekit simulate``: what it writes, says, and returns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from denoisekit.cli import app as frame


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command in a folder of its own; return code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = frame.run(["simulate", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def picture(name, level=128, shape=(40, 48, 3)):
    Image.fromarray(np.full(shape, level, np.uint8)).save(name)


def pixels_of(name):
    with Image.open(name) as image:
        return np.asarray(image).astype(float)


def test_a_file_beside_its_input(run):
    picture("a.png")
    code, out, err = run("a.png", "--camera", "phone", "--gain", "0.02")
    assert (code, err) == (0, "")
    assert out == "a.png -> a_noisy.png  phone, gain 0.02\n"
    noise = pixels_of("a_noisy.png") - 128
    assert 5 < noise.std() < 60


@pytest.mark.parametrize(
    ("camera", "strength"),
    [
        ("phone", "gain"),
        ("dslr", "gain"),
        ("fluorescence", "gain"),
        ("gaussian", "sigma"),
        ("poisson", "peak"),
    ],
)
def test_json_tells_the_strength_that_was_drawn_and_it_can_be_given(run, camera, strength):
    picture("a.png")
    code, out, _ = run("a.png", "--camera", camera, "--json", "--seed", 5)
    facts = json.loads(out)
    assert code == 0
    assert facts[strength] > 0
    assert (facts["input"], facts["output"], facts["camera"]) == ("a.png", "a_noisy.png", camera)
    assert facts["seed"] == 5
    assert facts["range"] == [0, 255]
    code, out, _ = run(
        "a.png", "--camera", camera, "--json", f"--{strength}", facts[strength], "--overwrite"
    )
    assert json.loads(out)[strength] == facts[strength]


def test_fractions_are_numbers(run):
    picture("a.png")
    _, out, _ = run("a.png", "--camera", "gaussian", "--sigma", "25/255", "--json")
    assert json.loads(out)["sigma"] == 25 / 255
    _, out, err = run("a.png", "--camera", "gaussian", "--sigma", "25", "--json", "--overwrite")
    assert json.loads(out)["sigma"] == 25 / 255
    assert "note: --sigma 25 is taken as 25/255" in err
    assert (pixels_of("a_noisy.png") - 128).std() == pytest.approx(25, rel=0.05)


def test_runs_repeat_and_a_file_does_not_depend_on_the_others(run):
    for name in ("a.png", "b.png"):
        picture(name)
    camera = ("--camera", "phone")
    assert run("a.png", "b.png", *camera, "-o", "first/")[0] == 0
    assert run("b.png", *camera, "-o", "second/")[0] == 0
    assert run("b.png", *camera, "-o", "third/", "--seed", "1")[0] == 0
    first, second, third = (pixels_of(f"{n}/b.png") for n in ("first", "second", "third"))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)
    assert not np.array_equal(first, pixels_of("first/a.png"))


def test_a_tree_is_mirrored_and_files_of_one_name_differ(run, tmp_path):
    for folder in ("in", "in/deep"):
        (tmp_path / folder).mkdir()
        picture(f"{folder}/a.png")
    code, _, _ = run("in", "--recursive", "--camera", "phone", "--gain", "0.01", "-o", "out")
    assert code == 0
    assert not np.array_equal(pixels_of("out/a.png"), pixels_of("out/deep/a.png"))


def test_a_second_run_finds_only_the_clean_files(run):
    picture("a.png")
    assert run(".", "--camera", "phone")[0] == 0
    code, out, err = run(".", "--camera", "phone")
    assert (code, out) == (1, "")
    assert "a_noisy.png exists already" in err
    assert run(".", "--camera", "phone", "--overwrite")[1].startswith("a.png -> a_noisy.png")
    assert run(".", "--camera", "phone", "--skip-existing")[2] == "skipped 1 whose output exists\n"


def test_bit_depth_opacity_and_metadata_are_kept(run):
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    rgba = np.full((32, 32, 4), 90, np.uint8)
    rgba[..., 3] = np.arange(32)
    Image.fromarray(rgba).save("a.png", exif=exif, dpi=(300, 300))
    assert run("a.png", "--camera", "dslr", "--gain", "0.01")[0] == 0
    with Image.open("a_noisy.png") as noisy:
        assert noisy.getexif()[0x010F] == "Camera"
        assert noisy.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        pixels = np.asarray(noisy)
    assert np.array_equal(pixels[..., 3], rgba[..., 3])
    assert pixels[..., :3].std() > 1


def test_sixteen_bits_are_used(run):
    deep = np.full((64, 64, 3), 30000, np.uint16)
    tifffile.imwrite("a.tif", deep, photometric="rgb")
    assert run("a.tif", "--camera", "dslr", "--gain", "0.001")[0] == 0
    noisy = tifffile.imread("a_noisy.tif")
    assert noisy.dtype == np.uint16
    assert len(np.unique(noisy % 257)) == 257


def test_a_stack_and_its_range(run):
    stack = np.full((3, 40, 40), 1000, np.uint16)
    stack[:, :20] = 3000
    tifffile.imwrite("cells.tif", stack, photometric="minisblack", metadata={"axes": "TYX"})
    options = ("--camera", "fluorescence", "--gain", "0.05", "--range", "0,4095")
    assert run("cells.tif", *options)[0] == 0
    noisy = tifffile.imread("cells_noisy.tif").astype(float)
    assert noisy.shape == stack.shape
    assert noisy.mean() == pytest.approx(stack.mean(), rel=0.1)
    assert noisy.max() <= 4095
    assert abs(np.corrcoef((noisy - stack)[:2].reshape(2, -1))[0, 1]) < 0.2


def test_holes_in_float_images_stay(run):
    values = np.full((20, 20), 0.5, np.float32)
    values[3, 4], values[5, 6] = np.nan, np.inf
    np.save("a.npy", values)
    assert run("a.npy", "--camera", "poisson", "--peak", "30", "--range", "0,1")[0] == 0
    noisy = np.load("a_noisy.npy")
    assert np.isnan(noisy[3, 4])
    assert np.isposinf(noisy[5, 6])
    assert np.isfinite(noisy).sum() == 398


def test_gray_is_not_for_cameras_and_the_rest_goes_on(run):
    picture("gray.png", shape=(20, 20))
    picture("a.png")
    code, out, err = run("gray.png", "a.png", "none.png", "--camera", "phone", "--quiet", "--json")
    assert code == 1
    lines = [json.loads(line) for line in out.splitlines()]
    assert [("error" in line, line["input"]) for line in lines] == [
        (True, "none.png"),
        (True, "gray.png"),
        (False, "a.png"),
    ]
    assert "gray.png: phone noise needs a colour image" in err
    assert "fluorescence, gaussian and poisson" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--camera", "phon"), "no camera is called 'phon'"),
        (("--camera", "phone", "--sigma", "0.1"), "phone noise has no sigma"),
        (("--camera", "phone", "--gain", "0"), "gain 0 makes no sense"),
        (("--camera", "phone", "--gain", "nan"), "gain nan makes no sense"),
        (("--camera", "gaussian", "--sigma", "x"), "--sigma x is not a number"),
        (("--camera", "gaussian", "--sigma", "1/0"), "--sigma 1/0 is not a number"),
        (("--camera", "gaussian", "--sigma", "300"), "wider than from black to white"),
        (("--camera", "gaussian", "--seed", "-1"), "seed"),
        (("--camera", "phone", "--range", "5,1"), "range '5,1'"),
        (("--camera", "phone", "--overwrite", "--skip-existing"), "exclude each other"),
        (("--camera", "phone", "-o", "a.png"), "is an input too"),
        ((), "--camera"),
    ],
)
def test_what_makes_no_sense_ends_before_any_work(run, arguments, words):
    picture("a.png")
    code, out, err = run("a.png", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "bug" not in err


def test_too_large_an_image_is_told_before_it_is_read(run, monkeypatch):
    class Little:
        available = 100_000

    monkeypatch.setattr("psutil.virtual_memory", Little)
    picture("a.png")
    code, out, err = run("a.png", "--camera", "phone")
    assert (code, out) == (4, "")
    assert "a.png: too large to simulate noise on" in err
