"""The blind noise estimate, against noise whose strength and correlation are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from denoisekit.noise.estimate import PATCH, estimate_noise, estimate_noise_rows, sample_tops

RNG = np.random.default_rng(3)


def picture(height: int = 320, width: int = 400, channels: int = 3) -> np.ndarray:
    """Smooth shading, hard edges, and a corner of strong texture; between 0.15 and 0.85."""
    y, x = np.mgrid[:height, :width]
    shade = 0.5 + 0.15 * np.sin(y / 60) * np.cos(x / 80)
    shade += 0.2 * ((x - 150) ** 2 + (y - 120) ** 2 < 80**2) - 0.15 * (x + y > 600)
    texture = 0.1 * np.sin(x * 1.7) * np.sin(y * 2.1) * ((x < 130) & (y > 200))
    tint = np.linspace(0.9, 1.1, channels)
    return ((shade + texture)[..., None] * tint).clip(0.15, 0.85).astype(np.float32)


def white(shape, sigma):
    return RNG.normal(0, sigma, shape).astype(np.float32)


def smoothed(shape, sigma):
    """Noise of known strength whose correlation at one pixel is 0.5 and at two 0."""
    noise = white((shape[0] + 1, shape[1] + 1, *shape[2:]), sigma)
    noise = (noise[1:] + noise[:-1]) / np.sqrt(2)
    return (noise[:, 1:] + noise[:, :-1]) / np.sqrt(2)


def exact_correlation(residual):
    residual = residual - residual.mean((0, 1))
    return [
        np.mean(
            [
                (residual[d:] * residual[: len(residual) - d]).mean(),
                (residual[:, d:] * residual[:, : residual.shape[1] - d]).mean(),
            ]
        )
        / residual.var()
        for d in range(5)
    ]


@pytest.mark.parametrize("sigma", [2 / 255, 5 / 255, 10 / 255, 25 / 255, 50 / 255])
def test_white_noise_over_edges_and_texture(sigma):
    clean = picture()
    estimate = estimate_noise(clean + white(clean.shape, sigma))
    np.testing.assert_allclose(estimate.sigma, sigma, rtol=0.07)
    np.testing.assert_allclose(estimate.correlation, [1, 0, 0, 0, 0], atol=0.06)
    assert not estimate.correlated


@pytest.mark.parametrize("sigma", [5 / 255, 25 / 255])
def test_correlated_noise_is_told_apart_and_counted_in_full(sigma):
    clean = picture()
    estimate = estimate_noise(clean + smoothed(clean.shape, sigma))
    np.testing.assert_allclose(estimate.sigma, sigma, rtol=0.15)
    np.testing.assert_allclose(estimate.correlation, [1, 0.5, 0, 0, 0], atol=0.1)
    assert estimate.correlated


def test_every_channel_has_its_own_sigma():
    clean = picture(channels=4)
    sigmas = np.array([0.01, 0.02, 0.05, 0.1])
    estimate = estimate_noise(clean + white(clean.shape, 1) * sigmas.astype(np.float32))
    np.testing.assert_allclose(estimate.sigma, sigmas, rtol=0.1)


def test_noise_that_grows_with_brightness_is_between_its_extremes():
    clean = np.linspace(0.1, 0.9, 400, dtype=np.float32)[None, :, None].repeat(320, 0)
    noisy = clean + white(clean.shape, 0.1) * np.sqrt(clean)
    (sigma,) = estimate_noise(noisy).sigma
    np.testing.assert_allclose(sigma, 0.1 * np.sqrt(0.5), rtol=0.1)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_image_has_no_noise(value):
    estimate = estimate_noise(np.full((64, 64, 3), value, np.float32))
    assert estimate.sigma == (0, 0, 0)
    assert estimate.correlation == (1, 0, 0, 0, 0)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_border_of_one_value_does_not_hide_the_noise(value):
    noisy = picture() + white((320, 400, 3), 0.05)
    noisy[:100] = value
    np.testing.assert_allclose(estimate_noise(noisy).sigma, 0.05, rtol=0.07)


def test_clipped_highlights_do_not_hide_the_noise():
    clean = picture()
    clean[:, 200:] = 1.02
    noisy = (clean + white(clean.shape, 0.05)).clip(0, 1)
    np.testing.assert_allclose(estimate_noise(noisy).sigma, 0.05, rtol=0.1)


def test_a_faint_image_around_zero_is_no_clipped_one():
    noisy = white((256, 256, 1), 0.05) + np.float32(0.01)
    np.testing.assert_allclose(estimate_noise(noisy).sigma, 0.05, rtol=0.07)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 4))
def test_any_small_image_gives_finite_figures_or_none(height, width, channels):
    pixels = np.random.default_rng(height).random((height, width, channels), np.float32)
    estimate = estimate_noise(pixels)
    if min(height, width) < PATCH:
        assert estimate is None
    else:
        assert len(estimate.sigma) == channels
        assert len(estimate.correlation) == 5
        assert np.isfinite(estimate.sigma).all()
        assert np.isfinite(estimate.correlation).all()


@given(st.integers(0, 10**7))
def test_bands_lie_inside_and_do_not_overlap(height):
    tops = sample_tops(height)
    assert len(tops) == min(height // PATCH, 64)
    assert all(b - a >= PATCH for a, b in pairwise(tops))
    if tops:
        assert tops[0] >= 0
        assert tops[-1] + PATCH <= height


def test_a_large_image_is_sampled_not_read():
    asked = 0

    def rows(top, bottom):
        nonlocal asked
        asked += bottom - top
        seed = np.random.default_rng(top)
        return seed.normal(0.5, 0.1, (bottom - top, 3000, 1)).astype(np.float32)

    estimate = estimate_noise_rows(rows, 10**6, 3000)
    assert asked == 64 * PATCH
    np.testing.assert_allclose(estimate.sigma, 0.1, rtol=0.05)


@pytest.mark.shared
@pytest.mark.parametrize(("level", "median"), [(5, 0.08), (10, 0.05), (25, 0.05), (50, 0.07)])
def test_white_noise_on_photos(shared, level, median):
    ratios = []
    for path in sorted((shared / "data/kodak24").glob("*.png"))[::3]:
        clean = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        noisy = np.rint((clean + white(clean.shape, level / 255)).clip(0, 1) * 255) / 255
        estimate = estimate_noise(noisy.astype(np.float32))
        ratios.append(np.mean(estimate.sigma) / (noisy - clean).std())
        assert not estimate.correlated
    assert abs(np.median(ratios) - 1) < median
    assert np.quantile(np.abs(np.array(ratios) - 1), 0.75) < 0.15


@pytest.mark.shared
def test_noise_of_phones_is_seen_as_correlated(shared):
    folder = shared / "data/sidd_val5"
    for path in sorted((folder / "noisy").iterdir()):
        noisy = np.asarray(Image.open(path), np.float32) / 255
        (twin,) = (folder / "clean").glob(path.name.replace("_N.", "_CL."))
        residual = noisy - np.asarray(Image.open(twin), np.float32) / 255
        estimate = estimate_noise(noisy)
        assert estimate.correlated
        np.testing.assert_allclose(estimate.correlation, exact_correlation(residual), atol=0.12)
        np.testing.assert_allclose(np.mean(estimate.sigma), residual.std((0, 1)).mean(), rtol=0.3)
