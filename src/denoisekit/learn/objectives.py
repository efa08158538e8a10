"""What a network learns from, given one noisy image: losses, and the table of objectives.

A loss is a function of a network and a batch. All draw from the batch's generator alone, as
the losses of the methods do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from denoisekit.learn.single_image import Curve, Noise
from denoisekit.methods import Batch, Stage, get_method
from denoisekit.methods.recipe import cosine
from denoisekit.methods.sdap import draw_order, sub_samples
from denoisekit.nets.blind_spot import to_batch
from denoisekit.nets.single import interpolated

Loss = Callable[[Any, Batch], Tensor]

NoiseSource = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""``source(noisy, denoised, generator)``: other noise like that of an image; all (N, C, H, W)."""

NEIGHBOURS = tuple(step for step in product((-1, 0, 1), repeat=2) if step != (0, 0))

SHARE = 0.5
"""How much noise is put on what a network sees in `recorrupt`."""

FAR_OFF = 5.0
"""Deviations of noise beyond which neighbours in a mostly empty image differ for another reason:
few of them would outweigh all others."""

RISE = 0.03
"""Part of the time in which the rate of a plain network rises. At the full rate at once, the
features of a wide one can all become 0 for good: it then returns the image as it is."""

RATE, AVERAGE = 2e-3, 0.99
"""Of networks from scratch, and of the moving average of all networks' weights."""


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

        around = torch.stack([grid(*step) for step in NEIGHBOURS])
        which = drawn(len(NEIGHBOURS), 1, number, 1, rows, columns)
        target = around.gather(0, which.expand(-1, -1, channels, -1, -1))[0]
        wrong = net(grid(0, 0)) - target
        if absolute or bend is None:
            mean: Tensor = wrong.abs().mean() if absolute else wrong.square().mean()
            return mean
        near = wrong.abs().clamp(max=bend)
        far: Tensor = (near * (2 * wrong.abs() - near)).mean()
        return far

    return loss


def resampled(reach: int) -> NoiseSource:
    """Return a source of noise that is correlated: what was taken away, from a few pixels on.

    There it is as correlated, and in most places as strong; but what it has left of the
    image lies elsewhere.

    Parameters
    ----------
    reach : int
        Most pixels by which it is moved along either axis.
    """

    def noise(noisy: Tensor, denoised: Tensor, generator: torch.Generator) -> Tensor:
        shift = torch.randint(-reach, reach + 1, (2,), generator=generator, device=generator.device)
        return (noisy - denoised).roll(shift.tolist(), (2, 3))

    return noise


def gaussian(variance: Sequence[Curve]) -> NoiseSource:
    """Return a source of Gaussian noise that is independent between pixels.

    Parameters
    ----------
    variance : sequence of Curve
        Over the brightness of the denoised image, of every channel.
    """

    def noise(noisy: Tensor, denoised: Tensor, generator: torch.Generator) -> Tensor:
        channels = []
        for channel, curve in enumerate(variance):
            middles, variances = torch.tensor(curve).to(denoised).unbind(1)
            bright = denoised[:, channel]
            one = len(middles) == 1
            channels.append(
                variances.expand(bright.shape) if one else interpolated(middles, variances, bright)
            )
        normal = torch.randn(noisy.shape, generator=generator, device=generator.device)
        drawn: Tensor = torch.stack(channels, 1).sqrt() * normal
        return drawn

    return noise


def distilled(source: NoiseSource) -> Loss:
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


def recorrupted(source: NoiseSource) -> Loss:
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


@dataclass(frozen=True, slots=True)
class Objective:
    """What a network learns from.

    Attributes
    ----------
    id : str
        Its name.
    method : str
        Id of the method whose network learns.
    stage : callable
        ``stage(noise, channels, width)`` says how.
    widths : tuple of int
        Sizes of the network to choose from, the smallest first.
    validated : mapping
        Settings of the method with which it is validated while it learns: the quick ones.
    """

    id: str
    method: str
    stage: Callable[[Noise, int, int], Stage]
    widths: tuple[int, ...]
    validated: Mapping[str, object] = field(default_factory=dict)


