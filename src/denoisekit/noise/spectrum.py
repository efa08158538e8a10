"""Pictures as overlapping blocks of cosine coefficients, and back."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch.nn import functional

SIDE = 16
"""Side of a block in pixels."""
STEP = 8
"""From one block to the next: half of it, so that the windows of neighbours add up to 1."""

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
