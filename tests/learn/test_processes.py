"""Several processes train as one; a run survives the death of its process."""

from __future__ import annotations

import signal
import socket
import time

import torch
import two_processes
from safetensors.torch import load_file
from small_runs import run

from denoisekit.learn import loop, planning
from denoisekit.learn.train import Machine, resume
from processes import launch


def launch_group(size, folder, out):
    """Start the worker in so many processes, as torchrun would, and wait."""
    with socket.socket() as free, socket.socket() as other:
        for one in (free, other):
            one.bind(("127.0.0.1", 0))
        port, second = (str(one.getsockname()[1]) for one in (free, other))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    place["SECOND_PORT"] = second
    logs = [out / f"log{rank}" for rank in range(size)]
    processes = [
        launch(
            *(two_processes.work, str(folder), out),
            **{**place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            log=log,
        )
        for rank, log in enumerate(logs)
    ]
    for process, log in zip(processes, logs, strict=True):
        process.join(timeout=120)
        assert process.exitcode == 0, log.read_text()


def test_two_processes_take_the_steps_of_one_and_make_one_run(tmp_path, noisy):
    launch_group(2, noisy, tmp_path)
    one, other = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(one[key], other[key]) for key in one)
    alone = two_processes.steps(str(noisy))
    # Where the loss itself draws nothing, the shared batch is the same batch.
    compared = [key for key in one if key.startswith("ssbsn")]
    assert compared
    for key in compared:
        assert torch.allclose(one[key], alone[key], rtol=1e-3, atol=1e-4), key
    assert load_file(tmp_path / "run" / "weights.safetensors")
    # The first alone speaks.
    assert int((tmp_path / "records0").read_text()) > 5
    assert (tmp_path / "records1").read_text() == "0"


def work(folder, out):
    """Train, until it is killed."""
    torch.set_num_threads(1)
    planning.BELIEVED, loop.TOLD_STEPS = 0.0, 1
    run("sdap", folder, out, steps=60, save_every=3)


def test_a_killed_run_loses_one_interval_at_most(tmp_path, noisy):
    run("sdap", noisy, tmp_path / "whole", steps=60, preview_every=10**6)
    out = tmp_path / "run"
    process = launch(work, noisy, out, log=tmp_path / "said")
    log = out / "log.jsonl"
    while process.is_alive() and (not log.exists() or log.read_text().count('"saved"') < 2):
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = torch.load(out / "checkpoints" / "state.pt", weights_only=True)
    seen = [line for line in log.read_text().splitlines() if '"event": "step"' in line]
    done = int(seen[-1].split('"step": ')[1].split(",")[0])
    assert kept["step"] % 3 == 0
    assert done - kept["step"] <= 3
    assert resume(out, Machine(workers=1))
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[key], other[key]) for key in one)
