"""``denoisekit compare``: what it runs, shows and says."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from report_pages import data_of, decode

import box_method
from denoisekit.cli import app as frame
from denoisekit.compare import (
    Choice,
    Comparison,
    Crop,
    Part,
    Result,
    Skipped,
    middle_crop,
    parse_crop,
    spread_planes,
)
from denoisekit.engine.denoiser import load as load_weights
from denoisekit.errors import UsageError
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.ranges import Range

PAGE = Path("a b_compare.html")


def picture(height=40, width=64, planes=0, seed=0):
    """Return noisy waves on 0..255."""
    y, x = np.mgrid[:height, :width]
    clean = 120 + 60 * np.sin(x / 9) * np.cos(y / 7)
    draw = np.random.default_rng(seed)
    shape = (planes, height, width) if planes else (height, width, 3)
    return (clean if planes else clean[..., None]) + 15 * draw.standard_normal(shape)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.chdir(tmp_path)
    pixels = picture().clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save("a b.png")
    return box_method.write_weights(tmp_path / "box.safetensors")


@pytest.fixture
def run(weights, capsys):
    """Run the command on a picture; return code, stdout and stderr."""

    def call(*more, image="a b.png", weights=("--weights", "box.safetensors")):
        code = frame.run(["compare", image, *weights, *more])
        return code, *capsys.readouterr()

    return call


def test_the_page_shows_what_the_commands_give(run, capsys):
    code, out, err = run("--methods", "wavelet,tv", "--lossless", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    ids = [result["id"] for result in told["results"]]
    assert sorted(ids) == ["box.safetensors", "tv", "wavelet"]
    scores = [result["score"] for result in told["results"]]
    assert scores == sorted(scores, reverse=True)
    data = data_of(PAGE.read_text())
    assert data["layers"] == ["noisy", *ids]
    sources = dict(zip(data["layers"], data["pictures"][0]["sources"], strict=True))
    np.testing.assert_array_equal(decode(sources["noisy"]), np.asarray(Image.open("a b.png")))
    by_id = {result["id"]: result for result in told["results"]}
    assert by_id["tv"]["command"] == ""
    words = shlex.split(by_id["box.safetensors"]["command"])
    assert words[0] == "denoisekit"
    assert frame.run(words[1:]) == 0
    given = np.asarray(Image.open("a b_denoised.png"))
    np.testing.assert_array_equal(decode(sources["box.safetensors"]), given)
    assert by_id["box.safetensors"]["weights_sha256"] in PAGE.read_text()


def test_a_table_names_the_ranks_and_the_page(run):
    code, out, err = run("--methods", "tv")
    assert code == 0, err
    title, header, first, second, noisy, page = out.splitlines()
    assert title == "a b.png"
    assert header.split() == ["rank", "result", "score", "time", "memory"]
    assert [first.split()[0], second.split()[0], noisy.split()[0]] == ["1", "2", "noisy"]
    assert page == f"page: {PAGE}"
    assert PAGE.exists()


def test_a_part_is_compared_and_said(run):
    code, _, err = run("--crop", "8,4,40,33", "--lossless")
    assert code == 0
    assert "comparing 40x33 pixels from x 8, y 4 of 64x40; see --crop" in err
    (shown,) = data_of(PAGE.read_text())["pictures"]
    whole = np.asarray(Image.open("a b.png"))
    np.testing.assert_array_equal(decode(shown["sources"][0]), whole[4:37, 8:48])
    assert shown["note"].startswith("40x33 pixels from x 8, y 4 of 64x40.")


def test_planes_of_a_stack_share_the_range_of_all(run):
    stack = picture(planes=7).astype(np.float32)
    stack[6] += 800
    np.save("stack.npy", stack)
    code, _, err = run("--lossless", image="stack.npy")
    assert code == 0, err
    assert "planes 0, 3, 6 of 7; see --crop and --plane" in err
    html = Path("stack_compare.html").read_text()
    pictures = data_of(html)["pictures"]
    assert [shown["name"] for shown in pictures] == ["plane 0", "plane 3", "plane 6"]
    means = [decode(shown["sources"][0]).mean() for shown in pictures]
    assert means[2] > means[0] + 100
    low, high = np.quantile(stack, [0.001, 0.999], method="inverted_cdf")
    assert f"{low:g} and {high:g}" in html
    code, out, _ = run("--plane", "5", "--json", "-o", "x/p.html", image="stack.npy")
    assert code == 0
    assert json.loads(out)["planes"] == [5]
    assert Path("x/p.html").exists()


def test_a_result_worse_than_the_noisy_image_is_said_to_be(run, monkeypatch):
    monkeypatch.setattr(
        box_method.Box, "hook", lambda self, noisy: noisy + 0.3 * torch.randn(noisy.shape)
    )
    code, _, err = run()
    assert code == 0
    assert "the noisy image itself is better" in err


def test_a_page_that_exists_is_kept(run):
    assert run()[0] == 0
    PAGE.write_text("mine")
    code, _, err = run()
    assert code == 1
    assert "--overwrite" in err
    assert PAGE.read_text() == "mine"
    assert run("--overwrite")[0] == 0
    assert PAGE.read_text() != "mine"


def test_the_browser_opens_the_page(run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address))
    code, _, err = run("--open")
    assert code == 0
    assert opened == [PAGE.resolve().as_uri()]
    assert "open a b_compare.html yourself" in err  # this browser did not say that it did


def test_what_makes_no_sense_is_said_before_any_work(run):
    box_method.CALLS.clear()
    for arguments, words in (
        (("--crop", "0,0,65,40"), "not within"),
        (("--crop", "-1,0,40,40"), "makes no sense"),
        (("--crop", "0,0,40"), "no part"),
        (("--plane", "1"), "no plane 1"),
        (("--methods", "boxx"), "box"),
        (("--methods", "box"), "no weights of 'box'"),
        (("--weights", "box.safetensors"), "twice"),
        (("--time", "soon"), "not a time"),
        (("--crop", "0,0,20,20"), "too small to judge"),
    ):
        code, out, err = run(*arguments)
        assert (code in (1, 2), out) == (True, "")
        assert words in err
        assert not box_method.CALLS
        assert not PAGE.exists()


def test_without_weights_there_is_nothing_to_compare(run):
    code, _, err = run(weights=())
    assert code == 2
    assert "weights list" in err


def test_what_takes_too_long_is_left_out(weights, monkeypatch):
    part = Part(ArrayReader(picture().astype(np.uint8), "YXS"), Crop(0, 0, 64, 40), (0,))
    costs = {"first": 1e3, "cheap": 1e3, "slow": 2e3, "hopeless": 1e15, "late": 1e3}
    choices = [Choice(name, "box", str(weights), flop) for name, flop in costs.items()]
    timed = {"cheap": None, "slow": 50.0, "late": 0.1}
    loaded = []
    monkeypatch.setattr("denoisekit.compare.estimate_seconds", lambda *_: timed[loaded[-1]])

    def load(options, **more):
        loaded.append(next(name for name in costs if name not in loaded))
        return load_weights(options, **more)

    def go(seconds, clock):
        loaded.clear()
        comparison = Comparison(Path("x"), part, Range(0, 255), seconds=seconds)
        found = comparison.run(choices, clock)
        seen = []
        for one in found:
            seen.append((one.choice.id, isinstance(one, Result)))
            if isinstance(one, Skipped) and one.choice.id == "hopeless":
                loaded.append("hopeless")  # passed over unloaded
        return seen

    monkeypatch.setattr("denoisekit.compare.load", load)
    still = itertools.repeat(0.0)
    assert go(10, lambda: next(still)) == [
        ("first", True),
        ("cheap", True),
        ("slow", False),
        ("hopeless", False),
        ("late", True),
    ]
    # Time that has gone leaves the first alone, whatever it takes.
    ticks = itertools.count(0.0, 100.0)
    assert [ran for _, ran in go(10, lambda: next(ticks))] == [True] + [False] * 4


def test_crops_and_planes():
    assert middle_crop(1000, 1048) == Crop(0, 0, 1000, 1048)
    crop = middle_crop(4001, 3000)
    assert (crop.width, crop.height) == (1024, 1024)
    assert crop.left % 16 == crop.top % 16 == 0
    assert abs(crop.left + 512 - 2000) <= 16
    assert abs(crop.top + 512 - 1500) <= 16
    assert middle_crop(9000, 200) == Crop(3984, 0, 1024, 200)
    assert parse_crop(" 1, 2,3,4", 4, 6) == Crop(1, 2, 3, 4)
    for wrong in ("1,2,3,4,5", "a,0,1,1", "", "2,0,3,1", "0,0,0,1"):
        with pytest.raises(UsageError):
            parse_crop(wrong, 4, 6)
    assert spread_planes(1) == (0,)
    assert spread_planes(3) == (0, 1, 2)
    assert spread_planes(100) == (0, 50, 99)


@pytest.mark.browser
def test_planes_are_chosen_on_the_page(run, visit):
    np.save("stack.npy", picture(planes=5).astype(np.float32))
    assert run(image="stack.npy")[0] == 0
    tab = visit(Path("stack_compare.html").read_text())
    tab.select_option("#picture", label="plane 4")
    tab.wait_for_selector("#viewer[data-ready=yes]")
    words = "plane 4: left noisy, right box.safetensors rank 1"
    assert tab.text_content("#status").startswith(words)
    assert tab.locator("td .command button").inner_text() == "Copy"
