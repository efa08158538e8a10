"""A bug met on one file: said with the file and where to report it, and the others are done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bench_box
import box_method
from denoisekit.batch import plan as batch
from denoisekit.batch import simulate as noise_files
from denoisekit.bench.candidates import Candidate
from denoisekit.bench.run import RESULTS, ROWS
from denoisekit.bench.run import run as run_bench
from denoisekit.cli import app as frame
from denoisekit.errors import InputError, InternalError, as_error
from denoisekit.metrics import SRGB

SIZES = {"a.png": 40, "b.png": 44, "c.png": 48}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.chdir(tmp_path)
    for name, size in SIZES.items():
        pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
    return str(box_method.write_weights(tmp_path / "box.safetensors"))


def made():
    return {path.name for path in Path("out").iterdir()}


def in_the_network(monkeypatch, error):
    def hook(self, tile):
        if tile.shape[-1] == SIZES["b.png"]:
            raise error

    monkeypatch.setattr(box_method.Box, "hook", hook)


def in_the_survey(monkeypatch, error):
    def survey(source, axes):
        if source.name == "b.png":
            raise error
        return real(source, axes)

    real = batch.survey
    monkeypatch.setattr(batch, "survey", survey)


@pytest.mark.parametrize("place", [in_the_network, in_the_survey])
@pytest.mark.parametrize("error", [TypeError("no such thing"), RecursionError("too deep")])
def test_denoise_goes_on(weights, monkeypatch, capsys, place, error):
    place(monkeypatch, error)
    command = ["denoise", *SIZES, "--weights", weights, "-o", "out/"]
    assert frame.run(command) == 70
    err = capsys.readouterr().err
    assert f"error: b.png: this is a bug in denoisekit: {type(error).__name__}: {error}\n" in err
    assert "hint: please report it" in err
    assert "Traceback" not in err
    assert "2 done, 1 failed" in err
    assert made() == {"a.png", "c.png"}
    assert frame.run([*command, "--json", "--skip-existing"]) == 70
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert told["input"] == "b.png"
    assert "this is a bug" in told["error"]
    assert made() == {"a.png", "c.png"}


def test_debug_shows_where_a_file_met_it(weights, monkeypatch, capsys):
    in_the_network(monkeypatch, TypeError("no such thing"))
    monkeypatch.setenv(frame.DEBUG, "1")
    assert frame.run(["denoise", *SIZES, "--weights", weights, "-o", "out/"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_is_used_up_is_no_bug(weights, monkeypatch, capsys):
    in_the_survey(monkeypatch, MemoryError())
    assert frame.run(["denoise", *SIZES, "--weights", weights, "-o", "out/"]) == 4
    assert "b.png: not enough memory" in capsys.readouterr().err


def test_an_image_too_large_for_the_memory_allowed_does_not_stop_the_others(weights, capsys):
    Image.new("L", (16000, 16000)).save("b.png")
    limit = ["--max-memory", str(batch_memory())]
    assert frame.run(["denoise", *SIZES, "--weights", weights, "-o", "out/", *limit]) == 4
    err = capsys.readouterr().err
    assert "2 done, 1 failed" in err
    assert made() == {"a.png", "c.png"}


def batch_memory():
    """Return what small pictures need, and a large one does not have: it is held as a whole."""
    from denoisekit.engine.device import CALL_BYTES, used_memory

    return used_memory() + CALL_BYTES + 200 * 2**20


def test_ctrl_c_still_stops(weights, monkeypatch):
    in_the_network(monkeypatch, KeyboardInterrupt())
    assert frame.run(["denoise", *SIZES, "--weights", weights, "-o", "out/"]) == 130
    assert not Path("out/c.png").exists()


def test_simulate_goes_on(weights, monkeypatch, capsys):
    def put_on(job, *rest):
        if job.source.name == "b.png":
            raise TypeError("no such thing")
        return real(job, *rest)

    real = noise_files.simulate_file
    monkeypatch.setattr(noise_files, "simulate_file", put_on)
    assert frame.run(["simulate", *SIZES, "--camera", "gaussian", "-o", "out/"]) == 70
    assert "error: b.png: this is a bug" in capsys.readouterr().err
    assert made() == {"a.png", "c.png"}


def test_compare_shows_the_others(weights, monkeypatch, capsys):
    def hook(self, tile):
        raise TypeError("no such thing")

    monkeypatch.setattr(box_method.Box, "hook", hook)
    command = ["compare", "b.png", "--weights", "box.safetensors", "--methods", "tv", "--json"]
    assert frame.run(command) == 70
    said = capsys.readouterr()
    assert [one["id"] for one in json.loads(said.out)["results"]] == ["tv"]
    assert "error: b.png: box.safetensors: this is a bug" in said.err
    assert Path("b_compare.html").exists()


def test_bench_measures_the_others_first(tmp_path, monkeypatch):
    pictures = bench_box.material(bench_box.write_pairs(tmp_path / "set"))
    read, calls = pictures.read, []

    def reading(item):
        if item.name == "0":
            raise InputError("0: damaged")
        return read(item)

    def once(noisy):
        calls.append(1)
        if len(calls) == 1:
            raise TypeError("no such thing")
        return noisy

    monkeypatch.setattr(pictures, "read", reading)
    ways, place = [Candidate("x", {"id": "x"}, once)], tmp_path / "out"
    with pytest.raises(InternalError, match=r"1: this is a bug.* \(2 of 6 pictures failed"):
        run_bench(pictures, ways, SRGB, place, workers=1)
    rows = (tmp_path / "out" / ROWS).read_text().splitlines()[1:]
    assert [json.loads(row)["picture"] for row in rows] == ["2", "3", "4", "5"]
    assert not (tmp_path / "out" / RESULTS).exists()
    # What is mended is measured, and the others are not again.
    monkeypatch.setattr(pictures, "read", read)
    assert len(run_bench(pictures, ways, SRGB, place)["rows"]) == 6
    assert len(calls) == 7


def test_what_a_library_says_of_memory_and_files_is_no_bug():
    full = as_error(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "x")
    assert full.exit_code == 4
    assert as_error(OSError(28, "No space left on device"), "x").exit_code == 1
    known = InternalError("x")
    assert as_error(known, "y") is known
