"""``denoisekit bench``: what it says, keeps, and returns."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import box_method
from bench_box import write_pairs
from denoisekit.bench.datasets import DATASETS, SAMPLE, checksums, data_folder
from denoisekit.cli import app as frame
from denoisekit.metrics import PROTOCOLS, SRGB, find_protocol, psnr


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the command beside a set of six pairs; return code, stdout and stderr."""
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.delenv("DENOISEKIT_DATA", raising=False)
    box_method.write_weights(tmp_path / "box.safetensors")
    write_pairs(tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = frame.run(["bench", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


PAIRS = ("--noisy", "noisy", "--clean", "clean")
BOX = ("--weights", "box.safetensors")


def test_pairs_of_ones_own(bench):
    code, out, err = bench(*PAIRS, *BOX)
    assert code == 0, err
    title, header, noisy, box, protocol = out.splitlines()
    assert title == "pictures, 6 pictures"
    assert header.split()[:3] == ["PSNR", "dB", "SSIM"]
    assert noisy.startswith("noisy")
    assert float(box.split()[1]) > float(noisy.split()[1]) + 3
    # What the numbers mean stands below them.
    assert protocol == str(SRGB)
    assert "results.json" in err
    told = json.loads(Path("bench_pictures/results.json").read_text())
    assert f"{told['means']['box.safetensors']['psnr']:.2f}" == box.split()[1]
    code, out, err = bench("run", *PAIRS, *BOX, "--json")
    assert (code, err, json.loads(out)) == (0, "", told)


def test_a_set_in_the_folder_of_data(bench):
    Path("sets/set12").mkdir(parents=True)
    from PIL import Image

    for path in Path("clean").iterdir():
        Image.fromarray(np.load(path)).save(f"sets/set12/{path.stem}.png")
    code, out, err = bench("set12", "--data", "sets", *BOX, "--noise", "gaussian:0.2", "--seed", 4)
    assert code == 0, err
    assert out.splitlines()[0] == "set12, 6 pictures, gaussian:0.2 noise (seed 4)"
    assert float(out.splitlines()[2].split()[1]) == pytest.approx(-20 * np.log10(0.2), abs=1)
    code, out, err = bench("set12", "--data", "sets", *BOX, "--noise", "gaussian:51", "--out", "b")
    assert "note: gaussian:51 is taken as gaussian:51/255" in err
    assert out.splitlines()[0] == "set12, 6 pictures, gaussian:51/255 noise (seed 0)"
    code, out, _ = bench("sets", "--data", "sets")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "6 files" in lines["set12"]
    assert "6 files" not in lines["kodak"]
    code, out, _ = bench("sets", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == [info.id for info in DATASETS]


def test_the_sample_is_measured_at_once_and_named_so(bench, monkeypatch):
    monkeypatch.setattr("denoisekit.bench.page.SHOWN", 1)
    code, out, err = bench("sidd", *BOX)
    assert code == 0, err
    assert out.splitlines()[0] == "sidd-sample, 8 pictures, a sample of the 1280 of sidd"
    assert "note: 'sidd' is not here" in err
    told = json.loads(Path("bench_sidd-sample/results.json").read_text())
    assert told["set"]["id"] == "sidd-sample"
    assert told["set"]["sample_of"] == "the 1280 of sidd"
    assert len({row["picture"] for row in told["rows"]}) == 8
    page = Path("bench_sidd-sample/report.html").read_text()
    assert "sample of the 1280 of sidd" in page
    assert "Published numbers" not in page
    # Who names a folder means what lies there.
    code, _, err = bench("sidd", *BOX, "--data", "sets")
    assert code == 1
    assert "bench sets get sidd" in err
    assert not Path("bench_sidd").exists()


def test_the_whole_set_is_taken_where_it_is(bench):
    blocks = np.random.default_rng(0).integers(0, 256, (1, 2, 24, 32, 3), np.uint8)
    folder = data_folder() / "sidd"
    folder.mkdir(parents=True)
    for name in ("Noisy", "Gt"):
        savemat(folder / f"Validation{name}BlocksSrgb.mat", {f"Validation{name}BlocksSrgb": blocks})
    code, out, err = bench("sidd", *BOX)
    assert code == 0, err
    assert out.splitlines()[0] == "sidd, 2 pictures"
    assert "sample" not in out + err


@pytest.mark.shared
def test_the_sample_is_the_owners(shared):
    for name in ("0034", "0293", "0531", "0842", "1068"):
        for side in ("noisy", "clean"):
            own = shared / "data" / "sidd_val5" / side / f"{int(name)}.png"
            assert (SAMPLE / side / f"{name}.png").read_bytes() == own.read_bytes()
    assert "MIT License" in (SAMPLE / "LICENSE").read_text()


def test_raw_blocks_are_measured_as_mosaics(bench):
    clean = np.random.default_rng(0).random((1, 2, 24, 32)).astype(np.float32) / 4 + 0.1
    noisy = clean + np.random.default_rng(1).normal(0, 0.05, clean.shape).astype(np.float32)
    Path("sets/sidd-raw").mkdir(parents=True)
    for name, blocks in (("Noisy", noisy), ("Gt", clean)):
        savemat(
            f"sets/sidd-raw/Validation{name}BlocksRaw.mat", {f"Validation{name}BlocksRaw": blocks}
        )
    code, out, err = bench("sidd-raw", "--data", "sets", *BOX)
    assert code == 0, err
    assert out.splitlines()[-1] == str(find_protocol("raw"))
    told = json.loads(Path("bench_sidd-raw/results.json").read_text())
    rows = [row["psnr"] for row in told["rows"] if row["candidate"] == "noisy"]
    wanted = [psnr(clean[0, i], noisy[0, i].clip(0, 1)) for i in range(2)]
    assert rows == pytest.approx(wanted, abs=1e-4)  # not rounded to 8 bits
    assert told["protocol"]["id"] == "raw"
    code, out, err = bench("sidd-raw", "--data", "sets", "--protocol", "float", "--out", "other")
    assert code == 0, err
    assert "protocol float" in out


def test_files_that_are_not_the_owners_are_told(bench, monkeypatch):
    from PIL import Image

    Path("sets/set12").mkdir(parents=True)
    for index in range(1, 3):
        Image.fromarray(np.load("clean/0.npy")).save(f"sets/set12/{index:02d}.png")
    code, _, err = bench("set12", "--data", "sets", *BOX)
    assert code == 0
    assert "note: of the files of 'set12', 0 of 12 are the owner's, 2 are not" in err
    code, out, _ = bench("sets", "--data", "sets")
    (line,) = (line for line in out.splitlines() if line.startswith("set12"))
    assert "2 files, 0 of 12 are the owner's, 2 are not" in line
    code, out, err = bench("sets", "set12", "--data", "sets")
    assert code == 1
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["01.png"].endswith(checksums("set12")["01.png"])
    assert "NOT the owner's" in lines["01.png"]
    assert "owner's" not in lines["03.png"]
    digest = hashlib.sha256(Path("sets/set12/01.png").read_bytes()).hexdigest()
    monkeypatch.setattr("denoisekit.bench.datasets.CHECKSUMS", Path())
    Path("set12.sha256").write_text(f"{digest}  01.png\n{digest}  02.png\n")
    code, out, _ = bench("sets", "set12", "--data", "sets")
    assert code == 0
    code, out, _ = bench("sets", "set12", "--data", "sets", "--json")
    told = json.loads(out)
    assert told["check"] == "all are the owner's"
    assert told["sha256"] == {"01.png": digest, "02.png": digest}
    assert told["licence"] == "none stated"
    code, out, _ = bench("sets", "kodak", "--data", "none")
    assert out.splitlines()[-1].split() == ["*.png", "-", "not", "known"]


def test_protocols_are_listed(bench):
    code, out, _ = bench("protocols")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [p.id for p in PROTOCOLS]
    code, out, _ = bench("protocols", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [p.facts() for p in PROTOCOLS]


def test_two_runs_are_compared(bench):
    assert bench(*PAIRS, *BOX, "--out", "a")[0] == 0
    assert bench(*PAIRS, *BOX, "--protocol", "matlab", "--out", "b")[0] == 0
    code, out, _ = bench("diff", "a", "b/results.json")
    assert code == 0
    rows = [line for line in out.splitlines() if " psnr " in line]
    assert len(rows) == 2
    assert all("nothing changed" in row for row in rows)
    assert "protocol, id: srgb -> matlab" in out
    assert not [line for line in out.splitlines() if " ssim_" in line]
    code, out, _ = bench("diff", "a", "a", "--json")
    assert {json.loads(line)["p"] for line in out.splitlines()} == {1.0}


def test_what_makes_no_sense_is_said_before_any_work(bench):
    for arguments, code, words in (
        (("set13",), 2, "set12"),
        (("kodak",), 1, "--data"),
        (("kodak", *PAIRS), 2, "either"),
        ((*PAIRS, "--noise", "gaussian:0.1"), 2, "noisy already"),
        (("dnd", "--noise", "gaussian:0.1"), 2, "noisy already"),
        ((*PAIRS, "--methods", "bux"), 2, "box"),
        ((*PAIRS, "--protocol", "srbg"), 2, "srgb"),
        ((*PAIRS, "--workers", "0"), 2, "workers"),
        ((*PAIRS, *BOX, "--set", "passes=3"), 2, "passes"),
        ((*PAIRS, *BOX, "--set", "passes"), 2, "NAME=VALUE"),
        (("sets", "set13"), 2, "set12"),
        (("--noisy", "noisy", "--clean", "none"), 1, "no such file"),
        (("--clean", "clean"), 1, "nothing to denoise"),
        (("--clean", "clean", "--noise", "gaussian:x"), 2, "not a number"),
        (("diff", "none", "noisy"), 1, "cannot read"),
    ):
        found, out, err = bench(*arguments)
        assert (found, out) == (code, "")
        assert err.startswith("error: ")
        assert words in err
        assert "Traceback" not in err
        assert not list(Path().glob("bench_*"))
    assert bench()[0] == 2


def test_another_runs_folder_is_kept(bench):
    assert bench(*PAIRS, *BOX)[0] == 0
    before = Path("bench_pictures/results.json").read_text()
    code, _, err = bench(*PAIRS, *BOX, "--protocol", "sdap")
    assert code == 2
    assert "--overwrite" in err
    assert Path("bench_pictures/results.json").read_text() == before
    assert bench(*PAIRS, *BOX, "--protocol", "sdap", "--overwrite")[0] == 0
    shutil.rmtree("bench_pictures")
