"""Several processes train as one; a run survives the death of its process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
import two_processes
from safetensors.torch import load_file
from small_runs import run

from denoisekit.training.run import Machine, resume


def launch(size, *arguments):
    """Start the worker in so many processes, as torchrun would, and wait."""
    with socket.socket() as free, socket.socket() as other:
        for one in (free, other):
            one.bind(("127.0.0.1", 0))
        port, second = (str(one.getsockname()[1]) for one in (free, other))
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    place["SECOND_PORT"] = second
    processes = [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, *map(str, arguments)],
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_two_processes_take_the_steps_of_one_and_make_one_run(tmp_path, noisy):
    launch(2, noisy, tmp_path)
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


KILLED = """
import sys
import torch
from small_runs import run
from denoisekit.training import cost, loop

torch.set_num_threads(1)
cost.BELIEVED, loop.TOLD_STEPS = 0.0, 1
run("sdap", sys.argv[1], sys.argv[2], steps=60, save_every=3)
"""


def test_a_killed_run_loses_one_interval_at_most(tmp_path, noisy):
    run("sdap", noisy, tmp_path / "whole", steps=60, preview_every=10**6)
    out = tmp_path / "run"
    program = KILLED.replace("sys.argv[2]", "__import__('pathlib').Path(sys.argv[2])")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(noisy), str(out)], cwd=Path(__file__).parent
    )
    log = out / "log.jsonl"
    while process.poll() is None and (not log.exists() or log.read_text().count('"saved"') < 2):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = torch.load(out / "checkpoints" / "state.pt", weights_only=True)
    seen = [line for line in log.read_text().splitlines() if '"event": "step"' in line]
    done = int(seen[-1].split('"step": ')[1].split(",")[0])
    assert kept["step"] % 3 == 0
    assert done - kept["step"] <= 3
    assert resume(out, Machine(workers=1))
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(one[key], other[key]) for key in one)
