"""The layers of Prompt-SID: layer norm, modulation, channel attention, gate, image encoder."""

from __future__ import annotations

from itertools import pairwise

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
