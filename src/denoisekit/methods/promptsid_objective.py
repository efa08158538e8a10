"""What Prompt-SID is trained on: sub-images of noisy pictures that predict each other.

Every 2x2 cell gives one pixel to the input and its two neighbours to two targets. The
network's result on the input is held against both, and its difference to them against
the same difference taken from its result on the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from denoisekit.nets.promptsid import PromptSID

ORDERS = (
    (0, 1, 2),
    (0, 2, 1),
    (1, 0, 3),
    (1, 3, 0),
    (2, 0, 3),
    (2, 3, 0),
    (3, 2, 1),
    (3, 1, 2),
)
"""Positions in a 2x2 cell, row by row, of input and targets: each pixel, its neighbours."""

REGULARISATION = 1.5


@dataclass(frozen=True)
class Objective:
    """The loss of one batch and what it is made of.

    Attributes
    ----------
    total, reconstruction, regularisation : torch.Tensor
        Scalars; ``total = reconstruction + 1.5 * regularisation``.
    denoised_sub, denoised : torch.Tensor
        Results on the sub-image (with gradient) and on the whole pictures (without).
    """

    total: Tensor
    reconstruction: Tensor
    regularisation: Tensor
    denoised_sub: Tensor
    denoised: Tensor


def draw_orders(size: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw which pixels of every cell become input, first and second target.

    Parameters
    ----------
    size : (int, int, int)
        Number, height and width of the pictures; height and width even.
    generator : torch.Generator
        Source of the draws; they are made on its device.

    Returns
    -------
    torch.Tensor
        (N, H/2, W/2, 3) int64, positions 0 to 3.
    """
    number, height, width = size
    cells, device = (number, height // 2, width // 2), generator.device
    which = torch.randint(len(ORDERS), cells, generator=generator, device=device)
    return torch.tensor(ORDERS, device=device)[which]


def sub_images(pictures: Tensor, orders: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return input, first and second target, (N, C, H/2, W/2) each.

    Parameters
    ----------
    pictures : torch.Tensor
        (N, C, H, W), H and W even.
    orders : torch.Tensor
        As from `draw_orders`.
    """
    number, channels, height, width = pictures.shape
    cells = F.pixel_unshuffle(pictures, 2).view(number, channels, 4, height // 2, width // 2)
    chosen = orders.permute(0, 3, 1, 2)[:, None].expand(-1, channels, -1, -1, -1)
    first, second, third = cells.gather(2, chosen).unbind(2)
    return first, second, third


def objective(
    net: PromptSID, noisy: Tensor, orders: Tensor, noises: tuple[Tensor, Tensor]
) -> Objective:
    """Return the loss of a batch.

    Parameters
    ----------
    net : PromptSID
        In training.
    noisy : torch.Tensor
        (N, C, H, W), H and W multiples of eight.
    orders : torch.Tensor
        As from `draw_orders`.
    noises : pair of torch.Tensor
        Normal, (N, 4 features): they diffuse the prompt of the sub-images and of the
        whole pictures.
    """
    sub, *targets = sub_images(noisy, orders)
    condition = net.condition(noisy)
    structural = net.structural_prompt(sub, (targets[0] + targets[1]) / 2)
    prompt = net.sample(net.diffuse(structural, noises[0]), condition)
    denoised_sub = net.denoiser(sub, prompt)
    with torch.no_grad():
        other = net.sample(net.diffuse(structural, noises[1]), condition)
        denoised = net.denoiser(noisy, other)
        known, *expected = sub_images(denoised, orders)
    errors = [denoised_sub - target for target in targets]
    residues = [error - (known - other) for error, other in zip(errors, expected, strict=True)]
    reconstruction = torch.stack([error.square().mean() for error in errors]).mean()
    regularisation = torch.stack([residue.square().mean() for residue in residues]).mean()
    total = reconstruction + REGULARISATION * regularisation
    return Objective(total, reconstruction, regularisation, denoised_sub, denoised)
