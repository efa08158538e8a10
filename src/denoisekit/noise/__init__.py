"""Noise for clean images: a camera's, a microscope's, Gaussian, Poisson. Numpy only."""

from denoisekit.noise.mixture import Simulate, noise_of
from denoisekit.noise.models import (
    CAMERAS,
    Noise,
    NoiseModel,
    choose_strength,
    find_model,
    prepare,
    simulate,
)

__all__ = [
    "CAMERAS",
    "Noise",
    "NoiseModel",
    "Simulate",
    "choose_strength",
    "find_model",
    "noise_of",
    "prepare",
    "simulate",
]
