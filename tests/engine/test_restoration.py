"""The strength auto: what was picture comes back, what was noise does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoisekit.engine import restoration
from denoisekit.engine.restoration import Restored, Restoring, agreement, measure_noise, restore

HEIGHT, WIDTH = 200, 264


def correlated(shape, seed):
    """Return noise of variance 1 that neighbours share, as a camera's."""
    white = np.random.default_rng(seed).standard_normal((shape[0] + 1, shape[1] + 1, 3))
    mixed = (white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]) / 2
    return mixed.astype(np.float32)


def scene():
    """Return a clean picture, with a fine mesh on its right half, and what it is without."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    shade = np.full((HEIGHT, WIDTH), 0.4, np.float32)
    mesh = 0.08 * np.sin(1.3 * x) * np.sin(0.9 * y) * (x > WIDTH / 2)
    return np.repeat((shade + mesh)[..., None], 3, 2), shade


def returned(noisy, denoised, *, colour=True, bands=None, tally=None, what=None):
    """Give back what exceeds the noise, measured on what was taken from the picture itself."""
    device = torch.device("cpu")
    if what is None:
        small = min(noisy.shape[:2]) < 32
        noises = None if small else measure_noise([(noisy, denoised)], device, colour=colour)
        what = Restoring(structure=False, noises=noises, colour=colour)
    parts = restore(
        bands or [(0, denoised)],
        lambda top, bottom: noisy[top:bottom],
        noisy.shape[:2],
        device,
        what,
        tally or Restored(),
    )
    tops, rows = zip(*parts, strict=True)
    assert list(tops) == list(np.cumsum([0, *map(len, rows)])[:-1])
    return np.concatenate(rows)


def error(one, other):
    return float(np.square(one - other).mean())


def test_a_mesh_that_was_wiped_comes_back_and_noise_stays_away():
    clean, shade = scene()
    noisy = clean + 0.02 * correlated(clean.shape, 0)
    wiped = np.repeat(shade[..., None], 3, 2)
    result = returned(noisy, wiped)
    mesh, plain = np.s_[:, WIDTH // 2 + 16 :], np.s_[:, : WIDTH // 2 - 16]
    assert error(result[mesh], clean[mesh]) < 0.35 * error(noisy[mesh], clean[mesh])
    assert error(wiped[mesh], clean[mesh]) > 2 * error(noisy[mesh], clean[mesh])
    assert error(result[plain], clean[plain]) < 0.01 * error(noisy[plain], clean[plain])


def test_a_perfect_result_is_left_alone():
    clean, _ = scene()
    tally = Restored()
    noisy = clean + 0.05 * correlated(clean.shape, 1)
    result = returned(noisy, clean, tally=tally)
    assert error(result, clean) < 0.005 * error(noisy, clean)
    assert tally.share < 0.005


@pytest.mark.parametrize("growth", [-0.5, 1.0])
def test_noise_that_depends_on_brightness_is_no_picture(growth):
    x = np.mgrid[:HEIGHT, :WIDTH][1].astype(np.float32)
    clean = np.repeat((0.15 + 0.6 * x / WIDTH)[..., None], 3, 2)
    sigma = 0.05 * (clean / 0.4) ** growth
    noisy = clean + sigma * correlated(clean.shape, 2)
    assert error(returned(noisy, clean), clean) < 0.01 * error(noisy, clean)


def test_letters_everywhere_do_not_pass_for_noise():
    """The dark has nothing flat: what the bright can say about noise must do."""
    rng = np.random.default_rng(3)
    clean = np.full((192, 192, 3), 0.6, np.float32)
    letters = np.kron(rng.random((48, 48)) < 0.5, np.ones((4, 4)))[:, :96, None]
    clean[:, :96] -= np.float32(0.4) * letters.astype(np.float32)
    noisy = clean + 0.01 * correlated(clean.shape, 4)
    smooth = noisy.copy()
    for axis in (0, 1):
        smooth = sum(np.roll(smooth, step, axis) for step in range(-4, 5)) / 9
    dark = np.s_[16:-16, 16:80]
    assert error(smooth[dark], clean[dark]) > 100 * error(noisy[dark], clean[dark])
    assert error(returned(noisy, smooth)[dark], clean[dark]) < 2 * error(noisy[dark], clean[dark])


def test_the_result_does_not_depend_on_the_bands():
    clean, shade = scene()
    noisy = clean + 0.02 * correlated(clean.shape, 5)
    wiped = np.repeat(shade[..., None], 3, 2)
    whole = returned(noisy, wiped)
    bands = [(0, wiped[:37]), (37, wiped[37:170]), (170, wiped[170:])]
    np.testing.assert_array_equal(returned(noisy, wiped, bands=bands), whole)


def test_the_result_does_not_depend_on_the_boxes(monkeypatch):
    clean, shade = scene()
    noisy = clean + 0.02 * correlated(clean.shape, 6)
    wiped = np.repeat(shade[..., None], 3, 2)
    whole = returned(noisy, wiped)
    monkeypatch.setattr(restoration, "STRIP", 128)
    monkeypatch.setattr(restoration, "CHUNK", 96)
    np.testing.assert_allclose(returned(noisy, wiped), whole, atol=2e-6)


def test_channels_that_are_no_colours_do_not_see_each_other():
    clean, shade = scene()
    noisy = clean + 0.02 * correlated(clean.shape, 7)
    wiped = np.repeat(shade[..., None], 3, 2)
    together = returned(noisy, wiped, colour=False)
    for channel in range(3):
        one = np.s_[..., channel : channel + 1]
        alone = returned(noisy[one], wiped[one], colour=False)
        np.testing.assert_allclose(together[one], alone, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 9), (64, 64)])
def test_small_and_constant_pictures_come_through(size):
    flat = np.full((*size, 3), 0.25, np.float32)
    np.testing.assert_allclose(returned(flat, flat), flat, atol=1e-7)
    noisy = flat + 0.1 * correlated(flat.shape, 8)
    result = returned(noisy, flat)
    assert np.isfinite(result).all()
    assert error(result, flat) <= error(noisy, flat)


STRUCTURE = Restoring(structure=True, colour=True)


@pytest.mark.parametrize("period", [2, 4, 6.3])
@pytest.mark.parametrize("size", [(70, 65), (130, 200)])
def test_a_pattern_that_was_wiped_comes_back_whole(period, size):
    x = np.arange(size[1], dtype=np.float32)
    stripes = (0.5 + 0.3 * np.sign(np.sin(2 * np.pi * (x + 0.3) / period))).astype(np.float32)
    noisy = np.broadcast_to(stripes[None, :, None], (*size, 3)).copy()
    tally = Restored()
    result = returned(noisy, np.full_like(noisy, 0.5), what=STRUCTURE, tally=tally)
    np.testing.assert_allclose(result, noisy, atol=1e-6)
    assert tally.share > 0.999


@pytest.mark.parametrize("sigma", [0.004, 0.1])
@pytest.mark.parametrize("kind", ["independent", "correlated", "high-pass"])
def test_noise_of_any_kind_is_no_pattern(kind, sigma):
    shape = HEIGHT, WIDTH, 3
    noise = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    if kind == "correlated":
        noise = correlated(shape, 3)
    elif kind == "high-pass":  # a network that leaves the low frequencies of noise
        low = sum(np.roll(noise, (y, x), (0, 1)) for y in range(5) for x in range(5)) / 25
        noise = noise - low
    clean = np.full(shape, 0.5, np.float32)
    noisy = clean + sigma * noise
    assert error(returned(noisy, clean, what=STRUCTURE), clean) < 1e-3 * error(noisy, clean)


def test_the_mean_of_every_region_is_kept():
    y = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    noisy = (0.3 + 0.3 * y + 0.05 * correlated((HEIGHT, WIDTH, 3), 9)).astype(np.float32)
    wrong = np.broadcast_to(0.32 + 0.25 * y, noisy.shape).astype(np.float32)
    what = Restoring(structure=False, means=True)
    result = returned(noisy, wrong, what=what)
    assert abs(result.mean() - noisy.mean()) < 2e-4
    for part in (np.s_[:100], np.s_[100:]):
        before, after = (abs(x[part].mean() - noisy[part].mean()) for x in (wrong, result))
        assert after < max(before / 3, 1e-3)
    # and no noise with it
    assert error(result, 0.3 + 0.3 * y) < 0.02 * error(noisy, 0.3 + 0.3 * y)


def test_what_has_nothing_to_do_with_the_noise_is_taken_away_less():
    noise = 0.02 * correlated((HEIGHT, WIDTH, 3), 1)
    assert agreement([noise], [noise]) == 1
    assert agreement([0.7 * noise], [noise]) == 1
    other = 0.02 * correlated((HEIGHT, WIDTH, 3), 2)
    assert agreement([other], [noise]) < 0.05
    # As much of either: half of it is noise.
    assert agreement([noise + 2 * other], [noise]) == pytest.approx(1.5 / 5, abs=0.05)
    assert agreement([np.zeros_like(noise)], [noise]) == 1
    clean, shade = scene()
    wiped = np.repeat(shade[..., None], 3, 2)
    half = returned(clean, wiped, what=Restoring(structure=False, agreed=0.5, colour=True))
    np.testing.assert_allclose(half, (clean + wiped) / 2, atol=1e-6)
