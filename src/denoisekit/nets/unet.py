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
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Variant = Literal["1.02M", "1.00M", "half"]

LEVELS = 5
SLOPE = 0.1


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
