"""PSNR and every kind of SSIM equal scikit-image's, or SciPy's where that has none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage import metrics as reference
from skimage.color import rgb2ycbcr

from denoisekit.errors import InputError, UsageError
from denoisekit.metrics import SSIM_KINDS, luma, psnr, ssim

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def pictures(height=40, width=33, channels=3, sigma=0.1, seed=0):
    """A smooth picture and a noisy one, some of it beyond 0 to 1."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    clean = np.stack([np.sin(x / (4 + c)) * np.cos(y / 6) / 2 + 0.5 for c in range(channels)], -1)
    return clean, clean + sigma * draw.standard_normal(clean.shape)


def of_volume(clean, noisy):
    """As MATLAB's ssim treats a colour picture: as a volume, its borders repeated."""

    def local(values):
        return ndimage.gaussian_filter(values, 1.5, truncate=5 / 1.5, mode="nearest")

    x, y = local(clean), local(noisy)
    both = local(clean * noisy) - x * y
    each = local(clean**2) - x * x + local(noisy**2) - y * y
    ratio = (2 * x * y + 1e-4) * (2 * both + 9e-4) / ((x * x + y * y + 1e-4) * (each + 9e-4))
    return ratio.mean()


def test_every_kind_equals_the_reference():
    for size in ((40, 33, 3), (11, 50, 3), (30, 30, 1), (25, 40, 4)):
        for sigma in (0.0, 0.005, 0.5):
            check_every_kind(size, sigma)


def check_every_kind(size, sigma):
    clean, noisy = pictures(*size, sigma=sigma)
    kept = clean.copy(), noisy.copy()
    wanted = {
        "gaussian": reference.structural_similarity(
            clean, noisy, data_range=1.0, channel_axis=-1, **GAUSSIAN
        ),
        "uniform": reference.structural_similarity(clean, noisy, data_range=1.0, channel_axis=-1),
        "y": reference.structural_similarity(
            luma(clean), luma(noisy), data_range=1.0, channel_axis=-1, **GAUSSIAN
        ),
        "volume": of_volume(clean, noisy),
    }
    assert wanted.keys() == SSIM_KINDS.keys()
    for family, value in wanted.items():
        assert ssim(clean, noisy, family) == pytest.approx(value, abs=1e-6), family
    np.testing.assert_array_equal((clean, noisy), kept)
    if sigma:
        assert psnr(clean, noisy) == pytest.approx(
            reference.peak_signal_noise_ratio(clean, noisy, data_range=1.0), abs=1e-6
        )
        kinds = [ssim(clean, noisy, family) for family in wanted]
        assert len({round(kind, 5) for kind in kinds}) >= (4 if size[2] == 3 else 3)


def test_brightness_is_that_of_video():
    clean, _ = pictures()
    np.testing.assert_allclose(luma(clean), rgb2ycbcr(clean)[..., :1] / 255, atol=1e-6)
    gray = clean[..., :1]
    assert luma(gray) is gray


def test_equal_pictures():
    clean, _ = pictures()
    assert psnr(clean, clean) == math.inf
    assert all(ssim(clean, clean, kind) == pytest.approx(1) for kind in SSIM_KINDS)


def test_eight_bit_pictures_are_not_wrapped_around():
    low, high = np.zeros((12, 12, 1), np.uint8), np.ones((12, 12, 1), np.uint8)
    assert psnr(low, high) == psnr(high, low) == 0


def test_what_cannot_be_measured_is_said():
    tiny = np.zeros((10, 60, 3))
    with pytest.raises(InputError, match="10x60 pixels is smaller"):
        ssim(tiny, tiny)
    assert ssim(tiny, tiny, "uniform") == pytest.approx(1)
    assert ssim(tiny, tiny, "volume") == pytest.approx(1)
    with pytest.raises(UsageError) as caught:
        ssim(tiny, tiny, "gausian")
    assert "gaussian" in caught.value.hint
