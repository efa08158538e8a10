"""The teacher's network in the form that is fast and small at inference.

It computes what `denoisekit.nets.atbsn.denoise_padded` computes with a shift of 1, equal
to rounding, but

- looks from one side after the other, and keeps of each only what it saw at half the
  resolution;
- goes through full resolution block by block: the last two convolutions of all four
  sides, and the 1x1 convolutions that join them, whose 8 x width features never exist
  for the whole image;
- splits the convolutions of (upsampled features, skip features) into a sum, as in
  `denoisekit.nets.unet_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.atbsn import ATBSN, MARGIN, SIDES, moved_away, turned, turned_back
from denoisekit.nets.blocks import Box, blocks, conv_like, cut, empty, phase_kernel, valid
from denoisekit.nets.unet import LEVELS, SLOPE

BLOCK = 128
"""Side of a block in pixels: the joined features of the four sides are many."""

_HALF_SHARE = 0.08
"""Share of the arithmetic that one side takes up to half the resolution."""


@dataclass(frozen=True, slots=True)
class _View:
    """What one side sees: the image turned, and the features at half the resolution."""

    image: Tensor
    half: Tensor


class BlockATBSN(nn.Module):
    """`ATBSN` with its mirrored border, for inference, working block by block.

    Parameters
    ----------
    net : ATBSN
        The network with its weights; left as it is.
    dtype : torch.dtype
        Precision of all layers but the last, which stays float32.

    Notes
    -----
    Input (N, channels, H, W) float32, H and W multiples of 32; output the same.
    """

    def __init__(self, net: ATBSN, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.intro = valid(net.intro, dtype)
        self.down = nn.ModuleList(valid(conv, dtype) for conv in net.down)
        self.bottom = valid(net.bottom, dtype)
        self.join = nn.ModuleList(
            _SplitJoin(join, net.below(level), dtype) for level, join in enumerate(net.join)
        )
        self.up = nn.ModuleList(valid(conv, dtype) for conv in net.up)
        *merge, last = net.merge
        self.merge = nn.ModuleList(valid(conv, dtype) for conv in merge)
        self.last = valid(last, torch.float32)
        self.eval().requires_grad_(False)

    def forward(self, noisy: Tensor, on_part: Callable[[float], None] | None = None) -> Tensor:
        """Denoise (N, channels, H, W); tell ``on_part`` which part of the work is done."""
        tell = on_part or (lambda _: None)
        image = F.pad(noisy, (MARGIN,) * 4, mode="reflect").to(self.dtype)
        views = []
        for side in range(SIDES):
            view = turned(image, side).contiguous(memory_format=torch.channels_last)
            views.append(_View(view, self._at_half(view)))
            tell(_HALF_SHARE * (side + 1))
        height, width = noisy.shape[2:]
        denoised = torch.empty_like(noisy)
        for box in blocks(height, width, BLOCK):
            y = self._joined(views, box.moved(MARGIN, MARGIN))
            denoised[:, :, box.top : box.bottom, box.left : box.right] = y
            done = (box.top * width + (box.bottom - box.top) * box.right) / (height * width)
            tell(SIDES * _HALF_SHARE + (1 - SIDES * _HALF_SHARE) * done)
        return denoised

    def _at_half(self, image: Tensor) -> Tensor:
        """Return the features at half the resolution, of the way up."""
        x = self._first(image)
        skips = [x]
        for conv in list(self.down)[1:]:
            x = F.max_pool2d(moved_away(_see_up(conv, x), 0, 1), 2)
            skips.append(x)
        x = _see_up(self.bottom, x)
        skips.pop()
        for level in range(LEVELS - 1, 0, -1):
            below, skip = F.pad(x, (1, 1, 1, 0)), F.pad(skips.pop(), (1, 1, 2, 0))
            x = _see_up(self.up[level], F.leaky_relu_(self.join[level](below, skip), SLOPE))
        return x

    def _first(self, image: Tensor) -> Tensor:
        """Return the pooled features of the first level."""
        height, width = image.shape[2:]
        pooled = empty(image, self.intro.out_channels, height // 2, width // 2)
        for box in blocks(height, width, 2 * BLOCK):
            seen = box.moved(-1, 0)  # the pool looks up too
            inner = _reach(seen).clip(height, width)
            x = F.leaky_relu_(self.intro(cut(image, _reach(inner))), SLOPE)
            known = seen.clip(height, width)
            x = F.leaky_relu_(self.down[0](cut(x, _reach(known), (inner.top, inner.left))), SLOPE)
            small = box.half()
            pooled[:, :, small.top : small.bottom, small.left : small.right] = F.max_pool2d(
                cut(x, seen, (known.top, known.left)), 2
            )
        return pooled

    def _joined(self, views: list[_View], box: Box) -> Tensor:
        """Denoise a box of the padded image, from what the four sides saw of it."""
        height, width = views[0].image.shape[2:]
        seen = []
        for side, view in enumerate(views):
            above = _turned_box(box, side, height, width).moved(-1, 0)
            seen.append(turned_back(self._full(view, above), side))
        x = torch.cat(seen, 1).contiguous(memory_format=torch.channels_last)
        for conv in self.merge:
            x = F.leaky_relu_(conv(x), SLOPE)
        denoised: Tensor = self.last(x.float())
        return denoised

    def _full(self, view: _View, box: Box) -> Tensor:
        """Return the features at full resolution, of a box inside the turned image."""
        inner = _reach(box).even().clip(*view.image.shape[2:])
        half = inner.half()
        below = cut(view.half, Box(half.top - 1, half.left - 1, half.bottom, half.right + 1))
        y = F.leaky_relu_(self.join[0](below, cut(view.image, _reach(inner))), SLOPE)
        y = self.up[0](cut(y, _reach(box), (inner.top, inner.left)))
        return F.leaky_relu_(y, SLOPE)


class _SplitJoin(nn.Module):
    """Convolution of (upsampled features, skip features) that looks up.

    The former come with a pixel more to the left, right and above, the latter with a
    second one above.
    """

    def __init__(self, conv: nn.Module, below: int, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = conv.get_parameter("weight").detach(), conv.get_parameter("bias").detach()
        self.skip = conv_like(weight[:, below:], bias, dtype)
        # Both output rows see the small row above and their own one, the upper row more
        # of the former.
        self.phases = nn.ModuleList(
            conv_like(
                phase_kernel(phase_kernel(weight[:, :below], 1 - row, 2), column, 3), None, dtype
            )
            for row in (0, 1)
            for column in (0, 1)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        y: Tensor = self.skip(skip)
        width = x.shape[3] - 1
        for index, conv in enumerate(self.phases):
            row, column = divmod(index, 2)
            y[:, :, row::2, column::2] += conv(x[:, :, :, column : column + width])
        return y


def _see_up(conv: nn.Module, x: Tensor) -> Tensor:
    return F.leaky_relu_(conv(F.pad(x, (1, 1, 2, 0))), SLOPE)


def _reach(box: Box) -> Box:
    """Return what a 3x3 convolution that looks up needs for a box."""
    return Box(box.top - 2, box.left - 1, box.bottom, box.right + 1)


def _turned_box(box: Box, side: int, height: int, width: int) -> Box:
    """Return where a box of a picture lies in the picture that `turned` gives."""
    top, left, bottom, right = box.top, box.left, box.bottom, box.right
    return (
        box,
        Box(left, height - bottom, right, height - top),
        Box(height - bottom, width - right, height - top, width - left),
        Box(width - right, top, width - left, bottom),
    )[side]
