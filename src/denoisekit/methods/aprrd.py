"""APR-RD: a student network, one pass; and the blind-spot teacher that it learned from. Local.

Kim et al., "APR-RD: Complemental Two Steps for Self-Supervised Real Image
Denoising", AAAI 2025. The teacher is trained on noisy images alone: it learns from pairs that the
*adjacent pixel replacer* makes of one image. Then it is distilled into a plain U-Net, which learns
from six results of the teacher, *recharged* with noisy pixels. All is computed from draws that the
caller passes, so a run can be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from denoisekit.limits import Limits
from denoisekit.methods.base import (
    Config,
    MethodInfo,
    NetworkMethod,
    Settings,
    Traits,
    torch_dtype,
)
from denoisekit.methods.recipe import AVERAGE, Batch, Stage, cosine, supervised

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from denoisekit.draws import Draws
    from denoisekit.nets.atbsn import ATBSN

_NEAR = tuple(product((-1, 0, 1), repeat=2))
PAIRS = tuple((first, second) for first, second in product(_NEAR, _NEAR) if first != second)
"""The 72 pairs of two distinct neighbours (a pixel is its own neighbour), as
``((right, down), (right, down))``."""

TRAINING_SHIFT = 5
"""Shift of the teacher in training: a hole of nine pixels."""

TARGET_SHIFTS = (0, 1, 2, 3, 4, 5)
"""Shifts of the teacher whose results the student learns from."""

CONSISTENCY_WEIGHT = 4.0


class OnePass(NetworkMethod):
    """Student or teacher with its weights. Values on 0..1.

    Parameters
    ----------
    net : torch.nn.Module
        The network.
    plain : callable
        All that is done to denoise an image, in the plain form.
    make_fast : callable
        Makes the form for inference, of a dtype.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        plain: Callable[[Tensor], Tensor],
        make_fast: Callable[[torch.dtype], torch.nn.Module],
    ) -> None:
        super().__init__(net)
        self._plain, self._make_fast = plain, make_fast
        self._fast: Callable[..., Tensor] | None = None

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        self._fast = self._make_fast(torch_dtype(precision)).to(device)

    def denoise(
        self,
        noisy: Tensor,
        *,
        draws: Draws,
        context: Any = None,
        core: tuple[int, int, int, int] | None = None,
    ) -> Tensor:
        """Denoise (N, C, H, W) float32, H and W multiples of 32, in one pass."""
        import torch

        with torch.inference_mode():
            if self._fast is None:
                return self._plain(noisy)
            return self._fast(noisy) if core is None else self._fast(noisy, core)


def _build(config: Config, settings: Settings) -> OnePass:
    if config["net"] == "bsn":
        from denoisekit.nets.atbsn import ATBSN, BlockATBSN, denoise_padded

        teacher = ATBSN(*_sizes(config))
        plain = partial(denoise_padded, teacher)
        return OnePass(teacher, lambda noisy: plain(noisy)[0], partial(BlockATBSN, teacher))
    from denoisekit.nets.unet import BlockUNet, UNet

    student = UNet(config["variant"], *_sizes(config))
    return OnePass(student, student, partial(BlockUNet, student))


def _sizes(config: Config) -> tuple[int, int]:
    """Return the channels of the image and the width; the published ones where not said."""
    return config.get("channels", 3), config.get("width", 48)


def _traits(config: Config, settings: Settings) -> Traits:
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
        halo_cost=0.05,  # HALO_COST of nets.unet, which imports torch
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


def _initialise(net: Any, config: Config) -> None:
    """Let the student start as the identity, where its skips allow, the teacher as a mean."""
    import torch

    channels, width = _sizes(config)
    if config["net"] != "bsn":  # a CPU then takes two thirds of the time in bf16
        net.to(memory_format=torch.channels_last)
    if config["net"] == "bsn" and 2 * width >= channels:
        from denoisekit.nets.initialisation import as_mean_around

        as_mean_around(net, channels)
    elif config.get("variant") == "half":
        torch.nn.init.zeros_(net.up[0].weight)  # its result is added to the image
    elif config.get("variant") == "1.02M" and width >= channels:
        from denoisekit.nets.initialisation import as_identity

        as_identity(net, channels)


def _teacher_loss(net: Any, batch: Batch) -> Tensor:
    number, _, height, width = batch.noisy.shape
    pairs = draw_pairs((number, height, width), batch.generator)
    return teacher_loss(net, batch.noisy, pairs)


def _student_loss(net: Any, batch: Batch) -> Tensor:
    number, _, height, width = batch.noisy.shape
    targets = distillation_targets(cast("ATBSN", batch.teacher), batch.noisy)
    choice = draw_targets((number, height, width), batch.generator)
    targets = recharged(targets, batch.noisy, choice)
    return student_loss(net(batch.noisy), targets)


