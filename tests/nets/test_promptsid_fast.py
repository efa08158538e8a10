"""The form of Prompt-SID's denoiser that runs equals the one that is trained."""

from __future__ import annotations

import pytest
import torch

from denoisekit.methods.promptsid import PUBLISHED
from denoisekit.nets import promptsid_fast
from denoisekit.nets.promptsid import Denoiser
from denoisekit.nets.promptsid_fast import denoise

SMALL = {**PUBLISHED, "width": 16, "blocks": [2, 1], "refine_blocks": 1, "features": 4}


def network(config):
    torch.manual_seed(1)
    net = Denoiser(config).eval().requires_grad_(False)
    for parameter in net.parameters():
        if parameter.ndim == 1:  # no layer norm and no bias may hide by doing nothing
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def inputs(config, count=1, size=(32, 48)):
    generator = torch.Generator().manual_seed(2)
    noisy = torch.rand(count, config["channels"], *size, generator=generator)
    return noisy, torch.randn(4 * config["features"], generator=generator)


def assert_close(found, expected, tolerance=1e-5):
    spread = (expected.max() - expected.min()).item()
    assert (found - expected).abs().max().item() <= tolerance * spread


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"bias": True},
        {"norm_bias": False},
        {"bias": True, "norm_bias": False, "channels": 1},
        {"width": 12, "heads": [3, 2], "expansion": 2.5, "channels": 5},
        {"blocks": [1, 0], "refine_blocks": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("strip", [1, 200, 10**6])
def test_it_equals_the_plain_form(monkeypatch, change, strip):
    monkeypatch.setattr(promptsid_fast, "CPU_STRIP", strip)
    config = SMALL | change
    net = network(config)
    noisy, prompt = inputs(config)
    before = noisy.clone()
    with torch.inference_mode():
        expected = net(noisy, prompt[None])
        found, statistics = denoise(net, noisy, prompt)
        again, same = denoise(net, noisy, prompt, statistics)
    assert_close(found, expected)
    assert_close(again, expected)
    assert torch.equal(noisy, before)
    assert all(a is b for a, b in zip(statistics, same, strict=True))


def test_it_equals_the_plain_form_at_the_published_size():
    net = network(PUBLISHED)
    noisy, prompt = inputs(PUBLISHED, size=(32, 64))
    with torch.inference_mode():
        assert_close(denoise(net, noisy, prompt)[0], net(noisy, prompt[None]))


def test_statistics_are_of_all_parts_together():
    net = network(SMALL)
    (noisy, prompt), (other, _) = inputs(SMALL, 2), inputs(SMALL, 4)
    with torch.inference_mode():
        # The same pixels in another order of parts, or each twice, have the same statistics.
        _, one = denoise(net, noisy, prompt)
        _, turned = denoise(net, noisy.flip(0), prompt)
        _, twice = denoise(net, torch.cat([noisy, noisy]), prompt)
        _, others = denoise(net, other, prompt)
        single, _ = denoise(net, noisy[:1], prompt, one)
        both, _ = denoise(net, noisy, prompt, one)
    for a, b, c, d in zip(one, turned, twice, others, strict=True):
        torch.testing.assert_close(a.attention, b.attention)
        torch.testing.assert_close(a.attention, c.attention)
        torch.testing.assert_close(a.gate_mean, c.gate_mean, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(a.attention, d.attention)
    # With statistics given, parts know nothing of each other.
    assert_close(both[:1], single, 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(dtype):
    net = network(SMALL)
    noisy, prompt = inputs(SMALL)
    with torch.inference_mode():
        exact = denoise(net, noisy, prompt)[0] - noisy
        error = denoise(net, noisy, prompt, None, dtype)[0] - noisy - exact
    assert 0 < error.std() < 0.02 * exact.std()
