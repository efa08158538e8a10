"""APR-RD: a student network, one pass; and the blind-spot teacher that it learned from. Local.

Kim et al., "APR-RD: Complemental Two Steps for Self-Supervised Real Image
Denoising", AAAI 2025. The teacher is trained on noisy images alone (adjacent pixel
replacer), then distilled into a plain U-Net (recharged distillation); what they learn
from is in `denoisekit.methods.aprrd_objective`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from denoisekit.limits import Limits
from denoisekit.methods import aprrd_objective as objective
from denoisekit.methods.base import Config, MethodInfo, Settings, Traits, torch_dtype
from denoisekit.methods.recipe import AVERAGE, Batch, Stage, cosine, supervised

if TYPE_CHECKING:
    import torch

    from denoisekit.draws import Draws
    from denoisekit.methods.base import State
    from denoisekit.nets.atbsn import ATBSN

    Fast = Callable[..., torch.Tensor]


class OnePass:
    """Student or teacher with its weights. Values on 0..1.

    Attributes
    ----------
    net : torch.nn.Module
        The network in the form that is trained.

    Parameters
    ----------
    net, whole : torch.nn.Module
        The network, and all that is done to denoise an image, in the plain form.
    make_fast : callable
        Makes the form for inference, of a dtype.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        whole: torch.nn.Module,
        make_fast: Callable[[torch.dtype], torch.nn.Module],
    ) -> None:
        self.net = net.eval()
        self._whole = whole.eval()
        self._make_fast = make_fast
        self._fast: Fast | None = None

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the keys and shapes that `load` expects."""
        return {key: tuple(value.shape) for key, value in self.net.state_dict().items()}

    def load(self, state: State) -> None:
        """Take the weights, strictly: every key, every shape."""
        self.net.load_state_dict(dict(state), strict=True)

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        self._fast = self._make_fast(torch_dtype(precision)).to(device)

    def denoise(
        self,
        noisy: torch.Tensor,
        *,
        draws: Draws,  # noqa: ARG002 - nothing is drawn
        context: Any = None,  # noqa: ARG002 - nothing beyond the tile matters
        core: tuple[int, int, int, int] | None = None,
    ) -> torch.Tensor:
        """Denoise (N, C, H, W) float32, H and W multiples of 32, in one pass."""
        import torch

        with torch.inference_mode():
            denoised: torch.Tensor
            if self._fast is None:
                denoised = self._whole(noisy)
            elif core is None:
                denoised = self._fast(noisy)
            else:
                denoised = self._fast(noisy, core)
        return denoised


def _build(config: Config, settings: Settings) -> OnePass:  # noqa: ARG001 - no settings
    if config["net"] == "bsn":
        from denoisekit.nets.atbsn import ATBSN, PaddedATBSN
        from denoisekit.nets.atbsn_blocks import BlockATBSN

        teacher = ATBSN(*_sizes(config))
        return OnePass(teacher, PaddedATBSN(teacher), partial(BlockATBSN, teacher))
    from denoisekit.nets.unet import UNet
    from denoisekit.nets.unet_blocks import BlockUNet

    student = UNet(config["variant"], *_sizes(config))
    return OnePass(student, student, partial(BlockUNet, student))


def _sizes(config: Config) -> tuple[int, int]:
    """Return the channels of the image and the width; the published ones where not said."""
    return config.get("channels", 3), config.get("width", 48)


def _traits(config: Config, settings: Settings) -> Traits:  # noqa: ARG001 - no settings
    channels, width = _sizes(config)
    if config["net"] == "bsn":
        return Traits(
            limits=Limits(multiple_of=32, align=32, halo=320),
            flop_per_pixel=_teacher_flop(channels, width),
            bytes_per_pixel=_measured(50 * channels + 15.5 * width, 30 * channels + 8.2 * width),
            channels=channels,
        )
    half = config["variant"] == "half"
    bytes_per_pixel = (
        _measured(9 * channels + 4.25 * width, 14 * channels + 1.85 * width)
        if not half
        else _measured(20 * channels + 0.7 * width, 14 * channels + 0.5 * width)
    )
    return Traits(
        limits=Limits(multiple_of=32, align=32, halo=160),
        halo_cost=0.05,  # HALO_COST of nets.unet_blocks, which imports torch
        flop_per_pixel=_student_flop(config["variant"], channels, width),
        bytes_per_pixel=bytes_per_pixel,
        channels=channels,
    )


def _measured(full: float, half: float) -> Mapping[str, float]:
    return {"fp32": full, "bf16": half, "fp16": half}


def _recipe(config: Config, paired: bool) -> tuple[Stage, ...]:
    """Return the stages: teacher and student, or what the configuration asks for."""
    if paired:
        stage = Stage("supervised", config, supervised, 200_000, 8, 128, 3e-4, **_ADAM)
        return (replace(stage, average=AVERAGE),)
    channels, width = _sizes(config)
    teacher = {"net": "bsn", "channels": channels, "width": width}
    first = Stage("teacher", teacher, _teacher_loss, 400_000, 8, 256, 3e-4, **_ADAM)
    if config["net"] == "bsn":
        return (first,)
    return (first, Stage("student", config, _student_loss, 200_000, 8, 128, 3e-4, **_ADAM))


_ADAM: Mapping[str, Any] = {"schedule": cosine, "multiple": 32}


def _begin(net: Any, config: Config) -> None:
    """Let the student begin as the identity, where its skips allow, the teacher as a mean."""
    import torch

    channels, width = _sizes(config)
    if config["net"] != "bsn":  # a CPU then takes two thirds of the time in bf16
        net.to(memory_format=torch.channels_last)
    if config["net"] == "bsn" and 2 * width >= channels:
        from denoisekit.nets.begin import as_mean_around

        as_mean_around(net, channels)
    elif config.get("variant") == "half":
        torch.nn.init.zeros_(net.up[0].weight)  # its result is added to the image
    elif config.get("variant") == "1.02M" and width >= channels:
        from denoisekit.nets.begin import as_identity

        as_identity(net, channels)


def _teacher_loss(net: Any, batch: Batch) -> torch.Tensor:
    number, _, height, width = batch.noisy.shape
    pairs = objective.draw_pairs((number, height, width), batch.generator)
    return objective.teacher_loss(net, batch.noisy, pairs)


def _student_loss(net: Any, batch: Batch) -> torch.Tensor:
    number, _, height, width = batch.noisy.shape
    targets = objective.distillation_targets(cast("ATBSN", batch.teacher), batch.noisy)
    choice = objective.draw_targets((number, height, width), batch.generator)
    targets = objective.recharged(targets, batch.noisy, choice)
    return objective.student_loss(net(batch.noisy), targets)


def _student_flop(variant: str, channels: int, width: int) -> float:
    intro = 1 if variant == "1.00M" else 0
    shuffled = 4 if variant == "half" else 1
    channels *= shuffled
    skip = channels if intro else width
    products = (
        (channels + intro * width) * width  # the way down, at the resolution of the first level
        + (2 * width + skip + channels) * 2 * width  # the way up
        + _coarse_products(width, 5 if shuffled == 1 else 4)
    )
    return 18 * products / shuffled


def _teacher_flop(channels: int, width: int) -> float:
    wide = 2 * width
    side = (channels + width) * width + (wide + channels + wide) * wide + _coarse_products(width)
    merge = (4 * wide) ** 2 + 4 * wide * wide + wide * channels
    return 4 * 18 * side + 2 * merge


def _coarse_products(width: int, levels: int = 5) -> float:
    """Return the products of weights per pixel below the first level, per kernel tap."""
    down = sum(0.25**level for level in range(1, levels + 1))
    up = sum((10 if level < levels - 1 else 8) * 0.25**level for level in range(1, levels))
    return (down + up) * width * width


def _recognise(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of an official checkpoint, by its keys."""
    if "dec1_2.conv.weight" in shapes:
        first, told = "enc1.conv.weight", {"net": "unet", "variant": "1.02M"}
    elif "nin_A.weight" in shapes:
        first, told = "unet.intro.conv.weight", {"net": "bsn"}
    else:
        first, told = "unet.intro.conv.weight", {"net": "unet", "variant": "1.00M"}
    match shapes.get(first):
        case (width, channels, 3, 3):
            return {**told, "channels": channels, "width": width}
    return None


