"""Which of several ways suits a picture, without a clean one."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.ranking import SIDE, estimate_psnr, move_noise, spread_crops


def smooth(pixels, radius):
    """Return the mean over a box."""
    for axis in (0, 1):
        steps = range(-radius, radius + 1)
        pixels = sum(np.roll(pixels, step, axis) for step in steps) / (2 * radius + 1)
    return pixels.astype(np.float32)


def scene(wave):
    """Return a clean picture in which waves are so long."""
    y, x = np.mgrid[:96, :128].astype(np.float32)
    shade = 0.5 + 0.25 * np.sin(6.3 * x / wave) * np.cos(6.3 * y / wave)
    return np.repeat(shade[..., None], 3, 2).astype(np.float32)


def test_the_way_that_is_best_on_the_clean_picture_is_named():
    for wave, sigma in ((90, 0.1), (18, 0.1), (18, 0.01), (90, 0.01)):
        for seed in (0, 1, 2):
            check_that_the_best_is_named(wave, sigma, seed)


def check_that_the_best_is_named(wave, sigma, seed):
    clean = scene(wave)
    noise = np.random.default_rng(seed).standard_normal(clean.shape, np.float32)
    noisy = clean + np.float32(sigma) * noise
    ways = [lambda p, r=radius: smooth(p, r) for radius in (1, 4)]
    results = [way(noisy) for way in ways]
    true = [float(np.square(result - clean).mean()) for result in results]
    _, found = estimate_psnr([noisy], [[result] for result in results], ways)
    assert max(true) > 1.5 * min(true)
    assert np.argmax(found) == np.argmin(true)


def test_a_way_that_spoils_everything_does_not_decide_what_is_clean():
    clean = scene(90)
    noisy = clean + np.float32(0.1) * np.random.default_rng(0).standard_normal(
        clean.shape, np.float32
    )
    ways = [lambda p: smooth(p, 3), lambda p: smooth(p, 2), lambda p: p * 0 + 9]
    own, (good, fair, spoilt) = estimate_psnr([noisy], [[way(noisy)] for way in ways], ways)
    assert min(good, fair) > own > spoilt
    assert 10 < own < 25


def test_many_ways_that_leave_noise_do_not_make_it_a_part_of_what_is_clean():
    clean = scene(90) ** 4
    # Where it is dark there is hardly any noise, and all of them are right.
    noise = 0.3 * clean * np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    noisy = clean + noise
    ways = [lambda p, share=share: p + share * (smooth(p, 1) - p) for share in (0.1, 0.2, 0.3, 0.4)]
    ways += [lambda p, r=radius: smooth(p, r) for radius in (1, 3, 9)]
    results = [way(noisy) for way in ways]
    true = [float(np.square(result - clean).mean()) for result in results]
    _, found = estimate_psnr([noisy], [[result] for result in results], ways)
    assert np.argmax(found) == np.argmin(true)
    assert min(found[:4]) == found[0] < max(found) - 10


def test_noise_that_is_moved_has_the_strength_of_the_place_it_comes_to():
    draw = np.random.default_rng(0)
    brightness = np.repeat(np.linspace(0.1, 0.9, 96, dtype=np.float32)[:, None], 128, 1)
    sigma = 0.02 + 0.05 * brightness[..., None]
    removed = (sigma * draw.standard_normal((96, 128, 3))).astype(np.float32)
    noise = move_noise(removed, brightness, np.random.default_rng(1))
    for rows in (slice(0, 24), slice(36, 60), slice(72, 96)):
        assert noise[rows].std() == pytest.approx(sigma[rows].mean(), rel=0.2)
    assert abs(np.corrcoef(noise.ravel(), removed.ravel())[0, 1]) < 0.05


def test_noise_keeps_its_sign():
    """Noise that was cut off at black reaches far up, and not down."""
    removed = np.random.default_rng(0).exponential(0.02, (64, 64, 1)).astype(np.float32) - 0.02
    noise = move_noise(removed, np.full((64, 64), 0.05, np.float32), np.random.default_rng(1))
    assert noise.max() > 4 * -noise.min()


def test_crops_lie_within_the_picture_and_apart():
    for height, width, most, count in (
        (40, 64, 6, 1),
        (192, 192, 6, 1),
        (512, 512, 1, 1),
        (3000, 4000, 6, 6),
        (200, 5000, 6, 6),
    ):
        crops = spread_crops(height, width, most)
        assert 0 < len(crops) <= most
        assert len(crops) >= count - 2
        covered = np.zeros((height, width), np.uint8)
        for rows, columns in crops:
            assert rows.stop - rows.start == min(SIDE, height)
            covered[rows, columns] += 1
        assert covered.max() == 1
        assert covered.sum(dtype=int) == len(crops) * min(SIDE, height) * min(SIDE, width)
        assert crops == sorted(crops, key=lambda crop: (crop[0].start, crop[1].start))


def test_what_is_dark_or_equal_everywhere_is_no_error():
    flat = np.zeros((32, 32, 1), np.float32)
    own, (same,) = estimate_psnr([flat], [[flat]], [lambda p: p])
    assert own == same == pytest.approx(80)
