"""How strong an image's noise is, and how far it is correlated, judged from the image alone.

Noise shows where the picture is flat. The image is looked at in small patches; those that
vary least are taken for flat, at several brightnesses because the noise of a camera
depends on it. Two measures of a patch serve two kinds of noise:

* its diagonal detail ``(a - b - c + d) / 2`` of neighbouring pixels, in which little of the
  picture is left, gives sigma where pixels are independent;
* its variance about a plane counts correlated noise in full, but also any texture.

Their ratio tells which kind it is. Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

PATCH = 16
MOST_ACROSS = 64
"""Most patches along either side of the image: bounds the work at any image size."""
LAGS = 5
WHITE = 0.2
"""Correlation of neighbours below which pixels count as independent."""
BRIGHTNESSES = 4
NOTHING = 1e-12
"""Variance below what rounding leaves of a constant."""


@dataclass(frozen=True, slots=True)
class NoiseEstimate:
    """What `estimate_noise` found.

    Attributes
    ----------
    sigma : tuple of float
        Standard deviation of the noise of every channel, in the units of the pixels.
    correlation : tuple of float
        Autocorrelation at a distance of 0, 1 … 4 pixels, the mean of horizontal and
        vertical and of all channels; the first is 1. All others are 0 where there is no
        noise.
    patches : int
        Number of patches looked at; with few of them the figures are rough.
    """

    sigma: tuple[float, ...]
    correlation: tuple[float, ...]
    patches: int

    @property
    def correlated(self) -> bool:
        """Whether neighbouring pixels share noise, as in photos that a camera has processed."""
        return self.correlation[1] >= WHITE


def sample_tops(height: int) -> tuple[int, ...]:
    """Return the top rows of the bands, `PATCH` rows tall, that an estimate looks at.

    Parameters
    ----------
    height : int
        Rows of the image.

    Returns
    -------
    tuple of int
        Evenly spread, not overlapping, at most `MOST_ACROSS`; empty for fewer rows than
        `PATCH`.
    """
    count = min(height // PATCH, MOST_ACROSS)
    return tuple(i * (height - PATCH) // max(1, count - 1) for i in range(count))


def estimate_noise(pixels: Floats) -> NoiseEstimate | None:
    """Estimate the noise of one image.

    Parameters
    ----------
    pixels : numpy.ndarray
        (H, W, C) float32, finite. White is 1: pixels of exactly 0 or 1 count as clipped.

    Returns
    -------
    NoiseEstimate or None
        None: fewer than 16 pixels along a side, too small to tell.
    """
    height, width, _ = pixels.shape
    return estimate_noise_rows(lambda top, bottom: pixels[top:bottom], height, width)


def estimate_noise_rows(
    rows: Callable[[int, int], Floats], height: int, width: int
) -> NoiseEstimate | None:
    """Estimate the noise of an image that is read by rows.

    Parameters
    ----------
    rows : callable
        ``rows(top, bottom)`` returns (bottom - top, W, C) as in `estimate_noise`; called
        for the bands of `sample_tops`, from the top down.
    height, width : int
        Size of the image.

    Returns
    -------
    NoiseEstimate or None
        As `estimate_noise`.
    """
    lefts = sample_tops(width)
    tops = sample_tops(height)
    if not lefts or not tops:
        return None
    return _estimate(
        np.concatenate(
            [
                np.stack([band[:, :, left : left + PATCH] for left in lefts])
                for top in tops
                for band in [rows(top, top + PATCH).transpose(2, 0, 1).astype(np.float32)]
            ]
        )
    )


def estimate_noise_boxes(boxes: Floats, known: npt.NDArray[np.bool_]) -> NoiseEstimate | None:
    """Estimate the noise of an image from some parts of it.

    Parameters
    ----------
    boxes : numpy.ndarray
        (n, h, w, C), as in `estimate_noise`.
    known : numpy.ndarray
        Same shape: what of them was measured.

    Returns
    -------
    NoiseEstimate or None
        None: a side is shorter than `PATCH`, too small to tell.
    """
    tops, lefts = (sample_tops(length) for length in boxes.shape[1:3])
    if not tops or not lefts:
        return None
    columns = np.add.outer(lefts, np.arange(PATCH))

    def cut(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        rows = [pixels[:, top : top + PATCH, columns].transpose(0, 2, 4, 1, 3) for top in tops]
        return np.stack(rows, 1).reshape(-1, pixels.shape[-1], PATCH, PATCH)

    patches = cut(boxes)
    if not known.all() and (whole := cut(known).all((1, 2, 3))).any():
        patches = patches[whole]
    return _estimate(np.ascontiguousarray(patches, np.float32))


def _estimate(patches: Floats) -> NoiseEstimate:
    """Estimate from (N, C, `PATCH`, `PATCH`)."""
    count, channels = patches.shape[:2]
    mean = patches.mean((1, 2, 3))
    covariance = _autocovariance(_about_a_plane(patches))
    clipped = ((patches == 0) | (patches == 1)).mean((1, 2, 3)) > 0.05
    # A border or mask of one value says nothing of the noise, unless it is most of the
    # image. Even part of one makes a patch look quieter than it is.
    lines = [np.ptp(patches, axis).max(1) == 0 for axis in (2, 3)]
    masked = np.concatenate(lines, 1).any(1)
    usable = ~clipped & ~masked if masked.mean() < 0.5 else ~clipped
    if usable.sum() < min(count, 8):
        usable[:] = True
    covariance, mean = covariance[:, usable], mean[usable]
    detail = np.maximum(_diagonal_detail(patches[usable]), NOTHING)
    variance = covariance[0]
    if variance.max() <= NOTHING:
        return NoiseEstimate((0.0,) * channels, (1.0,) + (0.0,) * (LAGS - 1), count)

    bins = np.array_split(np.argsort(mean), max(1, min(BRIGHTNESSES, len(mean) // 8)))
    flat = [b[_lowest(detail[b])] for b in bins]
    # Of the flat patches, those with least else than detail are noise without picture.
    # (Of all patches they would be the finest textures.)
    some = np.concatenate(flat)
    ratio = variance[some].mean(1, keepdims=True) / detail[some].mean(1, keepdims=True)
    _, correlation = _noise_of(covariance[:, some[_lowest(ratio)]])
    if correlation[1] < WHITE:
        # The median: at some brightness there may be nothing flat.
        sigma = np.sqrt(np.median([detail[f].mean(0) for f in flat], axis=0))
    else:
        chosen = [covariance[:, b[_lowest(variance[b])]].mean(1) for b in bins]
        noise, correlation = _noise_of(np.stack(chosen, 1))
        sigma = np.sqrt(noise)
    return NoiseEstimate(
        tuple(float(s) for s in sigma), tuple(float(c) for c in correlation[:LAGS]), count
    )


def _about_a_plane(patches: Floats) -> Floats:
    """Subtract from every patch the plane that fits it best."""
    ramp = np.arange(PATCH, dtype=np.float32) - (PATCH - 1) / 2
    ramp /= np.sqrt((ramp**2).sum() * PATCH)
    out: Floats = patches - patches.mean((2, 3), keepdims=True)
    for slope in (ramp[:, None], ramp[None, :]):
        out = out - (out * slope).sum((2, 3), keepdims=True) * slope
    return out


def _autocovariance(residual: Floats) -> Floats:
    """Return (LAGS + 1, N, C): covariance at 0 … `LAGS` pixels, mean of both directions."""
    r = residual
    return np.stack(
        [(r * r).mean((2, 3))]
        + [
            ((r[:, :, d:] * r[:, :, :-d]).mean((2, 3)) + (r[..., d:] * r[..., :-d]).mean((2, 3)))
            / 2
            for d in range(1, LAGS + 1)
        ]
    )


def _diagonal_detail(patches: Floats) -> Floats:
    """Return (N, C): mean square of the diagonal detail; the variance of independent noise."""
    p = patches
    detail = p[..., 1:, 1:] - p[..., 1:, :-1] - p[..., :-1, 1:] + p[..., :-1, :-1]
    square: Floats = (detail * detail).mean((2, 3)) / 4
    return square


def _lowest(measure: Floats) -> npt.NDArray[np.intp]:
    """Return which of the (N, C) differ from the lowest (in the mean over C) by chance alone.

    Taking only the very lowest would select patches whose noise happens to be weak; so
    the threshold follows the mean of what it lets in, some deviations above it.
    """
    score = measure.mean(1)
    order = np.argsort(score)
    ordered = score[order]
    # Relative deviation of the diagonal detail of independent noise over one patch; that
    # of the variance of correlated noise is close.
    deviation = np.sqrt(4.5 / measure.shape[1]) / PATCH
    count = min(len(ordered), max(4, len(ordered) // 50))
    for _ in range(8):
        limit = ordered[:count].mean() * (1 + 1.2 * deviation)
        count = max(count, int(np.searchsorted(ordered, limit)))
    return order[:count]


def _noise_of(covariance: Floats) -> tuple[Floats, Floats]:
    """Return the noise variance per channel and its correlation from (LAGS + 1, N, C).

    What is left at the longest distances is picture, not noise, and is subtracted.
    """
    by_channel = covariance.mean(1)
    noise = np.maximum(by_channel[0] - np.maximum(by_channel[-2:].mean(0), 0), 0)
    pooled = by_channel.mean(1)
    pooled = pooled - max(0.0, float(pooled[-2:].mean()))
    correlation = pooled / max(float(pooled[0]), NOTHING)
    # What is left of the picture can make it larger than a correlation may be.
    correlation = correlation.clip(-1.0, 1.0)
    correlation[0] = 1.0
    return noise, correlation
