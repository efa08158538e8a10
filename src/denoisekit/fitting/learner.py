"""One network learning from one image: steps until a time, looks between them, the best kept."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from denoisekit.draws import Draws
from denoisekit.errors import DenoisekitError
from denoisekit.fitting.material import Held, Material, Renoised
from denoisekit.methods import LoadedMethod, MethodInfo, Stage
from denoisekit.ranges import Floats
from denoisekit.training.config import Sizes
from denoisekit.training.distributed import Crew
from denoisekit.training.step import Trainee

Weights = dict[str, torch.Tensor]

PACE_STEPS = 9, 30
"""First and last steps by which the speed of the machine is judged; the slowest do not count. Few
last ones would end a fit for a moment in which another program was busy."""

LATEST = 2.0
"""Most that a machine is taken to have become slower: beside one other program. More is chance, and
what is left out at the end makes up for it."""

LOOKS = 8
"""How often a network is judged while it learns, at most."""

LOOKING = 0.1
"""Part of the time that this may take."""

MEASURED = 3
"""Steps that are timed before a fit is planned; the first of all is not believed."""


@dataclass(frozen=True, slots=True)
class Span:
    """From when until when a network learns: by the clock, or so many steps.

    Attributes
    ----------
    began, until : float
        Of `time.monotonic`.
    steps : int or None
        Not None: the clock does not count.
    ending : float
        Seconds that what follows was measured to take, before: where steps take longer than
        at first, that will too, and this ends sooner.
    """

    began: float
    until: float
    steps: int | None = None
    ending: float = 0.0

    def progress(self, step: int, late: float = 1.0) -> float:
        """Return how much of it is over after so many steps; 1 or more: all.

        ``late``: how many times as long as at first a step takes now.
        """
        if self.steps is not None:
            return step / self.steps
        now = time.monotonic()
        sooner = (late - 1) * self.ending
        return max(self.part(now - self.began), self.part(now + sooner - self.began))

    def part(self, seconds: float) -> float:
        """Return which part of it this is; 0, where the clock does not count."""
        if self.steps is not None:
            return 0.0
        length = self.until - self.began
        return seconds / length if length > 0 else math.inf


class Pace:
    """How long steps take: at first, and now."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=PACE_STEPS[1])

    def add(self, seconds: float) -> None:
        """Take the time of a step."""
        if len(self._first) < PACE_STEPS[0]:
            self._first.append(seconds)
        self._last.append(seconds)

    @property
    def late(self) -> float:
        """How many times as long as at first they take now; 1 where they do not take longer."""
        if len(self._last) < PACE_STEPS[1]:
            return 1.0
        # Means: where another program has the processor in turns, medians would not tell.
        first, last = (_mean_but_slowest(taken) for taken in (self._first, self._last))
        return max(1.0, min(LATEST, last / max(first, 1e-9)))


