"""What is added to a network's result so that the mean of the image stays what it was."""

from __future__ import annotations

import numpy as np

from denoisekit.engine.denoiser import Denoiser
from denoisekit.image import ImageInfo
from denoisekit.ranges import Floats, Range, from_unit, to_unit

HALVINGS = 24
"""Of the interval that the offset lies in: a 16-millionth of the range of the values."""


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
        Of the image: integers are clipped and rounded when they are written.

    Returns
    -------
    tuple of float
        A channel each.
    """
    noisy = np.ascontiguousarray(parts.transpose(0, 2, 3, 1))
    denoised = denoiser(noisy, axes="QYXS")
    offsets = []
    for channel in range(noisy.shape[-1]):
        wanted, result = noisy[..., channel].mean(dtype=np.float64), denoised[..., channel]
        offsets.append(_offset(result, float(wanted), scale, info))
    return tuple(offsets)


def _offset(result: Floats, wanted: float, scale: Range, info: ImageInfo) -> float:
    """Find it by halving: clipping and rounding leave the mean rising, but not evenly."""
    missing = wanted - float(result.mean(dtype=np.float64))
    if info.dtype.kind == "f":
        return missing
    reach = 1.0 + abs(missing)
    low, high = -reach, reach
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        written = to_unit(from_unit(result + np.float32(middle), scale, info), scale)
        if written.mean(dtype=np.float64) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
