"""SDAP: a dilated blind-spot network, on the four phases of the image and once more on the whole.

Pan et al., "Random Sub-Samples Generation for Self-Supervised Real Image Denoising",
ICCV 2023. Trained on noisy images alone: random sub-samples of one image are each
other's targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from denoisekit.limits import Limits
from denoisekit.methods import blind_spot
from denoisekit.methods.base import Config, MethodInfo, Setting, Settings, Traits
from denoisekit.methods.blind_spot import PD, BlindSpotMethod
from denoisekit.methods.recipe import Batch, Stage, distance

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from denoisekit.draws import Draws
    from denoisekit.methods.blind_spot import Pass

CELL = 5
"""Side of the cells that sub-samples are drawn from in training."""


def _build(config: Config, settings: Settings) -> BlindSpotMethod:
    return BlindSpotMethod(config, partial(_denoise, settings))


def _denoise(settings: Settings, network: Pass, noisy: Tensor, draws: Draws) -> Tensor:
    from denoisekit.nets.blind_spot import from_batch, to_batch

    denoised = from_batch(network(to_batch(noisy, PD)), PD)
    return network(denoised) if settings["enhance"] else denoised


def draw_order(shape: Sequence[int], generator: torch.Generator, cell: int = CELL) -> Tensor:
    """Draw a permutation of the pixels of every cell.

    Parameters
    ----------
    shape : sequence of int
        Of the noisy batch, (N, C, H, W), H and W multiples of ``cell``.
    generator : torch.Generator
        On the device of the batch.
    cell : int
        Side of the cells.

    Returns
    -------
    torch.Tensor
        (cells, ``cell``²) int64, for `sub_samples`.
    """
    import torch

    cells = shape[0] * (shape[2] // cell) * (shape[3] // cell)
    keys = torch.rand(cells, cell**2, generator=generator, device=generator.device)
    return keys.argsort(1)


def sub_samples(noisy: Tensor, order: Tensor, cell: int = CELL) -> Tensor:
    """Cut a batch into random sub-samples (random sub-samples generation, RSG).

    Parameters
    ----------
    noisy : torch.Tensor
        (N, C, H, W), H and W multiples of ``cell``.
    order : torch.Tensor
        (cells, ``cell``²) int64: which pixel of the cell, counted row by row, each
        sub-sample takes. Cells are counted row by row, image after image.
    cell : int
        Side of the cells.

    Returns
    -------
    torch.Tensor
        (``cell``², N, C, H / ``cell``, W / ``cell``). Every pixel is in exactly one of them.
    """
    from einops import rearrange

    count, channels, height, width = noisy.shape
    cells = rearrange(noisy, "n c (h a) (w b) -> (n h w) (a b) c", a=cell, b=cell)
    taken = cells.gather(1, order[:, :, None].expand(-1, -1, channels))
    sizes = {"n": count, "h": height // cell, "w": width // cell}
    return rearrange(taken, "(n h w) j c -> j n c h w", **sizes)


def training_loss(net: nn.Module, noisy: Tensor, order: Tensor) -> Tensor:
    """Return the cyclic loss: each sub-sample, denoised, against the next one as it is.

    Parameters
    ----------
    net : BlindSpotNet
        In training.
    noisy : torch.Tensor
        (N, C, H, W) on 0..1, H and W multiples of `CELL`.
    order : torch.Tensor
        From `draw_order`.

    Returns
    -------
    torch.Tensor
        Scalar: the sum over all sub-samples of the mean absolute difference.
    """
    subs = sub_samples(noisy, order)
    denoised = net(subs.flatten(0, 1)).view_as(subs)
    loss: Tensor = (denoised - subs.roll(-1, 0)).abs().mean() * len(subs)
    return loss


def _recipe(config: Config, paired: bool) -> tuple[Stage, ...]:
    """Return the two stages of the paper, or one on pairs."""
    if paired:
        return (blind_spot.paired_stage(config, _paired_loss, steps=80_000, batch=16, patch=128),)
    return (
        Stage("small", config, _loss, 24_000, 16, 160, multiple=CELL),
        Stage("large", config, _loss, 16_000, 16, 250, rate=1e-5, multiple=CELL),
    )


def _loss(net: nn.Module, batch: Batch) -> Tensor:
    return training_loss(net, batch.noisy, draw_order(batch.noisy.shape, batch.generator))


def _paired_loss(net: nn.Module, batch: Batch) -> Tensor:
    """Compare what both passes return with the clean pictures."""
    from denoisekit.nets.blind_spot import from_batch, to_batch

    first = from_batch(net(to_batch(batch.noisy, PD)), PD)
    return distance(first, batch) + distance(net(first.detach()), batch)


def _traits(config: Config, settings: Settings) -> Traits:
    width = float(config["width"])
    passes = 2 if settings["enhance"] else 1
    # A pixel of a phase is PD pixels of the image; the second pass sees single ones.
    reach = blind_spot.radius(config) * (PD + passes - 1)
    return Traits(
        # Tiles may begin anywhere: a tile that begins on an odd pixel has the same
        # phases, in another order.
        limits=Limits(multiple_of=PD, halo=-(-reach // PD) * PD),
        flop_per_pixel=passes * blind_spot.flop_per_pixel(config),
        bytes_per_pixel={"fp32": 10.0 * width, "bf16": 7.0 * width, "fp16": 7.0 * width},
        channels=config["channels"],
    )


def _infer_config(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of an official checkpoint, by its keys."""
    config = blind_spot.infer_config(shapes)
    return config if config is not None and set(config["blocks"]) == {"single"} else None


INFO = MethodInfo(
    id="sdap",
    title="SDAP (ICCV 2023), blind-spot network",
    summary="dilated blind-spot network on the four phases of the image, then on the whole",
    best_for="photographs with strong noise; exact tiles of any size",
    citation=(
        "Pan et al., Random Sub-Samples Generation for Self-Supervised Real Image Denoising, "
        "ICCV 2023"
    ),
    scale=1.0,
    config={"net": "blind_spot", "channels": 3, "width": 128, "blocks": ["single"] * 9},
    default_weights=("sdap.sidd", "sdap.camera"),
    traits=_traits,
    build=_build,
    infer_config=_infer_config,
    map_key=blind_spot.map_key,
    settings=(
        Setting("enhance", True, "run the network once more on the result at full resolution"),
    ),
    recipe=_recipe,
    initialise=blind_spot.initialise,
)
