"""The weights that a fit begins with: those asked for, those that are here, or none."""

from __future__ import annotations

from dataclasses import replace

from denoisekit.errors import UsageError, WeightsError
from denoisekit.fitting.material import channels_of
from denoisekit.image import ImageInfo
from denoisekit.methods import get_method
from denoisekit.weights import (
    LoadedWeights,
    find_entry,
    load_manifest,
    load_weights,
    method_of,
    weights_present,
)

ADAPTABLE = ("aprrd", "single")
"""Methods whose networks can be adapted."""


def find_start(name: str, objective: str, info: ImageInfo) -> LoadedWeights | None:
    """Return the weights to adapt to an image, or None: from scratch.

    Parameters
    ----------
    name : str
        As `denoisekit.fitting.FitOptions.start`.
    objective : str
        As `denoisekit.fitting.FitOptions.objective`; one that is asked for is learned from
        scratch.
    info : ImageInfo
        Of the image.

    Raises
    ------
    UsageError
        There are no such weights, or none that can be adapted.
    WeightsError
        They are absent, damaged, or of another number of channels.
    """
    if name == "none":
        return None
    if name == "auto":
        photograph = info.colour == "rgb" and info.dtype == "uint8" and info.planes == 1
        return _present() if photograph and objective == "auto" else None
    if objective != "auto":
        raise UsageError(
            "an objective is for a fit from scratch", "leave --objective out, or add --start none"
        )
    method = method_of(name) or "aprrd"
    if method not in ADAPTABLE:
        raise UsageError(
            f"weights of the method {method} cannot be adapted to an image",
            f"those of {' and '.join(ADAPTABLE)} can; --start none begins from scratch",
        )
    loaded = load_weights(name, get_method(method))
    channels = get_method(method).traits(loaded.config, get_method(method).choose()).channels
    if loaded.config.get("net") == "bsn":
        raise UsageError(f"{name} is a teacher, which cannot be adapted", "give the student's")
    if channels != channels_of(info):
        raise WeightsError(
            f"{name} takes {channels} channels, and the image has {channels_of(info)}",
            "give other weights, or --start none",
        )
    return _without_ending(loaded) if method == "single" else loaded


def _without_ending(loaded: LoadedWeights) -> LoadedWeights:
    """Leave out what the other image's networks were given in the end: it is found anew."""
    state = {key: value for key, value in loaded.state.items() if key.startswith("members.")}
    return replace(loaded, config={**loaded.config, "full": 0, "levels": 0}, state=state)


def _present() -> LoadedWeights | None:
    entries = load_manifest()
    known = {entry.id for entry in entries}
    for name in get_method("aprrd").default_weights:
        if name in known and weights_present(find_entry(name, entries)):
            return load_weights(name, get_method("aprrd"), allow_download=False)
    return None
