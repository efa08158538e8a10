"""Weights: which exist, which are here, and how they get here. No torch until one is loaded."""

from denoisekit.weights.advice import find_weights, unpublished
from denoisekit.weights.cache import Stored, cache_folder, find, locate, weights_present
from denoisekit.weights.loading import LoadedWeights, file_of, is_path, load_weights
from denoisekit.weights.manifest import WeightEntry, find_entry, load_manifest
from denoisekit.weights.owner import method_of
from denoisekit.weights.store import choose_entry, import_file, pull, remove

__all__ = [
    "LoadedWeights",
    "Stored",
    "WeightEntry",
    "cache_folder",
    "choose_entry",
    "file_of",
    "find",
    "find_entry",
    "find_weights",
    "import_file",
    "is_path",
    "load_manifest",
    "load_weights",
    "locate",
    "method_of",
    "pull",
    "remove",
    "unpublished",
    "weights_present",
]
