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
from denoisekit.bench.images import KeptImages
from denoisekit.bench.page import bench_page, choose_images, keeper, most_detail, write_page
from denoisekit.bench.run import Row, run
from denoisekit.cli import app as frame
from denoisekit.metrics import SRGB
from denoisekit.report import Exhibit


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


def test_what_a_killed_run_kept_is_not_denoised_again(weights):
    pictures = material(Path())
    place = Path("out")
    chosen = candidates(weights)

    def stop(noisy):
        if len(box_method.CALLS) == 4:
            raise KeyboardInterrupt
        return chosen[1].run(noisy)

    box_method.CALLS.clear()
    broken = [chosen[0], Candidate(chosen[1].id, chosen[1].facts, stop)]
    keep = keeper(KeptImages(Path("kept")), pictures)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, broken, SRGB, place, workers=1, keep=keep)
    kept = KeptImages(Path("kept"))
    results = run(pictures, chosen, SRGB, place, workers=1, keep=keeper(kept, pictures))
    write_page(Path("page.html"), pictures, kept, results, chosen, SRGB, lossless=True)
    assert len(box_method.CALLS) == 6
    assert not kept.folder.exists()
    told = data_of(Path("page.html").read_text())["pictures"]
    for item, shown in zip(pictures.items, told, strict=True):
        noisy, _ = pictures.read(item)
        wanted = chosen[1].run(noisy).clip(0, 1) * 255
        np.testing.assert_allclose(decode(shown["sources"][2]), wanted, atol=0.6)


def test_another_run_takes_nothing_of_what_a_former_one_kept(bench):
    KeptImages(Path("bench_pictures/pictures")).put("box.safetensors", "0", np.ones((24, 30, 3)))
    assert bench("--lossless")[0] == 0
    shown = data_of(Path("bench_pictures/report.html").read_text())["pictures"][0]
    assert decode(shown["sources"][2]).mean() < 200


def test_no_more_is_kept_than_there_is_room_for(tmp_path):
    pixels = np.ones((24, 30, 3), np.float16)
    kept = KeptImages(tmp_path, 3 * pixels.nbytes)
    for index in range(6):
        kept.put("a", str(index), pixels)
    assert [kept.get("a", str(index)) is not None for index in range(6)] == [True] * 3 + [False] * 3
    kept._path("a", "1").write_bytes(b"cut short")
    assert kept.get("a", "1") is None
    kept.clear()
    kept.put("a", "0", pixels)
    assert kept.get("a", "0") is not None


def test_of_a_large_picture_the_part_with_most_detail_is_shown(weights, monkeypatch):
    picture = np.full((300, 400, 3), 0.5, np.float32)
    draw = np.random.default_rng(0)
    picture[200:260, 320:380] = draw.random((60, 60, 1))
    rows, columns = most_detail(picture, 96)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (96, 96)
    assert rows.start <= 200
    assert rows.stop >= 260
    assert columns.start <= 320
    assert columns.stop >= 380
    assert most_detail(picture[:50, :70], 96) == (slice(0, 50), slice(0, 70))
    monkeypatch.setattr("denoisekit.bench.page.SIDE", 16)
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
    assert choose_images(rows, 5) == ["0", "2", "3", "5", "7"]
    assert choose_images(rows, 8) == list(table)
    rows[0] = row("noisy", "0", float("inf"))
    assert len(choose_images(rows, 4)) == 4


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
    shown = [Exhibit("x", [np.full((8, 8, 3), 128, np.uint8)] * 3, [""] * 3)]
    html = bench_page(results(), shown, "how")
    own = cells(html, "Prompt-SID")
    assert own[:6] == ["Prompt-SID", "32.41", "0.883", "promptsid.mine", "inf", "1.000"]
    assert "AAAI 2025" in own[6]
    assert cells(html, "ZS-N2N")[3:6] == ["-", "-", "-"]
    # SSIM of another kind is another number.
    assert cells(bench_page(results("uniform"), shown, "how"), "Prompt-SID")[2] == "-"
    assert "Published" not in bench_page(results(set="mine"), shown, "how")
    assert "Published" not in bench_page(results(noise="gaussian:50/255"), shown, "how")
