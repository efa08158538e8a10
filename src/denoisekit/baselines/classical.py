"""Denoisers of scikit-image, with strengths that follow from the image alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import UsageError, pip_install

Floats = npt.NDArray[np.floating[Any]]

TRIALS = 12
"""Halvings in the search for the strength of total variation."""

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Tried by J-invariance, as multiples of the estimated sigma."""


def wavelet(noisy: Floats, seed: int) -> Floats:  # noqa: ARG001 - nothing is drawn
    """Denoise by BayesShrink with the sigma that scikit-image estimates."""
    return _wavelet(noisy)


def nlm(noisy: Floats, seed: int) -> Floats:  # noqa: ARG001
    """Denoise by non-local means."""
    sigma = estimate_sigma(noisy)
    denoised: Floats = _restoration().denoise_nl_means(
        noisy,
        h=0.8 * sigma,
        sigma=sigma,
        patch_size=5,
        patch_distance=6,
        fast_mode=True,
        channel_axis=-1,
    )
    # It drops an axis of one channel.
    return denoised.reshape(noisy.shape).astype(np.float32)


def tv(noisy: Floats, seed: int) -> Floats:  # noqa: ARG001
    """Denoise by total variation, as strongly as takes off the estimated sigma."""
    sigma = estimate_sigma(noisy)
    low, high = 0.0, 4.0
    for _ in range(TRIALS):
        weight = (low + high) / 2
        taken = float(np.sqrt(np.square(noisy - _tv(noisy, weight)).mean()))
        low, high = (weight, high) if taken < sigma else (low, weight)
    return _tv(noisy, low) if low else noisy


def jinvariant(noisy: Floats, seed: int) -> Floats:  # noqa: ARG001
    """Denoise by what predicts hidden pixels best: wavelets or total variation."""
    sigma = max(estimate_sigma(noisy), 1e-4)
    candidates: list[tuple[Callable[..., Floats], str]] = [(_wavelet, "sigma"), (_tv, "weight")]
    found = []
    for function, name in candidates:
        values = [sigma * strength for strength in STRENGTHS]
        best, (_, losses) = _restoration().calibrate_denoiser(
            noisy, function, {name: values}, extra_output=True
        )
        found.append((min(losses), best))
    best = min(found, key=lambda pair: pair[0])[1]
    denoised: Floats = best(noisy)
    return denoised.astype(np.float32)


def _restoration() -> Any:
    try:
        import pywt  # noqa: F401 - scikit-image asks for it late, in words of its own
        from skimage import restoration
    except ImportError as error:
        raise UsageError(f"this baseline needs {error.name}", pip_install("bench")) from error
    return restoration


def estimate_sigma(noisy: Floats) -> float:
    """Return the standard deviation of the noise that scikit-image estimates, on 0..1."""
    sigma: float = _restoration().estimate_sigma(noisy, average_sigmas=True, channel_axis=-1)
    return sigma


def _wavelet(noisy: Floats, sigma: float | None = None) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of images too small for all levels
        denoised: Floats = _restoration().denoise_wavelet(
            noisy,
            sigma=sigma,
            convert2ycbcr=noisy.shape[2] == 3,
            rescale_sigma=True,
            channel_axis=-1,
        )
    return denoised.astype(np.float32)


def _tv(noisy: Floats, weight: float) -> Floats:
    denoised: Floats = _restoration().denoise_tv_chambolle(noisy, weight, channel_axis=-1)
    return denoised.astype(np.float32)
