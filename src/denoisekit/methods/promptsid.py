"""Prompt-SID: a transformer steered by a prompt that a small diffusion model makes of the image.

Li et al., "Prompt-SID: Learning Structural Representation Prompt via Latent Diffusion for
Single-Image Denoising", AAAI 2025.

It is not local by itself: prompt, means and attention are taken from the whole image.
With those given, it is. So an image of several tiles is studied first, and every tile is
denoised with what was found.

It is trained on sub-images of noisy images that predict each other: every 2x2 cell gives one
pixel to the input and its two neighbours to two targets. The network's result on the input is
held against both, and its difference to them against the same difference taken from its result
on the whole image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from denoisekit.limits import Limits
from denoisekit.methods.base import (
    Config,
    MethodInfo,
    NetworkMethod,
    Setting,
    Settings,
    Traits,
    torch_dtype,
)
from denoisekit.methods.recipe import Batch, Stage, distance, drops

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from denoisekit.draws import Draws
    from denoisekit.nets.promptsid import PromptSID
    from denoisekit.nets.promptsid_fast import Statistics

PUBLISHED: Config = {
    "net": "promptsid",
    "channels": 3,
    "width": 48,
    "blocks": [6, 8],
    "heads": [4, 8],
    "refine_blocks": 4,
    "expansion": 2,
    "bias": False,
    "norm_bias": True,
    "features": 64,
    "encoder_blocks": 4,
    "prior_blocks": 1,
    "steps": 4,
    "betas": [0.1, 0.99],
}
"""The configuration of the published code; every size may be another."""

ORDERS = (
    (0, 1, 2),
    (0, 2, 1),
    (1, 0, 3),
    (1, 3, 0),
    (2, 0, 3),
    (2, 3, 0),
    (3, 2, 1),
    (3, 1, 2),
)
"""Positions in a 2x2 cell, row by row, of input and targets: each pixel, its neighbours."""

REGULARISATION = 1.5


@dataclass(frozen=True, slots=True)
class Study:
    """What is taken from an image as a whole.

    Attributes
    ----------
    prompts : torch.Tensor
        (prompts, P).
    statistics : tuple of tuple of Statistics
        For each prompt, those of each block.
    """

    prompts: Tensor
    statistics: tuple[tuple[Statistics, ...], ...]


class PromptSid(NetworkMethod):
    """The networks with their weights. Values on 0..1."""

    def __init__(self, config: Config, settings: Settings) -> None:
        import torch

        from denoisekit.nets.promptsid import PromptSID

        super().__init__(PromptSID(config))
        self._prompts = int(settings["prompts"])
        self._dtype = torch.float32

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        self._dtype = torch_dtype(precision)
        self.net.to(device).requires_grad_(False)

    def denoise(self, noisy: Tensor, *, draws: Draws, context: Study | None = None) -> Tensor:
        """Denoise (1, C, H, W) float32, H and W multiples of 32, once for each prompt."""
        import torch

        from denoisekit.nets.promptsid_fast import denoise

        with torch.inference_mode():
            prompts = self.prompts([noisy], draws.seed) if context is None else context.prompts
            total = torch.zeros_like(noisy)
            for index, prompt in enumerate(prompts):
                known = None if context is None else context.statistics[index]
                total += denoise(self.net.denoiser, noisy, prompt, known, self._dtype)[0]
            return total / len(prompts)

    def study(self, parts: Sequence[Tensor], *, seed: int) -> Study:
        """Take prompts and statistics from parts of an image, (1, C, h, w) each, all alike."""
        import torch

        from denoisekit.nets.promptsid_fast import denoise

        with torch.inference_mode():
            prompts, joined = self.prompts(parts, seed), torch.cat(list(parts))
            found = [denoise(self.net.denoiser, joined, p, dtype=self._dtype)[1] for p in prompts]
        return Study(prompts, tuple(found))

    def prompts(self, parts: Sequence[Tensor], seed: int) -> Tensor:
        """Draw prompts for an image from parts of it: (prompts, P)."""
        import torch

        pooled = torch.cat([self.net.condition.pooled(part) for part in parts])
        condition = self.net.condition.vector(pooled.mean(0, keepdim=True))
        # On the CPU, so that every device draws the same numbers.
        generator = torch.Generator().manual_seed(seed % 2**63)
        noise = torch.randn(self._prompts, condition.shape[1], generator=generator)
        drawn: Tensor = self.net.sample(noise.to(condition), condition.expand(self._prompts, -1))
        return drawn


@dataclass(frozen=True)
class Objective:
    """The loss of one batch and what it is made of.

    Attributes
    ----------
    total, reconstruction, regularisation : torch.Tensor
        Scalars; ``total = reconstruction + 1.5 * regularisation``.
    denoised_sub, denoised : torch.Tensor
        Results on the sub-image (with gradient) and on the whole images (without).
    """

    total: Tensor
    reconstruction: Tensor
    regularisation: Tensor
    denoised_sub: Tensor
    denoised: Tensor


def draw_orders(size: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw which pixels of every cell become input, first and second target.

    Parameters
    ----------
    size : (int, int, int)
        Number, height and width of the images; height and width even.
    generator : torch.Generator
        Source of the draws; they are made on its device.

    Returns
    -------
    torch.Tensor
        (N, H/2, W/2, 3) int64, positions 0 to 3.
    """
    import torch

    number, height, width = size
    cells, device = (number, height // 2, width // 2), generator.device
    which = torch.randint(len(ORDERS), cells, generator=generator, device=device)
    return torch.tensor(ORDERS, device=device)[which]


def sub_images(images: Tensor, orders: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return input, first and second target, (N, C, H/2, W/2) each.

    Parameters
    ----------
    images : torch.Tensor
        (N, C, H, W), H and W even.
    orders : torch.Tensor
        As from `draw_orders`.
    """
    import torch.nn.functional as F

    number, channels, height, width = images.shape
    cells = F.pixel_unshuffle(images, 2).view(number, channels, 4, height // 2, width // 2)
    chosen = orders.permute(0, 3, 1, 2)[:, None].expand(-1, channels, -1, -1, -1)
    first, second, third = cells.gather(2, chosen).unbind(2)
    return first, second, third


def objective(
    net: PromptSID, noisy: Tensor, orders: Tensor, noises: tuple[Tensor, Tensor]
) -> Objective:
    """Return the loss of a batch.

    Parameters
    ----------
    net : PromptSID
        In training.
    noisy : torch.Tensor
        (N, C, H, W), H and W multiples of eight.
    orders : torch.Tensor
        As from `draw_orders`.
    noises : pair of torch.Tensor
        Normal, (N, 4 features): they diffuse the prompt of the sub-images and of the
        whole images.
    """
    import torch

    sub, *targets = sub_images(noisy, orders)
    condition = net.condition(noisy)
    structural = net.structural_prompt(sub, (targets[0] + targets[1]) / 2)
    prompt = net.sample(net.diffuse(structural, noises[0]), condition)
    denoised_sub = net.denoiser(sub, prompt)
    with torch.no_grad():
        other = net.sample(net.diffuse(structural, noises[1]), condition)
        denoised = net.denoiser(noisy, other)
        known, *expected = sub_images(denoised, orders)
    errors = [denoised_sub - target for target in targets]
    residues = [error - (known - other) for error, other in zip(errors, expected, strict=True)]
    reconstruction = torch.stack([error.square().mean() for error in errors]).mean()
    regularisation = torch.stack([residue.square().mean() for residue in residues]).mean()
    total = reconstruction + REGULARISATION * regularisation
    return Objective(total, reconstruction, regularisation, denoised_sub, denoised)


def _recipe(config: Config, paired: bool) -> tuple[Stage, ...]:
    """Return the stage of the published code, or one on pairs with the same rates."""
    # The code halves the rate by hand every 80,000 steps, and leaves batch and patch open.
    rates = drops(0.5, 0.2, 0.4, 0.6, 0.8)
    return (
        Stage(
            "supervised" if paired else "noisy",
            config,
            _paired_loss if paired else _loss,
            steps=400_000,
            batch=4,
            patch=128,
            rate=2e-4,
            betas=(0.9, 0.99),
            schedule=rates,
            average=0.999,
            multiple=8,
        ),
    )


def _loss(net: Any, batch: Batch) -> Tensor:
    import torch

    number, _, height, width = batch.noisy.shape
    orders = draw_orders((number, height, width), batch.generator)
    one, other = torch.randn(
        (2, number, _prompt_size(net)), generator=batch.generator, device=batch.noisy.device
    )
    return objective(net, batch.noisy, orders, (one, other)).total


def _paired_loss(net: Any, batch: Batch) -> Tensor:
    """Denoise as the image will be, from a prompt of noise, and compare with the clean one."""
    import torch

    shape = (len(batch.noisy), _prompt_size(net))
    noise = torch.randn(shape, generator=batch.generator, device=batch.noisy.device)
    return distance(net(batch.noisy, noise), batch)


def _prompt_size(net: Any) -> int:
    size: int = net.prior.layers[-1].out_features
    return size


def _traits(config: Config, settings: Settings) -> Traits:
    outer, inner = config["blocks"]
    # Each block and each other 3x3 convolution sees one pixel further; at half size, two.
    above, below = 1 + outer + config["refine_blocks"], outer + 2
    return Traits(
        # Sizes as the published code pads them: padding takes part in the statistics.
        limits=Limits(multiple_of=32, align=2, halo=above + 2 * (inner + 1) + 1 + below),
        flop_per_pixel=_flop_per_pixel(config, settings["prompts"]),
        bytes_per_pixel=_bytes_per_pixel(config),
        channels=config["channels"],
        studies=True,
    )


def _flop_per_pixel(config: Config, prompts: float) -> float:
    """Return the operations of a whole image's pixel, statistics and all."""
    width, channels, features = (float(config[n]) for n in ("width", "channels", "features"))
    expansion = float(config["expansion"])
    (outer, inner), (few, many) = config["blocks"], config["heads"]

    def block(width: float, heads: int) -> float:
        # q, k, v and their filters; likeness; mixing; gate.
        return width**2 * (4 + 1 / heads + 1.5 * expansion) + 27 * width

    denoiser = (
        outer * (block(width, few) + block(2 * width, many))
        + inner * block(2 * width, many) / 4
        + config["refine_blocks"] * block(2 * width, few)
        + 9 * (3 * channels * width + width**2 * (1 / 2 + 2))
    )
    convs = 16 * channels / features + 2 * config["encoder_blocks"] + 2 + 4 + 8
    work: float = prompts * denoiser + 9 * convs * features**2 / 16
    return 2 * work


def _bytes_per_pixel(config: Config) -> Mapping[str, float]:
    """Return the peak working memory: either the denoiser's maps or the condition's."""
    # Maps are float32 in every precision.
    each = max(15.5 * config["width"], 3.5 * config["features"])
    return {"fp32": each, "bf16": each, "fp16": each}


def map_key(key: str, config: Config) -> str:
    """Give our key for a key of the published code; unknown keys stay as they are."""
    # The published code registers two of its parts twice.
    key = re.sub(r"^diffusion\.condition\.", "condition.", key)
    key = re.sub(r"^diffusion\.model\.", "denoise.", key)
    if key.startswith("diffusion."):
        return ""  # the schedule, which is computed
    layer, _, kind = key.rpartition(".")
    layers = _layers(config)
    return f"{layers[layer]}.{kind}" if layer in layers else key


_BLOCK_LAYERS = {
    "norm1.body": "norm_attention",
    "norm2.body": "norm_gate",
    "attn": "attention",
    "attn.qkv": "attention.qkv",
    "attn.qkv_dwconv": "attention.depthwise",
    "attn.project_out": "attention.out",
    "attn.sca.1": "attention.modulate.pool",
    "attn.kernel.0": "attention.modulate.prompt",
    "gate.encode": "gate.wide",
    "gate.out": "gate.out",
    "gate.sca.1": "gate.modulate.pool",
    "gate.kernel.0": "gate.modulate.prompt",
}


def _layers(config: Config) -> Mapping[str, str]:
    """Return our name of every layer of the published code.

    It counts layers and activations alike: the encoders' are 0, 1, the residual blocks, then
    three pairs.
    """
    (outer, inner), residual = config["blocks"], config["encoder_blocks"]
    stages = {
        "encoder_level1": ("encode", outer),
        "encoder_level2": ("bottom", inner),
        "decoder_level1": ("decode", outer),
        "refinement": ("refine", config["refine_blocks"]),
    }
    ends = {"patch_embed.proj": "first", "down1_2.body.0": "down", "up2_1.body.0": "up"}
    layers = {f"G.{theirs}": f"denoiser.{ours}" for theirs, ours in ends.items()}
    layers["G.output"] = "denoiser.last"
    for theirs, (ours, count) in stages.items():
        for n in range(count):
            for layer, mine in _BLOCK_LAYERS.items():
                layers[f"G.{theirs}.{n}.{layer}"] = f"denoiser.{ours}.{n}.{mine}"
    for part in ("encoder", "condition"):
        layers[f"{part}.E.0"] = f"{part}.first"
        for n in range(residual):
            layers |= {
                f"{part}.E.{2 + n}.body.{2 * k}": f"{part}.residual.{n}.convs.{k}" for k in (0, 1)
            }
        layers |= {f"{part}.E.{2 + residual + 2 * n}": f"{part}.widen.{n}" for n in range(3)}
        layers |= {f"{part}.mlp.{2 * n}": f"{part}.mlp.{n}" for n in range(2)}
    layers["denoise.resmlp.0"] = "prior.layers.0"
    for n in range(1, 1 + config["prior_blocks"]):
        layers[f"denoise.resmlp.{1 + n}.resmlp.0"] = f"prior.layers.{n}"
    return layers


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of a checkpoint of the published code, or None."""

    def count(pattern: str) -> int:
        return len({match[0] for key in shapes if (match := re.match(pattern, key))})

    first = shapes.get("G.patch_embed.proj.weight", ())
    inner = shapes.get("encoder.E.0.weight", ())
    one, two = "G.encoder_level1.0.", "G.encoder_level2.0."
    needed = [one + "attn.temperature", two + "attn.temperature", one + "gate.encode.weight"]
    if len(first) != 4 or len(inner) != 4 or not all(shapes.get(key) for key in needed):
        return None
    if not first[0]:
        return None
    few, many, hidden = (shapes[key][0] for key in needed)
    expansion = hidden / first[0]
    return {
        "net": "promptsid",
        "channels": first[1],
        "width": first[0],
        "blocks": [count(r"G\.encoder_level1\.\d+\."), count(r"G\.encoder_level2\.\d+\.")],
        "heads": [few, many],
        "refine_blocks": count(r"G\.refinement\.\d+\."),
        "expansion": int(expansion) if expansion == int(expansion) else expansion,
        "bias": "G.output.bias" in shapes,
        "norm_bias": one + "norm1.body.bias" in shapes,
        "features": inner[0],
        "encoder_blocks": count(r"encoder\.E\.\d+\.body\."),
        "prior_blocks": count(r"denoise\.resmlp\.\d+\.resmlp\."),
        "steps": shapes.get("diffusion.betas", (4,))[0],
        "betas": [0.1, 0.99],  # a checkpoint's shapes do not tell
    }


INFO = MethodInfo(
    id="promptsid",
    title="Prompt-SID (AAAI 2025), prompted transformer",
    summary="transformer steered by a prompt that a diffusion model makes of the whole image",
    best_for="your own training: made for one kind of noise at a time, no weights published",
    citation=(
        "Li et al., Prompt-SID: Learning Structural Representation Prompt via Latent Diffusion "
        "for Single-Image Denoising, AAAI 2025"
    ),
    scale=1.0,
    config=PUBLISHED,
    default_weights=("promptsid.camera",),
    traits=_traits,
    build=PromptSid,
    infer_config=infer_config,
    map_key=map_key,
    settings=(Setting("prompts", 1, "prompts drawn from the seed, results averaged", 1, 64),),
    recipe=_recipe,
)
