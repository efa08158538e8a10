"""What a user can ask of a fit, and what a fit tells while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from denoisekit.errors import UsageError, did_you_mean
from denoisekit.options import Strength, check_strength
from denoisekit.ranges import parse_range

PRESETS = MappingProxyType({"fast": 30.0, "balanced": 150.0, "best": 600.0})
"""Seconds of a fit."""

OBJECTIVES = ("auto", "pairs", "sdap", "promptsid", "aprrd", "ssbsn")


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit. Every field is an option of ``denoisekit fit-single``.

    Attributes
    ----------
    objective : str
        One of `OBJECTIVES`: what the network learns from; ``auto`` goes by how far the noise
        is correlated.
    start : str
        ``none``: from scratch; an id or file of weights to adapt to the image; ``auto``: the
        weights for photographs that are here, for a colour image of 8 bits, else from scratch.
    seconds : float
        Time from the beginning to the result. Applying the network to a long stack is
        not part of it.
    steps : int or None
        So many steps in all, whatever time they take: then a seed repeats the result.
    range : str
        As `denoisekit.ranges.parse_range` takes it; ``auto``: percentiles from scratch, else
        what the weights that are adapted were made for.
    width : int or None
        Features of the network; None: as the time allows.
    keep_mean : bool or None
        Whether the result has the mean of the image, channel by channel; None: unless it is a
        colour image of 8 bits with correlated noise, as cameras make them.
    strength : float or 'auto' or None
        As of `denoisekit.options.Options`, of the result; None: ``auto`` for a colour image of 8
        bits with correlated noise, otherwise 1.
    seed : int
        Of all that is drawn.
    device, precision : str
        As `denoisekit.engine.device.resolve_device` and `choose_precision` take them; the precision
        is that of the result, not of the steps.
    max_memory : int or None
        Most bytes that tiles of the result may take.
    """

    objective: str = "auto"
    start: str = "auto"
    seconds: float = PRESETS["balanced"]
    steps: int | None = None
    width: int | None = None
    range: str = "auto"
    keep_mean: bool | None = None
    strength: Strength | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    max_memory: int | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            hint = did_you_mean(self.objective, OBJECTIVES)
            raise UsageError(f"there is no objective '{self.objective}'", hint)
        if not self.seconds >= LEAST:
            raise UsageError(
                f"{self.seconds:g} s is too short for a fit", f"give {LEAST:g} s or more"
            )
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"{self.steps} steps make no sense", "give 1 or more")
        if self.width is not None and not 4 <= self.width <= 256:
            raise UsageError(f"a width of {self.width} makes no sense", "give 4 to 256")
        if self.strength is not None:
            check_strength(self.strength)
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"a seed of {self.seed} makes no sense", "it is 0 or a whole number")
        parse_range(self.range)


LEAST = 5.0
"""Seconds below which nothing is learned."""


@dataclass(frozen=True, slots=True)
class Look:
    """How far a fit is; what `FitOptions` allow is told to a callback.

    Attributes
    ----------
    stage : str
        What is under way, in a word.
    step : int
        Steps so far, of all stages.
    seconds, total : float
        Since the beginning, and what is planned.
    score : float or None
        PSNR of the result in dB against noisy values that it was not made from: it rises as
        the result becomes better, but their noise bounds it. None: not measured yet.
    best : bool
        Whether that is the best so far, which is kept.
    """

    stage: str
    step: int
    seconds: float
    total: float
    score: float | None = None
    best: bool = False


Listen = Callable[[Look], bool | None]
"""Takes a `Look`; True asks the fit to stop soon and keep its best."""
