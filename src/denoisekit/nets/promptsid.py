"""Prompt-SID: a transformer for restoration, steered by a prompt from a small diffusion model.

A prompt is a vector that says what an image is made of. In training it comes from the
image's own sub-sampled pixels (`PromptSID.structural_prompt`); a diffusion model of four
steps learns to make it from nothing but the noisy image (`PromptSID.condition`), and does
so when the image is denoised. The prompt scales and shifts the channels of every layer of
the `Denoiser`.

Source: Li et al., "Prompt-SID: Learning Structural Representation Prompt via Latent
Diffusion for Single-Image Denoising", AAAI 2025. Where paper and published code disagree,
this is the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.promptsid_parts import SLOPE, Block, Encoder


class Denoiser(nn.Module):
    """Two-level transformer whose attention is between channels.

    Everything in it is local (3x3 and 1x1 convolutions) but for what it takes from the
    image as a whole: the prompt, the means of channels, and the attention between them.

    Parameters
    ----------
    config : mapping
        As `denoisekit.methods.promptsid_names.PUBLISHED`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, channels = config["width"], config["channels"]
        (outer, inner), (few, many) = config["blocks"], config["heads"]

        def blocks(count: int, width: int, heads: int) -> nn.ModuleList:
            return nn.ModuleList(
                Block(
                    width,
                    heads,
                    round(width * config["expansion"]),
                    4 * config["features"],
                    bias=config["bias"],
                    norm_bias=config["norm_bias"],
                )
                for _ in range(count)
            )

        self.first = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.encode = blocks(outer, width, few)
        self.down = nn.Conv2d(width, width // 2, 3, padding=1, bias=False)
        self.bottom = blocks(inner, 2 * width, many)
        self.up = nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False)
        self.decode = blocks(outer, 2 * width, many)
        self.refine = blocks(config["refine_blocks"], 2 * width, few)
        self.last = nn.Conv2d(2 * width, channels, 3, padding=1, bias=config["bias"])

    def forward(self, noisy: Tensor, prompt: Tensor) -> Tensor:
        """Denoise (N, C, H, W), H and W even, with prompts (N, 4 features)."""
        x = self.first(noisy)
        for block in self.encode:
            x = block(x, prompt)
        skip = x
        x = F.pixel_unshuffle(self.down(x), 2)
        for block in self.bottom:
            x = block(x, prompt)
        x = torch.cat([F.pixel_shuffle(self.up(x), 2), skip], 1)
        for block in (*self.decode, *self.refine):
            x = block(x, prompt)
        return self.last(x) + noisy


class Prior(nn.Module):
    """Guess a prompt from a diffused one, the step, and the condition."""

    def __init__(self, size: int, blocks: int, steps: int) -> None:
        super().__init__()
        self.period = 10 * steps
        self.layers = nn.ModuleList(
            nn.Linear(size if i else 2 * size + 1, size) for i in range(blocks + 1)
        )

    def forward(self, diffused: Tensor, step: int, condition: Tensor) -> Tensor:
        """Map (N, P), a step and (N, P) to (N, P)."""
        time = diffused.new_full((len(diffused), 1), step / self.period)
        x = torch.cat([condition, time, diffused], 1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        return x


@dataclass(frozen=True)
class Schedule:
    """Coefficients of the diffusion, one per step.

    Attributes
    ----------
    keep, noise : tuple of float
        A prompt diffused to a step is ``keep * prompt + noise * normal``.
    guess, stay : tuple of float
        The mean of the step before is ``guess * guessed prompt + stay * diffused``.
    """

    keep: tuple[float, ...]
    noise: tuple[float, ...]
    guess: tuple[float, ...]
    stay: tuple[float, ...]

    @staticmethod
    def between(start: float, end: float, steps: int) -> Schedule:
        """Return the schedule whose variances' roots are evenly spaced."""
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
        left = (1 - betas).cumprod(0)
        before = torch.cat([left.new_ones(1), left[:-1]])
        columns = (
            left.sqrt(),
            (1 - left).sqrt(),
            betas * before.sqrt() / (1 - left),
            (1 - before) * (1 - betas).sqrt() / (1 - left),
        )
        return Schedule(*(tuple(column.tolist()) for column in columns))


class PromptSID(nn.Module):
    """Denoiser, encoder of prompts for training, and the diffusion that makes them later.

    Parameters
    ----------
    config : mapping
        As `denoisekit.methods.promptsid_names.PUBLISHED`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        channels, features = config["channels"], config["features"]
        self.denoiser = Denoiser(config)
        self.encoder = Encoder(2 * channels, features, config["encoder_blocks"])
        self.condition = Encoder(channels, features, config["encoder_blocks"])
        self.prior = Prior(4 * features, config["prior_blocks"], config["steps"])
        start, end = config["betas"]
        self.schedule = Schedule.between(start, end, config["steps"])

    def structural_prompt(self, sub_image: Tensor, target: Tensor) -> Tensor:
        """Return the prompt of a sub-image and what it is to become: (N, 4 features).

        Both are (N, C, H, W), H and W multiples of four.
        """
        return self.encoder(torch.cat([sub_image, target], 1))

    def diffuse(self, prompt: Tensor, noise: Tensor) -> Tensor:
        """Return the prompt diffused to the last step, where nearly all of it is noise."""
        return prompt * self.schedule.keep[-1] + noise * self.schedule.noise[-1]

    def sample(self, diffused: Tensor, condition: Tensor) -> Tensor:
        """Return the prompt that the diffusion makes of noise (N, P); no noise is added."""
        x = diffused
        for step in reversed(range(len(self.schedule.keep))):
            guessed = self.prior(x, step, condition)
            x = guessed * self.schedule.guess[step] + x * self.schedule.stay[step]
        return x

    def forward(self, noisy: Tensor, noise: Tensor) -> Tensor:
        """Denoise (N, C, H, W), H and W multiples of four, with a prompt made of noise (N, P)."""
        return self.denoiser(noisy, self.sample(noise, self.condition(noisy)))
