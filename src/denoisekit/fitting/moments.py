"""How strong independent noise is at each brightness, and whether it is Gaussian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from denoisekit.fitting.material import Material
from denoisekit.ranges import Floats

Curve = tuple[tuple[float, float], ...]
"""Brightness and variance, the darkest first: on straight lines between, constant beyond."""

LEVELS = 8
"""Ranges of brightness, as many pixels in each, in which noise is measured."""

FINE_LEVELS = 16
"""The same, where the picture may count as noise too: its mean and deviation."""

FAR = 10.0
"""Brightness beyond all that there is."""

KURTOSIS = 3.08
"""Fourth moment of noise, by the square of the second, above which it is not Gaussian."""

GROWTH = 3.0
"""Variance of noise where the image is brightest, by that where it is darkest, above which
photons were counted: 10 to 40 in micrographs, up to 2.4 where black cuts Gaussian noise off."""


def noise_variance(material: Material) -> list[Curve]:
    """Return the variance of independent noise at every brightness.

    Counted photons have as much as their number, but where noise is cut off at black or white,
    or a camera has changed its tones, it lies on no line.

    Parameters
    ----------
    material : Material
        The image, noisy and denoised.

    Returns
    -------
    list of Curve
        For every channel, of values on 0..1.
    """
    return [_curve(ranges) for ranges in _details(material)]


def noise_curve(material: Material) -> Floats:
    """Return mean and standard deviation of noise, correlated or not, at every brightness.

    Parameters
    ----------
    material : Material
        The image, noisy and denoised.

    Returns
    -------
    numpy.ndarray
        (C, 3, 16) float32: brightness, the darkest first, mean and standard deviation.
    """
    assert material.denoised is not None

    def nodes(bright: Any, residual: Any) -> Any:
        ranges = np.array_split(np.argsort(bright, kind="stable"), FINE_LEVELS)
        found = [(bright[one].mean(), residual[one].mean(), residual[one].std()) for one in ranges]
        return np.array(found, np.float32).T

    denoised = material.denoised
    residual = material.noisy - denoised
    channels = range(denoised.shape[1])
    return np.stack([nodes(denoised[:, k].ravel(), residual[:, k].ravel()) for k in channels])


def is_gaussian(material: Material) -> bool:
    """Tell whether independent noise is Gaussian: as noise that is put on for a test.

    By its fourth moment at each brightness. That of counted photons is not, nor what a camera's
    electronics add now and then: 3.1 and more times the square of the second was found in
    micrographs, 3.0 in Gaussian noise. The moment is measured on what a first network has
    taken away, which hides some of it; so noise that grows with brightness is not either.
    """
    details = _details(material)
    moments = [
        float(np.square(squares).mean() / max(squares.mean() ** 2, 1e-24))
        for ranges in details
        for _, squares in ranges
    ]
    ends = [(ranges[0][1].mean(), ranges[-1][1].mean()) for ranges in details]
    grows = any(bright > GROWTH * dark for dark, bright in ends)
    return not grows and float(np.median(moments)) < KURTOSIS


def _details(material: Material) -> list[list[tuple[float, Floats]]]:
    """Return the squares of the finest details of noise, for channels and ranges of brightness.

    What is left of the picture in a residual is smooth: in the differences of its neighbours
    (``(a - b - c + d) / 2`` of four) little of it counts, and least where the picture is flat.
    There their mean square is right whatever the noise: with few photons most pixels differ
    little and some a lot, and a median would take it for weaker than it is.
    """
    assert material.denoised is not None
    residual = material.noisy - material.denoised
    height, width = (size // 2 * 2 for size in residual.shape[2:])
    a, b = residual[:, :, :height:2, :width:2], residual[:, :, :height:2, 1:width:2]
    c, d = residual[:, :, 1:height:2, :width:2], residual[:, :, 1:height:2, 1:width:2]
    squares = np.square(a - b - c + d) / 4
    bright = material.denoised[:, :, :height:2, :width:2]
    steep = np.hypot(*np.gradient(bright, axis=(2, 3)))
    return [
        _flat(bright[:, k].ravel(), squares[:, k].ravel(), steep[:, k].ravel())
        for k in range(residual.shape[1])
    ]


def _flat(bright: Any, squares: Any, steep: Any) -> list[tuple[float, Floats]]:
    """Return mean brightness and squares of the flatter half of ranges of brightness."""
    ranges = np.array_split(np.argsort(bright, kind="stable"), LEVELS)
    flatter = [one[steep[one] <= np.median(steep[one])] for one in ranges]
    return [(float(bright[one].mean()), squares[one]) for one in flatter]


def _curve(ranges: Sequence[tuple[float, Floats]]) -> Curve:
    """Join the variances of ranges of brightness, and go on beyond the brightest.

    Few pixels lie there, over a wide range; their noise follows the line through all ranges,
    unless that falls.
    """
    middles = [middle for middle, _ in ranges]
    variances = [float(squares.mean()) for _, squares in ranges]
    if np.ptp(middles) < 1e-6:
        return ((middles[0], float(np.mean(variances))),)
    slope = max(0.0, float(np.polyfit(middles, variances, 1)[0]))
    beyond = middles[-1] + FAR, variances[-1] + FAR * slope
    return (*zip(middles, variances, strict=True), beyond)
