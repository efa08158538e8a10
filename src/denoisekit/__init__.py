"""Remove noise from your own images with self-supervised deep learning."""

from denoisekit._version import __version__

__all__ = ["__version__"]
