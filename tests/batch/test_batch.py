"""Many files: overlap that is bounded, errors that stay with their file, no partial files."""

from __future__ import annotations

import errno
import faulthandler
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import box_method
from denoisekit.atomic import Claim, part_stem
from denoisekit.batch import run as batch
from denoisekit.batch.run import Job, run_batch
from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.workers import count_processors
from denoisekit.errors import InputError, InternalError, OutOfMemory, OutputError, OutputTaken
from denoisekit.formats import raw_array
from denoisekit.options import Options


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    """End the whole run, with every thread's stack, where a test hangs."""
    monkeypatch.setattr(box_method.Box, "hook", None)
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def box(**options) -> Denoiser:
    return Denoiser(box_method.METHOD, box_method.WEIGHTS, Options(**options))


@pytest.fixture
def jobs(tmp_path):
    made = []
    (tmp_path / "out").mkdir()
    for i in range(5):
        source = tmp_path / f"{i}.npy"
        noise = np.random.default_rng(i).integers(0, 256, (64, 20), dtype=np.uint8)
        np.save(source, noise)
        made.append(Job(source, tmp_path / "out" / source.name, "npy"))
    return made


def results(jobs):
    return sorted(path.name for path in jobs[0].target.parent.iterdir())


def test_every_file_equals_the_array_denoised_alone(jobs):
    outcomes = list(run_batch(jobs, box(tile=8)))
    assert [o.job for o in outcomes] == jobs
    for job in jobs:
        np.testing.assert_array_equal(np.load(job.target), box()(np.load(job.source)))


def test_one_bad_file_does_not_stop_the_rest(jobs):
    jobs[0].source.write_bytes(jobs[0].source.read_bytes()[:-500])
    jobs[2].source.unlink()
    outcomes = list(run_batch(jobs, box()))
    assert [type(o.error) for o in outcomes] == [
        InputError, type(None), InputError, type(None), type(None)
    ]  # fmt: skip
    assert results(jobs) == ["1.npy", "3.npy", "4.npy"]


def test_one_file_ahead_and_one_behind_at_most(jobs, monkeypatch):
    opened, taken = [], []
    real = batch.open_image

    def counting(path, axes, max_memory):
        opened.append(path)
        return real(path, axes, max_memory)

    monkeypatch.setattr(batch, "open_image", counting)
    for done, _ in enumerate(run_batch(jobs, box())):
        taken.append(len(opened) - done)
    assert max(taken) <= 3  # the one yielded, the one whose writing goes on, the one ahead
    assert len(opened) == len(jobs)


def test_a_network_never_runs_far_ahead_of_a_slow_writer(jobs, monkeypatch):
    calls, gate = [], threading.Event()
    real = raw_array.NpyWriter.write_rows

    def slow(self, plane, top, rows):
        # Nothing is taken from the queue until the network stands still.
        assert gate.wait(30)
        real(self, plane, top, rows)

    def count(self, tile):
        calls.append(1)
        if len(calls) == 4 * 5:  # bands: one with the writer, two in the queue, one waiting
            threading.Timer(0.3, lambda: (stood.append(len(calls)), gate.set())).start()

    stood: list[int] = []
    monkeypatch.setattr(raw_array.NpyWriter, "write_rows", slow)
    monkeypatch.setattr(box_method.Box, "hook", count)
    list(run_batch(jobs[:1], box(tile=4, range="dtype")))
    ahead = 2 * count_processors()  # tiles under way, and one for each worker
    assert 4 * 5 <= stood[0] <= 4 * 5 + ahead
    assert len(calls) == 16 * 5


def test_two_runs_share_the_work_where_existing_files_are_skipped(jobs):
    jobs = [replace(job, skip=True) for job in jobs]
    theirs = run_batch(jobs, box(tile=4))
    first = next(theirs)
    claim = Claim(jobs[3].target)  # a third run is at work on it
    ours = list(run_batch(jobs, box(tile=4)))
    claim.close()
    rest = list(theirs)
    assert all(outcome.error is None for outcome in [first, *ours, *rest])
    done = [outcome.job.target.name for outcome in [first, *ours, *rest] if outcome.report]
    assert sorted(done) == ["0.npy", "1.npy", "2.npy", "3.npy", "4.npy"]
    assert ours[0].report is None
    assert results(jobs) == sorted(done)


def test_without_skipping_a_file_of_another_run_is_that_files_error(jobs):
    claim = Claim(jobs[2].target)
    outcomes = list(run_batch(jobs, box(tile=4)))
    claim.close()
    assert [o.error is None for o in outcomes] == [True, True, False, True, True]
    assert isinstance(outcomes[2].error, OutputTaken)


