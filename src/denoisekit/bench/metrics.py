"""PSNR and the four kinds of SSIM that papers call SSIM, in numpy.

They differ by some hundredths on the same pictures, so each has a name and none is simply
"SSIM". Pictures are (H, W, C) on 0..1; values beyond are taken as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError, UsageError, did_you_mean

Floats = npt.NDArray[np.floating[Any]]

RADIUS = 5
SIGMA = 1.5
STABLE = (0.01**2, 0.03**2)
"""What keeps SSIM's quotients from 0/0, for values of 0 to 1."""


@dataclass(frozen=True, slots=True)
class Family:
    """One of the kinds of SSIM.

    Attributes
    ----------
    id : str
        Its name here.
    summary : str
        How it weighs pixels, in a line.
    gaussian : bool
        Whether the window is a Gaussian of 11 pixels, or a square of 7.
    luma : bool
        Whether colours become one channel first.
    volume : bool
        Whether the window spans channels too, as if they were slices of a volume.
    """

    id: str
    summary: str
    gaussian: bool = True
    luma: bool = False
    volume: bool = False


FAMILIES = (
    Family("gaussian", "Gaussian window of sigma 1.5 (11x11), mean of channels"),
    Family("uniform", "uniform 7x7 window, sample covariance, mean of channels", gaussian=False),
    Family("y", "Gaussian window of sigma 1.5 (11x11), BT.601 luma of 16 to 235", luma=True),
    Family("volume", "3-D Gaussian window over rows, columns and channels", volume=True),
)


def find_family(name: str) -> Family:
    """Return the kind of SSIM with this id.

    Raises
    ------
    UsageError
        There is none.
    """
    for family in FAMILIES:
        if family.id == name:
            return family
    names = [family.id for family in FAMILIES]
    raise UsageError(f"there is no SSIM '{name}'", did_you_mean(name, names))


def psnr(clean: Floats, denoised: Floats) -> float:
    """Return the peak signal-to-noise ratio in dB, over all samples; infinite where equal.

    Parameters
    ----------
    clean, denoised : numpy.ndarray
        Of one shape, on 0..1.
    """
    error = np.subtract(clean, denoised, dtype=np.float64)
    mean = float(np.square(error).mean())
    return 10 * math.log10(1 / mean) if mean else math.inf


def ssim(clean: Floats, denoised: Floats, family: str = "gaussian") -> float:
    """Return the structural similarity, 1 where equal.

    Parameters
    ----------
    clean, denoised : numpy.ndarray
        (H, W, C) of one shape, on 0..1.
    family : str
        One of `FAMILIES`.

    Raises
    ------
    InputError
        The pictures are smaller than the window.
    UsageError
        There is no such kind.
    """
    kind = find_family(family)
    x: Floats = np.asarray(clean, np.float64)
    y: Floats = np.asarray(denoised, np.float64)
    if kind.luma:
        x, y = luma(x), luma(y)
    taps: Floats = _gaussian() if kind.gaussian else np.full(7, 1 / 7)
    if kind.volume:
        x, y = np.pad(x, RADIUS, mode="edge"), np.pad(y, RADIUS, mode="edge")
    elif min(x.shape[:2]) < len(taps):
        size = "x".join(map(str, x.shape[:2]))
        raise InputError(
            f"a picture of {size} pixels is smaller than the window of SSIM",
            f"it takes at least {len(taps)} rows and columns",
        )
    # The square window's variances are those of a sample.
    scale = 1.0 if kind.gaussian else 49 / 48
    return _similarity(x, y, taps, 3 if kind.volume else 2, scale)


def _similarity(x: Floats, y: Floats, taps: Floats, axes: int, scale: float) -> float:
    def local(values: Floats) -> Floats:
        for axis in range(axes):
            values = _filtered(values, taps, axis)
        return values

    mean_x, mean_y = local(x), local(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = scale * (local(x * y) - product)
    variances = scale * (local(x**2 + y**2) - squares)
    light, contrast = STABLE
    above = (2 * product + light) * (2 * covariance + contrast)
    below = (squares + light) * (variances + contrast)
    return float((above / below).mean())


def _filtered(values: Floats, taps: Floats, axis: int) -> Floats:
    """Return weighted sums along an axis, where the window lies within the picture."""
    count = values.shape[axis] - len(taps) + 1
    total: Floats = np.zeros((*values.shape[:axis], count, *values.shape[axis + 1 :]))
    for start, weight in enumerate(taps):
        part = (slice(None),) * axis + (slice(start, start + count),)
        total += weight * values[part]
    return total


def _gaussian() -> Floats:
    taps: Floats = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
    return taps / float(taps.sum())


def luma(picture: Floats) -> Floats:
    """Return the brightness of a colour picture as video codes it, 16/255 to 235/255.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, C) on 0..1. One of another number of channels than 3 comes back as it is.

    Returns
    -------
    numpy.ndarray
        (H, W, 1), or the picture.
    """
    if picture.shape[2] != 3:
        return picture
    weights = np.array([65.481, 128.553, 24.966])
    coded: Floats = (picture @ weights + 16)[..., None] / 255
    return coded
