"""What fits into a time and the memory, measured with a step or two: sizes, steps, threads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from denoisekit.engine.device import CALL_BYTES, available_memory
from denoisekit.errors import OutOfMemory, UsageError
from denoisekit.learn.config import TIME_SHARE, Config, stages_of
from denoisekit.learn.crops import Pair
from denoisekit.learn.trainee import ProcessGroup, Trainee, new_network
from denoisekit.methods import MethodInfo, Stage
from denoisekit.options import TrainOptions

# Threads.

CALLS = 4
"""Calls whose mean counts: one that had to wait tells what is to come."""

THREADS_GAIN = 0.8
"""What twice as many threads must take, of the time of half as many, to be worth it: less than
that is chance, and they are what suffers from other programs."""


@contextmanager
def fastest_threads(device: torch.device) -> Iterator[None]:
    """Let torch use as many threads on a CPU as are fastest now, measured in half a second.

    Beside one other program a step of all threads can take ten times as long as of one thread.
    """
    load_torch()
    before = torch.get_num_threads()
    if device.type == "cpu" and before > 1:
        best, least = before, seconds_of_layer(before)
        while best > 1 and THREADS_GAIN * (fewer := seconds_of_layer(best // 2)) <= least:
            best, least = best // 2, fewer
        torch.set_num_threads(best)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_torch() -> None:
    """Take a step of Adam: with the first one torch loads a good part of itself.

    That takes one to ten seconds, which must not come after the time was planned.
    """
    number = torch.zeros(1, requires_grad=True)
    number.sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.Adam([number]).step()


def seconds_of_layer(threads: int) -> float:
    """Return how long a layer takes there and back, as those of small networks."""
    torch.set_num_threads(threads)
    layer = torch.nn.functional.conv2d
    patch, weight = torch.ones(1, 32, 128, 128), torch.ones(32, 32, 3, 3, requires_grad=True)
    taken = []
    for _ in range(1 + CALLS):  # the first is not believed
        began = time.perf_counter()
        layer(patch, weight, padding=1).mean().backward()  # type: ignore[no-untyped-call]
        taken.append(time.perf_counter() - began)
    return sum(taken[1:]) / CALLS


# What a step costs.

BELIEVED = 0.5
"""Seconds that steps must take together for their speed to be believed."""

LONG = 2.0
"""Seconds of a step with one crop from which a whole batch is not tried."""

SLACK = 1.3
"""What a step takes of what the backward pass keeps, measured on all networks: 1.0 to 1.3."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage costs.

    Attributes
    ----------
    seconds : float
        A step.
    bytes : int
        Most memory, of network, optimiser and a step.
    parameters : int
        Numbers that are learned.
    """

    seconds: float
    bytes: int
    parameters: int


def measure_cost(
    method: MethodInfo,
    stage: Stage,
    group: ProcessGroup,
    precision: str,
    *,
    teacher: Stage | None,
    paired: bool,
) -> Cost:
    """Measure what a step costs, on images of noise.

    Parameters
    ----------
    method, stage, group, precision
        As for `Trainee`.
    teacher : Stage or None
        The stage whose network teaches this one's.
    paired : bool
        Whether batches come with clean images.

    Raises
    ------
    OutOfMemory
        A step does not fit in memory.
    """
    device = group.device
    trainee = Trainee(method, stage, ProcessGroup(0, 1, device), precision=precision)
    if teacher is not None:
        trainee.teacher = new_network(method, teacher.config, 0).to(device).requires_grad_(False)
    channels = method.traits(stage.config, method.choose()).channels

    def noise(count: int) -> Pair:
        shape = (count, channels, stage.patch, stage.patch)
        image = np.random.default_rng(0).random(shape, np.float32)
        return image, image if paired else None

    def timed(pair: Pair) -> float:
        began = time.perf_counter()
        float(trainee.step(0, pair, 0.0))
        return time.perf_counter() - began

    batch, need = max(1, stage.batch // group.size), 0
    load_torch()
    try:
        per_crop = _bytes_of_backward(trainee, noise(1))
        seconds = timed(noise(1))  # the first of all also paid for what libraries set up
        copies = 4 + (1 if stage.average else 0)  # weights, gradient, two of Adam, average
        need = int(CALL_BYTES + copies * 4 * trainee.parameters() + SLACK * batch * per_crop)
        if device.type == "cpu" and need > (free := available_memory()):
            raise _too_large(need, free)
        if seconds > LONG:
            return Cost(seconds * batch, need, trainee.parameters())
        timed(noise(batch))  # the first of a size also pays for what libraries set up
        taken: list[float] = []
        while not taken or sum(taken) < BELIEVED:
            taken.append(timed(noise(batch)))
    except torch.OutOfMemoryError as error:
        raise _too_large(need, torch.cuda.mem_get_info(device)[0]) from error
    return Cost(sorted(taken)[len(taken) // 2], need, trainee.parameters())


def _bytes_of_backward(trainee: Trainee, pair: Pair) -> int:
    """Return the bytes that the backward pass of a step keeps."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        float(trainee.step(0, pair, 0.0))
    return sum(kept.values())


