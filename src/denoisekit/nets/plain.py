"""The small networks of a single image: a plain one, and a U-Net; one or several, averaged."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plain(nn.Module):
    """Convolutions of 3x3 pixels with ReLUs between them.

    Parameters
    ----------
    channels : int
        Of image and result.
    width : int
        Features.
    depth : int
        Convolutions, at least 2; an output pixel sees as many pixels to each side.
    residual : bool
        True: they say what is noise, and the network begins as the identity. False: it has to
        learn to show the image at all, and learns its noise last.
    bent : bool
        Whether it sees values beyond white as their logarithms, see `bent_in`.

    Notes
    -----
    Input and output: (N, channels, H, W), any size, any scale, not clamped.
    """

    def __init__(
        self, channels: int, width: int, depth: int, residual: bool, bent: bool = False
    ) -> None:
        super().__init__()
        self.residual, self.bent = residual, bent
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
        features = bent_in(noisy) if self.bent else noisy
        for layer in hidden:
            features = F.relu(layer(features), inplace=True)
        said: Tensor = last(features)
        return noisy - said if self.residual else said


class Pyramid(nn.Module):
    """A U-Net of three resolutions that says what is noise, and begins as the identity.

    It sees 21 pixels and more to each side, for about the time of as wide a `Plain`.

    Parameters
    ----------
    channels : int
        Of image and result.
    width : int
        Features.
    bent : bool
        As of `Plain`.

    Notes
    -----
    Input and output: (N, channels, H, W), H and W multiples of 4, any scale, not clamped.
    """

    def __init__(self, channels: int, width: int, bent: bool = False) -> None:
        super().__init__()
        self.bent = bent
        self.fine, self.middle = _row(channels, width), _row(width, width)
        self.coarse = _row(width, width)
        self.middle_up, self.fine_up = _row(2 * width, width), _row(2 * width, width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.get_parameter("bias"))

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        fine = self.fine(bent_in(noisy) if self.bent else noisy)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        middle = self.middle_up(torch.cat((_twice(coarse), middle), 1))
        fine = self.fine_up(torch.cat((_twice(middle), fine), 1))
        return noisy - self.last(fine)


def bent_in(noisy: Tensor) -> Tensor:
    """Return values as they are up to white, and beyond it 1 more than their logarithms.

    Stars that reach a hundred times as far would else outweigh the sky in all that is learned.
    """
    far = noisy.abs().clamp(min=1.0)
    return noisy / far * (1 + far.log())


def _row(taken: int, width: int) -> nn.Sequential:
    """Return two convolutions, each with its LeakyReLU."""
    layers: list[nn.Module] = []
    for size in (taken, width):
        conv = nn.Conv2d(size, width, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.get_parameter("bias"))
        layers += conv, nn.LeakyReLU(0.1, inplace=True)
    return nn.Sequential(*layers)


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0)


class Mean(nn.Module):
    """The mean of several networks, which differ in their random beginnings.

    Parameters
    ----------
    members : iterable of torch.nn.Module
        They take and return (N, channels, H, W).
    full : torch.nn.Module, optional
        One more, for the image itself where they see its phases; not part of `forward`.
    similar : torch.nn.Module, optional
        What betters the result, see `NonLocalMeans`; not part of `forward` either.
    """

    def __init__(
        self,
        members: Iterable[nn.Module],
        full: nn.Module | None = None,
        similar: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.members, self.full, self.similar = nn.ModuleList(members), full, similar

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (N, channels, H, W)."""
        return torch.stack([member(noisy) for member in self.members]).mean(0)
