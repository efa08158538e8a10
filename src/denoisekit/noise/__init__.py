"""Noise for clean images: a camera's, a microscope's, Gaussian, Poisson. Numpy only."""

from denoisekit.noise.mixture import Simulate, in_full, noise_of, read_strength
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
    "in_full",
    "noise_of",
    "prepare",
    "read_strength",
    "simulate",
]
