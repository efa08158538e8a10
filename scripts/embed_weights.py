"""Take weights of a training run into the package, as those that ship with denoisekit.

python scripts/embed_weights.py ID RUN/weights.safetensors

The tensors are stored as fp16: half the size, and inference computes in fp32 all the same.
Prints the keys of the manifest's entry that the file decides.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from denoisekit.atomic import write_whole
from denoisekit.weights.checkpoint import read_header, read_state, to_safetensors
from denoisekit.weights.download import hash_file
from denoisekit.weights.store import EMBEDDED

LICENCE = "MIT, as denoisekit itself"


def embed(name: str, source: Path) -> Path:
    """Write the embedded file of these weights."""
    header = read_header(source)
    if not header or "training" not in header:
        raise SystemExit(f"{source} is not the result of a training run")
    state = {key: value.to(torch.float16) for key, value in read_state(source).items()}
    spoilt = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if spoilt:
        raise SystemExit(f"too large for fp16: {', '.join(spoilt)}")
    path = EMBEDDED / f"{name}.safetensors"
    write_whole(path, to_safetensors(state, {**header, "id": name, "licence": LICENCE}))
    return path


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Take weights into the package.")
    parser.add_argument("id")
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    path = embed(arguments.id, arguments.file)
    header = read_header(path) or {}
    entry = {
        "method": header["method"],
        "config": json.loads(header["config"]),
        "bytes": path.stat().st_size,
        "sha256": hash_file(path),
        "embedded": path.name,
    }
    print(json.dumps(entry, indent=2))


if __name__ == "__main__":
    main()