_LAYERS: Mapping[str, Mapping[str, str]] = {
    "1.02M": {
        r"enc6\.conv": "bottom",
        r"enc(\d)\.conv": "down.{}",
        r"dec(\d)_2\.conv": "join.{}.conv",
        r"dec(\d)_1(?:\.conv)?": "up.{}",
    },
    "half": {},
    "1.00M": {
        r"unet\.intro\.conv": "intro",
        r"unet\.enc6\.conv1\.conv": "bottom",
        r"unet\.enc(\d)\.conv1\.conv": "down.{}",
        r"unet\.dec(\d)\.conv1\.conv": "join.{}.conv",
        r"unet\.dec(\d)\.conv2\.conv": "up.{}",
    },
    "bsn": {
        r"unet\.intro\.conv": "intro",
        r"unet\.enc6\.conv1\.conv": "bottom",
        r"unet\.enc(\d)\.conv1\.conv": "down.{}",
        r"unet\.dec(\d)\.conv1\.conv": "join.{}",
        r"unet\.dec(\d)\.conv2\.conv": "up.{}",
        r"nin_A": "merge.0",
        r"nin_B": "merge.1",
        r"nin_C": "merge.2",
    },
}
"""Layers of the official networks, which count levels from 1, and ours, from 0."""


def _rename(key: str, config: Config) -> str:
    """Give our key for a key of the official checkpoint; unknown keys stay as they are."""
    layer, _, kind = key.rpartition(".")
    for pattern, ours in _LAYERS[config.get("variant", "bsn")].items():
        if match := re.fullmatch(pattern, layer):
            return f"{ours.format(*(int(level) - 1 for level in match.groups()))}.{kind}"
    return key


INFO = MethodInfo(
    id="aprrd",
    title="APR-RD (AAAI 2025), student network; its teacher by weights",
    summary="plain U-Net distilled from a blind-spot network; one pass",
    best_for="photographs with visible noise, phones above all; the fastest",
    citation=(
        "Kim et al., APR-RD: Complemental Two Steps for Self-Supervised Real Image Denoising, "
        "AAAI 2025"
    ),
    scale=1.0,
    config={"net": "unet", "variant": "1.02M", "channels": 3, "width": 48},
    default_weights=("aprrd.sidd", "aprrd.camera"),
    traits=_traits,
    build=_build,
    recognise=_recognise,
    rename=_rename,
    recipe=_recipe,
    begin=_begin,
)
