"""The score puts results in the order of their true errors where these differ clearly."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.choosing import score
from denoisekit.errors import InputError

RNG = np.random.default_rng(0)


def smooth(picture, radius):
    """Return a mean over squares."""
    for axis in (0, 1):
        steps = range(-radius, radius + 1)
        picture = sum(np.roll(picture, step, axis) for step in steps) / len(steps)
    return picture.astype(np.float32)


def scene():
    y, x = np.mgrid[:192, :192].astype(np.float32)
    clean = 0.4 + 0.2 * np.sin(x / 60)
    clean[:, 96:] += 0.08 * np.sign(np.sin(0.8 * x) * np.sin(0.7 * y))[:, 96:]
    return np.repeat(clean[..., None], 3, 2).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_clean_beats_half_denoised_beats_noisy(sigma):
    clean = scene()
    noisy = clean + np.float32(sigma) * RNG.standard_normal(clean.shape, np.float32)
    half = (noisy + clean) / 2
    assert score(noisy, clean) > score(noisy, half) > score(noisy, noisy)


def test_a_wiped_mesh_is_worse_than_light_noise():
    clean = scene()
    noisy = clean + np.float32(0.01) * RNG.standard_normal(clean.shape, np.float32)
    assert score(noisy, noisy) > score(noisy, smooth(noisy, 4))


def test_strong_noise_is_worse_than_a_slight_blur():
    clean = scene()
    noisy = clean + np.float32(0.2) * RNG.standard_normal(clean.shape, np.float32)
    assert score(noisy, smooth(clean, 1)) > score(noisy, noisy)


def test_the_score_is_near_the_true_error_where_all_is_flat():
    clean = np.full((192, 192, 3), 0.5, np.float32)
    noise = RNG.standard_normal(clean.shape, np.float32) * np.float32(0.05)
    true = -10 * np.log10(np.square(noise).mean())
    # Twice the variance is counted for what cannot be measured beside edges.
    assert score(clean + noise, clean + noise) == pytest.approx(true - 3, abs=0.7)


def test_equal_and_constant_pictures_have_the_highest_score():
    flat = np.full((32, 32, 1), 0.5, np.float32)
    assert score(flat, flat) == pytest.approx(80)


@pytest.mark.parametrize(
    ("noisy", "denoised"),
    [
        (np.zeros((40, 40, 3)), np.zeros((40, 41, 3))),
        (np.zeros((31, 40, 3)), np.zeros((31, 40, 3))),
        (np.zeros((40, 40)), np.zeros((40, 40))),
        (np.full((40, 40, 3), np.nan), np.zeros((40, 40, 3))),
    ],
)
def test_what_cannot_be_judged_is_refused(noisy, denoised):
    with pytest.raises(InputError):
        score(noisy, denoised)
