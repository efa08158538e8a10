"""SS-BSN: a blind-spot network with self-similarity attention, and random-replacing refinement.

Han et al., "SS-BSN: Attentive Blind-Spot Network for Self-Supervised Denoising with
Nonlocal Self-Similarity", IJCAI 2023. Trained on noisy images alone, with pixel-shuffle
down-sampling by 5 to break the correlation of the noise; denoises with 2, to keep
detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from denoisekit.limits import Limits
from denoisekit.methods import blind_spot
from denoisekit.methods.base import Config, MethodInfo, Setting, Settings, Traits
from denoisekit.methods.blind_spot import PD, BlindSpotMethod
from denoisekit.methods.recipe import Batch, Stage, distance, drops

if TYPE_CHECKING:
    from torch import Tensor, nn

    from denoisekit.draws import Draws
    from denoisekit.methods.blind_spot import Pass

PD_TRAINING = 5
"""Pixel-shuffle down-sampling in training."""

PAD = 2
"""Zeros around each phase; reflected pixels around the image in the refinement."""

REPLACED = 0.16
"""Part of the pixels that a round of refinement takes from the noisy image."""

NATIVE = 256
"""Side of the images that the published figures are of."""

RIM = 24
"""Beyond this distance the border of a call changes less than that attention sees less."""

BLEND = 16
"""Width over which neighbouring calls are mixed."""


def _build(config: Config, settings: Settings) -> BlindSpotMethod:
    return BlindSpotMethod(config, partial(_denoise, settings))


def _denoise(settings: Settings, network: Pass, noisy: Tensor, draws: Draws) -> Tensor:
    """Denoise by phases, then refine results in which some pixels are replaced by noisy ones."""
    import torch

    from denoisekit.nets.blind_spot import from_mosaic, to_mosaic

    rounds = int(settings["refine_rounds"])
    _, channels, height, width = noisy.shape
    first = from_mosaic(network(to_mosaic(noisy, PD, PAD)), PD, PAD)
    if not rounds:
        return first
    total = torch.zeros_like(first)
    for step in range(rounds):
        drawn = torch.from_numpy(draws.uniform(step, (channels, height, width)))
        mixed = torch.where(drawn.to(noisy.device) < settings["replace_p"], noisy, first)
        total += network(_reflected(mixed, PAD))[:, :, PAD:-PAD, PAD:-PAD]
    return total / rounds


def _reflected(image: Tensor, pad: int) -> Tensor:
    """Pad by reflection; an image smaller than the padding is reflected again and again."""
    import torch.nn.functional as F

    smallest = min(image.shape[2:])
    while pad:
        step = min(pad, smallest - 1)
        image = F.pad(image, (step, step, step, step), mode="reflect")
        pad -= step
    return image


def training_loss(net: nn.Module, noisy: Tensor) -> Tensor:
    """Return the mean absolute difference to the noisy images themselves.

    Parameters
    ----------
    net : BlindSpotNet
        In training.
    noisy : torch.Tensor
        (N, C, H, W) on 0..255, H and W multiples of `PD_TRAINING`.

    Returns
    -------
    torch.Tensor
        Scalar.
    """
    from denoisekit.nets.blind_spot import from_mosaic, to_mosaic

    denoised = from_mosaic(net(to_mosaic(noisy, PD_TRAINING, PAD)), PD_TRAINING, PAD)
    loss: Tensor = (denoised - noisy).abs().mean()
    return loss


def _recipe(config: Config, paired: bool) -> tuple[Stage, ...]:
    """Return the stage of the paper, or one on pairs."""
    if paired:
        # The patch of the paper, rounded.
        return (blind_spot.paired_stage(config, _paired_loss, steps=120_000, batch=4, patch=120),)
    late = drops(0.1, 0.8)
    return (Stage("noisy", config, _loss, 122_700, 4, 120, schedule=late, multiple=PD_TRAINING),)


def _loss(net: nn.Module, batch: Batch) -> Tensor:
    return training_loss(net, batch.noisy)


def _paired_loss(net: nn.Module, batch: Batch) -> Tensor:
    """Compare the first pass and a round of refinement with the clean pictures."""
    import torch

    from denoisekit.nets.blind_spot import from_mosaic, to_mosaic

    noisy, draw = batch.noisy, batch.generator
    first = from_mosaic(net(to_mosaic(noisy, PD, PAD)), PD, PAD)
    drawn = torch.rand(noisy.shape, generator=draw, device=noisy.device)
    mixed = torch.where(drawn < REPLACED, noisy, first.detach())
    refined = net(_reflected(mixed, PAD))[:, :, PAD:-PAD, PAD:-PAD]
    return distance(first, batch) + distance(refined, batch)


def _traits(config: Config, settings: Settings) -> Traits:
    width = float(config["width"])
    passes = 1 + int(settings["refine_rounds"])
    # In each sub-grid every pixel meets every other, twice: similarity, then average.
    steps = [config["grid"] * stride for stride in blind_spot.STRIDES]
    pairs = sum(4 / step**2 for step in steps) * config["width"]
    attention = config["blocks"].count("attention") * pairs
    return Traits(
        limits=Limits(multiple_of=PD, align=PD, halo=RIM, native=NATIVE, blend=BLEND),
        flop_per_pixel=passes * blind_spot.flop_per_pixel(config),
        flop_per_pair=passes * attention,
        bytes_per_pixel={"fp32": 15.0 * width, "bf16": 12.0 * width, "fp16": 19.0 * width},
        channels=config["channels"],
    )


def _infer_config(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of an official checkpoint, by its keys."""
    inner = {key.removeprefix("bsn."): shape for key, shape in shapes.items()}
    config = blind_spot.infer_config(inner)
    if config is None or "attention" not in config["blocks"]:
        return None
    # The sub-grids leave no trace in the weights: those of the paper.
    return {**config, "grid": 2}


def _map_key(key: str, config: Config) -> str:
    return blind_spot.map_key(key.removeprefix("bsn."), config)


INFO = MethodInfo(
    id="ssbsn",
    title="SS-BSN (IJCAI 2023), blind-spot network with self-similarity attention",
    summary="looks for pixels alike all over a tile; nine passes, the slowest",
    best_for="photographs with strong noise and repeating texture",
    citation=(
        "Han et al., SS-BSN: Attentive Blind-Spot Network for Self-Supervised Denoising with "
        "Nonlocal Self-Similarity, IJCAI 2023"
    ),
    scale=255.0,
    config={
        "net": "blind_spot",
        "channels": 3,
        "width": 128,
        "blocks": ["double"] * 6 + ["attention"] * 3,
        "grid": 2,
    },
    default_weights=("ssbsn.sidd", "ssbsn.camera"),
    traits=_traits,
    build=_build,
    infer_config=_infer_config,
    map_key=_map_key,
    settings=(
        Setting("refine_rounds", 8, "rounds of random-replacing refinement; 0: none", 0, 64),
        Setting(
            "replace_p", REPLACED, "part of the pixels that a round takes from the noisy image"
        ),
    ),
    recipe=_recipe,
    initialise=blind_spot.initialise,
)
