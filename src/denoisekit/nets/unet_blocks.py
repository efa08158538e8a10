"""The U-Net in the form that is fast and small at inference.

It computes what `denoisekit.nets.unet.UNet` computes, equal to rounding, but

- works through the large levels block by block, so their features live for the
  size of a block only and stay in the processor's cache;
- computes the first level's features again on the way up instead of keeping them:
  they cost 1 % of the arithmetic and would take most of the memory;
- splits each convolution of (upsampled features, skip features) into a sum. A 3x3
  kernel on a nearest-upsampled image meets every pixel twice along each axis, so
  each of the four output phases is a 2x2 convolution of the small image with summed
  weights: 16 products where the plain form takes 36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.unet import LEVELS, SLOPE, UNet

BLOCK = 256
"""Side of a block in pixels of its level: its features fit in a few megabytes."""

_SHARES = {0: 0.58, 1: 0.28}
"""Share of the arithmetic that the way up takes at the two largest levels."""


@dataclass(frozen=True, slots=True)
class _Box:
    top: int
    left: int
    bottom: int
    right: int

    def grow(self, n: int) -> _Box:
        return _Box(self.top - n, self.left - n, self.bottom + n, self.right + n)

    def clip(self, height: int, width: int) -> _Box:
        return _Box(
            max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width)
        )

    def half(self) -> _Box:
        return _Box(self.top // 2, self.left // 2, self.bottom // 2, self.right // 2)


def _blocks(height: int, width: int) -> Iterator[_Box]:
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            yield _Box(top, left, min(top + BLOCK, height), min(left + BLOCK, width))


def _cut(x: Tensor, box: _Box, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """Return the box of a picture whose first pixel is at ``origin``; zeros outside it."""
    top, left = box.top - origin[0], box.left - origin[1]
    bottom, right = box.bottom - origin[0], box.right - origin[1]
    height, width = x.shape[2:]
    inside = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    outside = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return F.pad(inside, outside) if any(outside) else inside


class BlockUNet(nn.Module):
    """`UNet` for inference, working block by block.

    Parameters
    ----------
    unet : UNet
        The network with its weights; left as it is.
    dtype : torch.dtype
        Precision of all layers but the last. That one stays float32: its output is
        the image, and bf16 has fewer levels than an 8-bit file.

    Notes
    -----
    Input (N, channels, H, W) float32, H and W multiples of 32; output the same.
    """

    def __init__(self, unet: UNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.pooled_skips = unet.pooled_skips
        self.intro = None if unet.intro is None else _valid(unet.intro, dtype)
        self.down = nn.ModuleList(_valid(conv, dtype) for conv in unet.down)
        self.bottom = _valid(unet.bottom, dtype)
        self.join = nn.ModuleList(
            _SplitJoin(join.get_submodule("conv"), below, dtype)
            for join, below in zip(unet.join, unet.below, strict=True)
        )
        self.up = nn.ModuleList(
            _valid(conv, dtype if level else torch.float32) for level, conv in enumerate(unet.up)
        )
        self.eval().requires_grad_(False)

    def forward(self, noisy: Tensor, on_part: Callable[[float], None] | None = None) -> Tensor:
        """Denoise (N, channels, H, W); tell ``on_part`` which part of the work is done."""
        image = noisy.to(self.dtype, memory_format=torch.channels_last)
        skips = [image]
        x = image
        for level in range(LEVELS):
            x, features = self._encode(level, x)
            skips.append(x if self.pooled_skips else features)
        x = F.leaky_relu_(self.bottom(F.pad(x, (1, 1, 1, 1))), SLOPE)
        skips = skips[:LEVELS] if self.pooled_skips else [image, *skips[2:]]
        done = 1 - sum(_SHARES.values())
        for level in reversed(range(LEVELS)):
            share = _SHARES.get(level, 0.0)

            def tick(part: float, done: float = done, share: float = share) -> None:
                if on_part is not None and share:
                    on_part(done + share * part)

            x = self._decode(level, x, skips.pop(), tick)
            done += share
        return x

    def _first(self, image: Tensor, box: _Box) -> Tensor:
        """Full-resolution features before the first pool, of a box inside the image."""
        if self.intro is None:
            return F.leaky_relu_(self.down[0](_cut(image, box.grow(1))), SLOPE)
        inner = box.grow(1).clip(*image.shape[2:])
        x = F.leaky_relu_(self.intro(_cut(image, inner.grow(1))), SLOPE)
        return F.leaky_relu_(self.down[0](_cut(x, box.grow(1), (inner.top, inner.left))), SLOPE)

    def _encode(self, level: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a level's pooled features and, where the way up wants them, all of them."""
        height, width = x.shape[2:]
        channels = self.bottom.in_channels
        keep = level > 0 and not self.pooled_skips
        pooled = _empty(x, channels, height // 2, width // 2)
        features = _empty(x, channels, height, width) if keep else x
        for box in _blocks(height, width):
            if level == 0:
                y = self._first(x, box)
            else:
                y = F.leaky_relu_(self.down[level](_cut(x, box.grow(1))), SLOPE)
            if keep:
                features[:, :, box.top : box.bottom, box.left : box.right] = y
            small = box.half()
            pooled[:, :, small.top : small.bottom, small.left : small.right] = F.max_pool2d(y, 2)
        return pooled, features

    def _decode(
        self, level: int, x: Tensor, skip: Tensor, on_part: Callable[[float], None]
    ) -> Tensor:
        """Join a level's skip features with the level below, two convolutions."""
        height, width = skip.shape[2:]
        last = self.up[level]
        weight = last.get_parameter("weight")
        result = _empty(skip, weight.shape[0], height, width, weight.dtype)
        for box in _blocks(height, width):
            # Even borders, so that the box halves; one pixel more than the next layer needs.
            inner = box.grow(2).clip(height, width)
            around = inner.grow(1)
            if level == 0 and not self.pooled_skips:
                known = around.clip(height, width)
                features = _cut(self._first(skip, known), around, (known.top, known.left))
            else:
                features = _cut(skip, around)
            y = self.join[level](_cut(x, inner.half().grow(1)), features)
            y = F.leaky_relu_(y, SLOPE).to(weight.dtype)
            y = last(_cut(y, box.grow(1), (inner.top, inner.left)))
            if level or self.pooled_skips:
                y = F.leaky_relu_(y, SLOPE)
            result[:, :, box.top : box.bottom, box.left : box.right] = y
            on_part((box.top * width + (box.bottom - box.top) * box.right) / (height * width))
        return result


class _SplitJoin(nn.Module):
    """Convolution of (upsampled small features, skip features); both come one pixel larger."""

    def __init__(self, conv: nn.Module, below: int, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = conv.get_parameter("weight").detach(), conv.get_parameter("bias").detach()
        self.skip = _conv(weight[:, below:], bias, dtype)
        self.phases = nn.ModuleList(
            _conv(_phase(_phase(weight[:, :below], row, 2), column, 3), None, dtype)
            for row in (0, 1)
            for column in (0, 1)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        y: Tensor = self.skip(skip)
        height, width = x.shape[2] - 1, x.shape[3] - 1
        for index, conv in enumerate(self.phases):
            row, column = divmod(index, 2)
            part = conv(x[:, :, row : row + height, column : column + width])
            y[:, :, row::2, column::2] += part
        return y


def _phase(kernel: Tensor, phase: int, axis: int) -> Tensor:
    """Sum the three taps along an axis into the two that an output phase sees."""
    first, middle, last = kernel.unbind(axis)
    taps = [first, middle + last] if phase == 0 else [first + middle, last]
    return torch.stack(taps, axis)


def _conv(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Conv2d:
    """Return a convolution without padding, in the layout that the processor prefers."""
    channels_out, channels_in, *kernel = weight.shape
    conv = nn.Conv2d(channels_in, channels_out, (kernel[0], kernel[1]), bias=bias is not None)
    conv.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    conv.to(dtype)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


def _valid(conv: nn.Module, dtype: torch.dtype) -> nn.Conv2d:
    return _conv(conv.get_parameter("weight").detach(), conv.get_parameter("bias").detach(), dtype)


def _empty(
    like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None
) -> Tensor:
    shape = (like.shape[0], channels, height, width)
    return torch.empty(
        shape,
        dtype=dtype or like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )
