"""What a plain network learns from, given one noisy image: functions of a network and a batch.

They draw from the batch's generator alone, as the losses of the methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from denoisekit.fitting.moments import Curve
from denoisekit.methods import Batch
from denoisekit.methods.sdap import draw_order, sub_samples
from denoisekit.nets.blind_spot import to_batch
from denoisekit.nets.single import interpolated

Loss = Callable[[Any, Batch], Tensor]

Noise = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""``noise(noisy, denoised, generator)``: other noise like that of an image; all (N, C, H, W)."""

_NEIGHBOURS = tuple(step for step in product((-1, 0, 1), repeat=2) if step != (0, 0))

SHARE = 0.5
"""How much noise is put on what a network sees in `recorrupt`."""


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


def paired(pd: int, *, absolute: bool, bend: float | None = None) -> Loss:
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
    bend : float, optional
        Difference above which squares go on as a straight line.
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
        if absolute or bend is None:
            mean: Tensor = wrong.abs().mean() if absolute else wrong.square().mean()
            return mean
        near = wrong.abs().clamp(max=bend)
        far: Tensor = (near * (2 * wrong.abs() - near)).mean()
        return far

    return loss


def resampled(reach: int) -> Noise:
    """Return a source of noise that is correlated: what was taken away, from a few pixels on.

    There it is as correlated, and in most places as strong; but what it has left of the
    picture lies elsewhere.

    Parameters
    ----------
    reach : int
        Most pixels by which it is moved along either axis.
    """

    def noise(noisy: Tensor, denoised: Tensor, generator: torch.Generator) -> Tensor:
        shift = torch.randint(-reach, reach + 1, (2,), generator=generator, device=generator.device)
        return (noisy - denoised).roll(shift.tolist(), (2, 3))

    return noise


def drawn(variance: Sequence[Curve]) -> Noise:
    """Return a source of Gaussian noise that is independent between pixels.

    Parameters
    ----------
    variance : sequence of Curve
        Over the brightness of the denoised image, of every channel.
    """

    def draw(noisy: Tensor, denoised: Tensor, generator: torch.Generator) -> Tensor:
        channels = [_along(curve, denoised[:, k]) for k, curve in enumerate(variance)]
        normal = torch.randn(noisy.shape, generator=generator, device=generator.device)
        noise: Tensor = torch.stack(channels, 1).sqrt() * normal
        return noise

    return draw


def _along(curve: Curve, brightness: Tensor) -> Tensor:
    """Return the variance at each brightness."""
    nodes: Tensor = torch.tensor(curve).to(brightness)
    middles, variances = nodes.unbind(1)
    if len(middles) == 1:
        return variances.expand(brightness.shape)
    return interpolated(middles, variances, brightness)


def distilled(source: Noise) -> Loss:
    """Return the loss of a network that learns from the result of another one.

    That result is taken for clean, and the noise put on it again. So it follows the
    distillation of Kim et al., "APR-RD", AAAI 2025, in which part of the noise is given back.
    """

    def loss(net: Any, batch: Batch) -> Tensor:
        assert batch.clean is not None
        noise = source(batch.noisy, batch.clean, batch.generator)
        mean: Tensor = (net(batch.clean + noise) - batch.clean).abs().mean()
        return mean

    return loss


def recorrupted(source: Noise) -> Loss:
    """Return the loss of Recorrupted-to-Recorrupted: two versions of an image, noisier.

    With as much noise z as the image has, `recorrupt` makes two whose noise is not
    correlated: one can tell the other, and the network sees all pixels.

    References
    ----------
    Pang et al., "Recorrupted-to-Recorrupted: Unsupervised Deep Learning for Image Denoising",
    CVPR 2021.
    """

    def loss(net: Any, batch: Batch) -> Tensor:
        assert batch.clean is not None
        shown, target = recorrupt(batch.noisy, source(batch.noisy, batch.clean, batch.generator))
        mean: Tensor = (net(shown) - target).square().mean()
        return mean

    return loss


def recorrupt(noisy: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``noisy + a z`` and ``noisy - z / a``; see `recorrupted`."""
    return noisy + SHARE * noise, noisy - noise / SHARE
