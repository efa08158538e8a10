"""What a stage will cost, measured with a step or two before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from denoisekit.engine.device import CALL_BYTES, available_memory
from denoisekit.errors import OutOfMemory
from denoisekit.methods import MethodInfo, Stage
from denoisekit.training.config import Sizes
from denoisekit.training.data import Pair
from denoisekit.training.distributed import Crew
from denoisekit.training.step import Trainee, fresh
from denoisekit.training.threads import load_all

BELIEVED = 0.5
"""Seconds that steps must take together for their speed to be believed."""

LONG = 2.0
"""Seconds of a step with one picture from which a whole batch is not tried."""

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


def measure(
    method: MethodInfo,
    stage: Stage,
    sizes: Sizes,
    crew: Crew,
    precision: str,
    *,
    teacher: Stage | None,
    paired: bool,
) -> Cost:
    """Measure what a step costs, on pictures of noise.

    Parameters
    ----------
    method, stage, sizes, crew, precision
        As for `Trainee`.
    teacher : Stage or None
        The stage whose network teaches this one's.
    paired : bool
        Whether batches come with clean pictures.

    Raises
    ------
    OutOfMemory
        A step does not fit in memory.
    """
    trainee = Trainee(method, stage, sizes, Crew(0, 1, crew.device), precision=precision)
    if teacher is not None:
        trainee.teacher = fresh(method, teacher.config, 0).to(crew.device).requires_grad_(False)
    channels = method.traits(stage.config, method.choose()).channels
    batch = max(1, sizes.batch // crew.size)
    load_all()
    one = _noise(1, channels, sizes.patch, paired=paired)
    try:
        per_picture = _kept(trainee, one)
        began = time.perf_counter()
        float(trainee.step(0, one))  # the first of all also paid for what libraries set up
        seconds = time.perf_counter() - began
    except torch.OutOfMemoryError as error:
        raise _too_large(0, torch.cuda.mem_get_info(crew.device)[0]) from error
    copies = 4 + (1 if stage.average else 0)  # weights, gradient, two of Adam, average
    need = int(CALL_BYTES + copies * 4 * trainee.parameters() + SLACK * batch * per_picture)
    if crew.device.type == "cpu" and need > (free := available_memory()):
        raise _too_large(need, free)
    if seconds > LONG:
        return Cost(seconds * batch, need, trainee.parameters())
    try:
        seconds = _timed(trainee, _noise(batch, channels, sizes.patch, paired=paired))
    except torch.OutOfMemoryError as error:
        raise _too_large(need, torch.cuda.mem_get_info(crew.device)[0]) from error
    return Cost(seconds, need, trainee.parameters())


def _noise(batch: int, channels: int, patch: int, *, paired: bool) -> Pair:
    noise = np.random.default_rng(0).random((batch, channels, patch, patch), np.float32)
    return noise, noise if paired else None


def _kept(trainee: Trainee, pair: Pair) -> int:
    """Return the bytes that the backward pass of one picture keeps."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        float(trainee.step(0, pair))
    return sum(kept.values())


def _timed(trainee: Trainee, pair: Pair) -> float:
    """Return the median of the seconds that steps took."""
    float(trainee.step(0, pair))  # the first of a size also pays for what libraries set up
    taken: list[float] = []
    while not taken or sum(taken) < BELIEVED:
        began = time.perf_counter()
        float(trainee.step(0, pair))
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]


def _too_large(need: int, free: int) -> OutOfMemory:
    return OutOfMemory(
        f"a step needs {f'about {need / 2**30:.1f} GiB' if need else 'too much'}, and "
        f"{free / 2**30:.1f} GiB are free",
        "give a smaller --batch or --patch",
    )
