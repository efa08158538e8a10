"""How much memory a network call takes, measured in a process of its own."""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from denoisekit.draws import Draws
from denoisekit.methods import get_method
from processes import launch


def call_memory(
    method: str, config: Mapping[str, Any], settings: Mapping[str, Any], side: int, precision: str
) -> tuple[int, int]:
    """Return the bytes that a call on a square took, and the most its process ever held."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        process = launch(_measure, method, dict(config), dict(settings), side, precision, log=log)
        process.join()
        assert process.exitcode == 0, log.read_text()
        call, whole = json.loads(log.read_text())
    return call, whole


def _measure(
    name: str, config: dict[str, Any], settings: dict[str, Any], side: int, precision: str
) -> None:
    torch.set_num_threads(1)  # as a worker calls it
    method = get_method(name).build(config, settings)
    method.prepare(torch.device("cpu"), precision)
    channels = config["channels"]
    noisy = torch.rand(1, channels, side, side)
    method.denoise(torch.rand(1, channels, 64, 64), draws=Draws())
    before = peak()
    method.denoise(noisy, draws=Draws())
    print(json.dumps([peak() - before, peak()]))  # noqa: T201


def peak() -> int:
    """Return the most bytes that this process ever held."""
    # Linux counts what the parent held at the fork into ru_maxrss, but not into VmHWM.
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(x.split()[1]) for x in status.read_text().splitlines() if "VmHWM" in x) * 1024