@pytest.mark.parametrize("tile", [4, 0])
def test_a_full_disk_in_mid_write_is_that_files_error(jobs, monkeypatch, tile):
    real, full = raw_array.NpyWriter.write_rows, part_stem(Path("1.npy"))
    monkeypatch.setattr(
        raw_array.NpyWriter,
        "write_rows",
        lambda self, plane, top, rows: (
            fail(errno.ENOSPC) if full in self._file.name else real(self, plane, top, rows)
        ),
    )
    outcomes = list(run_batch(jobs, box(tile=tile)))
    assert [o.error is None for o in outcomes] == [True, False, True, True, True]
    assert isinstance(outcomes[1].error, OutputError)
    assert "no space left" in outcomes[1].error.message
    assert results(jobs) == ["0.npy", "2.npy", "3.npy", "4.npy"]


def fail(code):
    raise OSError(code, os.strerror(code))


def test_a_full_disk_at_the_flush_is_that_files_error(jobs, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: fail(errno.ENOSPC))
    outcomes = list(run_batch(jobs[:2], box()))
    assert all("no space left" in o.error.message for o in outcomes)
    assert results(jobs) == []


@pytest.mark.parametrize("tile", [4, 0])
@pytest.mark.parametrize("bug", [KeyError("oops"), AttributeError("oops")])
def test_a_bug_is_reported_with_its_file_and_the_rest_is_done(jobs, monkeypatch, bug, tile):
    real, writers = raw_array.NpyWriter.write_rows, []

    def broken(self, plane, top, rows):
        if self not in writers:
            writers.append(self)
        if writers.index(self) == 1:
            raise bug
        real(self, plane, top, rows)

    def opened(path, axes, max_memory):
        if path.name == "3.npy":
            raise bug
        return opening(path, axes, max_memory)

    opening = batch.open_image
    monkeypatch.setattr(raw_array.NpyWriter, "write_rows", broken)
    monkeypatch.setattr(batch, "open_image", opened)
    outcomes = list(run_batch(jobs, box(tile=tile)))
    errors = [outcome.error for outcome in outcomes]
    assert [type(error) for error in errors] == [
        type(None), InternalError, type(None), InternalError, type(None)
    ]  # fmt: skip
    assert errors[1].message.startswith(f"{jobs[1].source}: this is a bug")
    assert str(bug) in errors[1].message
    assert errors[1].__cause__ is bug
    assert results(jobs) == ["0.npy", "2.npy", "4.npy"]


def test_memory_that_runs_out_is_that_files_error(jobs, monkeypatch):
    def limited(self, tile):
        if tile.shape[3] == 20:
            raise MemoryError

    np.save(jobs[1].source, np.zeros((4, 4), np.uint8))
    monkeypatch.setattr(box_method.Box, "hook", limited)
    monkeypatch.setattr("denoisekit.engine.network.smaller_plan", lambda *_: None)
    outcomes = list(run_batch(jobs[:2], box()))
    assert [type(o.error) for o in outcomes] == [OutOfMemory, type(None)]


@pytest.mark.parametrize("at", [1, 5, 20])
def test_an_interruption_leaves_no_partial_file(jobs, monkeypatch, at):
    calls = []

    def stop(self, tile):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(box_method.Box, "hook", stop)
    with pytest.raises(KeyboardInterrupt):
        list(run_batch(jobs, box(tile=8)))
    for name in results(jobs):
        assert not name.endswith(".part")
        assert np.load(jobs[0].target.parent / name).shape == (64, 20)


def test_an_interruption_while_the_last_rows_wait_for_the_writer(jobs, monkeypatch):
    real = batch._Rows.put

    def interrupted(self, band):
        if band is None:
            raise KeyboardInterrupt
        real(self, band)

    monkeypatch.setattr(batch._Rows, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run_batch(jobs, box()))
    assert results(jobs) == []


def test_closing_the_iterator_early_leaves_whole_files_and_no_open_ones(jobs):
    running = run_batch(jobs, box())
    next(running)
    running.close()  # an open reader would warn, and warnings are errors here
    assert set(results(jobs)) <= {"0.npy", "1.npy"}
    for name in results(jobs):
        assert np.load(jobs[0].target.parent / name).shape == (64, 20)


def test_what_another_format_drops_is_told(tmp_path):
    from PIL import Image

    source, target = tmp_path / "a.png", tmp_path / "a.npy"
    Image.new("L", (9, 9), 100).save(source, dpi=(300, 300))
    (outcome,) = run_batch([Job(source, target, "npy")], box())
    assert any(".npy" in warning for warning in outcome.report.warnings)
