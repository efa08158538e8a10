"""A run that fits a time and the memory: the largest network and patches that will learn in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from denoisekit.engine.device import available_memory
from denoisekit.errors import OutOfMemory, UsageError
from denoisekit.methods import MethodInfo
from denoisekit.options import TrainOptions
from denoisekit.training.config import TIME_SHARE, Config, stages_of
from denoisekit.training.cost import Cost

SCALES = (
    (1.0, 1.0, 1.0),
    (1.0, 0.5, 0.5),
    (0.5, 0.5, 0.5),
    (0.5, 0.5, 0.25),
    (0.25, 0.5, 0.25),
    (0.25, 0.25, 0.125),
    (0.125, 0.25, 0.125),
    (0.125, 0.125, 0.0),
)
"""Of width, patch and batch as published, the largest first."""

LEAST_PATCH = 32
"""Side below which a patch shows too little, about."""

LEAST_WIDTH = 8
"""Features below which a network learns too little."""

LEARN_STEPS = 500
"""Steps of a stage that must fit, for a network to learn anything: small ones come to most of what
they will in a few thousand."""

MEMORY_SHARE = 0.8
"""Part of the free memory that a run may plan for."""

PLANNING_SHARE = 0.2
"""Part of the time after which no larger network is tried."""

Resolve = Callable[[TrainOptions], Config]
Measure = Callable[[Config], list[Cost]]


def plan(
    method: MethodInfo, asked: TrainOptions, resolve: Resolve, measure: Measure, began: float
) -> tuple[Config, list[Cost]]:
    """Choose sizes with which a run learns something in its time, and plan its steps.

    What was asked for is never changed. The smallest sizes are measured, what larger ones cost
    follows from their operations, and the largest that fit are measured too.

    Parameters
    ----------
    method : MethodInfo
        What is trained.
    asked : TrainOptions
        What the user wants; its limit is above 0.
    resolve : callable
        Makes a run of what is asked for.
    measure : callable
        Measures the stages of a run.
    began : float
        When the time began, of `time.monotonic`.

    Returns
    -------
    (Config, list of Cost)
        The run with its steps, and what a step of each stage costs.

    Raises
    ------
    OutOfMemory
        Not even the smallest sizes fit.
    """
    *larger, smallest = _choices(method, asked, resolve)
    costs = measure(smallest)
    for config in larger:
        left = asked.limit - (time.monotonic() - began)
        if left < (1 - PLANNING_SHARE) * asked.limit:
            break
        guess = _predicted(method, smallest, costs, config)
        if not _fits(config, guess, left):
            continue
        try:
            found = measure(config)
        except OutOfMemory:
            continue
        if _fits(config, found, left):
            smallest, costs = config, found
            break
    return smallest, costs


def _choices(method: MethodInfo, asked: TrainOptions, resolve: Resolve) -> list[Config]:
    """Return runs of all sizes that may be chosen, the largest first."""
    found = [resolve(asked)]
    whole = found[0]
    free = not (asked.teacher or asked.weights or asked.network)
    for width, patch, batch in SCALES[1:]:
        changes: dict[str, Any] = {}
        if free and isinstance(method.config.get("width"), int):
            least = min(LEAST_WIDTH, method.config["width"])
            wide = max(least, int(method.config["width"] * width) // 8 * 8)
            changes["network"] = {"width": wide}
        try:
            config = resolve(replace(asked, **changes))
            config = _smaller(method, asked, config, patch, batch)
        except UsageError:  # no network has that width
            continue
        if config not in found:
            found.append(config)
    return found if len(found) > 1 else [whole]


def _smaller(
    method: MethodInfo, asked: TrainOptions, config: Config, patch: float, batch: float
) -> Config:
    """Return a run with these parts of patch and batch, unless they were asked for."""
    stages = []
    for stage, sizes in stages_of(method, config):
        side, pictures = sizes.patch, sizes.batch
        if asked.patch is None:
            least = -(-LEAST_PATCH // stage.multiple) * stage.multiple
            side = int(side * patch) // stage.multiple * stage.multiple
            side = min(sizes.patch, max(side, least))
        if asked.batch is None:
            pictures = max(1, int(pictures * batch))
        stages.append(replace(sizes, patch=side, batch=pictures))
    return replace(config, stages=tuple(stages))


def _predicted(
    method: MethodInfo, small: Config, costs: Sequence[Cost], large: Config
) -> list[Cost]:
    """Return what a larger run costs, by that of a small one; of memory rather too much."""
    found = []
    pairs = zip(stages_of(method, small), stages_of(method, large), costs, strict=True)
    for (stage, sizes), (other, larger), cost in pairs:
        one, two = (
            s.batch * s.patch**2 * method.traits(c.config, method.choose()).flop(s.patch**2)
            for c, s in ((stage, sizes), (other, larger))
        )
        wider = other.config.get("width", 1) / stage.config.get("width", 1)
        pixels = larger.batch * larger.patch**2 / (sizes.batch * sizes.patch**2)
        found.append(Cost(cost.seconds * two / one, int(cost.bytes * max(1.0, wider * pixels)), 0))
    return found


def _fits(config: Config, costs: Sequence[Cost], seconds: float) -> bool:
    steps = (min(LEARN_STEPS, sizes.steps) for sizes in config.stages)
    need = sum(cost.seconds * count for cost, count in zip(costs, steps, strict=True))
    most = MEMORY_SHARE * available_memory()
    return need <= TIME_SHARE * seconds and max(cost.bytes for cost in costs) <= most
