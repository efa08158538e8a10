"""The blind-spot networks in the form that is fast and small at inference.

It computes what `denoisekit.nets.blind_spot.BlindSpotNet` computes, equal to rounding,
but

- keeps few maps: the features of one branch, changed in place, those within its current
  block, and what the first branch hands to the tail. 1x1 convolutions at both ends run
  on strips of rows;
- keeps features last in memory, where 1x1 convolutions are plain matrix products and
  the sub-grids of the attention are cut out without a detour;
- on the processor in float32 takes convolutions apart into fewer products
  (`denoisekit.nets.winograd`). A convolution of dilation d never mixes rows i and j
  where i - j is no multiple of d: the d sets of rows go through a block separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.blind_spot import BlindSpotNet, Block, Branch
from denoisekit.nets.self_similarity_fast import FastAttention, strip_height, strips
from denoisekit.nets.winograd import Take, WinogradConv, slide


class _Conv(Protocol):
    """ReLU of a convolution, as `WinogradConv` does it."""

    def rows(self, take: Take, height: int) -> Iterator[tuple[slice, Tensor]]: ...


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
    Called with (N, channels, H, W) float32, any H and W; returns the same. Tells
    ``on_part``, where given, which part of the work is done, block by block.
    """

    def __init__(self, net: BlindSpotNet, dtype: torch.dtype) -> None:
        self.dtype = dtype
        count = len(net.branches)
        self.head = _Pointwise(net.head, torch.float32)
        self.branches = [_FastBranch(cast("Branch", branch), dtype) for branch in net.branches]
        first, *inner, last = net.tail
        self.join = [_Pointwise(first, dtype, part, count) for part in range(count)]
        self.tail = [_Pointwise(conv, dtype) for conv in inner]
        self.last = _Pointwise(last, torch.float32)

    def __call__(self, noisy: Tensor, on_part: Callable[[float], None] | None = None) -> Tensor:
        """Denoise (N, channels, H, W)."""
        blocks = len(noisy) * sum(len(branch.blocks) for branch in self.branches)
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if on_part is not None:
                on_part(done / blocks)

        denoised = [self._one(image.movedim(0, -1), tick) for image in noisy]
        return torch.stack(denoised).movedim(-1, 1)

    def _one(self, image: Tensor, tick: Callable[[], None]) -> Tensor:
        """(H, W, channels) -> the same."""
        height, width = image.shape[:2]
        denoised = torch.empty_like(image)
        joined = image.new_empty(height, width, self.join[0].channels, dtype=self.dtype)

        def features(top: int, bottom: int) -> Tensor:
            return F.relu_(self.head(image[top:bottom])).to(self.dtype)

        for index, (branch, join) in enumerate(zip(self.branches, self.join, strict=True)):
            x = branch(features, height, width, tick)
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
        self.mix = [_Pointwise(conv, dtype) for conv in branch.mix]
        self.blocks = [_FastBlock(cast("Block", block), dtype) for block in branch.blocks]
        self.out = _Pointwise(branch.out, dtype)

    def __call__(self, features: Take, height: int, width: int, tick: Callable[[], None]) -> Tensor:
        """Return (H, W, C) for the features of the head."""
        x = features(0, 0).new_empty(height, width, self.out.channels)
        for rows, y in self.masked.rows(features, height):
            for conv in self.mix:
                y = F.relu_(conv(y))
            x[rows] = y
        for block in self.blocks:
            block(x)
            tick()
        return x


class _FastBlock:
    """A residual block; changes its input into its output."""

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        self.attention = block.attention and FastAttention(block.attention, dtype)
        dilation = cast("nn.Conv2d", block.dilated[0]).dilation[0]
        self.dilated = [_conv(conv, dilation, dtype) for conv in block.dilated]
        self.sets = dilation if isinstance(self.dilated[0], WinogradConv) else 1
        """Sets of rows that do not meet."""
        self.mix = _Pointwise(block.mix, dtype)

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


class _DirectConv:
    """ReLU of a square convolution with zeros around."""

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int) -> None:
        self.dilation = dilation
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = bias

    def rows(self, take: Take, height: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and the result there, as `WinogradConv` does."""
        pad = self.weight.shape[-1] // 2 * self.dilation
        first = take(0, 1)
        count = min(height, max(2 * pad, strip_height(first)))
        known = first.new_zeros(1, count + 2 * pad, *first.shape[1:])

        def fill(rows: Tensor, out: Tensor) -> None:
            out[0] = rows

        for rows in slide(take, height, known, pad, fill):
            window = known[:, : rows.stop - rows.start + 2 * pad].movedim(-1, 1)
            y = F.conv2d(window, self.weight, self.bias, 1, (0, pad), self.dilation)
            yield rows, F.relu_(y)[0].movedim(0, -1)


class _Pointwise:
    """A 1x1 convolution on (..., C), or its part for one of several inputs side by side."""

    def __init__(self, conv: nn.Module, dtype: torch.dtype, part: int = 0, parts: int = 1) -> None:
        weight = conv.get_parameter("weight").detach().flatten(1).chunk(parts, 1)[part]
        self.weight = weight.to(dtype).contiguous()
        self.bias = None if part else conv.get_parameter("bias").detach().to(dtype)
        self.channels = len(weight)

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def _conv(
    conv: nn.Module, dilation: int, dtype: torch.dtype, weight: Tensor | None = None
) -> _Conv:
    weight = conv.get_parameter("weight") if weight is None else weight
    weight, bias = weight.detach().to(dtype), conv.get_parameter("bias").detach().to(dtype)
    # bf16 has not the digits for differences, and a GPU has faster kernels of its own.
    fewer = dtype == torch.float32 and weight.device.type == "cpu"
    return (WinogradConv if fewer else _DirectConv)(weight, bias, dilation)


def _rows_of(x: Tensor) -> Take:
    return lambda top, bottom: x[top:bottom]
