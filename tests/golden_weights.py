"""The parity fixtures: where they are, and the formula that makes their weights."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

GOLDEN = Path(os.environ.get("DENOISEKIT_GOLDEN", Path(__file__).parent / "golden"))


def fixture(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the reference network that a fixture was made with."""
    keys = json.loads(path.with_name(path.stem + "_keys.json").read_text())
    return {name: tuple(shape) for name, shape in keys.items()}


def formula_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """Make the weights; the tensors are shared, so that nobody may write into them."""
    return dict(_formula_weights(tuple((name, tuple(s)) for name, s in shapes.items()), seed))


@cache
def _formula_weights(
    shapes: tuple[tuple[str, tuple[int, ...]], ...], seed: int
) -> dict[str, torch.Tensor]:
    state = {}
    for name, shape in shapes:
        rng = np.random.RandomState(zlib.crc32(name.encode()) ^ seed)
        z = rng.standard_normal(shape)
        if name.endswith("temperature"):
            z = 1 + 0.2 * z
        elif len(shape) >= 2:
            z = 0.8 * np.sqrt(2 / np.prod(shape[1:])) * z
        elif name.endswith(".body.weight"):
            z = 1 + 0.1 * z
        else:
            z = 0.05 * z
        state[name] = torch.from_numpy(z.astype(np.float32))
    return state
