"""Figures of speed follow from the clock, the operations and the memory that were there."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import box_method
from denoisekit.bench import speed
from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.bench.speed import (
    LONG,
    describe_machine,
    energy_counters,
    joules_since,
    matrix_rate,
    measure_call,
    measure_speed,
)
from denoisekit.cli import app as frame
from denoisekit.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(speed.MATRIX, "cpu", 64)
    monkeypatch.setattr(speed, "SHORT", 0.0)


def clock_of(steps):
    """Return a clock that moves on by the next of these at every second look."""
    times, steps = [0.0], iter(steps)

    def clock():
        if len(times) % 2:
            times.append(times[-1])
        else:
            times.append(times[-1] + next(steps))
        return times[-1]

    return clock


def conv(noisy):
    """A network of one convolution, 3 to 5 channels of 3x3 pixels."""
    image = torch.from_numpy(noisy).permute(2, 0, 1)[None]
    with torch.inference_mode():
        torch.nn.functional.conv2d(image, torch.ones(5, 3, 3, 3), padding=1)
    return noisy


def test_a_row_is_the_median_of_the_clock_and_the_operations_counted():
    calls = []
    chosen = [
        Candidate(NOISY, {"id": NOISY}, calls.append),
        Candidate("conv", {"id": "conv", "precision": "fp32", "device": "here"}, conv),
    ]
    # Matrix products before, three repetitions, matrix products after: the best counts.
    steps = [0.2] * 5 + [5.0, 1.0, 2.0] + [0.125] * 5
    rates = {}
    (row,) = measure_speed(chosen, CPU, [40], repeats=3, rates=rates, clock=clock_of(steps))
    assert not calls
    assert (row["candidate"], row["device"], row["precision"], row["size"]) == (
        "conv",
        "here",
        "fp32",
        40,
    )
    assert row["seconds"] == [5.0, 1.0, 2.0]
    assert row["flop"] == 2 * 40 * 40 * 3 * 5 * 9
    assert rates == {"fp32": pytest.approx(2 * 64**3 / 0.125)}
    assert row["median_seconds"] == 2
    assert row["megapixels_per_second"] == pytest.approx(40 * 40 / 1e6 / 2)
    assert row["share_of_matrix_rate"] == pytest.approx(row["flop"] / 2 / rates["fp32"])


def test_products_added_in_place_are_counted():
    def run(noisy):
        flat = torch.zeros(7, 11).addmm_(torch.ones(7, 5), torch.ones(5, 11))
        torch.zeros(3, 7, 11).baddbmm_(torch.ones(3, 7, 5), torch.ones(3, 5, 11))
        torch.addmm(flat, torch.ones(7, 5), torch.ones(5, 11), out=flat)
        return noisy

    (row,) = measure_speed([Candidate("x", {"id": "x"}, run)], CPU, [16], repeats=1)
    assert row["flop"] == 2 * 7 * 5 * 11 * (1 + 3 + 1)


def test_what_takes_long_is_repeated_less_often():
    chosen = [Candidate("x", {"id": "x"}, lambda noisy: noisy)]
    steps = [1.0, *[LONG] * 9]
    (row,) = measure_speed(chosen, CPU, [16], repeats=5, clock=clock_of([2.0, LONG, 3.0]))
    assert row["seconds"] == [LONG]
    (row,) = measure_speed(chosen, CPU, [16], repeats=5, clock=clock_of([2.0, *steps[:2], 3.0]))
    assert row["seconds"] == [1.0, LONG]
    assert row["flop"] == 0
    assert row["share_of_matrix_rate"] is None


def test_what_is_quick_is_repeated_for_a_second(monkeypatch):
    monkeypatch.setattr(speed, "SHORT", 1.0)
    chosen = [Candidate("x", {"id": "x"}, lambda noisy: noisy)]
    steps = [2.0, *[0.125] * 8, 3.0]
    (row,) = measure_speed(chosen, CPU, [16], repeats=2, clock=clock_of(steps))
    assert row["seconds"] == [0.125] * 8
    steps = [2.0, *[1e-6] * speed.MOST, 3.0]
    (row,) = measure_speed(chosen, CPU, [16], repeats=2, clock=clock_of(steps))
    assert len(row["seconds"]) == speed.MOST


def test_sizes_come_in_order_and_each_is_told():
    seen, told = [], []

    def run(noisy):
        seen.append(noisy.shape)
        return noisy

    chosen = [Candidate("x", {"id": "x"}, run)]
    rows = measure_speed(chosen, CPU, [32, 16], repeats=1, on_progress=told.append)
    assert [row["size"] for row in rows] == [32, 16]
    assert told == [1, 2]
    assert set(seen) == {(32, 32, 3), (16, 16, 3)}
    for sizes, repeats in (([8], 1), ([32], 0), ([99999], 1)):
        with pytest.raises(UsageError):
            measure_speed(chosen, CPU, sizes, repeats=repeats)


def test_the_rate_of_matrices_is_that_of_the_fastest_product():
    steps = [0.2, 0.1, 0.3, 0.2, 0.15]
    assert matrix_rate(CPU, "fp32", clock_of(steps)) == pytest.approx(2 * 64**3 / 0.1)
    # Enough is enough.
    assert matrix_rate(CPU, "bf16", clock_of([1.5])) == pytest.approx(2 * 64**3 / 1.5)
    assert torch.get_float32_matmul_precision() == "highest"


def test_memory_is_what_was_taken_beside_what_was_there():
    kept = np.ones(30 * 2**20, np.uint8)

    def work():
        taken = np.ones(64 * 2**20, np.uint8)
        time.sleep(0.1)  # to be seen
        del taken
        return 5

    for _ in range(2):  # what was taken once and is free again counts again
        made, _, memory = measure_call(CPU, work)
        assert 56 * 2**20 < memory < 90 * 2**20
        assert made == 5
    assert kept.sum() == len(kept)


def write_counter(folder, microjoules, largest=1000):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")


def test_energy_is_that_of_all_processors_also_where_a_counter_begins_again(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "POWERCAP", tmp_path)
    assert energy_counters(CPU) == {}
    assert joules_since({}, {}) is None
    assert describe_machine(CPU)["energy"] is None
    write_counter(tmp_path / "intel-rapl:0", 900)
    write_counter(tmp_path / "intel-rapl:1", 100)
    write_counter(tmp_path / "intel-rapl:0:0", 0)  # a part of the first
    before = energy_counters(CPU)
    write_counter(tmp_path / "intel-rapl:0", 50)
    write_counter(tmp_path / "intel-rapl:1", 400)
    write_counter(tmp_path / "intel-rapl:0:0", 500)
    assert describe_machine(CPU)["energy"] == "RAPL"
    assert joules_since(before, energy_counters(CPU)) == pytest.approx((150 + 300) / 1e6)


def test_energy_of_a_gpu_is_what_its_driver_counts(monkeypatch):
    class NVMLError(Exception):
        pass

    def total(handle):
        if handle != "handle of GPU-7":
            raise NVMLError
        return next(counts)

    counts = iter([5000, 7000])
    driver = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: f"handle of {name}",
        nvmlDeviceGetTotalEnergyConsumption=total,
    )
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=7))
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    before = energy_counters(gpu)
    assert joules_since(before, energy_counters(gpu)) == pytest.approx(2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=8))
    assert energy_counters(gpu) == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_counters(gpu) == {}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    monkeypatch.setattr(box_method.Box, "hook", None)
    box_method.write_weights(tmp_path / "box.safetensors")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = frame.run(["bench", "speed", *arguments])
        return code, *capsys.readouterr()

    return run


OURS = ("--weights", "box.safetensors", "--methods", "tv", "--sizes", "16,24", "--repeats", "2")


def test_the_command_tells_all_in_a_table_and_in_json(command, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "POWERCAP", tmp_path)
    code, out, err = command(*OURS, "--precision", "fp32,bf16", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    rows = [(row["candidate"], row["precision"], row["size"]) for row in told["rows"]]
    # What has no network is measured once, whatever the precisions.
    assert rows == [
        *(("tv", "", size) for size in (16, 24)),
        *(("box.safetensors", kind, size) for kind in ("fp32", "bf16") for size in (16, 24)),
    ]
    assert all(len(row["seconds"]) == 2 for row in told["rows"])
    assert set(told["matrix_rates"]) == {"fp32", "bf16"}
    assert told["machine"]["torch"] == torch.__version__
    assert told["machine"]["energy"] is None
    write_counter(tmp_path / "intel-rapl:0", 900)
    code, out, err = command(*OURS)
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["tv"] * 2 + ["box.safetensors"] * 2
    assert "limit: matrix products of fp32 at " in out
    assert "energy: RAPL" in out


def test_what_makes_no_sense_is_said(command):
    for arguments, words in (
        ((), "nothing is named"),
        (("--methods", "tv", "--sizes", "big"), "'big' is not a size"),
        (("--methods", "tv", "--sizes", "4"), "4 pixels"),
        (("--methods", "bux"), "box"),
        (("--weights", "box.safetensors", "--precision", "fp8"), "fp8"),
        (("--methods", "tv", "--repeats", "0"), "repetitions"),
    ):
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert words in err
