"""Write weights of random numbers: enough to try the whole tool without any download.

python scripts/make_random_weights.py FILE.safetensors [--weights ID]

The result has the shapes and header of the manifest's entry ID and denoises nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

from denoisekit.methods import get_method
from denoisekit.weights.checkpoint import to_safetensors
from denoisekit.weights.manifest import find_entry, load_manifest


def make(path: Path, weights: str) -> None:
    """Write random weights of the same network as these."""
    entry = find_entry(weights, load_manifest())
    generator = torch.Generator().manual_seed(0)
    state = {}
    method = get_method(entry.method)
    for key, shape in method.build(entry.config, method.choose()).shapes().items():
        fan_in = math.prod(shape[1:])
        # He's scale keeps the values of a deep network finite.
        scale = math.sqrt(2 / fan_in) if len(shape) > 1 else 0.01
        state[key] = torch.randn(shape, generator=generator) * scale
    header = {"denoisekit": "1", "method": entry.method, "config": json.dumps(dict(entry.config))}
    path.write_bytes(to_safetensors(state, header))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write weights of random numbers.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--weights", default="aprrd.sidd", help="id in the manifest")
    arguments = parser.parse_args()
    make(arguments.file, arguments.weights)


if __name__ == "__main__":
    main()
