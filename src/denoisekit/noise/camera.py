"""A clean picture as a camera would have taken it.

The noise of a photograph is not that of its sensor: interpolated, mixed, stretched,
smoothed and coded, it is correlated over several pixels and between colours, and a network
that never saw such noise does not remove it. So a clean picture is taken back to the sensor,
gets its noise there, and the noise is developed as the camera develops a picture. Going back
is after Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denoisekit.noise.bayer import Phase, demosaic, mosaic
from denoisekit.noise.develop import (
    Floats,
    Matrix,
    apply_matrix,
    coarse,
    code_jpeg,
    smooth_colour,
    smooth_luma,
    to_linear,
    to_srgb,
    uneven,
)
from denoisekit.noise.sensor import expose_clipped

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Camera:
    """What cameras of a kind do, as ranges that each picture draws from.

    Attributes
    ----------
    read : (float, float, float)
        Logarithm of the variance of the read noise: its slope against that of the gain, its
        mean where the gain is 1, and its deviation.
    drift : (float, float)
        Coarse noise of each colour, as a part of the deviation of the sensor's.
    mixing : (float, float)
        How much of the mixing of colours is done; less where noise counts for more than
        saturated colours.
    contrast : (float, float)
        How much of an S-curve follows the curve of sRGB.
    chroma : float
        Probability that colour is smoothed.
    chroma_sizes : tuple of int
        Sides of the squares that colour is averaged over.
    luma : float
        Probability that brightness is smoothed.
    luma_shares : (float, float)
        How much of the brightness is replaced by its average.
    luma_sizes : tuple of tuple of int
        Sides of the squares, one after the other.
    luma_spread : (float, float)
        How unevenly: the standard deviation of the share from place to place, as a part of it.
    sharpen : float
        Probability that brightness is sharpened afterwards.
    sharpen_shares : (float, float)
        By how much of its difference from the average of nine pixels.
    jpeg : float
        Probability that the picture is coded as a JPEG.
    qualities : (int, int)
        Lowest and highest quality of a JPEG.
    subsample : float
        Probability that a JPEG keeps colour at half the resolution.
    """

    read: tuple[float, float, float]
    drift: Interval
    mixing: Interval
    contrast: Interval
    chroma: float
    chroma_sizes: tuple[int, ...]
    luma: float
    luma_shares: Interval
    luma_sizes: tuple[tuple[int, ...], ...]
    luma_spread: Interval
    sharpen: float
    sharpen_shares: Interval
    jpeg: float
    qualities: tuple[int, int]
    subsample: float


PHONE = Camera(
    read=(1.53, -1.2, 0.5),
    drift=(0.0, 0.03),
    mixing=(1.0, 1.0),
    contrast=(0.0, 0.3),
    chroma=0.25,
    chroma_sizes=(3, 5, 7),
    luma=0.4,
    luma_shares=(0.1, 0.5),
    luma_sizes=((3,),),
    luma_spread=(0.0, 0.0),
    sharpen=0.15,
    sharpen_shares=(0.2, 0.8),
    jpeg=0.3,
    qualities=(75, 99),
    subsample=0.5,
)

DSLR = Camera(
    read=(1.24, -3.27, 1.06),
    drift=(0.0, 0.2),
    mixing=(0.2, 0.8),
    contrast=(0.3, 1.0),
    chroma=0.97,
    chroma_sizes=(13, 17, 23, 31, 41, 51),
    luma=0.95,
    luma_shares=(0.5, 0.85),
    luma_sizes=((3,), (3, 3), (3, 5), (3, 7), (3, 9)),
    luma_spread=(0.0, 0.35),
    sharpen=0.2,
    sharpen_shares=(0.1, 0.6),
    jpeg=0.9,
    qualities=(85, 99),
    subsample=0.6,
)

# White balance and colour matrix: the ranges hold those that Brooks et al. took from the
# files of four cameras, and those that fit the noise of smartphones best. Rows sum to one.
RED_GAIN, BLUE_GAIN = (1.25, 2.3), (1.4, 2.3)
MATRIX_LOW = np.array([[0, -0.9, -0.2], [-0.25, 0, -0.45], [-0.05, -0.65, 0]])
MATRIX_HIGH = np.array([[0, -0.3, 0.3], [-0.04, 0, -0.05], [0.2, -0.15, 0]])


@dataclass(frozen=True, slots=True)
class Settings:
    """What one picture drew: everything but its noise.

    Attributes
    ----------
    gain, read : float
        Of the sensor, see `denoisekit.noise.sensor.expose`.
    drift : numpy.ndarray
        (3, 1, 1) deviations of the coarse noise, as parts of the sensor's.
    white : numpy.ndarray
        (3,) factors that make gray gray.
    matrix : numpy.ndarray
        (3, 3) from the sensor's colours to sRGB's.
    phase : (int, int)
        Where the mosaic begins.
    contrast : float
        Of the tone curve.
    chroma : int
        Side of the squares that colour is averaged over; 0: it is not.
    luma : tuple of int
        The same for brightness, one after the other.
    luma_share, luma_spread : float
        How much of the brightness is replaced by its average, and how unevenly.
    sharpen : float
        How much brightness is sharpened.
    quality : int
        Of the JPEG; 0: none.
    subsample : bool
        Whether that has colour at half the resolution.
    corner : (int, int)
        Where in a block of the JPEG the first pixel lies.
    """

    gain: float
    read: float
    drift: Floats
    white: Floats
    matrix: Matrix
    phase: Phase
    contrast: float
    chroma: int
    luma: tuple[int, ...]
    luma_share: float
    luma_spread: float
    sharpen: float
    quality: int
    subsample: bool
    corner: tuple[int, int]


def draw_settings(camera: Camera, gain: float, rng: np.random.Generator, *, jpeg: bool) -> Settings:
    """Draw what a camera of that kind does to one picture, given the gain of its sensor.

    Parameters
    ----------
    camera : Camera
        The ranges.
    gain : float
        Signal of one photon in units of white.
    rng : numpy.random.Generator
        Source of the draws.
    jpeg : bool
        False: no JPEG is coded, whatever the camera does.
    """
    off = rng.uniform(MATRIX_LOW, MATRIX_HIGH) * rng.uniform(*camera.mixing)
    slope, mean, spread = camera.read
    log_read = (slope * np.log(gain) + rng.normal(mean, spread)) / 2
    smooth = rng.random() < camera.luma
    return Settings(
        gain=gain,
        read=float(np.exp(log_read)),
        drift=rng.uniform(*camera.drift, (3, 1, 1)).astype(np.float32),
        white=np.array([rng.uniform(*RED_GAIN), 1, rng.uniform(*BLUE_GAIN)], np.float32),
        matrix=(off + np.diag(1 - off.sum(1))).astype(np.float32),
        phase=(int(rng.integers(2)), int(rng.integers(2))),
        contrast=float(rng.uniform(*camera.contrast)),
        chroma=int(rng.choice(camera.chroma_sizes)) if rng.random() < camera.chroma else 0,
        luma=camera.luma_sizes[rng.integers(len(camera.luma_sizes))] if smooth else (),
        luma_share=float(rng.uniform(*camera.luma_shares)),
        luma_spread=float(rng.uniform(*camera.luma_spread)),
        sharpen=float(rng.uniform(*camera.sharpen_shares))
        if rng.random() < camera.sharpen
        else 0.0,
        quality=int(rng.integers(*camera.qualities, endpoint=True))
        if rng.random() < camera.jpeg and jpeg
        else 0,
        subsample=bool(rng.random() < camera.subsample),
        corner=(int(rng.integers(16)), int(rng.integers(16))),
    )


def photograph(
    settings: Settings, bits: int | None, clean: Floats, rng: np.random.Generator
) -> Floats:
    """Return a clean picture with a camera's noise.

    Parameters
    ----------
    settings : Settings
        What the camera does.
    bits : int or None
        The result is rounded to as many; None: it is not.
    clean : numpy.ndarray
        (H, W, 3) float32, sRGB; clipped to 0..1.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) float32 on 0..1.
    """
    picture = np.ascontiguousarray(clean.transpose(2, 0, 1)).clip(0, 1)
    linear = to_linear(picture, settings.contrast)
    light = apply_matrix(np.linalg.inv(settings.matrix), linear)
    white = np.broadcast_to(settings.white[:, None, None], picture.shape)
    factors = mosaic(white, settings.phase)
    signal = (mosaic(light, settings.phase) / factors).clip(0, 1)
    raw_noise = expose_clipped(signal, settings.gain, settings.read, rng) - signal
    # Every step up to the tone curve is linear: the noise goes through them alone, and the
    # picture keeps the sharpness that it has.
    noise = apply_matrix(settings.matrix, demosaic(raw_noise * factors, settings.phase))
    deviation = np.sqrt(settings.gain * linear + np.float32(settings.read**2))
    noise += settings.drift * deviation * coarse(picture.shape, rng)
    noise = to_srgb(linear + noise, settings.contrast) - picture
    noisy = (picture + _processed(noise, settings, rng)).clip(0, 1)
    if settings.quality:
        noisy = code_jpeg(noisy, settings.quality, settings.subsample, settings.corner)
    elif bits is not None:
        steps = np.float32(2**bits - 1)
        noisy = np.round(noisy * steps) / steps
    return np.ascontiguousarray(noisy.transpose(1, 2, 0))


def _processed(noise: Floats, settings: Settings, rng: np.random.Generator) -> Floats:
    if settings.chroma:
        noise = smooth_colour(noise, settings.chroma)
    if settings.luma:
        # Cameras smooth by what they take for structure, which the noise itself decides too.
        varies = uneven(noise.shape[1:], settings.luma_spread, rng)
        share = (settings.luma_share * varies).clip(0, 1)
    for size in settings.luma:
        noise = smooth_luma(noise, size, share)
    if settings.sharpen:
        noise = smooth_luma(noise, 3, -settings.sharpen)
    return noise
