"""The sensor, its mosaic and what is computed from it."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.noise.camera import (
    LUMA,
    box_mean,
    code_jpeg,
    smooth_colour,
    smooth_luma,
    to_linear,
    to_srgb,
    uneven,
)
from denoisekit.noise.sensor import demosaic, expose, expose_clipped, mosaic

PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("signal", [-0.1, 0.0, 0.003, 0.1, 0.8])
@pytest.mark.parametrize(("gain", "read"), [(1e-4, 0.0), (1e-2, 0.02), (0.2, 0.01)])
def test_mean_and_variance_of_an_exposure(signal, gain, read):
    count = 200_000
    exposed = expose(np.full(count, signal, np.float32), gain, read, np.random.default_rng(1))
    variance = gain * max(signal, 0) + read**2
    assert exposed.mean() == pytest.approx(signal, abs=5 * np.sqrt(variance / count) + 1e-6)
    # A Poisson variable of few photons has a fourth moment of its own: so the margin.
    assert exposed.var() == pytest.approx(variance, rel=0.05, abs=1e-9)


@pytest.mark.parametrize("mean", [0.004, 0.01, 0.05, 0.5, 0.95, 0.99])
def test_clipping_at_black_and_white_leaves_the_mean(mean):
    read, count = 0.02, 100_000
    exposed = expose_clipped(np.full(count, mean, np.float32), 1e-5, read, np.random.default_rng(1))
    assert exposed.min() >= 0
    assert exposed.max() <= 1
    # Of the light itself it would be off by up to 0.4 read; the softplus costs 0.02.
    assert exposed.mean() == pytest.approx(mean, abs=0.03 * read)


def test_the_mosaic_has_each_colour_where_it_belongs():
    rgb = np.stack([np.full((4, 6), value, np.float32) for value in (1, 2, 3)])
    assert mosaic(rgb, (0, 0))[:2, :2].tolist() == [[1, 2], [2, 3]]
    assert mosaic(rgb, (1, 0))[:2, :2].tolist() == [[2, 3], [1, 2]]
    assert [np.mean(mosaic(rgb, p) == v) for p in PHASES for v in (1, 2, 3)] == [
        0.25,
        0.5,
        0.25,
    ] * 4


@pytest.mark.parametrize("phase", PHASES)
def test_demosaicing_keeps_what_was_measured_and_reproduces_a_gray_ramp(phase):
    y, x = np.mgrid[:17, :22].astype(np.float32)
    ramp = np.repeat((2 * y - 3 * x + 5)[None], 3, 0)
    rebuilt = demosaic(mosaic(ramp, phase), phase)
    np.testing.assert_allclose(rebuilt[:, 2:-2, 2:-2], ramp[:, 2:-2, 2:-2], atol=1e-4)
    noise = np.random.default_rng(0).random((17, 22), np.float32)
    assert np.array_equal(mosaic(demosaic(noise, phase), phase), noise)


@pytest.mark.parametrize("phase", PHASES)
def test_demosaicing_reproduces_flat_colours(phase):
    flat = np.broadcast_to(np.array([0.2, 0.7, 0.4], np.float32)[:, None, None], (3, 9, 8))
    np.testing.assert_allclose(demosaic(mosaic(flat, phase), phase), flat, atol=1e-6)


def test_demosaicing_treats_both_axes_and_both_colours_alike():
    raw = np.random.default_rng(0).random((12, 12), np.float32)
    turned = demosaic(np.ascontiguousarray(raw.T), (0, 1)).transpose(0, 2, 1)
    np.testing.assert_allclose(turned, demosaic(raw, (1, 0)), atol=1e-6)
    exchanged = demosaic(raw, (1, 1))[::-1]
    np.testing.assert_allclose(exchanged, demosaic(raw, (0, 0)), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3), (3, 2)])
def test_pictures_of_a_few_pixels(shape):
    raw = np.full(shape, 0.5, np.float32)
    assert np.allclose(demosaic(raw, (0, 1)), 0.5)
    assert np.allclose(box_mean(raw, 7), 0.5)


@pytest.mark.parametrize("contrast", [0.0, 0.01, 0.4, 1.0])
def test_the_tone_curve_has_an_inverse(contrast):
    levels = np.linspace(0, 1, 4001, dtype=np.float32)
    np.testing.assert_allclose(to_srgb(to_linear(levels, contrast), contrast), levels, atol=1e-6)
    assert (np.diff(to_srgb(levels, contrast)) >= 0).all()


def test_the_curve_is_that_of_srgb():
    linear = np.array([0, 0.0021404, 0.2140411, 1, 2], np.float32)
    encoded = to_srgb(linear, 0.0)
    assert encoded == pytest.approx([0, 12.92 * 0.0021404, 0.5, 1, 1], abs=1e-5)


def test_smoothing_is_the_mean_of_a_square_and_splits_brightness_from_colour():
    noise = np.random.default_rng(0).standard_normal((3, 20, 20)).astype(np.float32)
    assert box_mean(noise, 5)[1, 10, 11] == pytest.approx(noise[1, 8:13, 9:14].mean(), abs=1e-6)
    luma = np.tensordot(LUMA, noise, 1)
    kept = smooth_colour(noise, 5)
    np.testing.assert_allclose(np.tensordot(LUMA, kept, 1), luma, atol=1e-5)
    softer = smooth_luma(noise, 3, 0.5)
    np.testing.assert_allclose(softer[0] - softer[1], noise[0] - noise[1], atol=1e-5)
    assert np.tensordot(LUMA, softer, 1).std() < luma.std() < smooth_luma(noise, 3, -0.5).std()


def test_a_fine_jpeg_is_the_picture_and_a_coarse_one_is_not():
    y, x = np.mgrid[:30, :41] / 41
    picture = np.stack([y, x, (x + y) / 2]).astype(np.float32)
    fine = code_jpeg(picture, 100, subsample=False, corner=(3, 13))
    assert fine.shape == picture.shape
    coarse = code_jpeg(picture, 5, subsample=True, corner=(0, 0))
    assert np.abs(fine - picture).mean() < 0.7 / 255
    assert np.abs(coarse - picture).mean() > 3 / 255


def test_uneven_factors_are_around_one_and_alike_over_a_few_pixels():
    drawn = uneven((200, 300), 0.3, np.random.default_rng(4))
    assert drawn.mean() == pytest.approx(1, abs=0.02)
    assert drawn.std() == pytest.approx(0.3, rel=0.01)
    around = drawn - drawn.mean()
    near, far = ((around[:, k:] * around[:, :-k]).mean() / around.var() for k in (2, 15))
    assert near > 0.7
    assert abs(far) < 0.1
    np.testing.assert_array_equal(uneven((5, 7), 0.0, np.random.default_rng(4)), 1)


def test_what_is_smoothed_unevenly_is_not_gaussian_any_more():
    noise = np.random.default_rng(5).standard_normal((3, 256, 256)).astype(np.float32)
    share = (0.7 * uneven((256, 256), 0.4, np.random.default_rng(6))).clip(0, 1)

    def fourth(image):
        luma = np.tensordot(LUMA, image, 1)
        return float((luma**4).mean() / (luma**2).mean() ** 2)

    assert fourth(smooth_luma(noise, 3, 0.7)) == pytest.approx(3, abs=0.1)
    assert fourth(smooth_luma(noise, 3, share)) > 3.3
