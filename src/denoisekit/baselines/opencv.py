"""Non-local means as OpenCV computes them: fast, on 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.baselines.classical import estimate_sigma
from denoisekit.errors import UsageError, pip_install

Floats = npt.NDArray[np.floating[Any]]

STRENGTH = 0.8
"""Of the filter, as a multiple of the estimated sigma: the best of a few on Gaussian noise."""

PATCH, SEARCH = 7, 21
"""Sides of what is compared and of where it is looked for, as OpenCV recommends."""

MOST_CHANNELS = 4
"""That OpenCV takes at once."""


def fastnlm(noisy: Floats, seed: int) -> npt.NDArray[np.float32]:  # noqa: ARG001 - nothing is drawn
    """Denoise by OpenCV's fastNlMeansDenoising, which rounds to 8 bits."""
    try:
        import cv2
    except ImportError as error:
        raise UsageError(f"this baseline needs {error.name}", pip_install("bench")) from error
    strength = STRENGTH * 255 * estimate_sigma(noisy)
    rounded = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    parts = [
        cv2.fastNlMeansDenoising(
            np.ascontiguousarray(rounded[..., first : first + MOST_CHANNELS]),
            None,
            strength,
            PATCH,
            SEARCH,
        ).reshape(*noisy.shape[:2], -1)
        for first in range(0, noisy.shape[2], MOST_CHANNELS)
    ]
    denoised: npt.NDArray[np.float32] = np.concatenate(parts, axis=2).astype(np.float32)
    denoised /= 255
    return denoised
