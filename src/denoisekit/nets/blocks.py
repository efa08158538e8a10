"""Pieces of networks that go through an image block by block, without padding of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of an image; it may reach beyond it. ``bottom`` and ``right`` are outside."""

    top: int
    left: int
    bottom: int
    right: int

    def grow(self, n: int) -> Box:
        """Return the box with ``n`` pixels more on each side."""
        return Box(self.top - n, self.left - n, self.bottom + n, self.right + n)

    def moved(self, down: int, right: int) -> Box:
        """Return the box at another place."""
        return Box(self.top + down, self.left + right, self.bottom + down, self.right + right)

    def even(self) -> Box:
        """Return the smallest box around it whose borders are even."""
        return Box(
            self.top // 2 * 2,
            self.left // 2 * 2,
            -(-self.bottom // 2) * 2,
            -(-self.right // 2) * 2,
        )

    def clip(self, height: int, width: int) -> Box:
        """Return the part inside an image."""
        return Box(
            max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width)
        )

    def half(self) -> Box:
        """Return the box, whose borders are even, in an image of half the size."""
        return Box(self.top // 2, self.left // 2, self.bottom // 2, self.right // 2)


def blocks(height: int, width: int, side: int) -> Iterator[Box]:
    """Cut an image into boxes of at most ``side`` pixels square, row by row."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Box(top, left, min(top + side, height), min(left + side, width))


def cut(x: Tensor, box: Box, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """Return the box of a picture whose first pixel is at ``origin``; zeros outside it."""
    top, left = box.top - origin[0], box.left - origin[1]
    bottom, right = box.bottom - origin[0], box.right - origin[1]
    height, width = x.shape[2:]
    inside = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    outside = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return F.pad(inside, outside) if any(outside) else inside


def phase_kernel(kernel: Tensor, phase: int, axis: int) -> Tensor:
    """Sum the three taps along an axis into the two that meet different pixels.

    On a nearest-upsampled image a 3x3 kernel meets every pixel twice along each axis:
    the first tap alone and the other two together (phase 0), or the first two together
    and the last alone (phase 1).
    """
    first, middle, last = kernel.unbind(axis)
    taps = [first, middle + last] if phase == 0 else [first + middle, last]
    return torch.stack(taps, axis)


def conv_like(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Conv2d:
    """Return a convolution without padding, in the layout that the processor prefers."""
    channels_out, channels_in, *kernel = weight.shape
    conv = nn.Conv2d(channels_in, channels_out, (kernel[0], kernel[1]), bias=bias is not None)
    conv.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    conv.to(dtype)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    return conv


def valid(conv: nn.Module, dtype: torch.dtype) -> nn.Conv2d:
    """Return the same convolution without padding."""
    weight, bias = conv.get_parameter("weight").detach(), conv.get_parameter("bias").detach()
    return conv_like(weight, bias, dtype)


def empty(
    like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None
) -> Tensor:
    """Return memory for features of as many images."""
    return torch.empty(
        (like.shape[0], channels, height, width),
        dtype=dtype or like.dtype,
        device=like.device,
        memory_format=torch.channels_last,
    )
