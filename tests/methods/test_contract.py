"""What every method must do, whatever it computes. A new method joins by being in METHODS."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoisekit.errors import UsageError
from denoisekit.methods import METHODS, get_method
from denoisekit.tiling import plan_tiles, run_tiled
from denoisekit.weights import find_entry, load_manifest
from helpers import assert_limits_are_true

EVERY = pytest.mark.parametrize("info", METHODS, ids=lambda info: info.id)


def network(info, precision="fp32"):
    """The method with random weights, as numpy -> numpy on one tile."""
    torch.manual_seed(1)
    method = info.build(find_entry(info.default_weights, load_manifest()).config)
    method.prepare(torch.device("cpu"), precision)

    def run(noisy):
        tile = torch.from_numpy(np.ascontiguousarray(noisy))[None] * info.scale
        generator = torch.Generator().manual_seed(0)
        return method.denoise(tile, generator=generator)[0].numpy() / info.scale

    return run


@EVERY
def test_limits_are_true(info):
    assert_limits_are_true(network(info), info.limits, channels=info.channels)


@EVERY
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (150, 131)])
def test_tiled_equals_whole(info, size):
    run = network(info)
    image = np.random.default_rng(5).random((*size, info.channels), np.float32)

    def denoised(tile):
        plan = plan_tiles(*size, info.limits, (tile, tile))
        bands = run_tiled(run, lambda top, bottom: image[top:bottom], plan)
        return np.concatenate([rows for _, rows in bands])

    whole = denoised(max(size))
    assert whole.shape == image.shape
    for tile in (1, 96):
        assert np.abs(denoised(tile) - whole).max() <= 1e-5


@EVERY
def test_input_is_left_alone_and_runs_repeat(info):
    run = network(info)
    side = max(64, info.limits.multiple_of)
    noisy = np.random.default_rng(2).random((info.channels, side, side), np.float32)
    before = noisy.copy()
    first = run(noisy)
    np.testing.assert_array_equal(noisy, before)
    np.testing.assert_array_equal(run(noisy), first)
    assert first.dtype == np.float32


@EVERY
def test_nothing_is_clamped(info):
    run = network(info)
    side = max(64, info.limits.multiple_of)
    noisy = np.random.default_rng(2).random((info.channels, side, side), np.float32)
    loud = run(noisy * 1000)
    assert loud.max() > 1.5 or loud.min() < -0.5


@EVERY
def test_half_precision_stays_close(info):
    side = max(64, info.limits.multiple_of)
    noisy = np.random.default_rng(2).random((info.channels, side, side), np.float32)
    exact = network(info)(noisy)
    error = np.abs(network(info, "bf16")(noisy) - exact)
    assert 0 < error.mean() < 0.02 * exact.std()


@EVERY
def test_what_is_said_is_whole(info):
    for text in (info.title, info.summary, info.best_for, info.citation):
        assert text
        assert "\n" not in text
    assert set(info.bytes_per_pixel) == {"fp32", "bf16", "fp16"}


def test_unknown_method_names_the_closest():
    with pytest.raises(UsageError) as caught:
        get_method("aprd")
    assert "aprrd" in caught.value.hint
