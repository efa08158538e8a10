"""The blind-spot networks of SDAP and SS-BSN.

Two branches look at the image through a convolution whose centre is masked, and go on
with dilated convolutions only: one whose dilation equals the radius of the hole, plus
one, never leads back to the pixel in the hole. So output pixel (i, j) does not depend
on input pixel (i, j), and on noise that is independent between pixels the network can
be trained with the noisy image as its own target.

Source: the network of AP-BSN (Lee et al., CVPR 2022), a light form of D-BSN (Wu et al.,
ECCV 2020). SDAP (Pan et al., ICCV 2023) uses it as it is; SS-BSN (Han et al., IJCAI
2023) has longer blocks, some of them with attention.

Noise of real cameras is correlated between neighbours. Phase (a, b) of an image, its pixels
(a + factor · i, b + factor · j), holds no neighbours, so the correlation is broken, at the price
of detail (pixel-shuffle down-sampling, PD): `to_mosaic` and `to_batch` return phases.

`BlindSpotNet` is trained. `FastBlindSpot` is fast and small at inference; it computes the same,
equal to rounding, but

- keeps few maps: the features of one branch, changed in place, those within its current
  block, and what the first branch hands to the tail. 1x1 convolutions at both ends run
  on strips of rows;
- keeps features last in memory, where 1x1 convolutions are plain matrix products and
  the sub-grids of the attention are cut out without a detour;
- on the processor in float32 takes convolutions apart into fewer products
  (`WinogradConv`). A convolution of dilation d never mixes rows i and j
  where i - j is no multiple of d: the d sets of rows go through a block separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from denoisekit.nets.convolution import DirectConv, Take, WinogradConv, strips
from denoisekit.nets.self_similarity import FastAttention, SelfSimilarity

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


class FastBlindSpot:
    """`BlindSpotNet` for inference.

    Parameters
    ----------
    net : BlindSpotNet
        The network with its weights, on the device where it will run; left as it is.
    dtype : torch.dtype
        Precision of all layers but the first and the last. These stay float32: they
        see and make the image, and bf16 has fewer levels than an 8-bit file.

    Notes
    -----
    Called with (N, channels, H, W) float32, any H and W; returns the same.
    """

    def __init__(self, net: BlindSpotNet, dtype: torch.dtype) -> None:
        self.dtype, self.width = dtype, net.head.out_channels
        count = len(net.branches)
        self.head = _pointwise(net.head, torch.float32)
        self.branches = [_FastBranch(cast("Branch", branch), dtype) for branch in net.branches]
        first, *inner, last = net.tail
        self.join = [_pointwise(first, dtype, part, count) for part in range(count)]
        self.tail = [_pointwise(conv, dtype) for conv in inner]
        self.last = _pointwise(last, torch.float32)

    def __call__(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        return torch.stack([self._one(image.movedim(0, -1)) for image in noisy]).movedim(-1, 1)

    def _one(self, image: Tensor) -> Tensor:
        """(H, W, channels) -> the same."""
        height, width = image.shape[:2]
        denoised = torch.empty_like(image)
        joined = image.new_empty(height, width, self.width, dtype=self.dtype)

        def features(top: int, bottom: int) -> Tensor:
            return F.relu_(self.head(image[top:bottom])).to(self.dtype)

        for index, (branch, join) in enumerate(zip(self.branches, self.join, strict=True)):
            x = branch(features, height, width)
            for rows in strips(x):
                part = join(F.relu_(branch.out(x[rows])))
                if index:
                    part += joined[rows]
                if index + 1 < len(self.branches):
                    joined[rows] = part
                else:
                    denoised[rows] = self._finish(part)
            del x
        return denoised

    def _finish(self, y: Tensor) -> Tensor:
        F.relu_(y)
        for conv in self.tail:
            y = F.relu_(conv(y))
        return self.last(y.float())


class _FastBranch:
    """A branch, up to its last 1x1 convolution."""

    def __init__(self, branch: Branch, dtype: torch.dtype) -> None:
        self.masked = _conv(branch.masked, 1, dtype, branch.masked.masked_weight())
        self.mix = [_pointwise(conv, dtype) for conv in branch.mix]
        self.blocks = [_FastBlock(cast("Block", block), dtype) for block in branch.blocks]
        self.out, self.width = _pointwise(branch.out, dtype), branch.out.out_channels

    def __call__(self, features: Take, height: int, width: int) -> Tensor:
        """Return (H, W, C) for the features of the head."""
        x = features(0, 0).new_empty(height, width, self.width)
        for rows, y in self.masked.rows(features, height):
            for conv in self.mix:
                y = F.relu_(conv(y))
            x[rows] = y
        for block in self.blocks:
            block(x)
        return x


class _FastBlock:
    """A residual block; changes its input into its output."""

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        self.attention = block.attention and FastAttention(block.attention, dtype)
        dilation = cast("nn.Conv2d", block.dilated[0]).dilation[0]
        self.dilated = [_conv(conv, dilation, dtype) for conv in block.dilated]
        self.sets = dilation if isinstance(self.dilated[0], WinogradConv) else 1
        """Sets of rows that do not meet."""
        self.mix = _pointwise(block.mix, dtype)

    def __call__(self, x: Tensor) -> None:
        """Change (H, W, C)."""
        attend = self.attention and self.attention.over(x)
        *before, last = self.dilated
        for first in range(min(self.sets, len(x))):
            x_set = x[first :: self.sets]
            y_set = attend(x_set, self.sets) if attend else x_set
            for conv in before:
                out = torch.empty_like(x_set) if y_set is x_set else y_set
                for rows, y in conv.rows(_rows_of(y_set), len(y_set)):
                    out[rows] = y
                y_set = out
            for rows, y in last.rows(_rows_of(y_set), len(y_set)):
                x_set[rows].add_(self.mix(y))


def _pointwise(
    conv: nn.Module, dtype: torch.dtype, part: int = 0, parts: int = 1
) -> Callable[[Tensor], Tensor]:
    """Return a 1x1 convolution on (..., C), or its part for one of several inputs side by side."""
    weight = conv.get_parameter("weight").detach().flatten(1).chunk(parts, 1)[part]
    bias = None if part else conv.get_parameter("bias").detach().to(dtype)
    return partial(F.linear, weight=weight.to(dtype).contiguous(), bias=bias)


def _conv(
    conv: nn.Module, dilation: int, dtype: torch.dtype, weight: Tensor | None = None
) -> WinogradConv | DirectConv:
    weight = conv.get_parameter("weight") if weight is None else weight
    weight, bias = weight.detach().to(dtype), conv.get_parameter("bias").detach().to(dtype)
    # bf16 has not the digits for differences, and a GPU has faster kernels of its own.
    fewer = dtype == torch.float32 and weight.device.type == "cpu"
    return (WinogradConv if fewer else DirectConv)(weight, bias, dilation)


def _rows_of(x: Tensor) -> Take:
    return lambda top, bottom: x[top:bottom]


def to_mosaic(image: Tensor, factor: int, pad: int) -> Tensor:
    """Lay the phases of an image side by side in one picture, zeros around each.

    Parameters
    ----------
    image : torch.Tensor
        (N, C, H, W), H and W multiples of ``factor``.
    factor : int
        There are factor² phases.
    pad : int
        Zeros on each side of each phase.

    Returns
    -------
    torch.Tensor
        (N, C, H + 2 · factor · pad, W + 2 · factor · pad).
    """
    phases = rearrange(image, "n c (h a) (w b) -> n c a b h w", a=factor, b=factor)
    return rearrange(F.pad(phases, (pad, pad, pad, pad)), "n c a b h w -> n c (a h) (b w)")


def from_mosaic(mosaic: Tensor, factor: int, pad: int) -> Tensor:
    """Undo `to_mosaic`."""
    phases = rearrange(mosaic, "n c (a h) (b w) -> n c a b h w", a=factor, b=factor)
    height, width = phases.shape[-2:]
    inner = phases[..., pad : height - pad, pad : width - pad]
    return rearrange(inner, "n c a b h w -> n c (h a) (w b)")


def to_batch(image: Tensor, factor: int) -> Tensor:
    """Return the phases of (N, C, H, W) as pictures of a batch of N · factor²."""
    return rearrange(image, "n c (h a) (w b) -> (n a b) c h w", a=factor, b=factor)


def from_batch(phases: Tensor, factor: int) -> Tensor:
    """Undo `to_batch`."""
    return rearrange(phases, "(n a b) c h w -> n c (h a) (w b)", a=factor, b=factor)
