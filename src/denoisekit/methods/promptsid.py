"""Prompt-SID: a transformer steered by a prompt that a small diffusion model makes of the image.

Li et al., "Prompt-SID: Learning Structural Representation Prompt via Latent Diffusion for
Single-Image Denoising", AAAI 2025. What it learns from is in
`denoisekit.methods.promptsid_objective`.

It is not local by itself: prompt, means and attention are taken from the whole image.
With those given, it is. So an image of several tiles is studied first, and every tile is
denoised with what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from denoisekit.limits import Limits
from denoisekit.methods.base import (
    Config,
    MethodInfo,
    Setting,
    Settings,
    Traits,
    torch_dtype,
)
from denoisekit.methods.promptsid_names import PUBLISHED, recognise, rename
from denoisekit.methods.recipe import Batch, Stage, distance, drops

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from denoisekit.draws import Draws
    from denoisekit.methods.base import State
    from denoisekit.nets.promptsid_fast import Statistics


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


class PromptSid:
    """The networks with their weights. Values on 0..1."""

    def __init__(self, config: Config, settings: Settings) -> None:
        import torch

        from denoisekit.nets.promptsid import PromptSID

        self.net = PromptSID(config).eval()
        self._prompts = int(settings["prompts"])
        self._dtype = torch.float32

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the keys and shapes that `load` expects."""
        return {key: tuple(value.shape) for key, value in self.net.state_dict().items()}

    def load(self, state: State) -> None:
        """Take the weights, strictly: every key, every shape."""
        self.net.load_state_dict(dict(state), strict=True)

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        self._dtype = torch_dtype(precision)
        self.net.to(device).requires_grad_(False)

    def denoise(
        self,
        noisy: Tensor,
        *,
        draws: Draws,
        context: Study | None = None,
        on_part: Callable[[float], None] | None = None,
    ) -> Tensor:
        """Denoise (1, C, H, W) float32, H and W multiples of 32, once for each prompt."""
        import torch

        from denoisekit.nets.promptsid_fast import denoise

        with torch.inference_mode():
            prompts = self.prompts([noisy], draws.seed) if context is None else context.prompts
            total = torch.zeros_like(noisy)
            for index, prompt in enumerate(prompts):
                known = None if context is None else context.statistics[index]

                def tick(part: float, index: int = index) -> None:
                    if on_part is not None:
                        on_part((index + part) / len(prompts))

                total += denoise(self.net.denoiser, noisy, prompt, known, self._dtype, tick)[0]
            return total / len(prompts)

    def study(self, parts: Sequence[Tensor], *, seed: int) -> Study:
        """Take prompts and statistics from parts of an image, (1, C, h, w) each, all alike."""
        import torch

        from denoisekit.nets.promptsid_fast import denoise

        with torch.inference_mode():
            prompts = self.prompts(parts, seed)
            joined = torch.cat(list(parts))
            statistics = [
                denoise(self.net.denoiser, joined, prompt, dtype=self._dtype)[1]
                for prompt in prompts
            ]
        return Study(prompts, tuple(statistics))

    def prompts(self, parts: Sequence[Tensor], seed: int) -> Tensor:
        """Draw prompts for an image from parts of it: (prompts, P)."""
        import torch

        pooled = torch.cat([self.net.condition.pooled(part) for part in parts])
        condition = self.net.condition.vector(pooled.mean(0, keepdim=True))
        # On the CPU, so that every device draws the same numbers.
        generator = torch.Generator().manual_seed(seed % 2**63)
        noise = torch.randn(self._prompts, condition.shape[1], generator=generator)
        return self.net.sample(noise.to(condition), condition.expand(self._prompts, -1))


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

    from denoisekit.methods.promptsid_objective import draw_orders, objective

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
    recognise=recognise,
    rename=rename,
    settings=(Setting("prompts", 1, "prompts drawn from the seed, results averaged", 1, 64),),
    recipe=_recipe,
)
