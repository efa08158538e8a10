"""What a sensor does to light: shot noise, read noise, clipping, and a mosaic of colours.

Light comes in photons, and their number varies by the square root of what is expected;
reading the sensor adds a deviation that does not depend on the light. Both are independent
from pixel to pixel. In units of white, a signal ``s`` has the variance ``gain * s + read**2``
(Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image
raw-data", IEEE TIP 2008).

The interpolation of the mosaic is that of Malvar, He and Cutler, "High-quality linear
interpolation for demosaicing of Bayer-patterned color images", ICASSP 2004: bilinear, corrected
by the second difference of the colour that was measured. It leaves the noise far less smooth than
bilinear interpolation does, and makes it correlated between colours; real photographs show both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

Phase = tuple[int, int]
"""Row and column, 0 or 1, of the first red pixel."""

STEEPNESS = 1.737
"""Of the softplus that is nearest to the mean of a clipped normal variable (error < 0.02)."""


def expose(signal: Floats, gain: float, read: float, rng: np.random.Generator) -> Floats:
    """Return what a sensor reads, neither clipped nor rounded.

    Parameters
    ----------
    signal : numpy.ndarray
        Any shape, float32, in units of white; values below 0 get read noise alone.
    gain : float
        Signal of one photon, above 0: white is ``1 / gain`` photons.
    read : float
        Standard deviation of the read noise, 0 or more.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    numpy.ndarray
        Same shape, float32; mean ``signal``, variance ``gain * signal + read**2``.
    """
    light = np.maximum(signal, 0)
    exposed = rng.poisson(light / np.float32(gain)).astype(np.float32)
    exposed *= np.float32(gain)
    exposed += signal - light
    if read > 0:
        exposed += np.float32(read) * rng.standard_normal(signal.shape, np.float32)
    return exposed


def expose_clipped(mean: Floats, gain: float, read: float, rng: np.random.Generator) -> Floats:
    """Return what a sensor that clips at black and white reads, given its mean.

    The clean picture of a pair is the mean of many shots, and each was clipped. In the
    shadows that mean lies above the light that fell in, near white below it; so the light
    is looked for whose clipped readings have this mean.

    Parameters
    ----------
    mean : numpy.ndarray
        Any shape, float32 on 0..1.
    gain, read, rng
        As for `expose`.

    Returns
    -------
    numpy.ndarray
        Same shape, float32 on 0..1.
    """
    deviation = np.sqrt(np.float32(gain) * mean + np.float32(read**2 + 1e-12))
    surplus = _surplus(mean / deviation) - _surplus((1 - mean) / deviation)
    return expose(mean - deviation * surplus, gain, read, rng).clip(0, 1)


def _surplus(mean: Floats) -> Floats:
    """Return how far the mean of max(0, x) lies above that of x, a normal variable of unit spread.

    The softplus ``log(1 + exp(k x)) / k`` stands for the mean of max(0, x); this is its
    inverse. Close to black the deviation would have to be infinite: the end is cut off.
    """
    scaled = np.clip(STEEPNESS * mean, 0.02, 20)
    return np.asarray((scaled - np.log(np.expm1(scaled))) / np.float32(STEEPNESS), np.float32)


def mosaic(rgb: Floats, phase: Phase) -> Floats:
    """Keep the one colour that each pixel of a Bayer sensor sees.

    Parameters
    ----------
    rgb : numpy.ndarray
        (3, H, W).
    phase : (int, int)
        Where red is; blue is diagonal to it, everything else green.

    Returns
    -------
    numpy.ndarray
        (H, W), of the same dtype.
    """
    row, column = phase
    raw: Floats = rgb[1].copy()
    raw[row::2, column::2] = rgb[0, row::2, column::2]
    raw[1 - row :: 2, 1 - column :: 2] = rgb[2, 1 - row :: 2, 1 - column :: 2]
    return raw


def demosaic(raw: Floats, phase: Phase) -> Floats:
    """Interpolate the two colours that each pixel lacks.

    Linear in ``raw``, which must be white-balanced: the correction takes it that where one
    colour changes, the others change alike.

    Parameters
    ----------
    raw : numpy.ndarray
        (H, W) float32, any size; mirrored at its borders.
    phase : (int, int)
        As for `mosaic`.

    Returns
    -------
    numpy.ndarray
        (3, H, W) float32.
    """
    height, width = raw.shape
    padded = np.pad(raw, 2, mode="reflect")

    def at(y: int, x: int) -> Floats:
        return padded[2 + y : 2 + y + height, 2 + x : 2 + x + width]

    beside = at(0, -1) + at(0, 1)
    above = at(-1, 0) + at(1, 0)
    beside_far = at(0, -2) + at(0, 2)
    above_far = at(-2, 0) + at(2, 0)
    far = beside_far + above_far
    corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)

    # At red and blue: green, and the colour diagonal to it.
    green = raw / 2 + (beside + above) / 4 - far / 8
    opposite = raw * 0.75 + corners / 4 - far * np.float32(3 / 16)
    # At green: the colour of this row's neighbours, and that of this column's.
    shared = raw * 0.625 - corners / 8
    of_row = shared + beside / 2 - beside_far / 8 + above_far / 16
    of_column = shared + above / 2 - above_far / 8 + beside_far / 16

    rgb = np.repeat(raw[None], 3, 0)
    row, column = phase
    for own, other, y, x in ((0, 2, row, column), (2, 0, 1 - row, 1 - column)):
        here, right, below = np.s_[y::2, x::2], np.s_[y::2, 1 - x :: 2], np.s_[1 - y :: 2, x::2]
        rgb[1][here] = green[here]
        rgb[other][here] = opposite[here]
        rgb[own][right] = of_row[right]
        rgb[own][below] = of_column[below]
    return rgb
