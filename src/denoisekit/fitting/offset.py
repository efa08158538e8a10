"""What is added to a network's result so that the mean of the image stays what it was."""

from __future__ import annotations

from typing import Any

import numpy as np

from denoisekit.image import ImageInfo
from denoisekit.pipeline import Denoiser
from denoisekit.ranges import Floats, Range

ROUNDS = 50
"""Most corrections: what is added changes what is clipped, so each falls short."""

CLOSE = 1e-5
"""Difference of means, on 0..1, that is left."""


def mean_offset(
    denoiser: Denoiser, parts: Floats, scale: Range, info: ImageInfo
) -> tuple[float, ...]:
    """Return how far the mean of the results lies below that of the noisy parts.

    Parameters
    ----------
    denoiser : Denoiser
        Takes parts on 0..1.
    parts : numpy.ndarray
        (N, C, h, w) on 0..1.
    scale, info : Range, ImageInfo
        Of the image: integers are clipped when they are written.

    Returns
    -------
    tuple of float
        A channel each.
    """
    noisy = np.ascontiguousarray(parts.transpose(0, 2, 3, 1))
    denoised = denoiser(noisy, axes="QYXS")
    wanted, offset = noisy.mean((0, 1, 2), np.float64), np.zeros(noisy.shape[-1])
    for _ in range(ROUNDS):
        written = _clipped(denoised + offset.astype(np.float32), scale, info)
        missing = wanted - written.mean((0, 1, 2), np.float64)
        if np.abs(missing).max() < CLOSE:
            break
        offset += missing
    return tuple(float(value) for value in offset)


def _clipped(values: Floats, scale: Range, info: ImageInfo) -> Any:
    if info.dtype.kind == "f":
        return values
    low = float(np.iinfo(info.dtype).min) if info.bits is None else 0.0
    black, white = ((bound - scale.low) / scale.span for bound in (low, info.peak))
    return values.clip(black, white)
