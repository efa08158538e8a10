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


def forward(pixels: torch.Tensor) -> torch.Tensor:
    """Return the windowed cosine transforms of overlapping blocks.

    Parameters
    ----------
    pixels : torch.Tensor
        (h, w) of one channel; what is left over at the right and bottom belongs to no block.

    Returns
    -------
    torch.Tensor
        (`SIDE`, rows, `SIDE`, columns): coefficients across, rows of blocks, coefficients down,
        columns of blocks. So everything is done on long rows.
    """
    basis = _basis(pixels.device)
    width = pixels.shape[1] // STEP
    cells = pixels[:, : width * STEP].reshape(-1, width, STEP).permute(2, 0, 1).flatten(1)
    left, right = (
        (half @ cells).view(SIDE, -1, width) for half in (basis[:, :STEP], basis[:, STEP:])
    )
    across = left[..., :-1] + right[..., 1:]
    down: torch.Tensor = basis @ across.unfold(1, SIDE, STEP).transpose(2, 3)
    return down


def backward(coefficients: torch.Tensor) -> torch.Tensor:
    """Join what `forward` returned to (h, w).

    Only pixels that four blocks cover are returned: h is (rows - 1) * `STEP`.
    """
    basis = _basis(coefficients.device)
    down = basis.T @ coefficients
    joined = (down[:, 1:, :STEP] + down[:, :-1, STEP:]).flatten(1, 2)
    across = (basis.T @ joined.flatten(1)).view(joined.shape)
    cells = across[:STEP, :, 1:] + across[STEP:, :, :-1]
    return cells.permute(1, 2, 0).flatten(1)


@cache
def _basis(device: torch.device) -> torch.Tensor:
    """Return (coefficient, pixel): the cosines of a block with its window, along one axis."""
    pixel = torch.arange(SIDE, dtype=torch.float64) + 0.5
    waves = torch.cos(math.pi / SIDE * torch.arange(SIDE)[:, None] * pixel)
    waves *= math.sqrt(2 / SIDE)
    waves[0] /= math.sqrt(2)
    windowed: torch.Tensor = waves * torch.sin(math.pi / SIDE * pixel)
    return windowed.float().to(device)


def block_means(pixels: torch.Tensor) -> torch.Tensor:
    """Return the mean of every block of (h, w): (rows, columns)."""
    return functional.avg_pool2d(functional.avg_pool2d(pixels[None], STEP), 2, 1)[0]


def sum_neighbours(values: torch.Tensor) -> torch.Tensor:
    """Add up 3x3 blocks of what is shaped as `forward` returns; two blocks less along both axes."""
    down = values[:, :-2] + values[:, 1:-1]
    down += values[:, 2:]
    across = down[..., :-2] + down[..., 1:-1]
    across += down[..., 2:]
    return across


def smooth_coefficients(values: torch.Tensor) -> torch.Tensor:
    """Average over the 3x3 coefficients around each of what `forward` returns; same shape."""
    mean = _neighbour_mean(values.device)
    return (mean @ (mean @ values).flatten(1)).view(values.shape)


@cache
def _neighbour_mean(device: torch.device) -> torch.Tensor:
    """Return the matrix that averages each coefficient with those beside it."""
    near = torch.ones(SIDE, SIDE).tril(1).triu(-1)
    return (near / near.sum(1, keepdim=True)).to(device)


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

    def level(self, brightness: torch.Tensor) -> torch.Tensor:
        """Return the mean variance of a coefficient in blocks of some brightness.

        Parameters
        ----------
        brightness : torch.Tensor
            (rows, columns).

        Returns
        -------
        torch.Tensor
            (C, rows, columns).
        """
        level = self.variance[:, :1, None].expand(-1, *brightness.shape)
        steps = zip(self.brightness, self.brightness[1:], strict=False)
        for index, (low, high) in enumerate(steps):
            share = ((brightness - low) / max(high - low, NOTHING)).clamp(0, 1)
            rise = self.variance[:, index + 1] - self.variance[:, index]
            level = level + rise[:, None, None] * share
        return level


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


def sample(noisy: torch.Tensor, denoised: torch.Tensor) -> Sample:
    """Take the blocks of a box that have neighbours on all sides.

    Parameters
    ----------
    noisy, denoised : torch.Tensor
        (C, h, w) colours on 0..1, at least 32 pixels high and wide.
    """
    power = torch.stack([forward(one) for one in opponent(noisy - denoised)]).square()
    energy = sum_neighbours(power.sum((0, 1, 3))[None, :, None]) / 9
    # Not beyond: where nothing was cut off, values may lie there.
    extreme = ((noisy == 0) | (noisy == 1)).float()
    clipped, brightness = (block_means(part.mean(0))[1:-1, 1:-1] for part in (extreme, denoised))
    inside = power[:, :, 1:-1, :, 1:-1].permute(0, 2, 4, 3, 1).flatten(1, 2).flatten(2)
    return Sample(inside, energy.flatten(), brightness.flatten(), clipped.flatten())


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