def _too_large(need: int, free: int) -> OutOfMemory:
    return OutOfMemory(
        f"a step needs {f'about {need / 2**30:.1f} GiB' if need else 'too much'}, and "
        f"{free / 2**30:.1f} GiB are free",
        "give a smaller --batch or --patch",
    )


# The sizes of a run of `train`.

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


def plan_run(
    method: MethodInfo,
    asked: TrainOptions,
    resolve: Callable[[TrainOptions], Config],
    measure: Callable[[Config], list[Cost]],
    began: float,
) -> tuple[Config, list[Cost]]:
    """Choose sizes with which a run learns something in its time.

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
        The run, and what a step of each stage costs.

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
        if not _fits(config, _predicted(method, smallest, costs, config), left):
            continue
        try:
            found = measure(config)
        except OutOfMemory:
            continue
        if _fits(config, found, left):
            return config, found
    return smallest, costs


def _choices(
    method: MethodInfo, asked: TrainOptions, resolve: Callable[[TrainOptions], Config]
) -> list[Config]:
    """Return runs of all sizes that may be chosen, the largest first."""
    found = [resolve(asked)]
    free = not (asked.teacher or asked.weights or asked.network)
    for width, patch, batch in SCALES[1:]:
        changes: dict[str, Any] = {}
        if free and isinstance(method.config.get("width"), int):
            least = min(LEAST_WIDTH, method.config["width"])
            changes["network"] = {"width": max(least, int(method.config["width"] * width) // 8 * 8)}
        try:
            config = resolve(replace(asked, **changes))
        except UsageError:  # no network has that width
            continue
        stages = []
        for stage, sizes in zip(stages_of(method, config), config.stages, strict=True):
            side, count = sizes.patch, sizes.batch
            if asked.patch is None:
                least = -(-LEAST_PATCH // stage.multiple) * stage.multiple
                side = min(side, max(int(side * patch) // stage.multiple * stage.multiple, least))
            if asked.batch is None:
                count = max(1, int(count * batch))
            stages.append(replace(sizes, patch=side, batch=count))
        config = replace(config, stages=tuple(stages))
        if config not in found:
            found.append(config)
    return found


def _predicted(
    method: MethodInfo, small: Config, costs: Sequence[Cost], large: Config
) -> list[Cost]:
    """Return what a larger run costs, by that of a small one; of memory rather too much."""
    found = []
    pairs = zip(stages_of(method, small), stages_of(method, large), costs, strict=True)
    for stage, larger, cost in pairs:
        one, two = (
            s.batch * s.patch**2 * method.traits(s.config, method.choose()).flop(s.patch**2)
            for s in (stage, larger)
        )
        wider = larger.config.get("width", 1) / stage.config.get("width", 1)
        pixels = larger.batch * larger.patch**2 / (stage.batch * stage.patch**2)
        found.append(Cost(cost.seconds * two / one, int(cost.bytes * max(1.0, wider * pixels)), 0))
    return found


def _fits(config: Config, costs: Sequence[Cost], seconds: float) -> bool:
    steps = (min(LEARN_STEPS, sizes.steps) for sizes in config.stages)
    need = sum(cost.seconds * count for cost, count in zip(costs, steps, strict=True))
    most = MEMORY_SHARE * available_memory()
    return need <= TIME_SHARE * seconds and max(cost.bytes for cost in costs) <= most


# The sizes of the networks of a fit.

WANTED_STEPS = 800
"""Steps after which a network has learned most of what it will: with time for more, a larger
one is taken, then several."""

LEAST_STEPS = 200
"""Steps without which a network has hardly learned anything."""

WIDTH_COST = 1.6
"""A network of twice the width takes 2 to this power the time of a step."""

MEMBERS = 3
"""Most networks whose mean is the result."""


def choose_width(
    widths: Sequence[int], measured: int, seconds: float, left: float
) -> tuple[int, int, float]:
    """Choose the size of a network by what a step of one of them takes.

    Parameters
    ----------
    widths : sequence of int
        To choose from, the smallest first.
    measured : int
        The width that was measured.
    seconds : float
        What a step of it takes.
    left : float
        Seconds to learn in.

    Returns
    -------
    width, members : int
        Of the network, and how many of them.
    least : float
        Seconds without which one learns hardly anything.
    """
    each = {width: seconds * math.pow(width / measured, WIDTH_COST) for width in widths}
    fitting = [width for width in widths if left / each[width] >= WANTED_STEPS]
    width = max(fitting, default=min(widths))
    members = int(left / each[width] / WANTED_STEPS) if width == max(widths) else 1
    return width, max(1, min(MEMBERS, members)), LEAST_STEPS * each[width]
