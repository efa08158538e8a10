"""How fast methods are, what memory and energy they take, and how near that is to the limit.

The limit is the rate at which the same machine, in the same run and precision, multiplies
large matrices.
"""

from __future__ import annotations

import ctypes
import gc
import math
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.engine.device import cpu_model, describe_device, used_memory
from denoisekit.errors import UsageError
from denoisekit.methods.base import torch_dtype

if TYPE_CHECKING:
    import torch

LONG = 30.0
"""Seconds after which an image is not denoised once more, however few times it was."""
SHORT, MOST = 1.0, 100
"""Seconds for which it is denoised again and again, that counters of energy tell something,
but not more often than so many times."""
SMALLEST, LARGEST = 16, 16384

MATRIX = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""Side of the matrices that are multiplied: large enough that a larger one is no faster."""
PRODUCTS, ENOUGH = 5, 1.0
"""How often they are, unless that takes longer than so many seconds."""
PERIOD = 0.002
"""Seconds between two looks at memory."""
POWERCAP = Path("/sys/class/powercap")
"""Where Linux counts the energy of processors, readable by some users on some systems."""

Clock = Callable[[], float]
Made = TypeVar("Made")


def measure_speed(
    candidates: Sequence[Candidate],
    device: torch.device,
    sizes: Sequence[int],
    *,
    repeats: int = 5,
    rates: dict[str, float] | None = None,
    on_progress: Callable[[int], Any] = lambda _: None,
    clock: Clock = time.perf_counter,
) -> list[dict[str, Any]]:
    """Measure every candidate on a random colour image of every size.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of one device. The one that does nothing is left out.
    device : torch.device
        That device.
    sizes : sequence of int
        Sides of the images, in pixels.
    repeats : int
        How often each is timed at least, unless that takes longer than `LONG` seconds.
    rates : dict, optional
        Takes the rates of matrix products by precision: the best of those measured before and
        after the images, and of what is there already.
    on_progress : callable
        Called with how many images are done.
    clock : callable
        Gives seconds.

    Returns
    -------
    list of dict
        A row for each candidate and size, as JSON can say it: ``candidate``, ``device``,
        ``precision`` (empty where there is no network), ``size``, the ``seconds`` of every
        repetition after one that does not count, ``memory`` in bytes beside those taken before,
        ``joules`` of one repetition (None: not known), ``flop`` that were counted, the ``rate``
        of matrix products, and what follows from these.

    Raises
    ------
    UsageError
        Sizes or repeats make no sense.
    DenoisekitError
        An image cannot be denoised.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    if repeats < 1:
        raise UsageError(f"{repeats} repetitions make no sense", "it is 1 or more")
    for size in sizes:
        if not SMALLEST <= size <= LARGEST:
            raise UsageError(
                f"pictures of {size} pixels are not measured", f"{SMALLEST} to {LARGEST} are"
            )
    rates = {} if rates is None else rates
    candidates = [candidate for candidate in candidates if candidate.id != NOISY]
    precisions = {candidate.facts.get("precision", "fp32") for candidate in candidates}

    def measure_rates() -> None:
        for precision in precisions:
            rate = matrix_rate(device, precision, clock)
            rates[precision] = max(rate, rates.get(precision, 0.0))

    measure_rates()
    products = {torch.ops.aten.addmm_: _added_product, torch.ops.aten.baddbmm_: _added_product}
    found: list[dict[str, Any]] = []
    for candidate, size in ((candidate, size) for candidate in candidates for size in sizes):
        noisy = np.random.default_rng(0).random((size, size, 3), np.float32)
        _, _, memory = measure_call(device, partial(candidate.run, noisy))
        # Apart, because what counts may send torch another way, with other memory.
        with FlopCounterMode(display=False, custom_mapping=products) as counter:
            candidate.run(noisy)
        seconds: list[float] = []
        before = energy_counters(device)
        while sum(seconds) < LONG and (
            len(seconds) < repeats or (sum(seconds) < SHORT and len(seconds) < MOST)
        ):
            began = clock()
            candidate.run(noisy)
            seconds.append(clock() - began)
        joules = joules_since(before, energy_counters(device))
        median, megapixels = statistics.median(seconds), size**2 / 1e6
        found.append(
            {
                "candidate": candidate.id,
                "device": candidate.facts.get("device", ""),
                "precision": candidate.facts.get("precision", ""),
                "size": size,
                "seconds": seconds,
                "memory": memory,
                "joules": None if joules is None else joules / len(seconds),
                "flop": counter.get_total_flops(),
                "median_seconds": median,
                "megapixels_per_second": megapixels / median,
            }
        )
        on_progress(len(found))
    measure_rates()  # the better is not slowed down by what else the machine did
    for row in found:
        row["rate"] = rate = rates[row["precision"] or "fp32"]
        joules, megapixels = row["joules"], row["size"] ** 2 / 1e6
        row["joules_per_megapixel"] = None if joules is None else joules / megapixels
        share = row["flop"] / row["median_seconds"] / rate
        row["share_of_matrix_rate"] = share if row["flop"] else None
    return found


