"""Weights: which exist, which are here, and how they get here. No torch until one is loaded."""

from denoisekit.weights.hub import is_hub
from denoisekit.weights.loading import LoadedWeights, file_of, is_path, load_weights, method_of
from denoisekit.weights.manifest import WeightEntry, find_entry, load_manifest, unpublished
from denoisekit.weights.store import (
    Stored,
    cache_folder,
    choose_entry,
    find,
    import_file,
    locate,
    pull,
    pull_hub,
    remove,
    weights_present,
)

__all__ = [
    "LoadedWeights",
    "Stored",
    "WeightEntry",
    "cache_folder",
    "choose_entry",
    "file_of",
    "find",
    "find_entry",
    "import_file",
    "is_hub",
    "is_path",
    "load_manifest",
    "load_weights",
    "locate",
    "method_of",
    "pull",
    "pull_hub",
    "remove",
    "unpublished",
    "weights_present",
]
