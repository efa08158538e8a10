"""SS-BSN: a blind-spot network with self-similarity attention, and random-replacing refinement.

Han et al., "SS-BSN: Attentive Blind-Spot Network for Self-Supervised Denoising with
Nonlocal Self-Similarity", IJCAI 2023. Trained on noisy images alone, with pixel-shuffle
down-sampling by 5 to break the correlation of the noise; denoises with 2, to keep
detail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from denoisekit.limits import Limits
from denoisekit.methods import blind_spot
from denoisekit.methods.base import Config, MethodInfo, Setting, Settings, Traits
from denoisekit.methods.recipe import AVERAGE, Batch, Stage, cosine, distance, drops

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from denoisekit.draws import Draws
    from denoisekit.methods.base import State
    from denoisekit.nets.blind_spot_fast import FastBlindSpot

PD = 2
"""Pixel-shuffle down-sampling of the first pass."""

PD_TRAINING = 5
"""The same in training."""

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


class SsBsn:
    """The network with its weights. Values on 0..255."""

    def __init__(self, config: Config, settings: Settings) -> None:
        from denoisekit.nets.blind_spot import BlindSpotNet

        self.net = BlindSpotNet(
            config["channels"], config["width"], config["blocks"], config["grid"]
        ).eval()
        self._rounds = int(settings["refine_rounds"])
        self._replace = float(settings["replace_p"])
        self._fast: FastBlindSpot | None = None

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the keys and shapes that `load` expects."""
        return {key: tuple(value.shape) for key, value in self.net.state_dict().items()}

    def load(self, state: State) -> None:
        """Take the weights, strictly: every key, every shape."""
        self.net.load_state_dict(dict(state), strict=True)

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        self._fast = blind_spot.prepared(self.net, device, precision)

    def denoise(
        self,
        noisy: Tensor,
        *,
        draws: Draws,
        context: Any = None,  # noqa: ARG002 - each call has its own attention
        on_part: Callable[[float], None] | None = None,
    ) -> Tensor:
        """Denoise (1, C, H, W) float32 on 0..255, H and W even."""
        import torch

        from denoisekit.methods.pd import from_mosaic, to_mosaic

        passes = 1 + self._rounds
        _, channels, height, width = noisy.shape
        with torch.inference_mode():
            mosaic = self._pass(to_mosaic(noisy, PD, PAD), blind_spot.share(on_part, 0, passes))
            first = from_mosaic(mosaic, PD, PAD)
            if not self._rounds:
                return first
            total = torch.zeros_like(first)
            for step in range(self._rounds):
                drawn = torch.from_numpy(draws.uniform(step, (channels, height, width)))
                mixed = torch.where(drawn.to(noisy.device) < self._replace, noisy, first)
                told = blind_spot.share(on_part, 1 + step, passes)
                total += self._pass(_reflected(mixed, PAD), told)[:, :, PAD:-PAD, PAD:-PAD]
            return total / self._rounds

    def _pass(self, noisy: Tensor, on_part: Callable[[float], None] | None) -> Tensor:
        denoised: Tensor = self._fast(noisy, on_part) if self._fast else self.net(noisy)
        return denoised


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
    from denoisekit.methods.pd import from_mosaic, to_mosaic

    denoised = from_mosaic(net(to_mosaic(noisy, PD_TRAINING, PAD)), PD_TRAINING, PAD)
    loss: Tensor = (denoised - noisy).abs().mean()
    return loss


def _recipe(config: Config, paired: bool) -> tuple[Stage, ...]:
    """Return the stage of the paper, or one on pairs."""
    if paired:
        # The paper has no such training: its patch, rounded, and its rate.
        return (
            Stage(
                "supervised",
                config,
                _paired_loss,
                steps=120_000,
                batch=4,
                patch=120,
                schedule=cosine,
                average=AVERAGE,
                multiple=PD,
            ),
        )
    late = drops(0.1, 0.8)
    return (Stage("noisy", config, _loss, 122_700, 4, 120, schedule=late, multiple=PD_TRAINING),)


def _loss(net: nn.Module, batch: Batch) -> Tensor:
    return training_loss(net, batch.noisy)


def _paired_loss(net: nn.Module, batch: Batch) -> Tensor:
    """Compare the first pass and a round of refinement with the clean pictures."""
    import torch

    from denoisekit.methods.pd import from_mosaic, to_mosaic

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


def _recognise(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of an official checkpoint, by its keys."""
    inner = {key.removeprefix("bsn."): shape for key, shape in shapes.items()}
    config = blind_spot.recognise(inner)
    if config is None or "attention" not in config["blocks"]:
        return None
    # The sub-grids leave no trace in the weights: those of the paper.
    return {**config, "grid": 2}


def _rename(key: str, config: Config) -> str:
    return blind_spot.rename(key.removeprefix("bsn."), config)


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
    build=SsBsn,
    recognise=_recognise,
    rename=_rename,
    settings=(
        Setting("refine_rounds", 8, "rounds of random-replacing refinement; 0: none", 0, 64),
        Setting(
            "replace_p", REPLACED, "part of the pixels that a round takes from the noisy image"
        ),
    ),
    recipe=_recipe,
    begin=blind_spot.begin,
)
