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
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
SLOPE = 0.1


class LayerNorm(nn.Module):
    """Normalise the channels of every pixel.

    Parameters
    ----------
    width : int
        Channels.
    bias : bool
        Without it, pixels are divided by their spread but keep their mean.
    """

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        spread = torch.sqrt(x.var(1, keepdim=True, correction=0) + EPSILON)
        weight = self.weight[:, None, None]
        if self.bias is None:
            return x / spread * weight
        return (x - x.mean(1, keepdim=True)) / spread * weight + self.bias[:, None, None]


class Modulation(nn.Module):
    """Scale and shift channels by what the prompt and the mean over the image say."""

    def __init__(self, width: int, prompt: int) -> None:
        super().__init__()
        self.prompt = nn.Linear(prompt, 2 * width, bias=False)
        self.pool = nn.Conv2d(width, 2 * width, 1)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Modulate (N, C, H, W) with prompts (N, P)."""
        pooled = self.pool(x.mean((2, 3), keepdim=True))
        scale, shift = (self.prompt(prompt)[:, :, None, None] * pooled).chunk(2, 1)
        return x * scale + shift


class ChannelAttention(nn.Module):
    """Attention between channels: each is a mixture of those that resemble it over the image."""

    def __init__(self, width: int, heads: int, prompt: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.modulate = Modulation(width, prompt)
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=bias)
        self.depthwise = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=bias)
        self.out = nn.Conv2d(width, width, 1, bias=bias)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        qkv = self.depthwise(self.qkv(self.modulate(x, prompt)))
        q, k, v = qkv.reshape(len(x), 3, self.heads, -1, x.shape[2] * x.shape[3]).unbind(1)
        likeness = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        mixed = (likeness * self.temperature).softmax(-1) @ v
        return self.out(mixed.reshape(x.shape))


class Gate(nn.Module):
    """Feed-forward part: widen, multiply one half by the other, narrow."""

    def __init__(self, width: int, hidden: int, prompt: int, bias: bool) -> None:
        super().__init__()
        self.modulate = Modulation(width, prompt)
        self.wide = nn.Conv2d(width, hidden, 1, bias=bias)
        self.out = nn.Conv2d(hidden // 2, width, 1, bias=bias)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        one, other = self.wide(self.modulate(x, prompt)).chunk(2, 1)
        return self.out(one * other)


class Block(nn.Module):
    """Attention and gate, each normalised first and added to its input."""

    def __init__(
        self, width: int, heads: int, hidden: int, prompt: int, *, bias: bool, norm_bias: bool
    ) -> None:
        super().__init__()
        self.norm_attention = LayerNorm(width, norm_bias)
        self.attention = ChannelAttention(width, heads, prompt, bias)
        self.norm_gate = LayerNorm(width, norm_bias)
        self.gate = Gate(width, hidden, prompt, bias)

    def forward(self, x: Tensor, prompt: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        x = x + self.attention(self.norm_attention(x), prompt)
        return x + self.gate(self.norm_gate(x), prompt)


class Encoder(nn.Module):
    """Sum an image up as one vector.

    Parameters
    ----------
    channels : int
        Of the image.
    features : int
        Of the first layers; the vector has four times as many entries.
    blocks : int
        Residual blocks.
    """

    def __init__(self, channels: int, features: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(16 * channels, features, 3, padding=1)
        self.residual = nn.ModuleList(_Residual(features) for _ in range(blocks))
        widths = (features, 2 * features, 2 * features, 4 * features)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.mlp = nn.ModuleList(nn.Linear(4 * features, 4 * features) for _ in range(2))

    def pooled(self, image: Tensor) -> Tensor:
        """Return the features of (N, C, H, W), averaged over each image: (N, 4 features).

        H and W are multiples of four.
        """
        x = F.leaky_relu(self.first(F.pixel_unshuffle(image, 4)), SLOPE)
        for block in self.residual:
            x = block(x)
        for conv in self.widen:
            x = F.leaky_relu(conv(x), SLOPE)
        return x.mean((2, 3))

    def vector(self, pooled: Tensor) -> Tensor:
        """Return the vector that pooled features stand for."""
        for layer in self.mlp:
            pooled = F.leaky_relu(layer(pooled), SLOPE)
        return pooled

    def forward(self, image: Tensor) -> Tensor:
        """Sum up (N, C, H, W) as (N, 4 features)."""
        return self.vector(self.pooled(image))


class _Residual(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(features, features, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.convs
        return x + second(F.leaky_relu(first(x), SLOPE))


class Denoiser(nn.Module):
    """Two-level transformer whose attention is between channels.

    Everything in it is local (3x3 and 1x1 convolutions) but for what it takes from the
    image as a whole: the prompt, the means of channels, and the attention between them.

    Parameters
    ----------
    config : mapping
        As `denoisekit.methods.promptsid.PUBLISHED`.
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
        As `denoisekit.methods.promptsid.PUBLISHED`.
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
