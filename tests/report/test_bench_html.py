"""The page of ``denoisekit bench``: which pictures, whose numbers, and after a killed run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from report_pages import data_of, decode

import box_method
from bench_box import candidates, material, write_pairs
from denoisekit.bench.candidates import Candidate
from denoisekit.bench.results import Row
from denoisekit.bench.run import Place, run
from denoisekit.bench.shelf import Shelf, choose_pictures, most_detail
from denoisekit.cli import app as frame
from denoisekit.metrics import SRGB
from denoisekit.report.bench_page import Shown, bench_page


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.delenv("DENOISEKIT_DATA", raising=False)
    write_pairs(tmp_path)
    monkeypatch.chdir(tmp_path)
    return box_method.write_weights(tmp_path / "box.safetensors")


@pytest.fixture
def bench(weights, capsys):
    def call(*more):
        pairs = ("--noisy", "noisy", "--clean", "clean", "--weights", "box.safetensors")
        code = frame.run(["bench", *pairs, *more])
        return code, *capsys.readouterr()

    return call


def test_every_run_with_clean_pictures_writes_a_page(bench):
    code, _, err = bench("--lossless")
    assert code == 0, err
    path = Path("bench_pictures/report.html")
    assert str(path) in err
    html = path.read_text()
    told = json.loads(Path("bench_pictures/results.json").read_text())
    data = data_of(html)
    assert data["layers"] == ["noisy", "clean", "box.safetensors"]
    assert (data["start"], data["clean"]) == ([0, 2], 1)
    for index, picture in enumerate(data["pictures"]):
        assert picture["name"] == str(index)
        noisy, clean, denoised = (decode(source) for source in picture["sources"])
        np.testing.assert_array_equal(noisy, np.load(f"noisy/{index}.npy"))
        np.testing.assert_array_equal(clean, np.load(f"clean/{index}.npy"))
        error = (denoised.astype(float) - clean) / 255
        psnr = next(
            row["psnr"]
            for row in told["rows"]
            if (row["candidate"], row["picture"]) == ("box.safetensors", str(index))
        )
        assert -10 * np.log10((error**2).mean()) == pytest.approx(psnr, abs=0.02)
        assert picture["notes"][2] == f"{psnr:.2f} dB"
    assert told["candidates"][1]["weights_sha256"] in html
    assert str(SRGB) in html
    assert not Path("bench_pictures/pictures").exists()


def test_the_page_is_left_out_or_left_alone_as_asked(bench):
    assert bench("--no-html")[0] == 0
    path = Path("bench_pictures/report.html")
    assert not path.exists()
    assert not Path("bench_pictures/pictures").exists()
    box_method.CALLS.clear()
    assert bench()[0] == 0  # nothing was kept: what the page shows is denoised again
    assert path.exists()
    assert len(box_method.CALLS) == 6
    path.write_text("mine")
    assert bench()[0] == 0
    assert path.read_text() == "mine"
    assert bench("--lossless")[0] == 0
    assert path.read_text() != "mine"
    assert bench("--overwrite")[0] == 0
    assert "AVIF" in path.read_text()


def test_a_run_without_clean_pictures_has_no_page(weights, capsys):
    assert frame.run(["bench", "--noisy", "noisy", "--weights", str(weights)]) == 0
    assert not Path("bench_pictures/report.html").exists()
    assert "pictures:" not in capsys.readouterr().err


def test_what_a_killed_run_kept_is_not_denoised_again(bench, weights, monkeypatch):
    pictures = material(Path())
    place = Place(Path("bench_box set"))
    chosen = candidates(weights)
    shelf = Shelf(place, pictures)

    def stop(noisy):
        if len(box_method.CALLS) == 4:
            raise KeyboardInterrupt
        return chosen[1].run(noisy)

    box_method.CALLS.clear()
    broken = [chosen[0], Candidate(chosen[1].id, chosen[1].facts, stop)]
    with pytest.raises(KeyboardInterrupt):
        run(pictures, broken, SRGB, place, workers=1, keep=shelf.keep)
    again = Shelf(place, pictures)
    run(pictures, chosen, SRGB, place, workers=1, keep=again.keep)
    assert len(box_method.CALLS) == 6
    for item in pictures.items:
        noisy, _ = pictures.read(item)
        taken = again.take(chosen[1], item, noisy)
        assert len(box_method.CALLS) == 6
        wanted = chosen[1].run(noisy)
        box_method.CALLS.pop()
        np.testing.assert_allclose(taken, wanted, atol=1e-3)
    # Another run in the same folder takes nothing from this one.
    fresh = Shelf(Place(place.folder, overwrite=True), pictures)
    fresh.take(chosen[1], item, noisy)
    assert len(box_method.CALLS) == 7


def test_no_more_is_kept_than_there_is_room_for(weights, monkeypatch):
    pictures = material(Path())
    (_, box) = candidates(weights)
    shelf = Shelf(Place(Path("out")), pictures)
    noisy, _ = pictures.read(pictures.items[0])
    monkeypatch.setattr("denoisekit.bench.shelf.MOST_BYTES", 3 * noisy.size * 2)
    for item in pictures.items:
        shelf.keep(box, item, noisy)
    assert len(list(shelf.folder.iterdir())) == 3


def test_of_a_large_picture_the_part_with_most_detail_is_shown(weights, monkeypatch):
    picture = np.full((300, 400, 3), 0.5, np.float32)
    draw = np.random.default_rng(0)
    picture[200:260, 320:380] = draw.random((60, 60, 1))
    top, left, height, width = most_detail(picture, 96)
    assert (height, width) == (96, 96)
    assert top <= 200
    assert top + height >= 260
    assert left <= 320
    assert left + width >= 380
    assert most_detail(picture[:50, :70], 96) == (0, 0, 50, 70)
    monkeypatch.setattr("denoisekit.bench.shelf.SIDE", 16)
    assert frame.run(["bench", "--noisy", "noisy", "--clean", "clean", "--methods", "noisy"]) == 0
    first = data_of(Path("bench_pictures/report.html").read_text())["pictures"][0]
    assert (first["width"], first["height"]) == (16, 16)
    assert first["note"].startswith("16x16 pixels from x 0, y 0 of 30x24")


def row(candidate, picture, psnr):
    return Row(candidate, picture, {"psnr": psnr, "megapixels": 1.0}, 1.0)


def test_of_many_pictures_those_are_shown_that_tell_most():
    table = {  # noisy, a, b
        "0": (20, 30, 30),
        "1": (20, 30, 30.1),
        "2": (20, 30, 36),  # the two differ most
        "3": (20, 19, 19),  # both fail
        "4": (20, 31, 31),
        "5": (20, 33, 30),
        "6": (20, 32, 32),
        "7": (20, 21, 21),
    }
    rows = [
        row(name, picture, value)
        for index, name in enumerate(("noisy", "a", "b"))
        for picture, values in table.items()
        for value in [values[index]]
    ]
    assert choose_pictures(rows, 5) == ["0", "2", "3", "5", "7"]
    assert choose_pictures(rows, 8) == list(table)
    rows[0] = row("noisy", "0", float("inf"))
    assert len(choose_pictures(rows, 4)) == 4


def results(ssim="gaussian", set="kodak", noise="gaussian:25/255"):
    """Return a file of results of one picture: noisy, and Prompt-SID without a difference."""
    kind = f"ssim_{ssim}"
    return {
        "set": {"id": set, "pictures": 1, "noise": noise, "noise_seed": 0, "range": "auto"},
        "protocol": {"id": "p", "version": 2, "ssim": ssim},
        "versions": {"denoisekit": "1", "torch": "9"},
        "candidates": [
            {"id": "noisy", "method": None},
            {"id": "promptsid.mine", "method": "promptsid", "weights_sha256": "abc"},
        ],
        "means": {
            "noisy": {"psnr": 20.0, kind: 0.5, "seconds_per_megapixel": 0.0},
            "promptsid.mine": {"psnr": None, kind: 1.0, "seconds_per_megapixel": 3.0},
        },
        "rows": [
            {"candidate": name, "picture": "x", "psnr": psnr, kind: 0.5, "seconds": 1}
            for name, psnr in (("noisy", 20.0), ("promptsid.mine", None))
        ],
    }


def cells(html, start):
    """Return the texts of the table row that begins so."""
    line = re.search(rf'<tr><th scope="row"[^>]*>{re.escape(start)}</th>.*?</tr>', html)[0]
    return re.findall(r">([^<>]+)<", line)


def test_published_numbers_stand_beside_measured_ones():
    flat = np.full((8, 8, 3), 0.5, np.float32)
    shown = [Shown("x", flat, flat, {"promptsid.mine": flat})]
    html = bench_page(results(), shown, "how")
    own = cells(html, "Prompt-SID")
    assert own[:6] == ["Prompt-SID", "32.41", "0.883", "promptsid.mine", "inf", "1.000"]
    assert "AAAI 2025" in own[6]
    assert cells(html, "ZS-N2N")[3:6] == ["-", "-", "-"]
    # SSIM of another kind is another number.
    assert cells(bench_page(results("uniform"), shown, "how"), "Prompt-SID")[2] == "-"
    assert "Published" not in bench_page(results(set="mine"), shown, "how")
    assert "Published" not in bench_page(results(noise="gaussian:50/255"), shown, "how")
