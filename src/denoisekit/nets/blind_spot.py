"""The blind-spot networks of SDAP and SS-BSN.

Two branches look at the image through a convolution whose centre is masked, and go on
with dilated convolutions only: one whose dilation equals the radius of the hole, plus
one, never leads back to the pixel in the hole. So output pixel (i, j) does not depend
on input pixel (i, j), and on noise that is independent between pixels the network can
be trained with the noisy image as its own target.

Source: the network of AP-BSN (Lee et al., CVPR 2022), a light form of D-BSN (Wu et al.,
ECCV 2020). SDAP (Pan et al., ICCV 2023) uses it as it is; SS-BSN (Han et al., IJCAI
2023) has longer blocks, some of them with attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.self_similarity import SelfSimilarity

BlockKind = Literal["single", "double", "attention"]

STRIDES = (2, 3)
"""Dilation of the two branches."""


class BlindSpotNet(nn.Module):
    """Two-branch dilated blind-spot network.

    Parameters
    ----------
    channels : int
        Channels of image and result.
    width : int
        Features; even.
    blocks : sequence of {'single', 'double', 'attention'}
        The residual blocks of each branch: with one dilated convolution, with two, with
        two that see the features and their self-similar average.
    grid : int
        Sub-grids of the attention, times the branch's dilation, along each axis.

    Notes
    -----
    Input and output: (N, channels, H, W), any H and W, not clamped. The scale of the
    pixels is the method's.
    """

    def __init__(
        self, channels: int, width: int, blocks: Sequence[BlockKind], grid: int = 2
    ) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, width, 1)
        self.branches = nn.ModuleList(Branch(width, stride, blocks, grid) for stride in STRIDES)
        sizes = (len(STRIDES) * width, width, width // 2, width // 2, channels)
        self.tail = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairwise(sizes))

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        x = F.relu_(self.head(noisy))
        x = torch.cat([branch(x) for branch in self.branches], 1)
        *inner, last = self.tail
        for conv in inner:
            x = F.relu_(conv(x))
        return last(x)


class Branch(nn.Module):
    """A masked convolution, two 1x1 ones, residual blocks, and a last 1x1.

    Parameters
    ----------
    width : int
        Features.
    stride : int
        Dilation of all blocks; the masked kernel has side 2 stride - 1.
    blocks : sequence of {'single', 'double', 'attention'}
        Its residual blocks.
    grid : int
        See `BlindSpotNet`.
    """

    def __init__(self, width: int, stride: int, blocks: Sequence[BlockKind], grid: int) -> None:
        super().__init__()
        self.masked = CentreMaskedConv(width, width, 2 * stride - 1, padding=stride - 1)
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
        self.blocks = nn.ModuleList(
            Block(
                width,
                stride,
                1 if kind == "single" else 2,
                SelfSimilarity(width, grid * stride) if kind == "attention" else None,
            )
            for kind in blocks
        )
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return features in which pixel (i, j) has not seen pixel (i, j) of ``x``."""
        x = F.relu_(self.masked(x))
        for conv in self.mix:
            x = F.relu_(conv(x))
        for block in self.blocks:
            x = block(x)
        return F.relu_(self.out(x))


class Block(nn.Module):
    """x + 1x1(relu(dilated 3x3(… y))), y being x or x + attention(x).

    Parameters
    ----------
    width : int
        Features.
    stride : int
        Dilation.
    convs : int
        Dilated convolutions, each followed by ReLU.
    attention : SelfSimilarity or None
        Added to what the convolutions see.
    """

    def __init__(
        self, width: int, stride: int, convs: int, attention: SelfSimilarity | None
    ) -> None:
        super().__init__()
        self.attention = attention
        self.dilated = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=stride, dilation=stride) for _ in range(convs)
        )
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, width, H, W) for the same."""
        y = x if self.attention is None else x + self.attention(x)
        for conv in self.dilated:
            y = F.relu_(conv(y))
        return x + self.mix(y)


class CentreMaskedConv(nn.Conv2d):
    """Convolution that does not see the pixel in the centre of its kernel.

    The centre of the stored weight may hold anything. It gets a gradient, as in the
    reference, though nothing depends on it.
    """

    hole: Tensor

    def __init__(self, channels_in: int, channels_out: int, side: int, padding: int) -> None:
        super().__init__(channels_in, channels_out, side, padding=padding)
        hole = torch.zeros(side, side)
        hole[side // 2, side // 2] = 1
        self.register_buffer("hole", hole, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve with the centre of the kernel taken as zero."""
        return self._conv_forward(input, self.masked_weight(), self.bias)

    def masked_weight(self) -> Tensor:
        """Return the kernel with its centre at zero."""
        return self.weight - (self.weight * self.hole).detach()
