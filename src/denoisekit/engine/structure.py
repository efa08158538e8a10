"""Where what a network took away is no noise by its looks: halftone, stripes, lines, screens.

The power of noise differs from one frequency to the next by chance alone, while a pattern has
a few strong lines, or a ridge, in its spectrum. So, in overlapping windows, the power is counted
that stands out among frequencies of about the same wavelength.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch.nn import functional

SIDE = 64
"""Side of a window in pixels."""
STEP = 32
"""From one window to the next."""
RINGS = 8
"""Rings of equal width into which frequencies up to half a cycle a pixel are sorted."""
OUTSTANDING = 4.0
"""Times the mean power of noise that one frequency of noise in 50 exceeds by chance."""
SOUND, PATTERN = 0.12, 0.2
"""Share of the power that stands out up to which all is noise, and from which none is. Measured
on what `aprrd.camera` takes away: of Gaussian noise, photons and strong phone noise 0.02 to
0.07; 0.08 in the median window of light camera noise; 0.2 to 0.7 of halftones, 0.9 and more of
stripes and screens. All of these keep more than 49 dB to their own input."""

_LUMINANCE = (0.3, 0.6, 0.1)
_NOTHING = 1e-12


def noise_share(removed: torch.Tensor) -> torch.Tensor:
    """Return how far what was taken away passes for noise, 1 to 0, for every pixel.

    Parameters
    ----------
    removed : torch.Tensor
        (C, h, w): noisy - denoised; h and w are multiples of `STEP`, and the outermost `SIDE`
        pixels are a rim.

    Returns
    -------
    torch.Tensor
        (h - 2 `SIDE`, w - 2 `SIDE`).
    """
    channels = len(removed)
    weights = _LUMINANCE if channels == 3 else (1 / channels,) * channels
    single = torch.einsum("chw,c->hw", removed, removed.new_tensor(weights))
    windows = single.unfold(0, SIDE, STEP).unfold(1, SIDE, STEP)
    down, across = windows.shape[:2]
    out, total = outstanding(windows.reshape(-1, SIDE, SIDE))
    # With the windows around, of which the outermost belong to the rim.
    out, total = (functional.avg_pool2d(x.view(1, down, across), 3, 1, 1) for x in (out, total))
    share = torch.where(total > _NOTHING, out / total.clamp_min(_NOTHING), 0.0)[0]
    noise = ((PATTERN - share) / (PATTERN - SOUND)).clamp(0, 1)
    whole = noise[:, :, None, None] * _tent(noise.device)
    parts = whole.permute(2, 3, 0, 1).reshape(1, SIDE * SIDE, down * across)
    joined = functional.fold(parts, tuple(single.shape), SIDE, stride=STEP)[0, 0]
    return joined[SIDE:-SIDE, SIDE:-SIDE]


def outstanding(windows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the power of each window that stands out, and all of it but the lowest frequencies.

    Parameters
    ----------
    windows : torch.Tensor
        (n, `SIDE`, `SIDE`): of what was taken away.

    Returns
    -------
    (torch.Tensor, torch.Tensor)
        (n,) each.
    """
    centred = windows - windows.mean((1, 2), keepdim=True)
    power = torch.fft.rfft2(centred * _hann(windows.device)).abs().square().flatten(1)
    out = torch.zeros(len(power), device=power.device)
    total = torch.zeros_like(out)
    # Not the lowest: a network that is wrong about brightness destroys no pattern.
    for ring in _rings()[1:]:
        here = power[:, ring]
        total += here.sum(1)
        # The median of the power of noise is log 2 times its mean.
        mean = here.median(1, keepdim=True).values / math.log(2)
        out += (here - OUTSTANDING * mean).clamp_min(0).sum(1)
    return out, total


@cache
def _rings() -> tuple[torch.Tensor, ...]:
    """Return which frequencies belong to each ring; what lies in the corners is the last."""
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)[None])
    index = (radius / 0.5 * RINGS).long().clamp_max(RINGS).flatten()
    return tuple(torch.nonzero(index == ring)[:, 0] for ring in range(RINGS + 1))


@cache
def _hann(device: torch.device) -> torch.Tensor:
    window = torch.hann_window(SIDE, device=device)
    return window[:, None] * window


@cache
def _tent(device: torch.device) -> torch.Tensor:
    """Return the weights of a window; those of overlapping ones add up to 1."""
    rise = (torch.arange(SIDE, device=device) + 0.5) / STEP
    tent = torch.minimum(rise, 2 - rise)
    return tent[:, None] * tent
