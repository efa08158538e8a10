"""How much of what a network took away was picture."""

from __future__ import annotations

import math

import torch

from denoisekit.noise import spectrum
from denoisekit.noise.spectrum import NoiseSpectrum

LIGHT, STRONG = 1 / 255, 8 / 255
"""Standard deviations of noise, on 0..1, and"""
DOUBT = 1.2, 2.5
"""how many times the noise's variance counts as picture there: what was taken away, in the mean
of neighbouring blocks and frequencies, exceeds the one now and then by chance, and the other
hardly ever. Of light noise there is less to gain than to lose. (Tuned on training photographs
with simulated noise, with `sdap.camera`: with 1.2 no lightly noisy picture became worse, with
1.7 one did by 0.1 dB; of strong phone noise 1.7 takes 0.25 dB more than 1.2.)"""


TRUSTED = 12.0
"""The same for the network that noise is measured with: it knows better than a measurement in
one box what is noise, but for what is far beyond it. (6 costs light camera noise 0.05 dB, 12
costs 0.01; clean photographs gain 4 dB by either.)"""


def doubt(noise: NoiseSpectrum) -> float:
    """Return how many times the noise's variance counts as picture."""
    sigma = math.sqrt(float(noise.variance.mean()))
    step = (sigma - LIGHT) / (STRONG - LIGHT)
    return DOUBT[0] + (DOUBT[1] - DOUBT[0]) * min(max(step, 0.0), 1.0)


def picture_share(
    removed: torch.Tensor, brightness: torch.Tensor, noise: NoiseSpectrum, limit: float
) -> torch.Tensor:
    """Return the part of every coefficient to be given back.

    Parameters
    ----------
    removed : torch.Tensor
        (C, rows, columns, `SIDE`²): coefficients of noisy - denoised.
    brightness : torch.Tensor
        (rows, columns): of the denoised blocks.
    noise : NoiseSpectrum
        Of the picture.
    limit : float
        How many times the noise's variance counts as picture.

    Returns
    -------
    torch.Tensor
        (C, rows - 2, columns - 2, `SIDE`²) on 0..1: of the blocks inside.
    """
    ratio = removed.square() / noise.at(brightness)
    ratio = spectrum.among_frequencies(spectrum.among_blocks(ratio))
    share = (1 - limit / ratio.clamp_min(limit)).clamp_min(0)
    if len(share) == 3:
        # The noise of colours depends on the colour, and what is lost is hardly ever colour alone.
        share[1:] = torch.minimum(share[1:], share[:1])
    return share
