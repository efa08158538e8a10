"""Self-similarity attention of SS-BSN: pixels look at others that resemble them.

The map is split into interleaved sub-grids, so that no pixel sees the neighbours its
noise is correlated with; within a sub-grid every pixel is replaced by an average of
all pixels, weighted by the cosine similarity of their embedded features.

Source: Han et al., "SS-BSN: Attentive Blind-Spot Network for Self-Supervised Denoising
with Nonlocal Self-Similarity", IJCAI 2023.

`SelfSimilarity` is trained. `FastAttention` computes the same at inference, features last in
memory.
The similarities s of SS-BSN are cosines divided by √width, so they are small, and the
weights exp(s) are nearly 1 + s. That part of the average needs no matrix of all pairs:
Σ (1 + q·k) v = Σ v + q · Σ k v. What remains, s²/2 + s³/6 + …, is some thousandths, and
bf16 has enough digits for it. The whole is as exact as float32 (off by at most some
millionths of the range if all pixels are alike, less than float32 if they differ), and
faster where the processor multiplies bf16 matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from denoisekit.nets.convolution import strips

EPSILON = 1e-8
"""Added to the norm of an embedded pixel before dividing by it."""

CHUNK = 2**19
"""Pairs of pixels whose similarities are held at a time."""

NARROW = 96
"""Below this width similarities are too large for bf16, and for the series to end so soon."""


class SelfSimilarity(nn.Module):
    """Attention among the pixels of each of ``grid`` x ``grid`` interleaved sub-grids.

    Parameters
    ----------
    width : int
        Features of the map, and of the embedding.
    grid : int
        Step of the sub-grids.

    Notes
    -----
    Input and output: (N, width, H, W), any H and W. Every sub-grid holds as many
    pixels as the next: where ``grid`` does not divide a size the map is filled up with
    zeros, and these take part, as in the reference.

    The reference's weights are softmax((q qᵀ + 1) / √width). The 1 cancels in the
    softmax, so the fused attention of torch computes the same, without the matrix of
    all pairs: its memory grows with the number of pixels, not with its square.
    """

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.embed = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_uniform_(self.embed, gain=2**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted averages."""
        height, width = x.shape[2:]
        like = self._split(F.layer_norm(x, x.shape[1:])) @ self.embed
        like = like / (torch.linalg.vector_norm(like, dim=-1, keepdim=True) + EPSILON)
        scale = self.embed.shape[1] ** -0.5
        value = self._split(x)
        # Weights that sum to 1 leave a constant as it is; without it fewer digits are lost.
        shift = value.detach().mean((1, 2), keepdim=True)
        mean = F.scaled_dot_product_attention(like, like, value - shift, scale=scale) + shift
        rows = -(-height // self.grid)
        joined = rearrange(
            mean, "n (a b) (h w) c -> n c (h a) (w b)", a=self.grid, b=self.grid, h=rows
        )
        return joined[:, :, :height, :width]

    def _split(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, sub-grids, pixels of each, C)."""
        height, width = x.shape[2:]
        filled = F.pad(x, (0, -width % self.grid, 0, -height % self.grid))
        return rearrange(filled, "n c (h a) (w b) -> n (a b) (h w) c", a=self.grid, b=self.grid)


class FastAttention:
    """Features plus the average that `SelfSimilarity` makes of them.

    Parameters
    ----------
    attention : SelfSimilarity
        With its weights; left as it is.
    dtype : torch.dtype
        Precision.
    """

    def __init__(self, attention: SelfSimilarity, dtype: torch.dtype) -> None:
        self.grid = attention.grid
        self.embed = attention.embed.detach().to(dtype)
        width = self.embed.shape[1]
        # An older torch cannot be asked: then the fused attention has to do.
        known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        bf16 = self.embed.device.type == "cpu" and known.get("avx512_bf16", False)
        self.average = by_series if bf16 and width >= NARROW else fused

    def over(self, x: Tensor) -> Callable[[Tensor, int], Tensor]:
        """Look at a whole map.

        Parameters
        ----------
        x : torch.Tensor
            (H, W, C).

        Returns
        -------
        callable
            ``attend(x[first::sets], sets)`` gives features plus average of every
            ``sets``-th row, ``sets`` being a divisor of the grid.
        """
        mean, deviation = _mean_and_deviation(x)
        cells = -(-x.shape[0] // self.grid) * -(-x.shape[1] // self.grid)

        def attend(some: Tensor, sets: int) -> Tensor:
            y = torch.empty_like(some)
            step = self.grid // sets
            for top in range(min(step, some.shape[0])):
                for left in range(min(self.grid, some.shape[1])):
                    value = some[top::step, left :: self.grid]
                    flat = value.reshape(-1, value.shape[-1])
                    like = (flat - mean.to(flat)) @ self.embed
                    norm = torch.linalg.vector_norm(like, dim=1, keepdim=True, dtype=mean.dtype)
                    average = self.average(like / (norm + EPSILON * deviation), flat, cells)
                    torch.add(value, average.view(value.shape), out=y[top::step, left :: self.grid])
            return y

        return attend


def fused(like: Tensor, value: Tensor, cells: int) -> Tensor:
    """Return the average of (pixels, C) for each pixel, by similarity of unit vectors."""
    # Zeros that fill sub-grids up to the size of the largest take part.
    query, fill = like.to(value)[None, None], (0, 0, 0, cells - len(value))
    key, full = F.pad(query, fill), F.pad(value[None, None], fill)
    return F.scaled_dot_product_attention(query, key, full)[0, 0]


def by_series(like: Tensor, value: Tensor, cells: int) -> Tensor:
    """Return the same as `fused`, taken apart as said above."""
    pixels, width = value.shape
    value = value.float()
    # Weights that sum to 1 leave a constant as it is; without it fewer digits are lost.
    mean = value.sum(0) / cells
    rest = value - mean
    query = like * width**-0.5
    # The zeros that fill the sub-grid are similar to nothing: their weight is 1.
    total = rest.sum(0) - (cells - pixels) * mean
    average = torch.addmm(total, query, like.t() @ rest)
    weight = query @ like.sum(0) + cells
    # exp(s) - 1 - s ≈ half s² + s³/6 for |s| ≤ 1/√width; half makes up for s⁴/24.
    half = 0.5 + 1 / (48 * width)
    keys = like.t().bfloat16()
    query, rest = query.bfloat16(), rest.bfloat16()
    rows = min(pixels, max(1, CHUNK // pixels))
    room = query.new_empty(2, rows, pixels)
    for top in range(0, pixels, rows):
        some = query[top : top + rows]
        similar, square = room[:, : len(some)]
        torch.mm(some, keys, out=similar)
        torch.mul(similar, similar, out=square)
        square.addcmul_(square, similar, value=1 / (6 * half))
        average[top : top + rows].add_(square @ rest, alpha=half)
        weight[top : top + rows].add_(square.sum(1, dtype=torch.float32), alpha=half)
    return average.div_(weight[:, None]).add_(mean)


def _mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of all values, as layer normalisation has them."""
    mean = x.mean(dtype=torch.float32)
    square = torch.stack([(x[rows].float() - mean).square_().sum() for rows in strips(x)]).sum()
    return mean, (square / x.numel() + 1e-5).sqrt()
