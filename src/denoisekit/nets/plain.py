"""A plain network of 3x3 convolutions; one or several, averaged."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Member(nn.Module):
    """Convolutions with ReLUs between them.

    With ``residual`` what they say is taken off the noisy image, and the network begins as the
    identity. Without, it has to learn to show the image at all, and learns its noise last.
    """

    def __init__(self, channels: int, width: int, depth: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        sizes = [channels, *[width] * (depth - 1), channels]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        *hidden, last = self.layers
        for layer in hidden:
            nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu")
            nn.init.zeros_(layer.get_parameter("bias"))
        nn.init.zeros_(last.get_parameter("bias"))
        if residual:  # begins as the identity
            nn.init.zeros_(last.get_parameter("weight"))
        else:
            nn.init.kaiming_normal_(last.get_parameter("weight"), nonlinearity="linear")

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        *hidden, last = self.layers
        features = noisy
        for layer in hidden:
            features = F.relu(layer(features), inplace=True)
        said: Tensor = last(features)
        return noisy - said if self.residual else said


class PlainNet(nn.Module):
    """The mean of several such networks, which differ in their random beginnings.

    Parameters
    ----------
    channels : int
        Of image and result.
    width : int
        Features.
    depth : int
        Convolutions, at least 2; an output pixel sees as many pixels to each side.
    members : int
        Networks.
    residual : bool
        Whether they predict the noise rather than the image.

    Notes
    -----
    Input and output: (N, channels, H, W), any size, any scale, not clamped.
    """

    def __init__(
        self, channels: int, width: int, depth: int, members: int = 1, residual: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            Member(channels, width, depth, residual) for _ in range(members)
        )

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        return torch.stack([member(noisy) for member in self.members]).mean(0)
