"""A clean image as a camera would have taken it.

The noise of a photograph is not that of its sensor: interpolated, mixed, stretched,
smoothed and coded, it is correlated over several pixels and between colours, and a network
that never saw such noise does not remove it. So a clean image is taken back to the sensor,
gets its noise there, and the noise is developed as the camera develops an image. Going back
is after Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019.

Pictures are (3, H, W) float32 within, sRGB or linear light on 0..1.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from denoisekit.noise.sensor import Floats, Phase, demosaic, expose_clipped, mosaic

Interval = tuple[float, float]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in the brightness that cameras and JPEG keep apart from colour."""


@dataclass(frozen=True, slots=True)
class Camera:
    """What cameras of a kind do, as ranges that each image draws from.

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
        Probability that the image is coded as a JPEG.
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
    """What one image drew: everything but its noise.

    Attributes
    ----------
    gain, read : float
        Of the sensor, see `denoisekit.noise.sensor.expose`.
    drift : numpy.ndarray
        (3, 1, 1) deviations of the coarse noise, as parts of the sensor's.
    white_balance : numpy.ndarray
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
    white_balance: Floats
    matrix: Floats
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
    """Draw what a camera of that kind does to one image, given the gain of its sensor.

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
        white_balance=np.array([rng.uniform(*RED_GAIN), 1, rng.uniform(*BLUE_GAIN)], np.float32),
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
    """Return a clean image with a camera's noise.

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
    image = np.ascontiguousarray(clean.transpose(2, 0, 1)).clip(0, 1)
    linear = to_linear(image, settings.contrast)
    light = apply_matrix(np.linalg.inv(settings.matrix), linear)
    balance = np.broadcast_to(settings.white_balance[:, None, None], image.shape)
    factors = mosaic(balance, settings.phase)
    signal = (mosaic(light, settings.phase) / factors).clip(0, 1)
    raw_noise = expose_clipped(signal, settings.gain, settings.read, rng) - signal
    # Every step up to the tone curve is linear: the noise goes through them alone, and the
    # image keeps the sharpness that it has.
    noise = apply_matrix(settings.matrix, demosaic(raw_noise * factors, settings.phase))
    deviation = np.sqrt(settings.gain * linear + np.float32(settings.read**2))
    noise += settings.drift * deviation * coarse(image.shape, rng)
    noise = to_srgb(linear + noise, settings.contrast) - image
    noisy = (image + _processed(noise, settings, rng)).clip(0, 1)
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


def apply_matrix(matrix: Floats, rgb: Floats) -> Floats:
    """Mix the colours of every pixel: (3, 3) times (3, H, W)."""
    return (matrix @ rgb.reshape(3, -1)).reshape(rgb.shape)


def to_linear(srgb: Floats, contrast: float) -> Floats:
    """Undo `to_srgb`.

    Parameters
    ----------
    srgb : numpy.ndarray
        Any shape, float32 on 0..1.
    contrast : float
        The one given to `to_srgb`.

    Returns
    -------
    numpy.ndarray
        Same shape, float32 on 0..1.
    """
    encoded = _less_contrast(srgb, np.float32(contrast)) if contrast else srgb
    curved = ((np.maximum(encoded, np.float32(0.04045)) + 0.055) / 1.055) ** np.float32(2.4)
    return np.where(encoded <= 0.04045, encoded / np.float32(12.92), curved)


def to_srgb(linear: Floats, contrast: float) -> Floats:
    """Clip linear light, encode it as sRGB, and steepen the middle of the curve.

    Parameters
    ----------
    linear : numpy.ndarray
        Any shape, float32.
    contrast : float
        0: the curve of sRGB alone; 1: followed by the S-curve ``3x² - 2x³``; below 1: a
        mix of both.

    Returns
    -------
    numpy.ndarray
        Same shape, float32 on 0..1.
    """
    clipped = linear.clip(0, 1)
    curved = np.maximum(clipped, np.float32(0.0031308)) ** np.float32(1 / 2.4)
    encoded = np.where(
        clipped <= 0.0031308, np.float32(12.92) * clipped, np.float32(1.055) * curved - 0.055
    ).astype(np.float32)
    return _more_contrast(encoded, np.float32(contrast)) if contrast else encoded


