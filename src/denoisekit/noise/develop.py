"""What a camera computes after the mosaic: colours, tone curve, smoothing, sharpening, JPEG.

Pictures are (3, H, W) float32 here, sRGB or linear light on 0..1.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in the brightness that cameras and JPEG keep apart from colour."""


def apply_matrix(matrix: Matrix, rgb: Floats) -> Floats:
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


def smooth(image: Floats, size: int) -> Floats:
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
    return luma + smooth(noise - luma, size)


def uneven(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> Floats:
    """Draw factors (H, W) around 1 with that standard deviation, alike over a few pixels."""
    drawn = smooth(smooth(rng.standard_normal(shape, np.float32), 5), 5)
    factors: Floats = 1 + np.float32(spread / max(float(drawn.std()), 1e-9)) * drawn
    return factors


PITCH = 32
"""Pixels between the knots of coarse noise: about as far as it agrees in phones' pictures."""


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
    return noise - np.asarray(share, np.float32) * (luma - smooth(luma, size))


def code_jpeg(picture: Floats, quality: int, subsample: bool, corner: tuple[int, int]) -> Floats:
    """Code and decode a JPEG.

    Parameters
    ----------
    picture : numpy.ndarray
        (3, H, W) float32 on 0..1.
    quality : int
        1..100.
    subsample : bool
        Keep colour at half the resolution (4:2:0).
    corner : (int, int)
        Where in a coding block of 16 the first pixel lies: pictures are cut anywhere.

    Returns
    -------
    numpy.ndarray
        (3, H, W) float32 on 0..1, in steps of 1/255.
    """
    from PIL import Image

    top, left = corner
    levels = np.round(picture.transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    padded = np.pad(levels, ((top, 0), (left, 0), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    Image.fromarray(padded).save(
        buffer, "JPEG", quality=quality, subsampling="4:2:0" if subsample else "4:4:4"
    )
    with Image.open(buffer) as coded:
        decoded = np.asarray(coded)[top:, left:]
    return np.asarray(decoded.transpose(2, 0, 1), np.float32) / np.float32(255)