def _mean_but_slowest(taken: Collection[float]) -> float:
    kept = sorted(taken)[: len(taken) - max(1, len(taken) // 10)]
    return sum(kept) / len(kept)


@dataclass(frozen=True, slots=True)
class Best:
    """The best weights of a network, and their score; -inf: never judged."""

    weights: Weights
    score: float = -math.inf


class Judge:
    """Denoises boxes with weights, and says how well.

    Parameters
    ----------
    method : MethodInfo
        Whose network.
    config, settings : mapping
        Of the network, and how it is run to be judged.
    held : Held or Renoised
        What it is judged by.
    device : torch.device
        Where it runs.
    """

    def __init__(
        self,
        method: MethodInfo,
        config: Mapping[str, Any],
        settings: Mapping[str, float],
        held: Held | Renoised,
        device: torch.device,
    ) -> None:
        self._method, self._config, self._settings = method, config, settings
        self._held, self._device = held, device

    def score(self, weights: Mapping[str, torch.Tensor]) -> float:
        """Return how well the weights denoise; in dB, against values that are noisy too."""
        return self._held.score(self.denoised(weights))

    def denoised(self, weights: Mapping[str, torch.Tensor]) -> Floats:
        """Return what the weights make of the boxes."""
        loaded = self._method.build(self._config, self._settings)
        loaded.load({key: value.detach().cpu() for key, value in weights.items()})
        loaded.prepare(self._device, "fp32")
        grid = self._method.traits(self._config, self._settings).limits.multiple_of
        return cast("Floats", np.stack([self._denoised(loaded, b, grid) for b in self._held.boxes]))

    def _denoised(self, loaded: LoadedMethod, box: Floats, grid: int) -> Floats:
        """Denoise a box (C, h, w), mirrored to the sides that the network takes."""
        height, width = box.shape[1:]
        padded = np.pad(box, ((0, 0), (0, -height % grid), (0, -width % grid)), "symmetric")
        noisy = torch.from_numpy(padded)[None].to(self._device) * self._method.scale
        denoised = loaded.denoise(noisy, draws=Draws()) / self._method.scale
        return cast("Floats", denoised[0, :, :height, :width].cpu().numpy())


class NotNumbers(DenoisekitError):
    """Nothing was learned, and what there is are no numbers."""


class Learner:
    """A network of a stage, and the patches it learns from.

    Parameters
    ----------
    method, stage : MethodInfo, Stage
        What learns, and how.
    material : Material
        What it learns from; may be exchanged on the way.
    device : torch.device
        Where.
    seed : sequence of int
        Of all that is drawn.

    Attributes
    ----------
    late : float
        How many times as long as its first steps the last ones took.
    """

    def __init__(
        self,
        method: MethodInfo,
        stage: Stage,
        material: Material,
        device: torch.device,
        seed: tuple[int, ...],
    ) -> None:
        self.stage, self.material, self._seed = stage, material, seed
        self.late = 1.0
        sizes = Sizes(stage.name, stage.steps, stage.batch, stage.patch, stage.rate)
        self._trainee = Trainee(
            method, stage, sizes, Crew(0, 1, device), seed, _precision(device), clip=1.0
        )
        if device.type == "cpu" and _precision(device) != "fp32":
            # Faster for 3x3 convolutions, and nothing else changes.
            self._trainee.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Start from these weights."""
        self._trainee.load(weights)

    def step(self, step: int, progress: float) -> float:
        """Take a step and return the loss."""
        draw = np.random.default_rng([*self._seed, step])
        pair = self.material.draw(draw, self.stage.batch, self.stage.patch)
        return float(self._trainee.step(step, pair, progress))

    def weights(self) -> Weights:
        """Return the moving average of the weights, copied."""
        return {key: value.detach().cpu().clone() for key, value in self._trainee.weights().items()}

    def seconds_per_step(self) -> float:
        """Measure; what was learned meanwhile is kept."""
        taken = []
        for _ in range(1 + MEASURED):
            began = time.monotonic()
            self.step(0, 0.0)
            taken.append(time.monotonic() - began)
        return sorted(taken[1:])[MEASURED // 2]

    def run(
        self,
        span: Span,
        judge: Judge,
        best: Best | None,
        tell: Callable[[int, float | None, bool], bool],
    ) -> Best:
        """Learn until the span is over or ``tell`` says stop; return the best weights.

        Parameters
        ----------
        span : Span
            How long.
        judge : Judge
            Scores the weights now and then.
        best : Best or None
            To be bettered.
        tell : callable
            Takes the steps so far, and after a look the score and whether it is the best;
            True: stop soon.

        Raises
        ------
        NotNumbers
            The loss is not a number before anything was judged.
        """
        step, due, looking, stopped = 0, 1, 0.0, False
        best = best or Best({})
        pace = Pace()
        while not stopped and (progress := span.progress(step, pace.late)) < 1:
            began = time.monotonic()
            loss = self.step(step, progress)
            step += 1
            pace.add(time.monotonic() - began)
            self.late = pace.late
            if not math.isfinite(loss):
                if best.score == -math.inf:
                    raise NotNumbers(
                        "the fit came to values that are not numbers",
                        "try another --objective, or --range percentile",
                    )
                return best
            stopped = tell(step, None, False)
            if max(due / LOOKS, span.part(looking) / LOOKING) <= span.progress(step) < 1:
                due = int(span.progress(step) * LOOKS) + 1
                began = time.monotonic()
                best, score = self._look(judge, best)
                looking += time.monotonic() - began
                stopped |= tell(step, score, score == best.score)
        best, score = self._look(judge, best)
        tell(step, score, score == best.score)
        return best

    def _look(self, judge: Judge, best: Best) -> tuple[Best, float]:
        """Judge the weights; return the better ones, and the score of these."""
        weights = self.weights()
        score = judge.score(weights)
        return (Best(weights, score) if score > best.score else best), score


def _precision(device: torch.device) -> str:
    from denoisekit.engine.device import native_bf16

    if device.type == "cuda":
        return "bf16"
    return "bf16" if device.type == "cpu" and native_bf16() else "fp32"
