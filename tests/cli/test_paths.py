"""Names, folders and permissions: what cannot be written is one line, before the work."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import box_method
import denoisekit
from denoisekit.atomic import Claim
from denoisekit.cli import app as frame
from denoisekit.errors import OutputError
from denoisekit.formats import raw_array
from denoisekit.learn import fit as learn_fit
from denoisekit.methods import METHODS
from privileges import closed

SMALL = ("--steps", "2", "--width", "4", "--start", "none", "--device", "cpu")
LONG = "写" * 82  # 246 bytes: as an input's name it is allowed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a picture, and the box method to denoise it."""
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.setattr("denoisekit.methods.METHODS", (*METHODS, box_method.METHOD))
    box_method.write_weights(tmp_path / "box.safetensors")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    np.save("a.npy", np.random.default_rng(0).integers(0, 256, (64, 66, 3), dtype=np.uint8))
    return tmp_path / "work"


@pytest.fixture
def run(folder, capsys):
    def call(*arguments):
        box = ["--weights", "../box.safetensors"] * (arguments[0] in ("denoise", "compare"))
        code = frame.run([*map(str, arguments), *box])
        return code, *capsys.readouterr()

    return call


def names(folder):
    return sorted(path.name for path in folder.iterdir())


COMMANDS = {
    "denoise": ["denoise", "a.npy", "-o"],
    "simulate": ["simulate", "a.npy", "--camera", "phone", "-o"],
    "fit-single": ["fit-single", "a.npy", *SMALL, "-o"],
    "save-weights": ["fit-single", "a.npy", *SMALL, "--save-weights"],
    "report": ["fit-single", "a.npy", *SMALL, "--report"],
    "compare": ["compare", "a.npy", "-o"],
    "train": ["train", "aprrd", "a.npy", "--steps", "2", "--out"],
    "bench": ["bench", "--noisy", "a.npy", "--methods", "tv", "--out"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("where", ["closed/b.npy", "closed/deeper/b.npy"])
def test_a_folder_that_may_not_be_searched_is_one_line(run, folder, monkeypatch, name, where):
    def never(*_, **__):
        pytest.fail("work was begun for an output that cannot be written")

    monkeypatch.setattr(learn_fit, "fit", never)
    (folder / "closed").mkdir()
    with closed(folder / "closed"):
        # compare writes a page, and says so where another kind of file is named.
        target = where.replace(".npy", ".html") if name == "compare" else where
        code, out, err = run(*COMMANDS[name], target)
    lines = [line for line in err.splitlines() if not line.startswith("box with")]
    assert (code, out) == (1, ""), err
    assert lines[0].startswith("error: ")
    assert "ermission" in lines[0]
    assert len(lines) <= 2
    assert names(folder) == ["a.npy", "closed"]
    assert names(folder / "closed") == []


def test_weights_that_ship_need_no_cache(folder, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    (folder / "home").mkdir()
    monkeypatch.setenv("DENOISEKIT_HOME", str(folder / "home" / "mine"))
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    denoisekit.denoise(np.zeros((8, 8, 3), np.uint8))  # what is imported later is there then
    with closed(folder / "home"):
        assert frame.run(["denoise", "a.npy", "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")
        assert frame.run(["weights", "list"]) == 0
        capsys.readouterr()
        assert frame.run(["weights", "pull", "aprrd.sidd"]) == 3
    assert "Permission denied" in capsys.readouterr().err


def test_an_unknown_home_is_one_line(run, monkeypatch):
    monkeypatch.setenv("DENOISEKIT_HOME", "~nosuchuser/x")
    code, _, err = run("weights", "path")
    assert (code, err.splitlines()[0]) == (
        2,
        "error: DENOISEKIT_HOME: there is no home folder for ~nosuchuser/x",
    )


@pytest.mark.parametrize("command", ["denoise", "simulate --camera phone"])
def test_a_name_too_long_for_its_suffix_is_one_failed_file(run, folder, command):
    Path("a.npy").rename(f"{LONG}.npy")
    np.save("b.npy", np.load(f"{LONG}.npy"))
    word, *options = command.split()
    code, out, err = run(word, ".", *options)
    assert code == 1
    assert out.startswith("b.npy -> ")
    assert "the name is too long" in err
    assert run(word, f"{LONG}.npy", *options, "-o", "out")[0] == 0
    assert names(folder / "out") == [f"{LONG}.npy"]


def test_a_name_too_long_is_an_output_error_in_python(folder):
    Path("a.npy").rename(f"{LONG}.npy")
    with pytest.raises(OutputError, match="too long"):
        denoisekit.denoise(f"{LONG}.npy", weights="../box.safetensors")


@pytest.mark.parametrize("command", [["compare"], ["fit-single", *SMALL]])
def test_a_name_too_long_is_one_line_everywhere(run, folder, command):
    Path("a.npy").rename(f"{LONG}.npy")
    code, _, err = run(command[0], f"{LONG}.npy", *command[1:])
    assert code == 1
    assert "the name is too long" in err
    assert names(folder) == [f"{LONG}.npy"]


@pytest.mark.parametrize("suffix", ["../x", "/x", "a/b", "..\\x"])
def test_a_suffix_does_not_leave_the_folder(run, folder, suffix):
    code, _, err = run("denoise", "a.npy", "--suffix", suffix)
    assert code == 2
    assert "no part of a name" in err
    assert names(folder.parent) == ["box.safetensors", "work"]


def test_what_is_no_ordinary_file_is_not_replaced(run, folder):
    os.mkfifo(folder / "pipe.npy")
    code, _, err = run("denoise", "a.npy", "-o", "pipe.npy", "--overwrite")
    assert code == 1
    assert "no ordinary file" in err
    assert (folder / "pipe.npy").is_fifo()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_compared_and_shown(run, folder):
    name = os.fsdecode(b"n\xff\x1b[31m'.png")
    Image.fromarray(np.load("a.npy")).save(name)
    code, out, err = run("compare", name)
    assert code == 0, err
    shown = "n\\xff\\x1b[31m'"
    assert out.splitlines()[0] == f"{shown}.png"
    assert f"page: {shown}_compare.html" in out
    page = Path(os.fsdecode(b"n\xff\x1b[31m'_compare.html")).read_text("utf-8")
    assert "\x1b" not in page
    command = next(line for line in err.splitlines() if line.startswith("for the first: "))
    # A shell takes the command for what it was.
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {command.removeprefix('for the first: ')}"],
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    assert words[2] == os.fsencode(name)
    code, out, _ = run("compare", name, "--json", "--overwrite")
    assert json.loads(out)["input"] == name


def test_quiet_still_says_errors_and_weights_are_kept_where_the_image_cannot_be(
    run, folder, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(raw_array.NpyWriter, "write_rows", full)
    code, out, err = run(
        *["fit-single", "a.npy", *SMALL, "--save-weights", "w.safetensors", "--quiet"]
    )
    assert (code, out) == (1, "")
    assert err.startswith("error: a.npy: a_denoised.npy: no space left")
    assert names(folder) == ["a.npy", "w.safetensors"]
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run("fit-single", "a.npy", *SMALL, "--overwrite", "--quiet")[0] == 0


@pytest.mark.parametrize("command", ["denoise", "simulate --camera phone", "fit-single"])
def test_what_another_run_is_writing_is_skipped_or_refused(run, folder, command):
    word, *options = command.split()
    options += SMALL if word == "fit-single" else []
    claim = Claim(folder / "b.npy")
    try:
        code, out, err = run(word, "a.npy", *options, "-o", "b.npy", "--skip-existing")
        assert (code, out) == (0, "")
        assert "another run is writing it" in err
        code, out, err = run(word, "a.npy", *options, "-o", "b.npy")
        assert (code, out) == (1, "")
        assert "another run is writing it" in err
        assert "Traceback" not in err
    finally:
        claim.close()
    assert names(folder) == ["a.npy"]
    assert run(word, "a.npy", *options, "-o", "b.npy", "--skip-existing")[0] == 0
    assert names(folder) == ["a.npy", "b.npy"]


def test_what_a_dead_run_left_goes_also_where_nothing_is_to_be_done(run, folder):
    assert run("denoise", "a.npy")[0] == 0
    claim = Claim(folder / "a_denoised.npy")
    os.link(claim.part, claim.part.with_name(".keep"))
    claim.close()
    (folder / ".keep").rename(claim.part)  # as after a kill between its link and its removal
    code, _, err = run("denoise", "a.npy", "--skip-existing")
    assert code == 0
    assert "skipped 1" in err
    assert names(folder) == ["a.npy", "a_denoised.npy"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_names_everywhere(run, folder):
    odd = os.fsdecode(b"d\xff")
    (folder / odd).mkdir()
    Path("a.npy").rename(Path(odd, "a.npy"))
    fit = ["fit-single", f"{odd}/a.npy", *SMALL, "--quiet"]
    kept = f"{odd}/w.safetensors"
    assert run(*fit, "--save-weights", kept, "--report", f"{odd}/r.png") == (0, "", "")
    assert frame.run(["denoise", f"{odd}/a.npy", "-o", f"{odd}/b.npy", "--weights", kept]) == 0
    np.testing.assert_array_equal(
        np.load(f"{odd}/b.npy"), np.load(f"{odd}/a_denoised.npy"), strict=True
    )
    for command in (
        ["inspect", f"{odd}/a.npy"],
        ["simulate", odd, "--camera", "phone"],
        ["bench", "--noisy", f"{odd}/a.npy", "--methods", "tv", "--out", f"{odd}/bench"],
    ):
        code, out, err = run(*command)
        assert code == 0, err
        assert "d\\xff" in out + err
    out = f"{odd}/run"
    small = ["--width", "4", "--patch", "32", "--batch", "1", "--steps", "2"]
    assert run("train", "aprrd", "../box.safetensors", "--out", out)[0] == 1
    Path(odd, "a.npy").rename("a.npy")
    assert run("train", "aprrd", "a.npy", "--out", out, *small)[0] == 0
    assert run("train", "aprrd", odd, "--out", "run", *small)[:2] == (1, "")
