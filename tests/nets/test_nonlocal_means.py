"""Non-local means that go by a denoised version."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from denoisekit.learn.single_image import Parts, noise_curve
from denoisekit.nets import single
from denoisekit.nets.single import NonLocalMeans, interpolated, means


def stripes(noise: float = 0.08, dark: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Return stripes, noisy, with blotches left, and clean: (1, 3, 64, 64) each."""
    draw = torch.Generator().manual_seed(5)
    clean = torch.full((1, 3, 64, 64), dark)
    clean[..., ::8] = clean[..., 1::8] = 0.7
    noisy = clean + noise * torch.randn(clean.shape, generator=draw)
    left = torch.randn((1, 3, 16, 16), generator=draw).repeat_interleave(4, 2)
    return noisy, clean + noise / 5 * left.repeat_interleave(4, 3), clean


def better(noisy: Tensor, denoised: Tensor) -> Tensor:
    net = NonLocalMeans(noisy.shape[1], 16)
    curve = noise_curve(Parts(noisy.numpy(), denoised.numpy()))
    net.load_state_dict({"curve": torch.from_numpy(curve)})
    found: Tensor = net(noisy, denoised)
    return found


def wrong(found: Tensor, clean: Tensor) -> float:
    return float((found - clean).square().mean())


def test_blotches_are_averaged_away() -> None:
    noisy, denoised, clean = stripes()
    assert wrong(better(noisy, denoised), clean) < 0.5 * wrong(denoised, clean)


def test_what_looks_unlike_is_left_apart() -> None:
    noisy, denoised, _ = stripes(noise=0.02)
    found = better(noisy, denoised)
    assert float(found[..., ::8].mean()) == pytest.approx(0.7, abs=0.005)
    assert float(found[..., 4::8].mean()) == pytest.approx(0.3, abs=0.005)


def test_the_mean_of_noise_that_black_cuts_off_does_not_come_back() -> None:
    noisy, _, clean = stripes(dark=0.02)
    cut = noisy.clamp(0, 1)
    assert float(cut[..., 4::8].mean()) > 0.04
    assert float(better(cut, clean)[..., 4::8].mean()) == pytest.approx(0.02, abs=0.003)


def test_an_image_without_noise_stays() -> None:
    clean = stripes()[2]
    torch.testing.assert_close(better(clean, clean), clean)


def test_means_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "NEAR", 0)
    draw = torch.Generator().manual_seed(1)
    seen = torch.randn((1, 2, 7, 9), generator=draw) / 4
    values = torch.randn((1, 3, 7, 9), generator=draw)
    found = means(seen, values, 2)
    for y, x in product(range(7), range(9)):
        around = np.s_[0, :, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        apart = (seen[around] - seen[0, :, y, x][:, None, None]).square().mean(0)
        weight = torch.exp(-apart / single.LIKENESS**2)
        expected = (weight * values[around]).sum((1, 2)) / weight.sum()
        torch.testing.assert_close(found[0, :, y, x], expected)


def test_brightness_counts_in_standard_deviations_of_the_noise_there() -> None:
    bright = torch.linspace(0, 1, 101)
    curve = torch.tensor([[0.1, 0.5, 0.9], [0.0, 0.0, 0.0], [0.05, 0.05, 0.05]])
    stable = single._in_deviations(bright, curve)
    torch.testing.assert_close(stable - stable[0], 20 * bright)
    curve[2] = torch.tensor([0.02, 0.1, 0.2])
    stable = single._in_deviations(bright, curve)
    assert (stable[20] - stable[10]) > 3 * (stable[90] - stable[80]) > 0


def test_interpolation_is_that_of_numpy() -> None:
    places, values = torch.tensor([0.1, 0.4, 0.5]), torch.tensor([3.0, -1.0, 2.0])
    at = torch.linspace(0, 1, 40)
    expected = np.interp(at.numpy(), places.numpy(), values.numpy()).astype(np.float32)
    assert interpolated(places, values, at).numpy() == pytest.approx(expected, abs=1e-5)
