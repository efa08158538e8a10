"""Non-local means that go by a denoised version of the image, and better it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
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
