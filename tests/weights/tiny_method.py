"""A method with a network of eight numbers, for tests of everything around networks."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

import torch

from denoisekit.methods.base import Limits, MethodInfo, Setting, Traits
from denoisekit.weights.manifest import UrlSource, WeightEntry

CONFIG = {"net": "tiny"}


class Tiny:
    def __init__(self, config, settings):
        if config["net"] != "tiny":
            raise ValueError("no such net")
        self.gain = settings["gain"]
        self.state = {}

    def shapes(self):
        return {"mix.weight": (2, 3), "mix.bias": (2,)}

    def load(self, state):
        self.state = dict(state)


def infer_config(shapes):
    return CONFIG if shapes.get("layer.weight") == (2, 3) else None


def map_key(key, config):
    return {"layer.weight": "mix.weight", "layer.bias": "mix.bias", "layer.mask": ""}.get(key, key)


METHOD = MethodInfo(
    id="tiny",
    title="",
    summary="",
    best_for="",
    citation="",
    scale=1.0,
    config=CONFIG,
    default_weights=("tiny.test",),
    traits=lambda config, settings: Traits(Limits(), 0.0, {}),
    build=Tiny,
    infer_config=infer_config,
    map_key=map_key,
    settings=(Setting("gain", 1.0, "what the result is multiplied by"),),
)


def official(seed=0):
    """The tensors as their authors would name them."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "layer.weight": torch.randn(2, 3, generator=draw),
        "layer.bias": torch.randn(2, generator=draw),
    }


def pickled(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def entry_for(data, *sources, name="tiny.test", **changes):
    """The manifest's entry for a published file."""
    fields = {
        "id": name,
        "method": "tiny",
        "config": CONFIG,
        "title": "Tiny",
        "trained_on": "nothing",
        "licence": "MIT",
        "citation": "none",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "git_blob": None,
        "sources": sources,
        "page": None,
        "results": (),
    }
    return WeightEntry(**{**fields, **changes})


def main(file, url):
    """Pull in a process of its own; say whether this process fetched."""
    from denoisekit.weights.store import pull

    entry = entry_for(Path(file).read_bytes(), UrlSource(url))
    sys.stdout.write(str(pull(entry, METHOD)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
