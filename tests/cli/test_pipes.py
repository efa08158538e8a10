"""``-``: images through stdin and stdout."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

import box_method
from denoisekit.cli import app as frame
from denoisekit.cli import shared
from denoisekit.methods import METHODS


def png(shape=(20, 24, 3)):
    pixels = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def run(tmp_path, monkeypatch, capsysbinary):
    """Run a command with bytes on stdin; return code, stdout as bytes, stderr as text."""
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    box_method.write_weights(tmp_path / "box.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shared.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()

    class Stdin(io.TextIOWrapper):
        def isatty(self):
            return self.buffer.getvalue() == b"a terminal"

    def call(command, *arguments, stdin=b""):
        monkeypatch.setattr("sys.stdin", Stdin(io.BytesIO(stdin)))
        more = ("--weights", "box.safetensors") if command == "denoise" else ()
        code = frame.run([command, *arguments, *more])
        out, err = capsysbinary.readouterr()
        assert not list((tmp_path / "temporary").glob("denoisekit*"))
        return code, out, err.decode()

    return call


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.format, np.array(image)


def test_stdin_and_stdout_are_what_files_are(run, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    assert run("denoise", "a.png", "-o", "b.png")[0] == 0
    code, out, err = run("denoise", "-", "-o", "-", stdin=png())
    assert code == 0
    assert out == (tmp_path / "b.png").read_bytes()
    assert "stdin -> stdout: stdin.png" in err
    assert "denoisekit-" not in err
    assert run("denoise", "a.png", "-o", "-")[1] == out
    assert run("denoise", "-", "-o", "c.png", stdin=png())[0] == 0
    assert (tmp_path / "c.png").read_bytes() == out


def test_the_format_may_be_another(run):
    code, out, _ = run("denoise", "-", "-o", "-", "--format", "jpeg", stdin=png())
    assert code == 0
    assert opened(out)[0] == "JPEG"


def test_a_folder_of_results_takes_stdin(run, tmp_path):
    code, out, _ = run("denoise", "-", "-o", "out/", stdin=png())
    assert code == 0
    assert b"stdin -> out/stdin.png" in out
    assert (tmp_path / "out/stdin.png").exists()


def test_simulate_and_fit_single_too(run, monkeypatch):
    monkeypatch.setattr("denoisekit.methods.METHODS", METHODS)
    strong = ("--camera", "gaussian", "--sigma", "0.1")
    code, noisy, err = run("simulate", "-", "-o", "-", *strong, stdin=png())
    assert code == 0, err
    assert opened(noisy)[1].shape == (20, 24, 3)
    few = ("--steps", "2", "--width", "4", "--start", "none", "--device", "cpu")
    code, out, err = run("fit-single", "-", "-o", "-", *few, stdin=png((64, 70, 3)))
    assert code == 0, err
    assert opened(out)[1].shape == (64, 70, 3)


def test_inspect_reads_stdin(run, monkeypatch):
    monkeypatch.setattr("denoisekit.methods.METHODS", METHODS)
    code, out, _ = run("inspect", "-", "--json", stdin=png())
    assert code == 0
    assert json.loads(out)["width"] == 24


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "words"),
    [
        (("-",), png(), 2, "say where to"),
        (("-", "a.png", "-o", "out/"), png(), 2, "one image"),
        ((".", "-o", "-"), b"", 2, "one image"),
        (("-", "-o", "-", "--json"), png(), 2, "both write to stdout"),
        (("-", "-o", "-"), b"", 1, "stdin: "),
        (("-", "-o", "-"), b"no picture", 1, "stdin: "),
        (("-", "-o", "-"), png()[:-200], 1, "stdin: "),
        (("none.png", "-o", "-"), b"", 1, "none.png"),
    ],
)
def test_what_cannot_be_is_said_and_stdout_is_empty(run, arguments, stdin, code, words):
    found, out, err = run("denoise", *arguments, stdin=stdin)
    assert (found, out) == (code, b"")
    assert words in err
    assert "denoisekit-" not in err


def test_terminals_are_refused(run, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, err = run("denoise", "-", "-o", "-", stdin=png())
    assert (code, out) == (2, b"")
    assert "which is a terminal" in err
    code, _, err = run("denoise", "-", "-o", "x.png", stdin=b"a terminal")
    assert code == 2
    assert "nothing is sent there" in err
