"""What noise looks like in numbers: to compare simulated noise with that of real pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LAGS = 4
LEVELS = 16
SQUARES = (4, 16, 32)
FEWEST = 500
"""Pixels that a brightness must have for its deviation to be told."""
FEWEST_SQUARES = 8
"""The same of squares."""

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NoiseStatistics:
    """Statistics of noisy - clean, of a colour image on 0..1.

    Attributes
    ----------
    deviation : numpy.ndarray
        (3,) standard deviation of green, of the mean of the three colours, of red - green.
    by_level : numpy.ndarray
        (16,) standard deviation of all colours where the clean value lies in one of 16
        equal intervals of 0..1; NaN where there are too few pixels.
    along_rows : numpy.ndarray
        (3, 4) autocorrelation at distances of 1 to 4 pixels along rows, of the same three.
    between_colours : numpy.ndarray
        (3,) correlation of red and green, red and blue, green and blue.
    coarse : numpy.ndarray
        (3, 3) how strong it is at low frequencies, of the same three as ``deviation``: that of
        the means of squares of 4, 16 and 32 pixels times their side, as a multiple of that of
        pixels. 1 for noise that is independent everywhere; NaN where there are too few squares.
    """

    deviation: Curve
    by_level: Curve
    along_rows: Curve
    between_colours: Curve
    coarse: Curve


def measure_noise(clean: Floats, noisy: Floats) -> NoiseStatistics:
    """Measure the noise of a pair.

    Parameters
    ----------
    clean, noisy : numpy.ndarray
        (H, W, 3) on 0..1, at least 5 wide.

    Returns
    -------
    NoiseStatistics
        Of their difference.
    """
    noise = np.asarray(noisy, np.float64) - clean
    seen = np.stack([noise[..., 1], noise.mean(-1), noise[..., 0] - noise[..., 1]])
    colours = np.asarray(np.corrcoef(noise.reshape(-1, 3).T))
    levels = np.minimum((np.asarray(clean) * LEVELS).astype(int), LEVELS - 1)
    return NoiseStatistics(
        deviation=seen.std((1, 2)),
        by_level=np.array([_deviation(noise[levels == level]) for level in range(LEVELS)]),
        along_rows=np.array([_autocorrelation(signal) for signal in seen]),
        between_colours=colours[[0, 0, 1], [1, 2, 2]],
        coarse=np.array([[_coarse(signal, side) for side in SQUARES] for signal in seen]),
    )


def _deviation(values: Curve) -> float:
    return float(values.std()) if values.size >= FEWEST else float("nan")


def _autocorrelation(signal: Curve) -> list[float]:
    centred = signal - signal.mean()
    variance = (centred**2).mean()
    return [
        float((centred[:, :-lag] * centred[:, lag:]).mean() / variance)
        for lag in range(1, LAGS + 1)
    ]


def _coarse(signal: Curve, side: int) -> float:
    high, wide = (length // side for length in signal.shape)
    squares = signal[: high * side, : wide * side].reshape(high, side, wide, side)
    few = high * wide < FEWEST_SQUARES
    return float("nan") if few else float(squares.mean((1, 3)).std() * side / signal.std())
