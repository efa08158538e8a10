"""A method that is a box blur, for tests of everything around a network: cheap and exact.

Its strength is its only weight. Local, so tiles must equal the whole; several times
smaller and faster than any real network.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from denoisekit.methods.aprrd import INFO as APRRD
from denoisekit.methods.base import Limits, Traits
from denoisekit.weights import LoadedWeights
from denoisekit.weights.checkpoint import to_safetensors

CONFIG = {"net": "box"}
CALLS: list[tuple[int, ...]] = []
"""Shapes of the tiles that were denoised; a test clears it first."""


class Box:
    """Mean of 3x3 pixels and of their channels' neighbours; `hook` may raise or spoil."""

    hook = None

    def __init__(self, config, settings):
        self.weight = torch.ones(1)
        self.precision = ""

    def shapes(self):
        return {"weight": (1,)}

    def load(self, state):
        self.weight = state["weight"]

    def prepare(self, device, precision):
        self.precision = precision

    def denoise(self, noisy, *, draws, context=None):
        CALLS.append(tuple(noisy.shape))
        if Box.hook is not None:
            spoilt = Box.hook(self, noisy)
            if spoilt is not None:
                return spoilt
        padded = torch.nn.functional.pad(noisy, (1, 1, 1, 1), mode="replicate")
        return self.weight * torch.nn.functional.avg_pool2d(padded, 3, 1)


METHOD = replace(
    APRRD,
    id="box",
    config=CONFIG,
    traits=lambda config, settings: Traits(
        limits=Limits(multiple_of=4, align=4, halo=4),
        flop_per_pixel=18.0,
        bytes_per_pixel={"fp32": 60.0, "bf16": 60.0, "fp16": 60.0},
    ),
    default_weights=("aprrd.sidd",),
    build=Box,
    infer_config=lambda shapes: CONFIG if "weight" in shapes else None,
    map_key=lambda key, config: key,
)

WEIGHTS = LoadedWeights({"weight": torch.ones(1)}, CONFIG, "box.test", "0" * 64, "box")


def write_weights(path: Path) -> Path:
    """Write its weights to a file that ``--weights`` takes."""
    header = {"denoisekit": "1", "method": "box", "config": json.dumps(CONFIG)}
    path.write_bytes(to_safetensors(dict(WEIGHTS.state), header))
    return path
