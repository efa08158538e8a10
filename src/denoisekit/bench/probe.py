"""What a machine can do and what a run costs it: matrix rate, memory, energy."""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoisekit.engine.device import cpu_model, describe_device, used_memory
from denoisekit.methods.base import torch_dtype

if TYPE_CHECKING:
    import torch

POWERCAP = Path("/sys/class/powercap")
"""Where Linux counts the energy of processors, readable by some users on some systems."""

PERIOD = 0.002
"""Seconds between two looks at memory."""

MATRIX = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""Side of the matrices that are multiplied: large enough that a larger one is no faster."""

PRODUCTS, ENOUGH = 5, 1.0
"""How often they are, unless that takes longer than so many seconds."""

Clock = Callable[[], float]


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what figures of speed depend on, and the date."""
    import torch

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "device": describe_device(device),
        "os": platform.platform(),
        "torch": torch.__version__,
    }


def matrix_rate(device: torch.device, precision: str, clock: Clock = time.perf_counter) -> float:
    """Return the floating-point operations a second of the best of some matrix products.

    Parameters
    ----------
    device : torch.device
        Where.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``. On CUDA fp32 is TF32, as it is in convolutions.
    clock : callable
        Gives seconds.
    """
    import torch

    side = MATRIX[device.type]
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else kept)
    try:
        one = torch.rand(side, side, device=device).to(torch_dtype(precision))
        (one @ one)[0, 0].item()
        seconds: list[float] = []
        while len(seconds) < PRODUCTS and sum(seconds) < ENOUGH:
            began = clock()
            (one @ one)[0, 0].item()  # reading a number waits for a GPU
            seconds.append(clock() - began)
    finally:
        torch.set_float32_matmul_precision(kept)
    return 2 * side**3 / min(seconds)


class Sampler:
    """Looks at a number again and again while something else runs.

    Parameters
    ----------
    read : callable
        Gives the number.

    Attributes
    ----------
    values : list of float
        What was seen; also at the beginning and at the end.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self._read, self._ended = read, threading.Event()
        self.values: list[float] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(PERIOD):
            self.values.append(self._read())

    def __enter__(self) -> Sampler:
        self.values.append(self._read())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.values.append(self._read())


def peak_memory(device: torch.device, work: Callable[[], Any]) -> int:
    """Run something and return the most bytes it took beside those that were taken before.

    On CUDA these are bytes of the device that torch gave out, elsewhere of the process.
    """
    import torch

    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return int(torch.cuda.max_memory_allocated(device)) - before
    _give_back()
    with Sampler(used_memory) as seen:
        work()
    return int(max(seen.values) - seen.values[0])


def _give_back() -> None:
    """Hand memory that is free within the process back, so that its use is seen anew."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)


class Energy:
    """Measures the energy of work on a device, where the machine tells of it.

    Parameters
    ----------
    device : torch.device
        The processors count for a CPU, the GPU alone for a GPU.

    Attributes
    ----------
    source : str
        Who tells; empty: nobody does.
    """

    def __init__(self, device: torch.device) -> None:
        self._read = _processors if device.type == "cpu" else partial(_gpu, device)
        self.source = ("RAPL" if device.type == "cpu" else "NVML") if self._read() else ""

    def of(self, work: Callable[[], Any]) -> float | None:
        """Run something and return the joules it took, or None: nobody tells."""
        before = self._read()
        work()
        after = self._read()
        spent = 0
        for name, (count, most) in before.items():
            # A counter that has reached its end begins again at 0.
            now = after[name][0]
            spent += now - count + (most if now < count else 0)
        return spent / 1e6 if before else None


Counters = dict[str, tuple[int, int]]
"""Microjoules by a name, and where they begin again."""


def _processors() -> Counters:
    """Return the counters of whole processors that this user may read."""
    found: Counters = {}
    for folder in sorted(POWERCAP.glob("intel-rapl:*")):  # AMD's are called so too
        if folder.name.count(":") == 1:  # not a part of one
            with suppress(OSError, ValueError):
                count, most = (
                    int((folder / name).read_text())
                    for name in ("energy_uj", "max_energy_range_uj")
                )
                found[folder.name] = count, most
    return found


def _gpu(device: torch.device) -> Counters:
    """Return the counter of an NVIDIA GPU, by what its driver says."""
    import torch

    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        millijoules = int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except (pynvml.NVMLError, AttributeError):  # a driver, GPU or torch that does not tell
        return {}
    return {name: (1000 * millijoules, 0)}
