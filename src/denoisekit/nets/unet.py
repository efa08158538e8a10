"""The student of APR-RD: a plain five-level U-Net with nearest upsampling.

Two variants are published under one name, 1.02 M and 1.00 M parameters. Both are
built of 3x3 convolutions with LeakyReLU(0.1); five 2x2 max-pools down, five
nearest upsamplings up, so height and width must be multiples of 32. They differ
in where a level's features are taken for the way up, and in the first and last
layers; see `UNet`.

Source: Kim et al., "APR-RD: Complemental Two Steps for Self-Supervised Real Image
Denoising", AAAI 2025; the network is the student of Chen et al., "Exploring
Asymmetric Tunable Blind-Spots for Self-supervised Denoising in Real-World
Scenarios" (AT-BSN), CVPR 2024.

`UNet` is trained. `BlockUNet` is fast and small at inference; it computes the same, equal to
rounding, but

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

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.convolution import Box, blocks, conv_like, cut, empty, phase_kernel, valid

Variant = Literal["1.02M", "1.00M", "half"]

LEVELS = 5
SLOPE = 0.1

Core = tuple[int, int, int, int]
"""Top, left, bottom and right, the latter two exclusive."""

BLOCK = 256
"""Side of a block in pixels of its level: its features fit in a few megabytes."""

HALO_COST = 0.05
"""Share of the arithmetic that a pixel outside the core takes: mostly the way down."""


class UNet(nn.Module):
    """Five-level U-Net.

    Parameters
    ----------
    variant : {'1.02M', '1.00M', 'half'}
        ``1.02M``: the way up takes each level's features before the pool, and the
        last convolution is linear. ``1.00M``: one more convolution at the start;
        the way up takes the pooled features, and at full resolution the noisy image
        itself; LeakyReLU also after the last convolution. ``half``, ours: as ``1.02M``, but
        it works at half resolution. Four pixels become the channels of one, there is a level
        less, and what comes out is added to the image.
    channels : int
        Channels of image and result.
    width : int
        Features of the way down; the way up has twice as many.

    Notes
    -----
    Input and output: (N, channels, H, W), H and W multiples of 32, values on 0..1,
    not clamped.
    """

    def __init__(self, variant: Variant = "1.02M", channels: int = 3, width: int = 48) -> None:
        super().__init__()
        self.pooled_skips = variant == "1.00M"
        self.unshuffle, self.levels = (2, LEVELS - 1) if variant == "half" else (1, LEVELS)
        wide, channels = 2 * width, channels * self.unshuffle**2
        entry = width if self.pooled_skips else channels
        skip = channels if self.pooled_skips else width
        self.intro = nn.Conv2d(channels, width, 3, padding=1) if self.pooled_skips else None
        self.down = nn.ModuleList(
            nn.Conv2d(width if level else entry, width, 3, padding=1)
            for level in range(self.levels)
        )
        self.bottom = nn.Conv2d(width, width, 3, padding=1)
        self.below = [wide] * (self.levels - 1) + [width]
        self.join = nn.ModuleList(
            _Join(below + (width if level else skip), wide)
            for level, below in enumerate(self.below)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(wide, wide if level else channels, 3, padding=1)
            for level in range(self.levels)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        x = noisy if self.unshuffle == 1 else F.pixel_unshuffle(noisy, self.unshuffle)
        skips = []
        if self.intro is not None:
            skips.append(x)
            x = F.leaky_relu_(self.intro(x), SLOPE)
        for level in range(self.levels):
            x = F.leaky_relu_(self.down[level](x), SLOPE)
            if not self.pooled_skips:
                skips.append(x)
            x = F.max_pool2d(x, 2)
            if self.pooled_skips and level < self.levels - 1:
                skips.append(x)
        x = F.leaky_relu_(self.bottom(x), SLOPE)
        for level in reversed(range(self.levels)):
            x = F.leaky_relu_(self.join[level](x, skips.pop()), SLOPE)
            x = self.up[level](x)
            if level or self.pooled_skips:
                x = F.leaky_relu_(x, SLOPE)
        return x if self.unshuffle == 1 else noisy + F.pixel_shuffle(x, self.unshuffle)


class _Join(nn.Module):
    """3x3 convolution of (upsampled features of the level below, skip features)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        upsampled = F.interpolate(x, scale_factor=2.0, mode="nearest")
        joined: Tensor = self.conv(torch.cat([upsampled, skip], 1))
        return joined


