"""How much of what a network took away was picture."""

from __future__ import annotations

import torch

from denoisekit.choosing import spectrum
from denoisekit.choosing.noise import Noise

DOUBT = 1.7
"""What was taken away counts as picture where it is this many times the noise's variance, in
the mean of neighbouring blocks and frequencies: noise alone rarely is. (Tuned on training
photographs with simulated noise: with 2.5 `sdap.camera` gains 0.1 dB less, and makes a picture
worse; with 1.4 it gains no more.)"""


def picture_share(removed: torch.Tensor, brightness: torch.Tensor, noise: Noise) -> torch.Tensor:
    """Return the part of every coefficient to be given back.

    Parameters
    ----------
    removed : torch.Tensor
        (C, rows, columns, `SIDE`²): coefficients of noisy - denoised.
    brightness : torch.Tensor
        (rows, columns): of the denoised blocks.
    noise : Noise
        Of the picture.

    Returns
    -------
    torch.Tensor
        (C, rows - 2, columns - 2, `SIDE`²) on 0..1: of the blocks inside.
    """
    ratio = removed.square() / noise.at(brightness)
    ratio = spectrum.among_frequencies(spectrum.among_blocks(ratio))
    share = (1 - DOUBT / ratio.clamp_min(DOUBT)).clamp_min(0)
    if len(share) == 3:
        # The noise of colours depends on the colour, and what is lost is hardly ever colour alone.
        share[1:] = torch.minimum(share[1:], share[:1])
    return share
