"""What the two networks of APR-RD learn from, given noisy images alone.

The teacher learns from pairs that the *adjacent pixel replacer* makes of one image; the
student from six results of the teacher, *recharged* with noisy pixels. All is computed
from draws that the caller passes, so a run can be repeated.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from denoisekit.nets.atbsn import ATBSN

_NEAR = tuple(product((-1, 0, 1), repeat=2))
PAIRS = tuple((first, second) for first, second in product(_NEAR, _NEAR) if first != second)
"""The 72 pairs of two distinct neighbours (a pixel is its own neighbour), as
``((right, down), (right, down))``."""

TRAINING_SHIFT = 5
"""Shift of the teacher in training: a hole of nine pixels."""

TARGET_SHIFTS = (0, 1, 2, 3, 4, 5)
"""Shifts of the teacher whose results the student learns from."""

CONSISTENCY_WEIGHT = 4.0


def draw_pairs(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw a pair of neighbours for every pixel.

    Parameters
    ----------
    shape : (int, int, int)
        Images, height and width.
    generator : torch.Generator
        Source of the draws; they are made on its device.

    Returns
    -------
    Tensor
        ``shape``, int64: indices into `PAIRS`.
    """
    import torch

    return torch.randint(len(PAIRS), shape, generator=generator, device=generator.device)


def draw_targets(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw for every pixel which target gets the noisy value; like `draw_pairs`."""
    import torch

    return torch.randint(len(TARGET_SHIFTS), shape, generator=generator, device=generator.device)


def replaced(images: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Replace every pixel by one of its neighbours, in two ways.

    Parameters
    ----------
    images : Tensor
        (N, C, H, W). At the edges a neighbour outside is the nearest pixel inside.
    pairs : Tensor
        (N, H, W), indices into `PAIRS`; all channels of a pixel move together.

    Returns
    -------
    tuple of two Tensor
        Like ``images``; they never show the same neighbour, but at the edges.
    """
    import torch

    height, width = images.shape[2:]
    steps = torch.tensor(PAIRS, device=images.device)[pairs.to(images.device, torch.int64)]
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    flat = images.flatten(2)

    def taken(which: int) -> Tensor:
        right, down = steps[..., which, 0], steps[..., which, 1]
        places = (rows + down).clamp(0, height - 1) * width + (columns + right).clamp(0, width - 1)
        return flat.gather(2, places.flatten(1)[:, None].expand_as(flat)).view_as(images)

    return taken(0), taken(1)


def teacher_loss(net: ATBSN, noisy: Tensor, pairs: Tensor) -> Tensor:
    """Return the loss of the teacher for a batch.

    One replaced image is denoised and compared with the other. They show different
    pixels, so even a perfect result differs from it: by as much as the two replaced
    versions of the image denoised as it is, which the second term takes off.

    Parameters
    ----------
    net : ATBSN
        In training; gradients flow through both of its results.
    noisy : Tensor
        (N, C, H, W) on 0..1, H and W multiples of 32.
    pairs : Tensor
        What `draw_pairs` gave for the batch.

    Returns
    -------
    Tensor
        A scalar.
    """
    first, second = replaced(noisy, pairs)
    first_denoised, second_denoised = replaced(net(noisy, TRAINING_SHIFT), pairs)
    difference = net(first, TRAINING_SHIFT) - second
    expected = first_denoised - second_denoised
    likeness: Tensor = difference.abs().mean()
    consistency: Tensor = (difference - expected).abs().mean()
    return likeness + CONSISTENCY_WEIGHT * consistency


def distillation_targets(net: ATBSN, noisy: Tensor) -> Tensor:
    """Return what the teacher makes of a batch, for each of `TARGET_SHIFTS`.

    Parameters
    ----------
    net : ATBSN
        The trained teacher; no gradient is kept.
    noisy : Tensor
        (N, C, H, W) on 0..1, H and W multiples of 32.

    Returns
    -------
    Tensor
        (6, N, C, H, W).
    """
    import torch

    from denoisekit.nets.atbsn import denoise_padded

    with torch.no_grad():
        return torch.stack(denoise_padded(net, noisy, TARGET_SHIFTS))


def recharged(targets: Tensor, noisy: Tensor, choice: Tensor) -> Tensor:
    """Put the noisy value of every pixel back into one of the targets.

    Parameters
    ----------
    targets : Tensor
        (T, N, C, H, W); left as it is.
    noisy : Tensor
        (N, C, H, W).
    choice : Tensor
        (N, H, W), 0 to T - 1: which target a pixel goes to.

    Returns
    -------
    Tensor
        Like ``targets``.
    """
    import torch

    which = torch.arange(len(targets), device=targets.device).view(-1, 1, 1, 1, 1)
    return torch.where(choice.to(targets.device)[None, :, None] == which, noisy[None], targets)


def student_loss(denoised: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of the student: its mean distance to every target, summed.

    Parameters
    ----------
    denoised : Tensor
        (N, C, H, W), the student's result.
    targets : Tensor
        (T, N, C, H, W), recharged.

    Returns
    -------
    Tensor
        A scalar.
    """
    return (denoised[None] - targets).abs().mean((1, 2, 3, 4)).sum()