def _added_product(_sum: Any, one: Sequence[int], other: Sequence[int], **_: Any) -> int:
    """Return the operations of a product that is added to what is there; torch leaves it out."""
    return 2 * math.prod(one) * other[-1]


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what figures of speed depend on, and the date."""
    import torch

    energy = "RAPL" if device.type == "cpu" else "NVML"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_model(),
        "threads": torch.get_num_threads(),
        "device": describe_device(device),
        "os": platform.platform(),
        "torch": torch.__version__,
        "energy": energy if energy_counters(device) else None,
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


def measure_call(device: torch.device, call: Callable[[], Made]) -> tuple[Made, float, int]:
    """Call something; return its result, the seconds it took, and the most bytes.

    The bytes are those taken beside what was taken before: on CUDA of the device, given out by
    torch, elsewhere of the process.
    """
    import torch

    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        began = time.perf_counter()
        made = call()
        seconds = time.perf_counter() - began
        return made, seconds, int(torch.cuda.max_memory_allocated(device)) - before
    gc.collect()
    if sys.platform == "linux":  # hand what is free within the process back: it counts anew
        with suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).malloc_trim(0)
    seen, ended = [used_memory()], threading.Event()

    def look() -> None:
        while not ended.wait(PERIOD):
            seen.append(used_memory())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    began = time.perf_counter()
    try:
        made = call()
    finally:
        seconds = time.perf_counter() - began
        ended.set()
        thread.join()
    return made, seconds, int(max(*seen, used_memory()) - seen[0])


Counters = dict[str, tuple[int, int]]
"""Microjoules by a name, and where they begin again."""


def energy_counters(device: torch.device) -> Counters:
    """Return what counts the energy of a device, where the machine tells of it.

    For a CPU all processors that this user may read (RAPL), for an NVIDIA GPU the GPU
    alone (NVML); empty: nobody tells.
    """
    import torch

    found: Counters = {}
    if device.type == "cpu":
        for folder in sorted(POWERCAP.glob("intel-rapl:*")):  # AMD's are called so too
            names = ("energy_uj", "max_energy_range_uj")
            # With another colon it is a part of a processor.
            with suppress(OSError, ValueError):
                if folder.name.count(":") == 1:
                    count, most = (int((folder / name).read_text()) for name in names)
                    found[folder.name] = count, most
        return found
    with suppress(ImportError):
        import pynvml

        # A driver, GPU or torch may not tell.
        with suppress(pynvml.NVMLError, AttributeError):
            pynvml.nvmlInit()
            name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            handle = pynvml.nvmlDeviceGetHandleByUUID(name)
            found[name] = 1000 * int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)), 0
    return found


def joules_since(before: Counters, after: Counters) -> float | None:
    """Return the joules between two looks at `energy_counters`; None: nobody tells."""
    spent = 0
    for name, (count, most) in before.items():
        # A counter that has reached its end begins again at 0.
        now = after[name][0]
        spent += now - count + (most if now < count else 0)
    return spent / 1e6 if before else None
