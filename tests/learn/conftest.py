"""What all tests of learning need: small noisy images, and no longer measuring than needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import write_pictures

from denoisekit.engine import network as inference
from denoisekit.learn import loop, planning, session, train


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure no longer than needed, with one thread: the networks are tiny."""
    monkeypatch.setattr(inference, "CALIBRATION_CALL", 0.0)
    monkeypatch.setattr(session, "MEASURED_STEPS", 1)
    monkeypatch.setattr(planning, "BELIEVED", 0.0)
    monkeypatch.setattr(loop, "TOLD_STEPS", 1)
    monkeypatch.setattr(train, "LOSS_BATCHES", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def noisy(tmp_path):
    """A folder of three noisy pictures."""
    return write_pictures(tmp_path / "noisy")


def clean_picture(height=96, width=80, channels=1):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + k) * np.cos(y / 7) for k in range(channels)]
    return (0.5 + 0.3 * np.stack(waves, -1)).astype(np.float32)


def noise_like(clean, sigma, correlated=False, seed=0):
    noise = np.random.default_rng(seed).standard_normal((clean.shape[0] + 2, *clean.shape[1:]))
    if correlated:  # along both axes, over two pixels
        noise = noise[:-1] + noise[1:]
        noise = np.concatenate([noise, noise[:, :1]], 1)
        noise = (noise[:, :-1] + noise[:, 1:]) / 2
    return (sigma * noise[: clean.shape[0]]).astype(np.float32)


@pytest.fixture
def picture():
    """Make a clean picture and a noisy one: (H, W) or (H, W, C) float32."""

    def make(sigma=0.1, *, correlated=False, seed=0, **shape):
        clean = clean_picture(**shape)
        noisy = clean + noise_like(clean, sigma, correlated, seed)
        return (clean[..., 0], noisy[..., 0]) if clean.shape[2] == 1 else (clean, noisy)

    return make
