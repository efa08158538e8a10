"""The noise of an image as a spectrum: how strong it is in every cosine coefficient of blocks.

Pictures become overlapping blocks of cosine coefficients, and back. Noise is measured on what a
network took from the image, where that is flat: its variance at several brightnesses, and how it
is spread over the coefficients, which is its correlation. `denoisekit.noise.estimate` judges noise
without such a network; it knows no spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch.nn import functional

SIDE = 16
"""Side of a block in pixels."""
STEP = 8
"""From one block to the next: half of it, so that the windows of neighbours add up to 1."""
BRIGHTNESSES = 4
"""Levels of brightness at which noise is measured: it depends on brightness, smoothly."""
QUIET = 0.2
"""Part of the blocks of a level that is taken for flat: those that vary least."""
FEWEST = 4
"""Blocks that are taken at least."""
CLIPPED = 0.02
"""Part of a block's pixels at black or white above which its noise looks too weak."""
DARKER = 2.6
"""How fast the variance can grow towards the dark: that of noise which is the same at every
brightness on the sensor, after sRGB's curve, as a power of brightness."""
MARGIN = 2.0
"""How much more than that is still believed."""
DARKEST = 1e-3
"""Brightness below which all is equally dark: the curve is straight there, and results of dim
pictures reach below black, of which there is no power."""
NOTHING = 1e-12
"""Variance below what rounding leaves."""

_OPPONENT = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))


def opponent(pixels: torch.Tensor) -> torch.Tensor:
    """Turn (3, h, w) colours into brightness and two colour differences, orthonormal.

    Anything of another number of channels comes back as it is; `coloured` undoes it.
    """
    if len(pixels) != 3:
        return pixels
    mixed: torch.Tensor = torch.einsum("oc,chw->ohw", _axes(pixels.device), pixels)
    return mixed


def coloured(pixels: torch.Tensor) -> torch.Tensor:
    """Turn what `opponent` returned into colours again."""
    if len(pixels) != 3:
        return pixels
    mixed: torch.Tensor = torch.einsum("oc,ohw->chw", _axes(pixels.device), pixels)
    return mixed


def _axes(device: torch.device) -> torch.Tensor:
    axes = torch.tensor(_OPPONENT, device=device)
    unit: torch.Tensor = axes / axes.norm(dim=1, keepdim=True)
    return unit


def blocks(pixels: torch.Tensor) -> torch.Tensor:
    """Cut into overlapping blocks.

    Parameters
    ----------
    pixels : torch.Tensor
        (C, h, w); what is left over at the right and bottom belongs to no block.

    Returns
    -------
    torch.Tensor
        (C, rows, columns, `SIDE`²), a view where it can be.
    """
    cut = pixels.unfold(1, SIDE, STEP).unfold(2, SIDE, STEP)
    return cut.reshape(*cut.shape[:3], SIDE * SIDE)


def forward(cut: torch.Tensor) -> torch.Tensor:
    """Return the cosine coefficients of windowed blocks, same shape."""
    return cut @ _transform(cut.device).T


def backward(coefficients: torch.Tensor) -> torch.Tensor:
    """Join blocks of coefficients: (C, rows, columns, `SIDE`²) to (C, h, w).

    Only pixels that four blocks cover are returned: h is (rows - 1) * `STEP`.
    """
    channels, rows, columns, _ = coefficients.shape
    parts = coefficients @ _transform(coefficients.device)
    size = (rows + 1) * STEP, (columns + 1) * STEP
    stacked = parts.reshape(channels, rows * columns, -1).transpose(1, 2)
    whole = functional.fold(stacked, size, SIDE, stride=STEP)[:, 0]
    return whole[:, STEP:-STEP, STEP:-STEP]


@cache
def _transform(device: torch.device) -> torch.Tensor:
    """Return (coefficient, pixel): the cosines of a block with its window."""
    pixel = torch.arange(SIDE, dtype=torch.float64) + 0.5
    waves = torch.cos(math.pi / SIDE * torch.arange(SIDE)[:, None] * pixel)
    waves *= math.sqrt(2 / SIDE)
    waves[0] /= math.sqrt(2)
    windowed: torch.Tensor = waves * torch.sin(math.pi / SIDE * pixel)
    return torch.kron(windowed, windowed).float().to(device)


def among_blocks(values: torch.Tensor) -> torch.Tensor:
    """Average over the 3x3 neighbours of each block: (C, r, c, …) to (C, r - 2, c - 2, …)."""
    down = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    return (down[:, :, :-2] + down[:, :, 1:-1] + down[:, :, 2:]) / 9


def among_frequencies(values: torch.Tensor) -> torch.Tensor:
    """Average over the 3x3 neighbouring coefficients of each; (…, `SIDE`²), same shape."""
    square = values.reshape(-1, 1, SIDE, SIDE)
    mean = functional.avg_pool2d(square, 3, 1, 1, count_include_pad=False)
    return mean.reshape(values.shape)