def draw_pairs(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw a pair of neighbours for every pixel.

    Parameters
    ----------
    shape : (int, int, int)
        Images, height and width.
    generator : torch.Generator
        Source of the draws; they are made on its device.

    Returns
    -------
    Tensor
        ``shape``, int64: indices into `PAIRS`.
    """
    import torch

    return torch.randint(len(PAIRS), shape, generator=generator, device=generator.device)


def draw_targets(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw for every pixel which target gets the noisy value; like `draw_pairs`."""
    import torch

    return torch.randint(len(TARGET_SHIFTS), shape, generator=generator, device=generator.device)


def replaced(images: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Replace every pixel by one of its neighbours, in two ways.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W). At the edges a neighbour outside is the nearest pixel inside.
    pairs : Tensor
        (N, H, W), indices into `PAIRS`; all channels of a pixel move together.

    Returns
    -------
    tuple of two Tensor
        Like ``images``; they never show the same neighbour, but at the edges.
    """
    import torch

    height, width = images.shape[2:]
    steps = torch.tensor(PAIRS, device=images.device)[pairs.to(images.device, torch.int64)]
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    flat = images.flatten(2)

    def taken(which: int) -> Tensor:
        right, down = steps[..., which, 0], steps[..., which, 1]
        places = (rows + down).clamp(0, height - 1) * width + (columns + right).clamp(0, width - 1)
        return flat.gather(2, places.flatten(1)[:, None].expand_as(flat)).view_as(images)

    return taken(0), taken(1)


def teacher_loss(net: ATBSN, noisy: Tensor, pairs: Tensor) -> Tensor:
    """Return the loss of the teacher for a batch.

    One replaced image is denoised and compared with the other. They show different
    pixels, so even a perfect result differs from it: by as much as the two replaced
    versions of the image denoised as it is, which the second term takes off.

    Parameters
    ----------
    net : ATBSN
        In training; gradients flow through both of its results.
    noisy : Tensor
        (N, C, H, W) on 0..1, H and W multiples of 32.
    pairs : Tensor
        What `draw_pairs` gave for the batch.

    Returns
    -------
    Tensor
        A scalar.
    """
    first, second = replaced(noisy, pairs)
    first_denoised, second_denoised = replaced(net(noisy, TRAINING_SHIFT), pairs)
    difference = net(first, TRAINING_SHIFT) - second
    expected = first_denoised - second_denoised
    likeness: Tensor = difference.abs().mean()
    consistency: Tensor = (difference - expected).abs().mean()
    return likeness + CONSISTENCY_WEIGHT * consistency


def distillation_targets(net: ATBSN, noisy: Tensor) -> Tensor:
    """Return what the teacher makes of a batch, for each of `TARGET_SHIFTS`.

    Parameters
    ----------
    net : ATBSN
        The trained teacher; no gradient is kept.
    noisy : Tensor
        (N, C, H, W) on 0..1, H and W multiples of 32.

    Returns
    -------
    Tensor
        (6, N, C, H, W).
    """
    import torch

    from denoisekit.nets.atbsn import denoise_padded

    with torch.no_grad():
        return torch.stack(denoise_padded(net, noisy, TARGET_SHIFTS))


def recharged(targets: Tensor, noisy: Tensor, choice: Tensor) -> Tensor:
    """Put the noisy value of every pixel back into one of the targets.

    Parameters
    ----------
    targets : Tensor
        (T, N, C, H, W); left as it is.
    noisy : Tensor
        (N, C, H, W).
    choice : Tensor
        (N, H, W), 0 to T - 1: which target a pixel goes to.

    Returns
    -------
    Tensor
        Like ``targets``.
    """
    import torch

    which = torch.arange(len(targets), device=targets.device).view(-1, 1, 1, 1, 1)
    return torch.where(choice.to(targets.device)[None, :, None] == which, noisy[None], targets)


def student_loss(denoised: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of the student: its mean distance to every target, summed.

    Parameters
    ----------
    denoised : Tensor
        (N, C, H, W), the student's result.
    targets : Tensor
        (T, N, C, H, W), recharged.

    Returns
    -------
    Tensor
        A scalar.
    """
    return (denoised[None] - targets).abs().mean((1, 2, 3, 4)).sum()


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


def _infer_config(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
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


_OFFICIAL = {
    r"unet\.intro\.conv": "intro",
    r"unet\.enc6\.conv1\.conv": "bottom",
    r"unet\.enc(\d)\.conv1\.conv": "down.{}",
    r"unet\.dec(\d)\.conv2\.conv": "up.{}",
}

_LAYERS: Mapping[str, Mapping[str, str]] = {
    "1.02M": {
        r"enc6\.conv": "bottom",
        r"enc(\d)\.conv": "down.{}",
        r"dec(\d)_2\.conv": "join.{}.conv",
        r"dec(\d)_1(?:\.conv)?": "up.{}",
    },
    "half": {},
    "1.00M": {**_OFFICIAL, r"unet\.dec(\d)\.conv1\.conv": "join.{}.conv"},
    "bsn": {
        **_OFFICIAL,
        r"unet\.dec(\d)\.conv1\.conv": "join.{}",
        r"nin_A": "merge.0",
        r"nin_B": "merge.1",
        r"nin_C": "merge.2",
    },
}
"""Layers of the official networks, which count levels from 1, and ours, from 0."""


def _map_key(key: str, config: Config) -> str:
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
    infer_config=_infer_config,
    map_key=_map_key,
    recipe=_recipe,
    initialise=_initialise,
)
