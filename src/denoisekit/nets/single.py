"""The networks of a single image: a plain one, a U-Net, several averaged; non-local means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 8
"""Most pixels along either axis to what is averaged with a pixel."""

NEAR = 2
"""Pixels around that have to look alike too, along either axis."""

LIKENESS = 0.35
"""Difference, in standard deviations of the noise, at which a pixel counts by 1/e."""


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
        output: Tensor = last(features)
        return noisy - output if self.residual else output


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


class NonLocalMeans(nn.Module):
    """Means of pixels that look alike in a denoised version, averaged with that version.

    A small network knows its own surroundings: it leaves blotches that are wider. Means of
    noisy pixels that look alike have some noise left, those of denoised ones lack detail, and
    the version itself has the blotches: the mean of the three is better than each.

    Parameters
    ----------
    channels, levels : int
        Of the image, and of ``curve``.

    Attributes
    ----------
    curve : Tensor
        (channels, 3, levels): brightness, the darkest first, mean and standard deviation
        of the noise there. Where black or white cut noise off its mean is not 0, and is
        taken away first.

    References
    ----------
    Buades, Coll and Morel, "A Non-Local Algorithm for Image Denoising", CVPR 2005.
    """

    curve: Tensor

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        start = torch.stack([torch.linspace(0, 1, levels), torch.zeros(levels), torch.ones(levels)])
        self.register_buffer("curve", start.repeat(channels, 1, 1))

    def forward(self, noisy: Tensor, denoised: Tensor) -> Tensor:
        """Return a better version than ``denoised``; all (N, channels, H, W) float32."""
        channels = list(enumerate(self.curve))
        bias = [interpolated(c[0], c[1], denoised[:, k]) for k, c in channels]
        seen = torch.stack([_in_deviations(denoised[:, k], c) for k, c in channels], 1)
        values = torch.cat((noisy - torch.stack(bias, 1), denoised), 1)
        noisy_mean, denoised_mean = means(seen, values).chunk(2, 1)
        return (noisy_mean + denoised_mean + denoised) / 3


def _in_deviations(bright: Tensor, curve: Tensor) -> Tensor:
    """Return brightness as so many standard deviations of the noise, which differ with it.

    Beyond the curve noise is as strong as at its ends.
    """
    middles, _, deviations = curve
    slopes = 1 / deviations.clamp_min(1e-4)
    steps = middles.diff() * (slopes[1:] + slopes[:-1]) / 2
    inside = interpolated(middles, F.pad(steps.cumsum(0), (1, 0)), bright)
    below = (bright - middles[0]).clamp_max(0) * slopes[0]
    above = (bright - middles[-1]).clamp_min(0) * slopes[-1]
    return inside + below + above


def interpolated(places: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Return values on straight lines between places, which rise; beyond, those of the ends."""
    inside = at.clamp(places[0], places[-1]).contiguous()
    right = torch.searchsorted(places.contiguous(), inside).clamp_min(1)
    left = right - 1
    share = (inside - places[left]) / (places[right] - places[left]).clamp_min(1e-6)
    found: Tensor = values[left].lerp(values[right], share)
    return found


def means(seen: Tensor, values: Tensor, reach: int = REACH) -> Tensor:
    """Return means of values (N, K, H, W) over pixels that look alike in (N, C, H, W)."""
    total, weights = values.clone(), torch.ones_like(seen[:, :1])
    side = 2 * NEAR + 1
    for here, there in _shifts(reach, *seen.shape[2:]):
        apart = (seen[here] - seen[there]).square().mean(1, keepdim=True)
        near = F.avg_pool2d(apart, side, 1, NEAR, count_include_pad=False)
        weight = torch.exp(near / -(LIKENESS**2))
        for one, other in ((here, there), (there, here)):
            total[one] += weight * values[other]
            weights[one] += weight
    return total / weights


def _shifts(reach: int, height: int, width: int) -> Iterator[tuple[Any, Any]]:
    """Return the slices of an image and of itself moved, each pair of pixels once."""
    for down, right in product(range(reach + 1), range(-reach, reach + 1)):
        if (down, right) > (0, 0) and down < height and abs(right) < width:
            left, over = max(0, -right), max(0, right)
            here = ..., slice(0, height - down), slice(left, width - over)
            there = ..., slice(down, height), slice(over, width - left)
            yield here, there
