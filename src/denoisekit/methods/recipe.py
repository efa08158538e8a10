"""How a network is trained: data and a loss. No torch until a loss is computed.

A method says its recipe as a tuple of `Stage`; the loop in `denoisekit.learn` does
the rest. Nothing of a stage depends on where, how fast or on what pictures it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loss is computed of.

    Attributes
    ----------
    noisy : Tensor
        (N, C, H, W) float32 in the method's own scale.
    generator : torch.Generator
        Source of all that is drawn, on the device of the batch; its seed is the step's.
    clean : Tensor or None
        The same pictures without noise, where the user has them.
    teacher : nn.Module or None
        The network of the stage before, where that is another one than this stage's. No
        gradient is kept for it.
    white : float
        Value of white in the method's scale.
    """

    noisy: Tensor
    generator: torch.Generator
    clean: Tensor | None = None
    teacher: nn.Module | None = None
    white: float = 1.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One network trained in one way.

    A stage goes on with the weights of the stage before if that trained a network of the
    same configuration; otherwise that network is its teacher.

    Attributes
    ----------
    name : str
        One word.
    config : mapping
        Configuration of the network it trains.
    loss : callable
        ``loss(net, batch)`` returns a scalar with a gradient.
    steps, batch, patch : int
        As published; batch is of all devices together, patch the side of a crop.
    rate : float
        Of Adam, at the start.
    betas : (float, float)
        Of Adam.
    schedule : callable
        ``schedule(progress)`` returns what the rate is multiplied by, 0 <= progress < 1.
    average : float
        Decay of the moving average of the weights, which is what is kept; 0: no average.
    multiple : int
        The patch must be divisible by this.
    """

    name: str
    config: Mapping[str, Any]
    loss: Callable[[Any, Batch], Tensor]
    steps: int
    batch: int
    patch: int
    rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Callable[[float], float] = lambda progress: 1.0
    average: float = 0.0
    multiple: int = 1


def cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine."""
    return 0.5 + 0.5 * math.cos(math.pi * progress)


def drops(factor: float, *places: float) -> Callable[[float], float]:
    """Return the schedule that multiplies the rate by ``factor`` at each of these places."""
    return lambda progress: factor ** sum(progress >= place for place in places)


AVERAGE = 0.999
"""Decay of the moving average of weights that are trained on pairs."""

BEND = 1 / 255
"""Difference, of white, below which the loss of pairs is quadratic: a step of 8 bits."""


def supervised(net: nn.Module, batch: Batch) -> Tensor:
    """Return how far ``net(noisy)`` is from the clean pictures, see `distance`."""
    return distance(net(batch.noisy), batch)


SCALES: Mapping[int, float] = {1: 1.0, 4: 0.5, 16: 0.5}
"""Sides of the squares whose means are compared, and how much each counts. What is left of
strong noise is mottle: three fifths of its energy in phones' pictures are in the means of four
by four pixels, and single pixels hardly tell of it."""


def distance(denoised: Tensor, batch: Batch) -> Tensor:
    """Return the absolute difference to the clean pictures of a batch, of white.

    It is the sum of the mean differences of pixels and of larger squares. Pictures of little
    noise count as much as those of strong noise: the gradient does not depend on the size of a
    difference, as that of the mean square would. Only below `BEND` it fades, or pictures that
    are clean already would disturb all the others.
    """
    import torch
    import torch.nn.functional as F

    assert batch.clean is not None, "a loss of pairs, and no clean pictures"
    error = (denoised.float() - batch.clean) / batch.white
    total = torch.zeros((), device=error.device)
    for side, share in SCALES.items():
        if side <= min(error.shape[-2:]):
            means = F.avg_pool2d(error, side)
            total = total + share * F.smooth_l1_loss(means, torch.zeros_like(means), beta=BEND)
    return total
