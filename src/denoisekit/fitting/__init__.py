"""A network fitted to one noisy image, with nothing else to learn from. No torch until it runs."""

from denoisekit.fitting.fit import fit
from denoisekit.fitting.result import Fit, Look
from denoisekit.options import OBJECTIVES, PRESETS, FitOptions

__all__ = ["OBJECTIVES", "PRESETS", "Fit", "FitOptions", "Look", "fit"]
