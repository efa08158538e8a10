"""Noise for clean images: a camera's, a microscope's, Gaussian, Poisson. Numpy only."""

from denoisekit.noise.models import (
    CAMERAS,
    Noise,
    NoiseModel,
    Simulate,
    choose_strength,
    find_model,
    in_full,
    noise_of,
    prepare,
    read_strength,
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