class BlockUNet(nn.Module):
    """`UNet` for inference, working block by block.

    Parameters
    ----------
    unet : UNet or ATBSN
        The network with its weights; left as it is.
    dtype : torch.dtype
        Precision of all layers but the last of `UNet`. That one stays float32: its output is
        the image, and bf16 has fewer levels than an 8-bit file.
    above : int
        Rows above its own that a 3x3 convolution sees: 1, or 2 where it looks upwards only, as
        those of `ATBSN` do. Pools look up too then.

    Notes
    -----
    Input (N, channels, H, W) float32, H and W multiples of 32; output the same.
    """

    def __init__(self, unet: Any, dtype: torch.dtype, above: int = 1) -> None:
        super().__init__()
        self.dtype, self.above = dtype, above
        self.pooled_skips = unet.pooled_skips
        self.unshuffle, self.levels = unet.unshuffle, unet.levels
        self.intro = None if unet.intro is None else valid(unet.intro, dtype)
        self.down = nn.ModuleList(valid(conv, dtype) for conv in unet.down)
        self.bottom = valid(unet.bottom, dtype)
        self.join = nn.ModuleList(
            _SplitJoin(getattr(join, "conv", join), below, dtype, above)
            for join, below in zip(unet.join, unet.below, strict=True)
        )
        self.up = nn.ModuleList(
            valid(conv, dtype if level or above > 1 else torch.float32)
            for level, conv in enumerate(unet.up)
        )
        self.eval().requires_grad_(False)

    def forward(self, noisy: Tensor, core: Core | None = None) -> Tensor:
        """Denoise (N, channels, H, W); return the core alone, where one is named."""
        kept = Box(*(core or (0, 0, *noisy.shape[2:])))
        if self.unshuffle == 1:
            return self.features(noisy, kept)
        needed = kept.even().half()
        x = self.features(F.pixel_unshuffle(noisy, self.unshuffle), needed)
        origin = 2 * needed.top, 2 * needed.left
        return cut(noisy, kept) + cut(F.pixel_shuffle(x, self.unshuffle), kept, origin)

    def features(self, image: Tensor, needed: Box, stop: int = 0) -> Tensor:
        """Go down and up again, to a level; return a box of its features.

        The way up is gone at each level as far as the box sees: an output pixel sees a
        hundred pixels to each side through the small levels, and a few through the large ones.
        """
        x = image.to(self.dtype, memory_format=torch.channels_last)
        skips = [x]
        for level in range(self.levels):
            x, features = self._encode(level, x)
            skips.append(x if self.pooled_skips else features)
        x = F.leaky_relu_(self.bottom(cut(x, self.reach(Box(0, 0, *x.shape[2:])))), SLOPE)
        if not self.pooled_skips:
            del skips[1]
        boxes = [needed]
        for skip in skips[stop : self.levels - 1]:
            height, width = skip.shape[2:]
            half = self.reach(boxes[-1]).even().clip(height, width).half()
            boxes.append(self._reach_below(half).clip(height // 2, width // 2))
        origin = (0, 0)
        for level in reversed(range(stop, self.levels)):
            box = boxes.pop()
            x = self.decode(level, x, origin, skips[level], box)
            origin = box.top, box.left
        return x

    def reach(self, box: Box) -> Box:
        """Return what a 3x3 convolution needs for a box."""
        return Box(box.top - self.above, box.left - 1, box.bottom + 2 - self.above, box.right + 1)

    def _reach_below(self, half: Box) -> Box:
        """Return what a join needs of the level below, for a box there."""
        return Box(half.top - 1, half.left - 1, half.bottom + 2 - self.above, half.right + 1)

    def _first(self, image: Tensor, box: Box) -> Tensor:
        """Features of the first level before its pool, of a box inside the image."""
        if self.intro is None:
            return F.leaky_relu_(self.down[0](cut(image, self.reach(box))), SLOPE)
        inner = self.reach(box).clip(*image.shape[2:])
        x = F.leaky_relu_(self.intro(cut(image, self.reach(inner))), SLOPE)
        x = cut(x, self.reach(box), (inner.top, inner.left))
        return F.leaky_relu_(self.down[0](x), SLOPE)

    def _encode(self, level: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a level's pooled features and, where the way up wants them, all of them."""
        height, width = x.shape[2:]
        channels = self.bottom.in_channels
        keep = level > 0 and not self.pooled_skips
        pooled = empty(x, channels, height // 2, width // 2)
        features = empty(x, channels, height, width) if keep else x
        for box in blocks(height, width, BLOCK):
            seen = box.moved(1 - self.above, 0)
            known = seen.clip(height, width)
            if level == 0:
                y = self._first(x, known)
            else:
                y = F.leaky_relu_(self.down[level](cut(x, self.reach(known))), SLOPE)
            if keep:
                features[:, :, box.top : box.bottom, box.left : box.right] = y
            small, y = box.half(), cut(y, seen, (known.top, known.left))
            pooled[:, :, small.top : small.bottom, small.left : small.right] = F.max_pool2d(y, 2)
        return pooled, features

    def decode(
        self, level: int, x: Tensor, origin: tuple[int, int], skip: Tensor, needed: Box
    ) -> Tensor:
        """Join a box of a level's skip features with the level below, two convolutions.

        ``x`` is a part of the level below that begins at ``origin``.
        """
        height, width = skip.shape[2:]
        last = self.up[level]
        weight = last.get_parameter("weight")
        size = needed.bottom - needed.top, needed.right - needed.left
        result = empty(skip, weight.shape[0], *size, weight.dtype)
        for block in blocks(*size, BLOCK):
            box = block.moved(needed.top, needed.left)
            # Even borders, so that the box halves.
            inner = self.reach(box).even().clip(height, width)
            around = self.reach(inner)
            if level == 0 and not self.pooled_skips:
                known = around.clip(height, width)
                features = cut(self._first(skip, known), around, (known.top, known.left))
            else:
                features = cut(skip, around)
            y = self.join[level](cut(x, self._reach_below(inner.half()), origin), features)
            y = F.leaky_relu_(y, SLOPE).to(weight.dtype)
            y = last(cut(y, self.reach(box), (inner.top, inner.left)))
            if level or self.pooled_skips:
                y = F.leaky_relu_(y, SLOPE)
            result[:, :, block.top : block.bottom, block.left : block.right] = y
        return result


class _SplitJoin(nn.Module):
    """Convolution of (upsampled small features, skip features); both with what it reaches."""

    def __init__(self, conv: nn.Module, below: int, dtype: torch.dtype, above: int) -> None:
        super().__init__()
        weight, bias = conv.get_parameter("weight").detach(), conv.get_parameter("bias").detach()
        self.above = above
        self.skip = conv_like(weight[:, below:], bias, dtype)
        # Looking up, both output rows see the small row above and their own one, the upper row
        # more of the former.
        rows = (0, 1) if above == 1 else (1, 0)
        self.phases = nn.ModuleList(
            conv_like(phase_kernel(phase_kernel(weight[:, :below], row, 2), column, 3), None, dtype)
            for row in rows
            for column in (0, 1)
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        y: Tensor = self.skip(skip)
        height, width = x.shape[2] - 2 + self.above, x.shape[3] - 1
        for index, conv in enumerate(self.phases):
            row, column = divmod(index, 2)
            top = row if self.above == 1 else 0
            y[:, :, row::2, column::2] += conv(x[:, :, top : top + height, column : column + width])
        return y
