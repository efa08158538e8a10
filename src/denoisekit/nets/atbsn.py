"""The teacher of APR-RD: a blind-spot U-Net with a hole of adjustable size.

Every convolution and pool of the U-Net looks only upwards: its kernel ends at its own
row. Moving the features down by ``shift`` rows afterwards takes the own row, and
``shift - 1`` rows above it, out of sight. The image is seen from its four sides in this
way, and 1x1 convolutions join the four, so an output pixel depends on all the image but
a square of ``2 * shift - 1`` pixels around it. A shift of 0 sees everything.

Source: Chen et al., "Exploring Asymmetric Tunable Blind-Spots for Self-supervised
Denoising in Real-World Scenarios" (AT-BSN), CVPR 2024; Kim et al., "APR-RD", AAAI 2025.

`ATBSN` is trained. `BlockATBSN` is fast and small at inference; it computes what `denoise_padded`
does with a shift of 1, equal to rounding, but

- looks from one side after the other, and keeps of each only what it saw at half the
  resolution;
- goes through full resolution block by block: the last two convolutions of all four
  sides, and the 1x1 convolutions that join them, whose 8 x width features never exist
  for the whole image;
- splits the convolutions of (upsampled features, skip features) into a sum, as `BlockUNet` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoisekit.nets.convolution import Box, blocks, valid
from denoisekit.nets.unet import LEVELS, SLOPE, BlockUNet

SIDES = 4
MARGIN = 16
"""Width of the border of mirrored pixels that an image gets, so that pixels at its edge
see something beyond it."""

BLOCK = 128
"""Side of a block in pixels: the joined features of the four sides are many."""


class ATBSN(nn.Module):
    """Blind-spot U-Net, looking from four sides.

    Parameters
    ----------
    channels : int
        Channels of image and result.
    width : int
        Features of the way down; the way up has twice as many.

    Notes
    -----
    Input and output: (N, channels, H, W), H and W multiples of 32, values on 0..1, not
    clamped. They need not be square: the upright and the lying views are batches of
    their own.
    """

    def __init__(self, channels: int = 3, width: int = 48) -> None:
        super().__init__()
        wide = 2 * width
        self.pooled_skips, self.unshuffle, self.levels = True, 1, LEVELS  # as of a `UNet`
        self.below = [wide] * (LEVELS - 1) + [width]
        self.intro = nn.Conv2d(channels, width, 3)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3) for _ in range(LEVELS))
        self.bottom = nn.Conv2d(width, width, 3)
        self.join = nn.ModuleList(
            nn.Conv2d(below + (width if level else channels), wide, 3)
            for level, below in enumerate(self.below)
        )
        self.up = nn.ModuleList(nn.Conv2d(wide, wide, 3) for _ in range(LEVELS))
        self.merge = nn.ModuleList(
            (
                nn.Conv2d(SIDES * wide, SIDES * wide, 1),
                nn.Conv2d(SIDES * wide, wide, 1),
                nn.Conv2d(wide, channels, 1),
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.kaiming_normal_(self.merge[-1].get_parameter("weight"), nonlinearity="linear")

    def forward(self, noisy: Tensor, shift: int = 1) -> Tensor:
        """Denoise (N, channels, H, W) without seeing ``2 * shift - 1`` pixels square."""
        return self.joined(self.views(noisy), shift)

    def views(self, noisy: Tensor) -> list[Tensor]:
        """Return the features that each of the four sides sees, turned upright, not shifted.

        Parameters
        ----------
        noisy : Tensor
            (N, channels, H, W).

        Returns
        -------
        list of Tensor
            Four of (N, 2 * width, H, W).
        """
        found: list[Tensor] = [noisy] * SIDES
        for side in (0, 1):  # two views a batch: they have one shape
            seen = self._looking_up(torch.cat([turned(noisy, side), turned(noisy, side + 2)]))
            for view, features in zip((side, side + 2), seen.chunk(2), strict=True):
                found[view] = turned_back(features, view)
        return found

    def joined(self, views: Sequence[Tensor], shift: int) -> Tensor:
        """Return the denoised image for a shift of 0 or more, from what `views` returned."""
        x = torch.cat([moved_away(view, side, shift) for side, view in enumerate(views)], 1)
        for conv in list(self.merge)[:-1]:
            x = F.leaky_relu_(conv(x), SLOPE)
        denoised: Tensor = self.merge[-1](x)
        return denoised

    def _looking_up(self, noisy: Tensor) -> Tensor:
        x = _see_up(self.intro, noisy)
        skips = [noisy]
        for conv in self.down:
            x = F.max_pool2d(moved_away(_see_up(conv, x), 0, 1), 2)
            skips.append(x)
        x = _see_up(self.bottom, x)
        skips.pop()
        for level in reversed(range(LEVELS)):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = _see_up(self.join[level], torch.cat([x, skips.pop()], 1))
            x = _see_up(self.up[level], x)
        return x


def denoise_padded(net: ATBSN, noisy: Tensor, shifts: Sequence[int] = (1,)) -> list[Tensor]:
    """Denoise with a mirrored border, for several shifts at the price of little more than one.

    Parameters
    ----------
    net : ATBSN
        The network.
    noisy : Tensor
        (N, channels, H, W), H and W multiples of 32.
    shifts : sequence of int
        0 or more each.

    Returns
    -------
    list of Tensor
        An image like ``noisy`` for each shift.
    """
    views = net.views(F.pad(noisy, (MARGIN,) * 4, mode="reflect"))
    return [net.joined(views, shift)[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN] for shift in shifts]


def turned(x: Tensor, side: int) -> Tensor:
    """Return the picture turned by ``side`` quarters, so that this side is on top."""
    return torch.rot90(x, -side, (2, 3))


def turned_back(x: Tensor, side: int) -> Tensor:
    """Undo `turned`."""
    return torch.rot90(x, side, (2, 3))


def moved_away(x: Tensor, side: int, steps: int) -> Tensor:
    """Move an upright picture away from a side; zeros follow."""
    left, right, top, bottom = ((0, 0, 1, -1), (1, -1, 0, 0), (0, 0, -1, 1), (-1, 1, 0, 0))[side]
    pad = (left * steps, right * steps, top * steps, bottom * steps)
    return F.pad(x, pad) if steps else x


def _see_up(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a 3x3 convolution whose kernel's last row lies on the output's own row."""
    y: Tensor = conv(F.pad(x, (1, 1, 2, 0)))
    return F.leaky_relu_(y, SLOPE)


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
        self.trunk = BlockUNet(net, dtype, above=2)
        *merge, last = net.merge
        self.merge = nn.ModuleList(valid(conv, dtype) for conv in merge)
        self.last = valid(last, torch.float32)
        self.eval().requires_grad_(False)

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        image = F.pad(noisy, (MARGIN,) * 4, mode="reflect").to(self.dtype)
        height, width = image.shape[2:]
        views = []  # of each side: the image turned, and the features at half the resolution
        for side in range(SIDES):
            view = turned(image, side).contiguous(memory_format=torch.channels_last)
            half = Box(0, 0, view.shape[2] // 2, view.shape[3] // 2)
            views.append((view, self.trunk.features(view, half, stop=1)))
        denoised = torch.empty_like(noisy)
        for box in blocks(noisy.shape[2], noisy.shape[3], BLOCK):
            seen = []
            for side, (view, half_features) in enumerate(views):
                place = _turned_box(box.moved(MARGIN, MARGIN), side, height, width).moved(-1, 0)
                features = self.trunk.decode(0, half_features, (0, 0), view, place)
                seen.append(turned_back(features, side))
            x = torch.cat(seen, 1).contiguous(memory_format=torch.channels_last)
            for conv in self.merge:
                x = F.leaky_relu_(conv(x), SLOPE)
            denoised[:, :, box.top : box.bottom, box.left : box.right] = self.last(x.float())
        return denoised


def _turned_box(box: Box, side: int, height: int, width: int) -> Box:
    """Return where a box of a picture lies in the picture that `turned` gives."""
    top, left, bottom, right = box.top, box.left, box.bottom, box.right
    return (
        box,
        Box(left, height - bottom, right, height - top),
        Box(height - bottom, width - right, height - top, width - left),
        Box(width - right, top, width - left, bottom),
    )[side]
