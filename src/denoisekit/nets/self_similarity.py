"""Self-similarity attention of SS-BSN: pixels look at others that resemble them.

The map is split into interleaved sub-grids, so that no pixel sees the neighbours its
noise is correlated with; within a sub-grid every pixel is replaced by an average of
all pixels, weighted by the cosine similarity of their embedded features.

Source: Han et al., "SS-BSN: Attentive Blind-Spot Network for Self-Supervised Denoising
with Nonlocal Self-Similarity", IJCAI 2023.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

EPSILON = 1e-8
"""Added to the norm of an embedded pixel before dividing by it."""


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
