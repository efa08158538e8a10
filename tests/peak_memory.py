"""How much memory a network call takes, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

PROGRAM = """
import json, pathlib, resource, sys, torch
from denoisekit.draws import Draws
from denoisekit.methods import get_method

def peak():
    # Linux counts what the parent held at the fork into ru_maxrss, but not into VmHWM.
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(l.split()[1]) for l in status.read_text().splitlines() if "VmHWM" in l) * 1024

asked = json.loads(sys.argv[1])
torch.set_num_threads(2)
info = get_method(asked["method"])
method = info.build(asked["config"], asked["settings"])
method.prepare(torch.device("cpu"), asked["precision"])
channels, side = asked["config"]["channels"], asked["side"]
noisy = torch.rand(1, channels, side, side)
method.denoise(torch.rand(1, channels, 64, 64), draws=Draws())
before = peak()
method.denoise(noisy, draws=Draws())
print(json.dumps([peak() - before, peak()]))
"""


def call_memory(
    method: str, config: Mapping[str, Any], settings: Mapping[str, Any], side: int, precision: str
) -> tuple[int, int]:
    """Return the bytes that a call on a square took, and the most its process ever held."""
    asked = json.dumps(
        {
            "method": method,
            "config": dict(config),
            "settings": dict(settings),
            "side": side,
            "precision": precision,
        }
    )
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, asked], capture_output=True, text=True, check=True
    )
    call, whole = json.loads(run.stdout)
    return call, whole
