"""Small sets of pictures, and runs of the box method over them."""

from __future__ import annotations

import numpy as np

from denoisekit.bench.candidates import gather
from denoisekit.bench.images import paired_images
from denoisekit.metrics import SRGB
from denoisekit.pairs import File


def write_pairs(folder, count=6):
    """Write noisy and clean pictures, (24, 30, 3); return the folder."""
    y, x = np.mgrid[:24, :30]
    for index in range(count):
        draw = np.random.default_rng(index)
        wave = 0.5 + 0.3 * np.sin(x / (4 + index)) * np.cos(y / 5)
        clean = np.stack([wave, 1 - wave, wave], -1)
        noisy = clean + 0.1 * draw.standard_normal(clean.shape)
        for name, pixels in (("noisy", noisy), ("clean", clean)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            array = np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
            np.save(folder / name / f"{index}.npy", array)
    return folder


def material(folder, **options):
    """Return these pictures as a set."""
    sides = ([File(p) for p in sorted((folder / name).iterdir())] for name in ("noisy", "clean"))
    return paired_images("box set", *sides, **options)


def candidates(weights, measure=SRGB):
    """Return the noisy picture and the box, whose weights are in this file."""
    return gather([], [str(weights)], measure, device="cpu")