@dataclass(frozen=True, slots=True)
class NoiseSpectrum:
    """The noise of an image, by coefficient and brightness.

    Attributes
    ----------
    shape : torch.Tensor
        (C, `SIDE`²): how the variance is spread over the coefficients; the mean is 1.
    brightness : tuple of float
        Rising; of brightness channel's block means.
    variance : torch.Tensor
        (C, levels): mean variance of a coefficient at each of them.
    """

    shape: torch.Tensor
    brightness: tuple[float, ...]
    variance: torch.Tensor

    def at(self, brightness: torch.Tensor) -> torch.Tensor:
        """Return the variance of every coefficient of blocks of some brightness.

        Parameters
        ----------
        brightness : torch.Tensor
            (rows, columns).

        Returns
        -------
        torch.Tensor
            (C, rows, columns, `SIDE`²), above 0.
        """
        level = self.variance[:, :1, None].expand(-1, *brightness.shape)
        steps = zip(self.brightness, self.brightness[1:], strict=False)
        for index, (low, high) in enumerate(steps):
            share = ((brightness - low) / max(high - low, NOTHING)).clamp(0, 1)
            rise = self.variance[:, index + 1] - self.variance[:, index]
            level = level + rise[:, None, None] * share
        return level[..., None] * self.shape[:, None, None] + NOTHING


@dataclass(frozen=True, slots=True)
class Sample:
    """Blocks of a picture: (…, blocks) each.

    Attributes
    ----------
    power : torch.Tensor
        (C, blocks, `SIDE`²): squares of the coefficients of what was taken away.
    energy : torch.Tensor
        Of all coefficients and channels, the mean of a block and its neighbours.
    brightness : torch.Tensor
        Mean brightness.
    clipped : torch.Tensor
        Part of the pixels at black or white.
    """

    power: torch.Tensor
    energy: torch.Tensor
    brightness: torch.Tensor
    clipped: torch.Tensor


def brightness_of(cut: torch.Tensor) -> torch.Tensor:
    """Return the (rows, columns) brightness of `blocks` of an opponent picture."""
    brightness: torch.Tensor = cut[0].mean(-1) / len(cut) ** 0.5
    return brightness


def sample(noisy: torch.Tensor, denoised: torch.Tensor) -> Sample:
    """Take the blocks of a box that have neighbours on all sides.

    Parameters
    ----------
    noisy, denoised : torch.Tensor
        (C, h, w) colours on 0..1, at least 32 pixels high and wide.
    """
    removed = forward(blocks(opponent(noisy - denoised)))
    inside = removed[:, 1:-1, 1:-1].square()
    energy = among_blocks(removed.square().sum((0, 3))[None])[0]
    # Not beyond: where nothing was cut off, values may lie there.
    extreme = ((noisy == 0) | (noisy == 1)).float()
    clipped = blocks(extreme)[:, 1:-1, 1:-1].mean((0, 3))
    brightness = brightness_of(blocks(opponent(denoised)))[1:-1, 1:-1]
    return Sample(
        inside.reshape(len(inside), -1, inside.shape[-1]),
        energy.flatten(),
        brightness.flatten(),
        clipped.flatten(),
    )


def measure(samples: Sequence[Sample]) -> NoiseSpectrum:
    """Measure the noise of a picture.

    Parameters
    ----------
    samples : sequence of Sample
        Of boxes spread over it; not empty.
    """
    power = torch.cat([s.power for s in samples], 1)
    energy, brightness, clipped = (
        torch.cat([getattr(s, name) for s in samples])
        for name in ("energy", "brightness", "clipped")
    )
    levels = quiet(energy, brightness)
    where = [float(brightness[level].mean()) for level in levels]
    found = torch.stack([power[:, level].mean((1, 2)) for level in levels], 1)
    sound = [float(clipped[level].mean()) <= CLIPPED for level in levels]
    believed = _believed(found.sum(0).tolist(), where, sound)
    shapes = [
        power[:, level].mean(1) / found[:, index, None].clamp_min(NOTHING)
        for index, level in enumerate(levels)
        if believed[index] == 1
    ]
    variance = found * torch.tensor(believed, device=found.device)
    return NoiseSpectrum(torch.stack(shapes).mean(0), tuple(where), variance)


def quiet(energy: torch.Tensor, brightness: torch.Tensor) -> list[torch.Tensor]:
    """Return, for every level of brightness from the dark up, which blocks vary least."""
    order = torch.argsort(brightness, stable=True)
    levels = torch.tensor_split(order, min(BRIGHTNESSES, max(1, len(order) // FEWEST)))
    return [
        level[torch.argsort(energy[level], stable=True)][: max(FEWEST, int(len(level) * QUIET))]
        for level in levels
    ]


def _believed(
    variance: Sequence[float], brightness: Sequence[float], sound: Sequence[bool]
) -> list[float]:
    """Return the part of each level's variance that can be noise.

    Where a level of brightness has nothing flat, its quietest blocks are picture. The noise
    of a brighter level bounds what a sensor can add at a darker one.
    """
    parts = []
    for mine, here in zip(variance, brightness, strict=True):
        bounds = [
            MARGIN * theirs * (max(there, DARKEST) / max(here, DARKEST)) ** DARKER
            for theirs, there, good in zip(variance, brightness, sound, strict=True)
            if good and there > here
        ]
        parts.append(min([1.0, *(bound / max(mine, NOTHING) for bound in bounds)]))
    return parts
