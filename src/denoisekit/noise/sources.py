"""Noise without a camera's processing: Gaussian, Poisson, and that of a microscope's detector.

Each function makes the noise of one image: something that is called with a clean plane,
(H, W, C) float32, and a generator, once a plane, and returns the noisy plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from denoisekit.noise.develop import smooth
from denoisekit.noise.sensor import Floats, expose, expose_clipped


def add_gaussian(sigma: float, clean: Floats, rng: np.random.Generator) -> Floats:
    """Add normal noise of one deviation; the result is not clipped.

    Parameters
    ----------
    sigma : float
        Standard deviation, on 0..1.
    clean : numpy.ndarray
        Any shape, float32.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    numpy.ndarray
        Same shape, float32.
    """
    return clean + np.float32(sigma) * rng.standard_normal(clean.shape, np.float32)


def count_photons(peak: float, clean: Floats, rng: np.random.Generator) -> Floats:
    """Replace every value by a number of photons, divided by what white counts on average.

    Parameters
    ----------
    peak : float
        Photons of white, above 0.
    clean : numpy.ndarray
        Any shape, float32; values below 0 count as 0.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    numpy.ndarray
        Same shape, float32, 0 or more; not clipped at white.
    """
    return expose(np.maximum(clean, 0), 1 / peak, 0.0, rng)


@dataclass(frozen=True, slots=True)
class Detector:
    """What the detectors of microscopes do, as ranges that each image draws from.

    Attributes
    ----------
    read : (float, float)
        Read noise in photons; drawn log-uniformly.
    channels : float
        How much the gains of the channels differ: deviation of their logarithm.
    smooth : float
        Probability that the noise is correlated between neighbours, as after resampling.
    smooth_shares : (float, float)
        How much of the noise is then replaced by the average of nine pixels.
    """

    read: tuple[float, float] = (0.05, 2.0)
    channels: float = 0.3
    smooth: float = 0.25
    smooth_shares: tuple[float, float] = (0.1, 0.6)


def draw_detector(
    detector: Detector, gain: float, channels: int, rng: np.random.Generator
) -> partial[Floats]:
    """Draw the detector of one image.

    Parameters
    ----------
    detector : Detector
        The ranges.
    gain : float
        Signal of one photon in units of white; with several channels, that in their middle.
    channels : int
        Channels of the image.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    callable
        ``noise(clean, rng)``, see `detect`.
    """
    differ = rng.normal(0, detector.channels, channels)
    gains = gain * np.exp(differ - np.median(differ))
    least, largest = np.log(detector.read)
    reads = gains * np.exp(rng.uniform(least, largest, channels))
    share = rng.uniform(*detector.smooth_shares) if rng.random() < detector.smooth else 0.0
    return partial(detect, tuple(gains), tuple(reads), float(share))


def detect(
    gains: tuple[float, ...],
    reads: tuple[float, ...],
    share: float,
    clean: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Expose every channel on a detector of its own, which clips at black and white.

    Parameters
    ----------
    gains, reads : tuple of float
        As for `denoisekit.noise.sensor.expose`, one a channel.
    share : float
        How much of the noise is replaced by the average of nine pixels.
    clean : numpy.ndarray
        (H, W, C) float32; clipped to 0..1.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    numpy.ndarray
        Same shape, float32 on 0..1.
    """
    noisy = np.empty_like(clean)
    for index, (gain, read) in enumerate(zip(gains, reads, strict=True)):
        light = clean[..., index].clip(0, 1)
        noise = expose_clipped(light, gain, read, rng) - light
        if share:
            noise -= np.float32(share) * (noise - smooth(noise, 3))
        noisy[..., index] = (light + noise).clip(0, 1)
    return noisy
