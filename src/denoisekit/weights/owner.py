"""Whose weights these are, told without loading them."""

from __future__ import annotations

from denoisekit.errors import WeightsError
from denoisekit.weights.header import read_header
from denoisekit.weights.loading import file_of, is_path
from denoisekit.weights.manifest import load_manifest


def method_of(name: str) -> str | None:
    """Return the id of the method of some weights, from the manifest or the file's header.

    Parameters
    ----------
    name : str
        An id or a file, as for `load_weights`.

    Returns
    -------
    str or None
        None: nothing of the name is known, or the file does not say.
    """
    if not is_path(name):
        return next((entry.method for entry in load_manifest() if entry.id == name), None)
    try:
        return (read_header(file_of(name)) or {}).get("method")
    except (OSError, WeightsError):  # said better by what loads it
        return None
