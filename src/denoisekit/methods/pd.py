"""Pixel-shuffle down-sampling: an image as its phases, each a smaller image.

Noise of real cameras is correlated between neighbours. Phase (a, b) of an image, its
pixels (a + factor · i, b + factor · j), holds no neighbours, so the correlation is
broken, at the price of detail.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def to_mosaic(image: Tensor, factor: int, pad: int) -> Tensor:
    """Lay the phases of an image side by side in one picture, zeros around each.

    Parameters
    ----------
    image : torch.Tensor
        (N, C, H, W), H and W multiples of ``factor``.
    factor : int
        There are factor² phases.
    pad : int
        Zeros on each side of each phase.

    Returns
    -------
    torch.Tensor
        (N, C, H + 2 · factor · pad, W + 2 · factor · pad).
    """
    phases = rearrange(image, "n c (h a) (w b) -> n c a b h w", a=factor, b=factor)
    return rearrange(F.pad(phases, (pad, pad, pad, pad)), "n c a b h w -> n c (a h) (b w)")


def from_mosaic(mosaic: Tensor, factor: int, pad: int) -> Tensor:
    """Undo `to_mosaic`."""
    phases = rearrange(mosaic, "n c (a h) (b w) -> n c a b h w", a=factor, b=factor)
    height, width = phases.shape[-2:]
    inner = phases[..., pad : height - pad, pad : width - pad]
    return rearrange(inner, "n c a b h w -> n c (h a) (w b)")


def to_batch(image: Tensor, factor: int) -> Tensor:
    """Return the phases of (N, C, H, W) as pictures of a batch of N · factor²."""
    return rearrange(image, "n c (h a) (w b) -> (n a b) c h w", a=factor, b=factor)


def from_batch(phases: Tensor, factor: int) -> Tensor:
    """Undo `to_batch`."""
    return rearrange(phases, "(n a b) c h w -> n c (h a) (w b)", a=factor, b=factor)
