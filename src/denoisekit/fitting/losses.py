"""What a plain network learns from, given one noisy image: functions of a network and a batch.

They draw from the batch's generator alone, as the losses of the methods do.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from denoisekit.methods import Batch
from denoisekit.methods.pd import to_batch
from denoisekit.methods.sdap import draw_order, sub_samples

Loss = Callable[[Any, Batch], Tensor]

_NEIGHBOURS = tuple(step for step in product((-1, 0, 1), repeat=2) if step != (0, 0))

MASK_SPACING = 4
"""Distance between masked windows, in their sides."""


def sub_sampled(cell: int) -> Loss:
    """Return the loss of SDAP: each random sub-sample tells the next.

    Parameters
    ----------
    cell : int
        Side of the cells that give one pixel to each sub-sample: as far as noise is
        correlated, or a little further.
    """

    def loss(net: Any, batch: Batch) -> Tensor:
        number, channels, height, width = batch.noisy.shape
        order = draw_order((number, channels, height, width), batch.generator, cell)
        subs = sub_samples(batch.noisy, order, cell)
        denoised = net(subs.flatten(0, 1)).view_as(subs)
        mean: Tensor = (denoised - subs.roll(-1, 0)).abs().mean()
        return mean

    return loss


def paired(pd: int, *, absolute: bool) -> Loss:
    """Return the loss of pairs: every second pixel of a phase, each way, tells a neighbour.

    As in Neighbor2Neighbor and Prompt-SID, but that the input is a regular grid, like the phases
    that the network is used on, and that each target is one of eight neighbours, so that
    their mean lies where the input does. What those methods add to hold results of two
    scales together only slows the learning down on one image.

    Parameters
    ----------
    pd : int
        Down-sampling into phases, in which noise that is correlated is not.
    absolute : bool
        Compare by absolute differences, or by squares, whose best result is the mean.
    """

    def loss(net: Any, batch: Batch) -> Tensor:
        generator = batch.generator

        def drawn(end: int, *shape: int) -> Tensor:
            return torch.randint(end, shape, generator=generator, device=generator.device)

        phases = to_batch(batch.noisy, pd)
        number, channels, height, width = phases.shape
        rows, columns = (height - 2) // 2, (width - 2) // 2
        top, left = (1 + int(drawn(2, 1)) for _ in range(2))

        def grid(down: int, right: int) -> Tensor:
            return phases[:, :, top + down :: 2, left + right :: 2][:, :, :rows, :columns]

        around = torch.stack([grid(*step) for step in _NEIGHBOURS])
        which = drawn(len(_NEIGHBOURS), 1, number, 1, rows, columns)
        target = around.gather(0, which.expand(-1, -1, channels, -1, -1))[0]
        wrong = net(grid(0, 0)) - target
        mean: Tensor = wrong.abs().mean() if absolute else wrong.square().mean()
        return mean

    return loss


def masked(reach: int) -> Loss:
    """Return the loss of pixels that a network has to tell from what lies around them.

    As in Krull et al., "Noise2Void", CVPR 2019, but that with each pixel goes all that its noise is
    correlated with: a window is overwritten with the one beside it.

    Parameters
    ----------
    reach : int
        Pixels around that go too.
    """
    window = 2 * reach + 1
    step = MASK_SPACING * window

    def loss(net: Any, batch: Batch) -> Tensor:
        def drawn(end: int) -> int:
            device = batch.generator.device
            return int(torch.randint(end, (1,), generator=batch.generator, device=device))

        noisy = batch.noisy
        mask = torch.zeros_like(noisy[:1, :1])
        mask[
            :,
            :,
            reach + drawn(step) : -reach or None : step,
            reach + drawn(step) : -reach or None : step,
        ] = 1
        covered = F.max_pool2d(mask, window, 1, reach) > 0
        beside = noisy.roll(window if drawn(2) else -window, 2 + drawn(2))
        wrong = net(torch.where(covered, beside, noisy)) - noisy
        mean: Tensor = (wrong.abs() * mask).sum() / (mask.sum() * noisy.shape[0] * noisy.shape[1])
        return mean

    return loss
