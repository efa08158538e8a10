"""The baselines do what their papers say, and improve noisy pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.restoration import estimate_sigma

from denoisekit import baselines
from denoisekit.baselines import BASELINES
from denoisekit.errors import UsageError


def picture(sigma, channels=3, side=48):
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(5 * x + k) * np.cos(4 * y) for k in range(channels)]
    clean = (0.5 + 0.3 * np.stack(waves, -1)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal(clean.shape).astype(np.float32)
    return clean, clean + np.float32(sigma) * noise


def error(image, clean):
    return float(np.sqrt(np.square(image - clean).mean()))


def test_independent_noise_becomes_less(monkeypatch):
    monkeypatch.setattr(baselines.zsn2n, "__defaults__", (100,))
    for channels in (1, 3):
        clean, noisy = picture(0.1, channels)
        before = noisy.copy()
        for baseline in BASELINES:
            denoised = baseline.run(noisy, 0)
            assert denoised.dtype == np.float32
            assert error(denoised, clean) < 0.65 * error(noisy, clean), baseline.id
            np.testing.assert_array_equal(noisy, before)


def test_opencv_takes_any_channels_and_pictures_without_noise():
    clean, noisy = picture(0.1, channels=6)
    denoised = baselines.fastnlm(noisy, 0)
    assert denoised.shape == noisy.shape
    assert error(denoised, clean) < 0.65 * error(noisy, clean)
    flat = np.full((20, 24, 1), 0.5, np.float32)
    np.testing.assert_allclose(baselines.fastnlm(flat, 0), flat, atol=0.5 / 255)


def test_the_network_of_zsn2n_has_its_published_size():
    net = baselines.zsn2n_network(3, 0)
    assert sum(parameter.numel() for parameter in net.parameters()) == 22_275


def test_the_halves_are_the_means_of_both_diagonals():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    first, second = baselines.zsn2n_halves(image)
    assert first.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(first, second)
    lone = torch.zeros(1, 1, 2, 2)
    lone[0, 0, 0, 1] = 1
    assert [float(half) for half in baselines.zsn2n_halves(lone)] == [0.5, 0.0]


def test_the_loss_of_zsn2n_is_that_of_the_paper():
    image = torch.rand(1, 3, 8, 8)
    nothing = torch.nn.Conv2d(3, 3, 1)
    for parameter in nothing.parameters():
        torch.nn.init.zeros_(parameter)
    first, second = baselines.zsn2n_halves(image)
    # A network that says nothing leaves the halves as they are: only their difference is left.
    expected = (first - second).square().mean()
    torch.testing.assert_close(baselines.zsn2n_loss(nothing, image), expected)


def test_zsn2n_repeats_with_its_seed_and_leaves_the_generator_alone():
    _, noisy = picture(0.1, side=17)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = baselines.zsn2n(noisy, 1, steps=3)
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(baselines.zsn2n(noisy, 1, steps=3), first)
    assert np.abs(baselines.zsn2n(noisy, 2, steps=3) - first).max() > 0
    assert first.shape == noisy.shape


def test_total_variation_takes_off_the_estimated_sigma():
    _, noisy = picture(0.1)
    sigma = estimate_sigma(noisy, average_sigmas=True, channel_axis=-1)
    taken = error(noisy, baselines.tv(noisy, 0))
    assert taken == pytest.approx(sigma, rel=0.02)


def test_total_variation_leaves_a_picture_without_noise():
    clean = np.broadcast_to(np.linspace(0, 1, 40, dtype=np.float32)[:, None], (32, 40, 3))
    np.testing.assert_array_equal(baselines.tv(clean), clean)


def test_j_invariance_smooths_strong_noise_more():
    def taken(sigma):
        _, noisy = picture(sigma)
        return error(noisy, baselines.jinvariant(noisy, 0))

    assert taken(0.2) == pytest.approx(0.2, rel=0.15)
    assert taken(0.05) == pytest.approx(0.05, rel=0.15)


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    for function, package in ((baselines.wavelet, "skimage"), (baselines.fastnlm, "cv2")):
        with pytest.raises(UsageError, match=package) as caught:
            function(picture(0.1)[1], 0)
        assert "[bench]" in caught.value.hint
