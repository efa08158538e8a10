"""Remove noise from your own images with self-supervised deep learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from denoisekit._version import __version__
from denoisekit.errors import DenoisekitError

if TYPE_CHECKING:
    from denoisekit.api import denoise, fit_single, load

__all__ = ["DenoisekitError", "__version__", "denoise", "fit_single", "load"]


def __getattr__(name: str) -> Any:
    # Importing denoisekit must not import torch: --help and completion have no use for it.
    if name in {"denoise", "fit_single", "load"}:
        from denoisekit import api

        return getattr(api, name)
    raise AttributeError(f"module 'denoisekit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