def _more_contrast(x: Floats, share: np.float32) -> Floats:
    return x + share * x * (1 - x) * (2 * x - 1)  # (1 - share) x + share (3x² - 2x³)


def _less_contrast(y: Floats, share: np.float32) -> Floats:
    """Solve `_more_contrast` for x: a cubic with three real roots, of which one is on 0..1."""
    # Around the middle: z³ - slope z + (y - 1/2) / (2 share) = 0; then sin 3a = 3 sin a - 4 sin³ a.
    slope = (1 + share / 2) / (2 * share)
    reach = 2 * np.sqrt(slope / 3)
    sine = (y - np.float32(0.5)) * (3 / (2 * share * reach * slope))
    angle = np.arcsin(sine.clip(-1, 1)) / np.float32(3)
    return np.asarray(np.float32(0.5) + reach * np.sin(angle), np.float32)


def box_mean(image: Floats, size: int) -> Floats:
    """Average over squares of an odd side; mirrored at the borders. Last two axes, any before."""
    half = size // 2
    height, width = image.shape[-2:]
    margins = [(0, 0)] * (image.ndim - 2) + [(half, half)] * 2
    padded = np.pad(image, margins, mode="reflect")
    across = padded[..., :width].copy()
    for shift in range(1, size):
        across += padded[..., shift : shift + width]
    total = across[..., :height, :].copy()
    for shift in range(1, size):
        total += across[..., shift : shift + height, :]
    return total / np.float32(size**2)


def smooth_colour(noise: Floats, size: int) -> Floats:
    """Average everything but the brightness over squares of an odd side."""
    luma = np.tensordot(LUMA, noise, 1)
    return luma + box_mean(noise - luma, size)


def uneven(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> Floats:
    """Draw factors (H, W) around 1 with that standard deviation, alike over a few pixels."""
    drawn = box_mean(box_mean(rng.standard_normal(shape, np.float32), 5), 5)
    factors: Floats = 1 + np.float32(spread / max(float(drawn.std()), 1e-9)) * drawn
    return factors


PITCH = 32
"""Pixels between the knots of coarse noise: about as far as it agrees in phones' images."""


def coarse(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Draw fields (C, H, W) of unit deviation that change over tens of pixels."""
    weights = []
    for side in shape[1:]:
        places = (np.arange(side, dtype=np.float32) + rng.integers(PITCH)) / PITCH
        knots = np.arange(places[-1] // 1 + 2)
        weights.append(np.maximum(0, 1 - np.abs(places[:, None] - knots)).astype(np.float32))
    down, across = weights
    drawn = rng.standard_normal((shape[0], down.shape[1], across.shape[1]), np.float32)
    # Between the knots the mean variance of a bilinear mix is 4/9.
    return np.asarray(1.5 * (down @ drawn @ across.T), np.float32)


def smooth_luma(noise: Floats, size: int, share: float | Floats) -> Floats:
    """Mix the brightness with its average over squares; a negative share sharpens."""
    luma = np.tensordot(LUMA, noise, 1)
    return noise - np.asarray(share, np.float32) * (luma - box_mean(luma, size))


def code_jpeg(image: Floats, quality: int, subsample: bool, corner: tuple[int, int]) -> Floats:
    """Code and decode a JPEG.

    Parameters
    ----------
    image : numpy.ndarray
        (3, H, W) float32 on 0..1.
    quality : int
        1..100.
    subsample : bool
        Keep colour at half the resolution (4:2:0).
    corner : (int, int)
        Where in a coding block of 16 the first pixel lies: images are cut anywhere.

    Returns
    -------
    numpy.ndarray
        (3, H, W) float32 on 0..1, in steps of 1/255.
    """
    from PIL import Image

    top, left = corner
    levels = np.round(image.transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    padded = np.pad(levels, ((top, 0), (left, 0), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    Image.fromarray(padded).save(
        buffer, "JPEG", quality=quality, subsampling="4:2:0" if subsample else "4:4:4"
    )
    with Image.open(buffer) as coded:
        decoded = np.asarray(coded)[top:, left:]
    return np.asarray(decoded.transpose(2, 0, 1), np.float32) / np.float32(255)
