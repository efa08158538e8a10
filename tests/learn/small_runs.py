"""Small pictures and small networks, for tests of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from denoisekit.learn.train import Machine, start
from denoisekit.methods import Batch, Stage, get_method
from denoisekit.options import TrainData, TrainOptions

NETWORKS = {
    "aprrd": {"width": 4},
    "sdap": {"width": 8, "blocks": ["single"]},
    "ssbsn": {"width": 8, "blocks": ["double", "attention"]},
    "promptsid": {
        "width": 4,
        "blocks": [1, 1],
        "heads": [1, 2],
        "refine_blocks": 1,
        "features": 4,
        "encoder_blocks": 1,
    },
}
PATCHES = {"aprrd": 32, "sdap": 20, "ssbsn": 20, "promptsid": 16}


def picture(index, height=40, width=44):
    """A smooth colour picture of 0 to 1."""
    y, x = np.mgrid[:height, :width]
    wave = np.sin(x / (3 + index)) * np.cos(y / 4)
    return np.stack([0.5 + 0.3 * wave, 0.4 + 0.2 * wave, 0.6 - 0.3 * wave], -1).astype(np.float32)


def write_pictures(folder, count=3, sigma=0.1, ending=""):
    """Write noisy pictures and, with sigma 0, the same without noise."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        draw = np.random.default_rng(index)
        noisy = picture(index) + sigma * draw.standard_normal(picture(index).shape)
        array = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
        np.save(folder / f"{index}{ending}.npy", array)
    return folder


def asked(method, **changes):
    """A run of a small network: six steps."""
    usual = {"steps": 6, "batch": 2, "patch": PATCHES[method], "network": NETWORKS[method]}
    return TrainOptions(**{**usual, **changes})


def run(method, folder, out, *, data=None, machine=None, info=None, **changes):
    """Train a small network; return whether it came to its end, and all records."""
    records = []
    told = replace(machine or Machine(workers=1), tell=records.append)
    data = data or TrainData((str(folder),))
    done = start(info or get_method(method), data, out, asked(method, **changes), told)
    return done, records


def spoiling(info, at, spoil):
    """The method with one stage whose loss is spoilt at a step, counted from 1."""
    count = 0

    def loss(net, batch: Batch):
        nonlocal count
        count += 1
        plain = (net(batch.noisy) - batch.noisy).abs().mean()
        return spoil(plain, net) if count >= at else plain

    def recipe(config, paired):
        return (Stage("only", config, loss, steps=6, batch=2, patch=32, multiple=32),)

    return replace(info, recipe=recipe)
