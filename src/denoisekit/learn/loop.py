"""The one training loop: step after step, and between them loss, validation and checkpoints."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

import torch

from denoisekit.errors import DenoisekitError
from denoisekit.learn.checkpoint import State
from denoisekit.learn.crops import Pair
from denoisekit.learn.trainee import Trainee

TOLD_SECONDS, TOLD_STEPS = 0.5, 100
"""About how often the loss is read, and most steps until then: on a GPU it makes the host wait."""

VALIDATION_SHARE = 0.1
"""Most of the time that goes into validation, where nobody asked how often: some methods take
minutes for what is trained in seconds."""

SAVE_SECONDS = 300.0
"""Time between two checkpoints, where no number of steps is asked for."""

PACE_STEPS = 9, 30
"""First and last steps by which the speed of the machine is judged; the slowest do not count. Few
last ones would end a fit for a moment in which another program was busy."""

LATEST = 2.0
"""Most that a machine is taken to have become slower: beside one other program. More is chance, and
what is left out at the end makes up for it."""

_STOPPED, _OVER = -1, 0
"""Instead of a number of steps until the loss is read again."""


class NotNumbers(DenoisekitError):
    """The loss is not a number."""


class Budget:
    """How long a network learns: so many steps, so many seconds, or what is over first.

    Parameters
    ----------
    steps : int or None
        The rate follows them; None: it follows the time.
    seconds : float
        Since it began, what follows the learning included; infinite: the clock does not count.
    reserve : float
        Seconds of these that what follows takes, as fast as the machine is at first: where steps
        come to take longer, that will too, and the learning ends sooner.
    spent : float
        Seconds since it began.

    Attributes
    ----------
    late : float
        How many times as long as at first steps take now; 1 where they do not take longer.
    """

    def __init__(
        self, steps: int | None, seconds: float = math.inf, reserve: float = 0.0, spent: float = 0.0
    ) -> None:
        self.steps, self.seconds, self.reserve = steps, seconds, reserve
        self._began = time.monotonic() - spent
        self.late = 1.0
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=PACE_STEPS[1])

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def progress(self, step: int) -> float:
        """Return how much of it is over after so many steps; 1 or more: all."""
        return self._time_share() if self.steps is None else step / self.steps

    def over(self, step: int) -> bool:
        """Tell whether it is over after so many steps."""
        return max(self.progress(step), self._time_share()) >= 1

    def _time_share(self) -> float:
        if self.seconds == math.inf:
            return 0.0
        length = self.seconds - self.reserve
        sooner = (self.late - 1) * self.reserve
        return (self.elapsed + sooner) / length if length > 0 else math.inf

    def add(self, seconds: float) -> None:
        """Take the time of a step."""
        if len(self._first) < PACE_STEPS[0]:
            self._first.append(seconds)
        self._last.append(seconds)
        if len(self._last) == PACE_STEPS[1]:
            # Means: where another program has the processor in turns, medians would not tell.
            first, last = (_mean_but_slowest(taken) for taken in (self._first, self._last))
            self.late = max(1.0, min(LATEST, last / max(first, 1e-9)))


def _mean_but_slowest(taken: Collection[float]) -> float:
    kept = sorted(taken)[: len(taken) - max(1, len(taken) // 10)]
    return sum(kept) / len(kept)


class Watcher(Protocol):
    """Who hears of a network that learns, validates it and keeps it."""

    def told(self, step: int, loss: float, seconds: float) -> bool:
        """Hear of the loss, and the seconds that a step takes; return whether to stop."""
        ...

    def validate(self, step: int, due: Collection[str]) -> float | None:
        """Return the score of the weights, the higher the better, if ``validate`` is due."""
        ...

    def keep(self, step: int, score: float, *, best: bool) -> None:
        """Hear of a score; keep the weights if it is the best."""
        ...

    def save(self) -> None:
        """Write a checkpoint, from which learning can be resumed."""
        ...


def learn(
    trainee: Trainee,
    batches: Iterator[Pair],
    budget: Budget,
    state: State,
    watcher: Watcher,
    *,
    every: Mapping[str, int],
    validations: int = 0,
    share: float = VALIDATION_SHARE,
    told_steps: int = 0,
) -> bool:
    """Take steps from where a state stands until the budget is spent.

    Parameters
    ----------
    trainee : Trainee
        Learns; its process group takes the steps together.
    batches : iterator of Pair
        What it learns from, from the next step on.
    budget : Budget
        How long.
    state : State
        Its steps, best score and seconds are kept up to date.
    watcher : Watcher
        Hears of it, validates, writes. Only that of the first process is called.
    every : mapping of str to int
        After how many steps each is due: ``validate``, ``save``, and what else the watcher knows
        to do when it validates; 0: not by steps. Without ``save`` a checkpoint is written every
        `SAVE_SECONDS`.
    validations : int
        Instead of ``every``: how often it is validated, spread evenly.
    share : float
        Most of the time that validation may take.
    told_steps : int
        Most steps until the watcher hears of them; 0: `TOLD_STEPS`.

    Returns
    -------
    bool
        Whether the budget is spent; False: the watcher asked to stop.

    Raises
    ------
    NotNumbers
        The loss is not a number. What was kept before is as it was.
    """
    group, validating, done = trainee.group, 0.0, 0
    counts = {name: steps for name, steps in every.items() if steps}

    def look(due: Collection[str]) -> None:
        score = watcher.validate(state.step, due)
        if score is not None:
            best = state.best is None or score > state.best
            state.best = score if best else state.best
            watcher.keep(state.step, score, best=best)

    pace = int(group.agree(_OVER if budget.progress(state.step) >= 1 else 1))
    saved = mark = time.monotonic()
    while pace > 0:
        ends = [state.step + pace, *(state.step - state.step % n + n for n in counts.values())]
        until = min(ends if budget.steps is None else [*ends, budget.steps])
        losses: list[torch.Tensor] = []
        # Processes look at the clock together, and so at planned steps alone.
        while state.step < until and not (losses and group.size == 1 and budget.over(state.step)):
            progress = budget.progress(state.step)
            losses.append(trainee.step(state.step, next(batches), progress))
            state.step += 1
        loss = group.mean(torch.stack(losses).float().mean())
        if not math.isfinite(loss):
            raise NotNumbers(f"the loss is not a number by step {state.step}")
        seconds, state.seconds = (time.monotonic() - mark) / len(losses), budget.elapsed
        budget.add(seconds)
        pace = max(1, min(told_steps or TOLD_STEPS, int(TOLD_SECONDS / max(seconds, 1e-9))))
        if group.first and watcher.told(state.step, loss, seconds):
            pace = _STOPPED
        # A run that is complete is not stopped.
        if budget.over(state.step):
            pace = _OVER
        pace = int(group.agree(pace))
        if group.first and pace != _OVER:
            due = {name for name, steps in counts.items() if state.step % steps == 0}
            if budget.progress(state.step) * validations >= done + 1:
                due.add("validate")
            if validating > share * budget.elapsed:
                due &= {"save"}
            if due - {"save"}:
                done, began = int(budget.progress(state.step) * validations), time.monotonic()
                look(due)
                validating += time.monotonic() - began
            if "save" not in counts and time.monotonic() - saved > SAVE_SECONDS:
                due.add("save")
            if "save" in due and pace > 0:
                watcher.save()
                saved = time.monotonic()
        mark = time.monotonic()
    if group.first:
        if pace == _OVER:
            look({"validate", *every})
        watcher.save()
    state.seconds = budget.elapsed
    return pace == _OVER
