"""The fast form of the blind-spot networks computes what the plain form computes."""

from __future__ import annotations

import pytest
import torch

from denoisekit.nets import convolution, self_similarity
from denoisekit.nets.blind_spot import BlindSpotNet, FastBlindSpot

SINGLE = ["single"] * 3
MIXED = ["double", "attention", "attention"]


def network(channels, width, blocks, grid=2):
    torch.manual_seed(channels + width)
    net = BlindSpotNet(channels, width, blocks, grid).eval()
    for parameter in net.parameters():
        size = 0.05 if parameter.ndim == 1 else 0.8 * (2 / parameter[0].numel()) ** 0.5
        torch.nn.init.normal_(parameter, std=size)
    return net


@pytest.mark.parametrize("size", [(2, 5), (13, 29), (40, 52), (67, 7)])
@pytest.mark.parametrize(("channels", "width"), [(1, 6), (3, 16), (2, 40)])
@pytest.mark.parametrize("blocks", [SINGLE, MIXED], ids=["plain", "attention"])
def test_float32_equals_the_plain_network(size, channels, width, blocks):
    net = network(channels, width, blocks)
    noisy = torch.rand(2, channels, *size) * 255
    before = noisy.clone()
    with torch.inference_mode():
        expected = net(noisy)
        found = FastBlindSpot(net, torch.float32)(noisy)
    spread = (expected.max() - expected.min()).item()
    assert (found - expected).abs().max().item() <= 1e-5 * spread
    assert torch.equal(noisy, before)


def test_float32_equals_the_plain_network_at_its_published_width():
    net = network(3, 128, ["attention", "single", "double"], grid=3)
    noisy = torch.rand(1, 3, 45, 38)
    with torch.inference_mode():
        expected = net(noisy)
        found = FastBlindSpot(net, torch.float32)(noisy)
    assert (found - expected).abs().max() <= 1e-5 * (expected.max() - expected.min())


@pytest.mark.parametrize("strip", [1, 60, 300])
def test_strips_join_without_a_seam(strip, monkeypatch):
    net = network(3, 16, MIXED)
    noisy = torch.rand(1, 3, 31, 26)
    with torch.inference_mode():
        expected = net(noisy)
        monkeypatch.setattr(convolution, "WINOGRAD_STRIP", strip)
        monkeypatch.setattr("denoisekit.nets.convolution.STRIP", strip)
        found = FastBlindSpot(net, torch.float32)(noisy)
    assert (found - expected).abs().max() <= 1e-5 * (expected.max() - expected.min())


@pytest.mark.parametrize("blocks", [SINGLE, MIXED], ids=["plain", "attention"])
def test_bfloat16_stays_close(blocks):
    net = network(3, 64, blocks)
    noisy = torch.rand(1, 3, 41, 52)
    with torch.inference_mode():
        expected = net(noisy)
        found = FastBlindSpot(net, torch.bfloat16)(noisy)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().mean() < 0.02 * expected.std()


def test_the_pixel_in_the_hole_does_not_matter():
    # Sums and differences of large neighbours could let it through.
    net = network(3, 16, SINGLE)
    fast = FastBlindSpot(net, torch.float32)
    noisy = torch.rand(1, 3, 40, 40)
    changed = noisy.clone()
    changed[:, :, 20, 20] += 1
    with torch.inference_mode():
        here = (fast(changed) - fast(noisy))[:, :, 20, 20].abs().max()
        there = (fast(changed) - fast(noisy)).abs().max()
    assert here <= 1e-5 * there


@pytest.mark.parametrize(("side", "dilation"), [(3, 1), (3, 2), (3, 3), (5, 1)])
def test_a_convolution_of_fewer_products_is_the_convolution(side, dilation):
    torch.manual_seed(side + dilation)
    weight, bias = torch.randn(8, 12, side, side), torch.randn(8)
    x = torch.randn(23, 37, 12)
    conv = convolution.WinogradConv(weight, bias, dilation)
    found = torch.empty(23, 37, 8)
    for rows, y in conv.rows(lambda top, bottom: x[top:bottom], len(x)):
        found[rows] = y
    across = side // 2, side // 2 * dilation
    expected = torch.nn.functional.conv2d(
        x.double().movedim(-1, 0)[None],
        weight.double(),
        bias.double(),
        padding=across,
        dilation=(1, dilation),
    )
    expected = expected[0].movedim(0, -1).relu()
    assert (found - expected).abs().max() <= 3e-6 * expected.max()


@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0], ids=["alike", "mixed", "opposite"])
@pytest.mark.parametrize("width", [self_similarity.NARROW, 128])
def test_the_series_is_nearly_exact_however_alike_the_pixels_are(spread, width, monkeypatch):
    monkeypatch.setattr(self_similarity, "CHUNK", 20_000)
    torch.manual_seed(width)
    like = torch.randn(width) + spread * torch.randn(500, width)
    like = torch.nn.functional.normalize(like * torch.randn(500, 1).sign())
    value = 100 + like * 50 + torch.randn(500, width)
    expected = self_similarity.fused(like.double(), value.double(), 530)
    # What the weights contribute, beyond the mean of all.
    detail = (expected - expected.mean(0)).abs().max()
    found = self_similarity.by_series(like, value, 530)
    assert (found - expected).abs().max() <= 3e-4 * detail
    assert (found - expected).abs().max() <= 1e-5 * (value.max() - value.min())
