"""What happens to light before anything is computed: shot noise, read noise, clipping.

Light comes in photons, and their number varies by the square root of what is expected;
reading the sensor adds a deviation that does not depend on the light. Both are independent
from pixel to pixel. In units of white, a signal ``s`` has the variance ``gain * s + read**2``
(Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image
raw-data", IEEE TIP 2008).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

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
    spread = np.sqrt(np.float32(gain) * mean + np.float32(read**2 + 1e-12))
    light = mean - spread * (_surplus(mean / spread) - _surplus((1 - mean) / spread))
    return expose(light, gain, read, rng).clip(0, 1)


def _surplus(mean: Floats) -> Floats:
    """Return how far the mean of max(0, x) lies above that of x, a normal variable of unit spread.

    The softplus ``log(1 + exp(k x)) / k`` stands for the mean of max(0, x); this is its
    inverse. Close to black the deviation would have to be infinite: the end is cut off.
    """
    scaled = np.clip(STEEPNESS * mean, 0.02, 20)
    return np.asarray((scaled - np.log(np.expm1(scaled))) / np.float32(STEEPNESS), np.float32)
