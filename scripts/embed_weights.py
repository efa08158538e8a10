"""Take weights of a training run into the package, as those that ship with denoisekit.

python scripts/embed_weights.py ID RUN/weights.safetensors
python scripts/embed_weights.py ID RUN/weights.safetensors --mix FIRST.safetensors --share 0.2

With ``--mix`` the weights become a weighted mean with others that the run began with: a run that
was short on the way is often better halfway back.
The tensors are stored as fp16: half the size, and inference computes in fp32 all the same.
Prints the keys of the manifest's entry that the file decides.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from denoisekit.atomic import write_whole
from denoisekit.weights.cache import EMBEDDED
from denoisekit.weights.checkpoint import read_state, to_safetensors
from denoisekit.weights.fetch import hash_file
from denoisekit.weights.header import read_header

LICENCE = "MIT, as denoisekit itself"


def embed(name: str, source: Path, mix: Path | None = None, share: float = 0.0) -> Path:
    """Write the embedded file of these weights, or of their mean with a share of others."""
    header = read_header(source)
    if not header or "training" not in header:
        raise SystemExit(f"{source} is not the result of a training run")
    state = read_state(source)
    if mix is not None:
        others = read_state(mix)
        state = {key: (1 - share) * value + share * others[key] for key, value in state.items()}
    state = {key: value.to(torch.float16) for key, value in state.items()}
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
    parser.add_argument("--mix", type=Path, help="weights to take the mean with")
    parser.add_argument("--share", type=float, default=0.5, help="of those")
    arguments = parser.parse_args()
    path = embed(arguments.id, arguments.file, arguments.mix, arguments.share)
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
