"""How fast methods are, what memory and energy they take, and how near that is to the limit.

The limit is the rate at which the same machine, in the same run and precision, multiplies
large matrices.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.bench.probe import Clock, Energy, matrix_rate, peak_memory
from denoisekit.errors import UsageError
from denoisekit.ranges import Floats

if TYPE_CHECKING:
    import torch

LONG = 30.0
"""Seconds after which a picture is not denoised once more, however few times it was."""

SHORT, MOST = 1.0, 100
"""Seconds for which it is denoised again and again, that counters of energy tell something,
but not more often than so many times."""

SMALLEST, LARGEST = 16, 16384


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a candidate denoised colour pictures of one size.

    Attributes
    ----------
    candidate, device, precision : str
        Who, where, how; the last is empty where there is no network.
    size : int
        Side of the picture, in pixels.
    seconds : tuple of float
        Of every repetition, after one that does not count.
    memory : int
        Bytes it took at most, beside those taken before.
    joules : float or None
        Of one repetition; None: not known.
    flop : int
        Floating-point operations of torch that were counted; 0: none.
    rate : float
        Operations a second of matrix products here.
    """

    candidate: str
    device: str
    precision: str
    size: int
    seconds: tuple[float, ...]
    memory: int
    joules: float | None
    flop: int
    rate: float

    @property
    def median(self) -> float:
        """Seconds of the middle repetition."""
        return statistics.median(self.seconds)

    @property
    def megapixels(self) -> float:
        """Megapixels a second."""
        return self.size**2 / 1e6 / self.median

    @property
    def share(self) -> float | None:
        """Part of the rate of matrix products that was reached; None: nothing was counted."""
        return self.flop / self.median / self.rate if self.flop else None

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        joules = None if self.joules is None else self.joules / (self.size**2 / 1e6)
        return {
            **asdict(self),
            "median_seconds": self.median,
            "megapixels_per_second": self.megapixels,
            "joules_per_megapixel": joules,
            "share_of_matrix_rate": self.share,
        }


def measure_speed(
    candidates: Sequence[Candidate],
    device: torch.device,
    sizes: Sequence[int],
    *,
    repeats: int = 5,
    rates: dict[str, float] | None = None,
    tell: Callable[[int], Any] | None = None,
    clock: Clock = time.perf_counter,
) -> list[Speed]:
    """Measure every candidate on a random colour picture of every size.

    Parameters
    ----------
    candidates : sequence of Candidate
        Of one device. The one that does nothing is left out.
    device : torch.device
        That device.
    sizes : sequence of int
        Sides of the pictures, in pixels.
    repeats : int
        How often each is timed at least, unless that takes longer than `LONG` seconds.
    rates : dict, optional
        Takes the rates of matrix products by precision: the best of those measured before and
        after the pictures, and of what is there already.
    tell : callable, optional
        Called with how many pictures are done.
    clock : callable
        Gives seconds.

    Raises
    ------
    UsageError
        Sizes or repeats make no sense.
    DenoisekitError
        A picture cannot be denoised.
    """
    if repeats < 1:
        raise UsageError(f"{repeats} repetitions make no sense", "it is 1 or more")
    for size in sizes:
        if not SMALLEST <= size <= LARGEST:
            raise UsageError(
                f"pictures of {size} pixels are not measured", f"{SMALLEST} to {LARGEST} are"
            )
    rates = {} if rates is None else rates
    candidates = [candidate for candidate in candidates if candidate.id != NOISY]
    energy = Energy(device)
    found: list[Speed] = []
    _rate(rates, candidates, device, clock)
    for candidate in candidates:
        for size in sizes:
            noisy = np.random.default_rng(0).random((size, size, 3), np.float32)
            memory, flop = _first(candidate, noisy, device)
            seconds, joules = _timed(candidate, noisy, repeats, energy, clock)
            where, precision = (candidate.facts.get(name, "") for name in ("device", "precision"))
            found.append(
                Speed(candidate.id, where, precision, size, seconds, memory, joules, flop, 1.0)
            )
            if tell:
                tell(len(found))
    _rate(rates, candidates, device, clock)
    return [replace(speed, rate=rates[speed.precision or "fp32"]) for speed in found]


def _rate(
    rates: dict[str, float], candidates: Sequence[Candidate], device: torch.device, clock: Clock
) -> None:
    """Measure what is not slowed down by what else the machine does now."""
    for precision in {candidate.facts.get("precision", "fp32") for candidate in candidates}:
        rate = matrix_rate(device, precision, clock)
        rates[precision] = max(rate, rates.get(precision, 0.0))


def _first(candidate: Candidate, noisy: Floats, device: torch.device) -> tuple[int, int]:
    """Denoise for the first time, which sets things up; return bytes and operations."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    memory = peak_memory(device, lambda: candidate.run(noisy))
    # Apart, because what counts may send torch another way, with other memory.
    products = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}
    with FlopCounterMode(display=False, custom_mapping=products) as counter:
        candidate.run(noisy)
    return memory, int(counter.get_total_flops())


def _product(_sum: Any, one: Sequence[int], other: Sequence[int], **_: Any) -> int:
    """Return the operations of a product that is added to what is there; torch leaves it out."""
    return 2 * math.prod(one) * other[-1]


def _timed(
    candidate: Candidate, noisy: Floats, repeats: int, energy: Energy, clock: Clock
) -> tuple[tuple[float, ...], float | None]:
    seconds: list[float] = []

    def work() -> None:
        while sum(seconds) < LONG and (
            len(seconds) < repeats or (sum(seconds) < SHORT and len(seconds) < MOST)
        ):
            began = clock()
            candidate.run(noisy)
            seconds.append(clock() - began)

    joules = energy.of(work)
    return tuple(seconds), None if joules is None else joules / len(seconds)
