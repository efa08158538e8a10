"""How training begins, where that is ours: near a sensible result instead of at random.

A network then need not learn first what the image is, colour by colour. Those of the
authors begin at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def as_identity(net: Any, channels: int) -> None:
    """Let a `UNet` of 1.02 M return the image, by the skip of full resolution.

    Parameters
    ----------
    net : UNet
        At least ``channels`` wide.
    channels : int
        Of the image.
    """
    _pass_on(net.down[0], channels)
    _pass_on(net.join[0].conv, channels, sources=(net.below[0],))
    _pass_on(net.up[0], channels)


def as_mean(net: Any, channels: int) -> None:
    """Let a `BlindSpotNet` return the mean of each pixel's eight neighbours.

    Parameters
    ----------
    net : BlindSpotNet
        At least twice ``channels`` wide.
    channels : int
        Of the image.
    """
    _pass_on(net.head, channels)
    for branch in net.branches:
        _pass_on(branch.masked, channels, _ring(branch.masked.kernel_size[0]))
        for conv in (*branch.mix, branch.out):
            _pass_on(conv, channels)
        for block in branch.blocks:
            nn.init.zeros_(block.mix.weight)
            nn.init.zeros_(block.mix.bias)
    width = net.head.out_channels
    _pass_on(net.tail[0], channels, sources=range(0, net.tail[0].in_channels, width))
    for conv in net.tail[1:]:
        _pass_on(conv, channels)


def as_mean_around(net: Any, channels: int) -> None:
    """Let an `ATBSN` return the mean of what lies around its hole.

    Of the smallest hole these are a pixel's eight neighbours.

    Parameters
    ----------
    net : ATBSN
        At least half as wide as ``channels``.
    channels : int
        Of the image.
    """
    # Kernels end at their own row, the last one seen before the hole. A corner is seen from
    # two sides, so each of them takes half of it.
    row, own = torch.zeros(3, 3), torch.zeros(3, 3)
    row[2] = torch.tensor([1 / 4, 1 / 2, 1 / 4])
    own[2, 1] = 1
    _pass_on(net.join[0], channels, row, sources=(net.below[0],))
    _pass_on(net.up[0], channels, own)
    width = net.up[0].out_channels
    _pass_on(net.merge[0], channels, sources=range(0, net.merge[0].in_channels, width))
    for conv in net.merge[1:]:
        _pass_on(conv, channels)


def _ring(side: int) -> Tensor:
    kernel = torch.zeros(side, side)
    middle = slice(side // 2 - 1, side // 2 + 2)
    kernel[middle, middle] = 1 / 8
    kernel[side // 2, side // 2] = 0
    return kernel


@torch.no_grad()
def _pass_on(
    conv: nn.Conv2d, channels: int, kernel: Tensor | None = None, sources: Sequence[int] = (0,)
) -> None:
    """Let the first filters pass the image's channels on, and leave the others at random.

    The channels are not negative, so activations leave them as they are. ``kernel`` is what
    the filters do to them, by default nothing; ``sources`` tells where in the input they
    begin, and of several places the mean is taken.
    """
    if kernel is None:
        kernel = torch.zeros(conv.kernel_size)
        kernel[tuple(side // 2 for side in conv.kernel_size)] = 1
    conv.weight[:channels] = 0
    for channel in range(channels):
        for source in sources:
            conv.weight[channel, source + channel] = kernel / len(sources)
    if conv.bias is not None:
        conv.bias[:channels] = 0
