"""What a second network learns from is measured in the image, and measured right."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.learn.single_image import Parts, is_gaussian, noise_variance

SIDE = 256


def textured():
    """Make a picture with edges and fine stripes in half of it: (H, W) on 0.1..0.9."""
    y, x = np.mgrid[:SIDE, :SIDE]
    stripes = 0.1 * np.sin(x * 1.3) * np.sin(y * 1.1) * (y > SIDE / 2)
    return 0.15 + 0.6 * x / SIDE + stripes + 0.1 * (x % 64 > 32)


def parts(noisy, denoised):
    first, second = (image[None, None].astype(np.float32) for image in (noisy, denoised))
    return Parts(first, denoised=second)


def measured(noisy, denoised, brightness):
    return np.interp(brightness, *zip(*noise_variance(parts(noisy, denoised))[0], strict=True))


def test_the_variance_of_photons_is_their_number_even_of_few():
    clean = textured() / 10
    photons = 100.0  # 1 to 9 of them
    noisy = np.random.default_rng(0).poisson(clean * photons) / photons
    for brightness in (0.03, 0.05, 0.07, 0.2):
        found = measured(noisy, clean, brightness)
        assert found == pytest.approx(brightness / photons, rel=0.15)


def test_noise_that_is_cut_off_at_white_is_weak_there_and_nowhere_else():
    clean = textured()
    noisy = (clean + np.random.default_rng(2).normal(0, 0.1, clean.shape)).clip(0, 0.8)
    assert measured(noisy, clean, 0.4) == pytest.approx(0.01, rel=0.1)
    assert 0.001 < measured(noisy, clean, 0.85) < 0.005
    assert measured(noisy, clean, 0.2) == pytest.approx(0.01, rel=0.15)


def test_picture_in_the_residual_counts_little():
    clean = textured()
    noisy = clean + np.random.default_rng(1).normal(0, 0.1, clean.shape)
    smooth = 0.15 + 0.6 * np.mgrid[:SIDE, :SIDE][1] / SIDE
    assert measured(noisy, smooth, 0.5) == pytest.approx(0.01, rel=0.35)


@pytest.mark.parametrize("seed", range(4))
def test_photons_are_told_from_gaussian_noise(seed):
    clean, draw = textured(), np.random.default_rng(seed)
    normal = clean + draw.normal(0, 0.08, clean.shape)
    assert is_gaussian(parts(normal, clean))
    assert is_gaussian(parts(np.round(normal.clip(-0.2, 1.2) * 255) / 255, clean))
    assert is_gaussian(parts(normal.clip(0.05, 0.8), clean))
    for photons in (2, 100):
        assert not is_gaussian(parts(draw.poisson(clean * photons) / photons, clean))
    sparks = normal + (draw.random(clean.shape) < 0.003) * 0.5
    assert not is_gaussian(parts(sparks, clean))
