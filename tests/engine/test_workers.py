"""Workers: in order, bounded, one thread each, and the same result however many there are."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
import torch

from denoisekit.engine import workers as module
from denoisekit.engine.denoiser import load
from denoisekit.engine.network import Network
from denoisekit.engine.workers import Workers, count_processors, device, in_one_thread
from denoisekit.errors import UsageError
from denoisekit.options import Options

CPU = torch.device("cpu")


def test_results_come_in_order_and_items_are_taken_as_there_is_room():
    taken = []

    def items():
        for i in range(30):
            taken.append(i)
            yield i

    for index, result in enumerate(Workers([CPU], 3).map(lambda i: i * i, items())):
        assert result == index**2
        assert len(taken) <= index + 1 + 2 * 3


def test_no_more_are_computed_at_once_than_allowed():
    now, most, lock = 0, 0, threading.Lock()
    gate = threading.Barrier(2, timeout=10)

    def compute(_):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        gate.wait()  # two must meet here
        with lock:
            now -= 1

    assert len(list(Workers([CPU], 5).map(compute, range(8), 2))) == 8
    assert most == 2


def test_each_worker_has_one_thread_and_the_program_keeps_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert set(Workers([CPU], 2).map(lambda _: torch.get_num_threads(), range(6))) == {1}
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert [torch.get_num_threads(), *later] == [3, 3]
    finally:
        torch.set_num_threads(before)


def test_what_is_computed_beside_workers_has_one_thread_too():
    closed = []

    def numbers():
        try:
            for i in range(5):
                yield i, torch.get_num_threads(), threading.get_ident()
        finally:
            closed.append(threading.get_ident())

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = list(in_one_thread(numbers()))
        assert [(i, count) for i, count, _ in found] == [(i, 1) for i in range(5)]
        (thread,) = {thread for _, _, thread in found}
        assert thread != threading.get_ident()
        left = in_one_thread(numbers())
        next(left)
        left.close()
        for _ in range(1000):  # it is closed in its own thread, for which nobody waits
            if len(closed) == 2:
                break
            time.sleep(0.01)
        assert len(closed) == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_worker_that_asks_for_workers_computes_by_itself():
    workers = Workers([CPU], 1)  # it would wait for itself for ever
    inner = workers.run(lambda: list(workers.map(lambda i: (i, device()), range(3))))
    assert inner == [(i, CPU) for i in range(3)]


def test_an_error_ends_the_rest():
    ran = []

    def compute(i):
        ran.append(i)
        if i == 2:
            raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        list(Workers([CPU], 1).map(compute, range(100)))
    assert len(ran) <= 5


def test_several_devices_share_the_work_each_with_a_network_of_its_own(monkeypatch):
    # Two names of the one device that is here.
    devices = [torch.device("cpu"), torch.device("cpu", 0)]
    denoiser = load(Options(weights="aprrd.camera", strength=1.0), allow_download=False)
    noisy = np.random.default_rng(3).random((200, 230, 3), np.float32)
    expected = denoiser(noisy)
    prepared = []

    def prepare(device, precision):
        prepared.append(device)
        return denoiser._prepared(torch.device("cpu"), precision)

    denoiser.network = Network(1.0, denoiser.traits, prepare, Workers(devices, 2), "fp32")
    assert set(prepared) == set(devices)
    assert len(prepared) == 2
    np.testing.assert_array_equal(denoiser(noisy), expected)


@pytest.mark.parametrize("method", ["aprrd", "sdap", "ssbsn", "promptsid"])
def test_the_number_of_workers_changes_no_bit(method):
    size = (40, 300, 3) if method == "ssbsn" else (200, 200, 3)  # enough for several tiles
    noisy = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    settings = {"refine_rounds": 1} if method == "ssbsn" else {}
    results = []
    for count in (1, 2, 5):
        options = Options(
            method=method,
            weights=f"{method}.camera",
            strength=1.0,
            settings=settings,
            threads=count,
            range="0,300",
        )
        denoiser = load(options, allow_download=False)
        assert denoiser.network.workers.count == count
        results.append(denoiser(noisy).tobytes())
    assert len(set(results)) == 1


def test_what_memory_allows_changes_no_bit_either(monkeypatch):
    monkeypatch.setenv(module.VARIABLE, "4")
    monkeypatch.setattr("denoisekit.engine.device.TILE", 128)
    monkeypatch.setattr("denoisekit.engine.device.HALOS", 0)
    noisy = np.random.default_rng(1).integers(0, 256, (250, 400, 3), dtype=np.uint8)
    results = []
    for memory in (None, 6 * 10**7):
        monkeypatch.setattr("denoisekit.engine.device.used_memory", lambda: 0)
        monkeypatch.setattr("denoisekit.engine.device.CALL_BYTES", 0)
        options = Options(weights="aprrd.camera", strength=1.0, max_memory=memory)
        denoiser = load(options, allow_download=False)
        plan, at_once = denoiser.plan(*noisy.shape[:2])
        results.append((plan, at_once, denoiser(noisy).tobytes()))
    assert results[0][1] > results[1][1] == 1
    assert results[0][0] == results[1][0]
    assert results[0][2] == results[1][2]


def test_processors_are_those_that_may_be_used(monkeypatch, tmp_path):
    monkeypatch.delenv(module.VARIABLE, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(module, "cpu_quota", lambda: float("inf"))
    assert count_processors() == 6
    monkeypatch.setattr(module, "cpu_quota", lambda: 2.5)
    assert count_processors() == 2
    monkeypatch.setattr(module, "cpu_quota", lambda: 0.5)
    assert count_processors() == 1
    monkeypatch.setattr(module, "cpu_quota", lambda: 4.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert count_processors() == 1
    monkeypatch.setenv(module.VARIABLE, "3")
    assert count_processors() == 3
    monkeypatch.setenv(module.VARIABLE, "none")
    with pytest.raises(UsageError, match="no number of threads"):
        count_processors()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, float("inf")),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ({"box/cpu.max": "50000 100000", "cpu.max": "max 100000"}, 0.5),
        ({}, float("inf")),
    ],
)
def test_quotas_of_containers(monkeypatch, tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    listing = tmp_path / "listing"
    first = "3:cpu,cpuacct:/" if any("cfs" in name for name in files) else "0::/box"
    listing.write_text(f"{first}\n5:memory:/elsewhere\n")
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_GROUPS_OF_THIS", listing)
    assert module.cpu_quota() == expected


def _square(workers, queue):
    queue.put(list(workers.map(lambda i: i * i, range(4))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_off_starts_its_own():
    workers = Workers([CPU], 2)
    assert list(workers.map(lambda i: i, range(4))) == [0, 1, 2, 3]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_square, args=(workers, queue))
    child.start()
    assert queue.get(timeout=60) == [0, 1, 4, 9]
    child.join()
