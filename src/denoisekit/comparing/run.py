"""One after the other on a part of an image, as long as time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from denoisekit.baselines import BASELINES
from denoisekit.comparing.choices import Choice
from denoisekit.comparing.part import Part, as_unit
from denoisekit.engine.denoiser import Denoiser, load, on_unit
from denoisekit.engine.device import resolve_device
from denoisekit.errors import InternalError, as_error, find_by_id
from denoisekit.image import Pixels
from denoisekit.options import Options
from denoisekit.ranges import Floats, Range
from denoisekit.ranking import Denoise, estimate_psnr, spread_crops

HOPELESS = 4.0
"""Times the time that is left, from which what is expected is not even loaded to be timed."""

BOXES = 4
"""Most boxes of a plane in which results are judged."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one of them did.

    Attributes
    ----------
    choice : Choice
        Which.
    denoised : tuple of numpy.ndarray
        The planes, (H, W, C) float32 on 0..1.
    seconds : float
        It took, all planes together, loading not counted.
    memory : int
        Bytes it took at most, beside those taken before.
    again : callable
        Does the same to any (H, W, C) float32 picture on 0..1.
    facts : dict
        ``weights_sha256``, ``device``, ``precision`` of a network.
    score : float
        What `judge` finds, PSNR in dB; not a number before.
    """

    choice: Choice
    denoised: tuple[Floats, ...]
    seconds: float
    memory: int
    again: Denoise
    facts: dict[str, Any]
    score: float = math.nan


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not run, and why, in a few words; the error, where it is a bug."""

    choice: Choice
    reason: str
    bug: InternalError | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How to run.

    Attributes
    ----------
    seconds : float or None
        Until all are done, about; the first is run whatever it takes. None: all are run.
    device, precision, range : str
        As in `denoisekit.options.Options`.
    """

    seconds: float | None = None
    device: str = "auto"
    precision: str = "auto"
    range: str = "auto"


def compare(
    part: Part,
    choices: Sequence[Choice],
    scale: Range,
    limits: Limits,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Result | Skipped]:
    """Run one after the other, as long as time allows.

    Parameters
    ----------
    part : Part
        Of the noisy image.
    choices : sequence of Choice
        What is compared; with a time, the cheapest should come first.
    scale : Range
        File values of black and white, those of the whole image.
    limits : Limits
        How.
    clock : callable
        Gives seconds.

    Yields
    ------
    Result or Skipped
        For each in its turn.

    Raises
    ------
    DenoisekitError
        The only one, or one that was asked for, cannot be run.
    """
    noisy = as_unit(part.pixels(), part.info, scale)
    began, rate, ran = clock(), 0.0, False
    pixels = part.crop.width * part.crop.height * len(part.planes)
    for choice in choices:
        left = math.inf
        if limits.seconds is not None and ran:
            left = limits.seconds - (clock() - began)
        guess = choice.flop * pixels / rate if rate else 0.0
        if left <= 0 or guess > HOPELESS * left:
            yield Skipped(choice, _too_long(guess))
            continue
        try:
            runner = _Runner(choice, part, noisy, scale, limits)
            expected = runner.seconds() if left < math.inf else 0.0
            if expected > left:
                yield Skipped(choice, _too_long(expected))
                continue
            result = runner.run()
        except Exception as error:
            told = as_error(error, choice.id)
            if isinstance(told, InternalError):
                yield Skipped(choice, told.message, told)
            elif limits.seconds is None:
                raise told from error
            else:
                yield Skipped(choice, told.message)
            continue
        ran = True
        rate = max(rate, choice.flop * pixels / max(result.seconds, 1e-3))
        yield result


def judge(noisy: Sequence[Floats], results: Sequence[Result]) -> tuple[float, list[Result]]:
    """Estimate how good results are; see `denoisekit.ranking`.

    Parameters
    ----------
    noisy : sequence of numpy.ndarray
        The planes of the noisy part, (H, W, C) float32 on 0..1.
    results : sequence of Result
        What was made of them; each way is run on a few boxes more.

    Returns
    -------
    noisy : float
        PSNR in dB of a noisy image like this one.
    results : list of Result
        With their scores, the best first.
    """
    crops = [
        (index, where)
        for index, plane in enumerate(noisy)
        for where in spread_crops(plane.shape[0], plane.shape[1], BOXES)
    ]
    own, found = estimate_psnr(
        [noisy[index][where] for index, where in crops],
        [[result.denoised[index][where] for index, where in crops] for result in results],
        [result.again for result in results],
    )
    scored = [replace(one, score=score) for one, score in zip(results, found, strict=True)]
    return own, sorted(scored, key=lambda result: -result.score)


def _too_long(seconds: float) -> str:
    return f"would take about {seconds:.0f} s" if seconds >= 1 else "no time was left"


class _Runner:
    """One of them, ready to run."""

    def __init__(
        self, choice: Choice, part: Part, noisy: list[Floats], scale: Range, limits: Limits
    ) -> None:
        self.choice, self.part, self.noisy, self.scale = choice, part, noisy, scale
        self.denoiser: Denoiser | None = None
        if choice.weights is None:
            self.device = resolve_device("cpu")
            return
        options = Options(
            method=choice.method,
            weights=choice.weights,
            strength=None,
            range=limits.range,
            device=limits.device,
            precision=limits.precision,
        )
        self.denoiser = load(options, allow_download=False)
        self.device = self.denoiser.device
        if self.denoiser.options.range == limits.range:
            # Weights fitted to one image bring their own; else that of the whole image.
            text = f"{scale.low!r},{scale.high!r}"
            self.denoiser.options = replace(self.denoiser.options, range=text)

    def seconds(self) -> float:
        """Return how long it will take; 0 where that is little or not known."""
        from denoisekit.engine.timing import estimate_seconds, measure_work

        if self.denoiser is None:
            return 0.0
        work = measure_work(self.denoiser, [self.part.info])
        return estimate_seconds(self.denoiser, work) or 0.0

    def run(self) -> Result:
        """Denoise."""
        from denoisekit.bench.probe import peak_memory
        from denoisekit.engine.device import describe_device

        denoised: list[Floats] = []
        seconds = 0.0

        def work() -> None:
            nonlocal seconds
            began = time.perf_counter()
            denoised.extend(self._denoise())
            seconds = time.perf_counter() - began

        memory = peak_memory(self.device, work)
        facts: dict[str, Any] = {"device": describe_device(self.device)}
        if self.denoiser is not None:
            facts["precision"] = self.denoiser.precision
            facts["weights_sha256"] = self.denoiser.weights.sha256
        return Result(self.choice, tuple(denoised), seconds, memory, self._again, facts)

    def _again(self, noisy: Floats) -> Floats:
        if self.denoiser is None:
            return np.asarray(
                find_by_id("baseline", self.choice.method, BASELINES).run(noisy, 0), np.float32
            )
        if self.part.info.colour == "rgb":
            return on_unit(self.denoiser)(noisy, axes="YXS")
        # Each channel is a picture of its own.
        return np.moveaxis(on_unit(self.denoiser)(np.moveaxis(noisy, -1, 0), axes="CYX"), 0, -1)

    def _denoise(self) -> list[Floats]:
        if self.denoiser is None:
            return [self._again(plane) for plane in self.noisy]
        info = self.part.info
        shape = (info.planes, info.height, info.width, info.samples)
        pixels = np.empty(shape, info.dtype)

        def write(plane: int, top: int, rows: Pixels) -> None:
            pixels[plane, top : top + len(rows)] = rows

        self.denoiser.run(self.part, write)
        return as_unit(list(pixels), info, self.scale)
