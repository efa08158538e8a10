"""ZS-N2N: a small network learns one half of a noisy image from the other.

Mansour and Heckel, "Zero-Shot Noise2Noise: Efficient Image Denoising without any Data",
CVPR 2023. Written from the paper: two means of diagonal neighbours in every 2x2 cell are
two noisy versions of the image at half its size; a residual network of 48 features learns
each from the other, and to do the same to the whole image as to its halves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTH = 48
STEPS = 2000
RATE = 1e-3
HALVED = 1000
"""Steps after which the rate is halved."""


def denoise(noisy: npt.NDArray[Any], seed: int, steps: int = STEPS) -> npt.NDArray[np.float32]:
    """Fit the network to an image and apply it.

    Parameters
    ----------
    noisy : numpy.ndarray
        (H, W, C) float32 on 0..1, at least 2x2.
    seed : int
        Of the network's beginning.
    steps : int
        As in the paper.
    """
    import torch

    image = torch.from_numpy(np.ascontiguousarray(noisy.transpose(2, 0, 1), np.float32))[None]
    net = network(image.shape[1], seed)
    adam = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.StepLR(adam, HALVED, 0.5)
    # The halves need even sides; the network takes any.
    even = image[:, :, : image.shape[2] // 2 * 2, : image.shape[3] // 2 * 2]
    for _ in range(steps):
        adam.zero_grad()
        loss(net, even).backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
    with torch.no_grad():
        denoised: npt.NDArray[np.float32] = (image - net(image)).clamp(0, 1)[0].numpy()
    return denoised.transpose(1, 2, 0)


def network(channels: int, seed: int) -> nn.Sequential:
    """Return the network that predicts the noise; torch's generator is left alone."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, channels, 1),
        )


def halves(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of both diagonals of every 2x2 cell, (N, C, H/2, W/2) each."""
    a, b = image[:, :, 0::2, 0::2], image[:, :, 0::2, 1::2]
    c, d = image[:, :, 1::2, 0::2], image[:, :, 1::2, 1::2]
    return (b + c) / 2, (a + d) / 2


def loss(net: nn.Module, image: Tensor) -> Tensor:
    """Return the error between the halves, and between halves of the result and results."""
    noisy = halves(image)
    denoised = [half - net(half) for half in noisy]
    whole = halves(image - net(image))

    def distance(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> Tensor:
        errors = [(a - b).square().mean() for a, b in zip(first, second, strict=True)]
        return (errors[0] + errors[1]) / 2

    return distance(noisy, (denoised[1], denoised[0])) + distance(tuple(denoised), whole)
