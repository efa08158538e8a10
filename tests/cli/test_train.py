"""``denoisekit train``: options, what it says, how it ends."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import threading

import numpy as np
import pytest

from denoisekit import atomic
from denoisekit.atomic import claimed
from denoisekit.cli.app import run
from denoisekit.learn import planning


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure no longer than needed."""
    monkeypatch.setattr(planning, "BELIEVED", 0.0)


@pytest.fixture
def folder(tmp_path):
    """Two noisy pictures."""
    draw = np.random.default_rng(0)
    for index in range(2):
        np.save(tmp_path / f"{index}.npy", draw.integers(0, 256, (40, 44, 3), dtype=np.uint8))
    return tmp_path


SMALL = ("--width", "4", "--patch", "32", "--batch", "1", "--steps", "2", "--device", "cpu")


def test_a_run_says_what_it_will_cost_and_where_the_result_is(folder, capsys):
    out = folder / "run"
    assert run(["train", "aprrd", str(folder), "--out", str(out), *SMALL]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "2 pictures" in said.err
    assert "teacher: " in said.err
    assert "steps of 1 patches of 32²; about" in said.err
    (done,) = re.findall(r"done in \d+ s: (.+)", said.err)
    assert done == str(out / "weights.safetensors")
    noisy, result = folder / "0.npy", folder / "result.npy"
    weights = ["--weights", str(out / "weights.safetensors")]
    assert run(["denoise", str(noisy), "-o", str(result), *weights]) == 0
    assert np.load(result).shape == (40, 44, 3)


def test_json_is_the_log_on_stdout_and_nothing_else(folder, capsys):
    out = folder / "run"
    assert run(["train", "aprrd", str(folder), "--out", str(out), *SMALL, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        json.dumps(json.loads(line)) for line in (out / "log.jsonl").read_text().splitlines()
    ]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["aprrd"], "--resume"),
        (["aprd", "{folder}", "--out", "{out}"], "did you mean 'aprrd'"),
        (["aprrd", "{folder}", "--out", "{folder}"], "--resume"),
        (["aprrd", "{folder}", "--out", "{out}", "--patch", "33"], "--patch 64"),
        (["aprrd", "{folder}", "--out", "{out}", "--steps", "0"], "above 0"),
        (["aprrd", "{folder}", "--out", "{out}", "--width", "0"], "--config"),
        (["aprrd", "{folder}", "--out", "{out}", "--config", "widht=3"], "width"),
        (["aprrd", "{folder}", "--out", "{out}", "--config", "width=wide"], "--config"),
        (["aprrd", "{folder}", "--out", "{out}", "--max-time", "soon"], "12h"),
        (["aprrd", "{folder}", "--out", "{out}", "--simulate", "fone"], "phone"),
        (["aprrd", "{folder}", "--out", "{out}", "--precision", "fp16", *SMALL], "bf16"),
        (["sdap", "{folder}", "--out", "{out}", "--teacher", "x.pth"], None),
        (["--resume", "{out}", "--steps", "5"], "as it began"),
    ],
)
def test_what_makes_no_sense_is_two_lines_and_no_folder(folder, capsys, arguments, hint):
    out = folder / "run"
    named = [text.format(folder=folder, out=out) for text in arguments]
    assert run(["train", *named]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    first, *rest = said.err.splitlines()
    assert first.startswith("error: ")
    assert hint is None or hint in rest[0]
    assert not out.exists()


def test_what_is_not_there_is_said(folder, capsys):
    assert run(["train", "--resume", str(folder)]) == 1
    assert "holds no run" in capsys.readouterr().err
    assert run(["train", "aprrd", str(folder / "no"), "--out", str(folder / "run")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_two_runs_do_not_work_in_one_folder(folder, capsys):
    out = folder / "run"
    out.mkdir()
    with claimed(out / "run"):  # what a run holds from its first moment on
        assert run(["train", "aprrd", str(folder), "--out", str(out), *SMALL]) == 1
        assert f"{out}: another run is working there" in capsys.readouterr().err
        assert [path.suffix for path in out.iterdir()] == [".part"]
    assert run(["train", "aprrd", str(folder), "--out", str(out), *SMALL]) == 0
    with claimed(out / "run"):
        capsys.readouterr()
        assert run(["train", "--resume", str(out)]) in (1, 2)
    assert not list(out.rglob("*.part"))


def test_what_a_killed_run_left_in_a_folder_does_not_hinder_a_new_one(folder):
    out = folder / "run"
    out.mkdir()
    with claimed(out / "other") as claim:
        name = claim.part
    name.touch()
    assert run(["train", "aprrd", str(folder), "--out", str(out), *SMALL]) == 0
    assert not list(out.rglob("*.part"))


def test_a_run_that_cannot_begin_leaves_no_folder(folder, monkeypatch, capsys):
    out = folder / "run"

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_probe", full)
        assert run(["train", "aprrd", str(folder), "--out", str(out), *SMALL]) == 1
    assert "No space left" in capsys.readouterr().err
    assert not out.exists()
    assert run(["train", "aprrd", str(folder / "none"), "--out", str(out), *SMALL]) == 1
    assert not out.exists()


def test_an_interrupted_run_saves_its_state_and_goes_on(folder, capsys):
    out = folder / "run"
    log = out / "log.jsonl"
    over = threading.Event()

    def interrupt():
        while not over.wait(0.01):
            if log.exists() and '"step"' in log.read_text():
                os.kill(os.getpid(), signal.SIGINT)
                return

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    command = ["train", "aprrd", str(folder), "--out", str(out)]
    code = run([*command, *SMALL, "--steps", "100000"])
    over.set()
    waiting.join()
    said = capsys.readouterr()
    assert code == 130, said.err
    assert "stopping after this step" in said.err
    assert "Traceback" not in said.err
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["event"] == "stopped"
    assert (out / "checkpoints" / "state.pt").exists()