def find_objective(name: str) -> Objective:
    """Return the objective of this name; ``auto`` is the first."""
    return next(known for known in OBJECTIVES if name in (known.id, "auto"))


def _plain(noise: Noise, channels: int, width: int) -> Mapping[str, Any]:
    """Return the plain network that denoises the phases in which this noise is independent."""
    # Measured: of correlated noise a residual network leaves more.
    residual = not noise.correlated
    return {
        **get_method("single").config,
        "channels": channels,
        "width": width,
        "pd": 1 + noise.reach,
        "residual": residual,
        "bent": noise.sparse and residual,
    }


def _from_scratch(name: str, config: Mapping[str, Any], loss: Loss, **sizes: int) -> Stage:
    def rising(progress: float) -> float:
        return cosine(progress) * min(1.0, 0.1 + 0.9 * progress / RISE)

    return Stage(
        name, config, loss, steps=1, rate=RATE, schedule=rising, average=AVERAGE,
        batch=sizes["batch"], patch=sizes["patch"], multiple=sizes["multiple"],
    )  # fmt: skip


def _pairs(noise: Noise, channels: int, width: int) -> Stage:
    config = _plain(noise, channels, width)
    bend = FAR_OFF * noise.sigma if noise.sparse else None
    pd = int(config["pd"])
    loss = paired(pd, absolute=noise.correlated, bend=bend)
    # Few pixels a step, for many steps in little time.
    batch = 2 if pd == 1 else 1
    return _from_scratch("pairs", config, loss, batch=batch, patch=128 * pd, multiple=2 * pd)


def _sdap(noise: Noise, channels: int, width: int) -> Stage:
    # Not less than 4, however short the correlation: what is left of it at 3 is learned.
    cell = max(4, noise.reach + 3) if noise.correlated else 2
    config = _plain(noise, channels, width)
    loss = sub_sampled(cell)
    return _from_scratch("sub-samples", config, loss, batch=1, patch=24 * cell, multiple=cell)


def _published(method: str, patch: int, batch: int, **sizes: Any) -> Callable[..., Stage]:
    """Return the first stage of a method's own recipe, for a small network of it."""

    def stage(noise: Noise, channels: int, width: int) -> Stage:  # noqa: ARG001 - of all noise
        info = get_method(method)
        assert info.recipe is not None
        config = {**sizes, "channels": channels, "width": width}
        if method == "promptsid":
            config = {**info.config, **config, "features": 2 * width}
        return replace(
            info.recipe(config, False)[0], steps=1, schedule=cosine, average=AVERAGE,
            config=config, batch=batch, patch=patch, rate=RATE / 2,
        )  # fmt: skip

    return stage


_PROMPTSID = {"blocks": [1, 2], "heads": [2, 4], "refine_blocks": 1, "encoder_blocks": 1}
_SSBSN = {"net": "blind_spot", "blocks": ["double", "double", "attention"], "grid": 2}

SIZES = (16, 24, 32, 48, 64)
"""Of plain networks."""

OBJECTIVES: tuple[Objective, ...] = (
    # Neighbouring sub-images tell each other, in phases where noise is independent.
    Objective("pairs", "single", _pairs, SIZES),
    # Random sub-samples of the image tell each other.
    Objective("sdap", "single", _sdap, SIZES),
    # As pairs, with a prompt that a diffusion model makes of the whole image.
    Objective("promptsid", "promptsid", _published("promptsid", 64, 2, **_PROMPTSID), (8, 16, 24)),
    # Two versions of the image with pixels exchanged tell each other; blind-spot U-Net.
    Objective("aprrd", "aprrd", _published("aprrd", 128, 1, net="bsn"), (8, 16, 24)),
    # A blind-spot network with attention tells every pixel from others.
    Objective(
        "ssbsn",
        "ssbsn",
        _published("ssbsn", 120, 1, **_SSBSN),
        (16, 32, 48),
        validated={"refine_rounds": 0},
    ),
)
"""All of them; ``auto`` is the first."""
