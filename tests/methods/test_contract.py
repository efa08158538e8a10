"""What every method must do, whatever it computes. A new method joins by being in METHODS."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from denoisekit.draws import Draws
from denoisekit.engine.tiling import plan_tiles, run_tiled
from denoisekit.errors import UsageError
from denoisekit.methods import METHODS, get_method
from denoisekit.weights import find_entry, load_manifest
from golden_weights import formula_weights
from helpers import assert_limits_are_true, on_pieces

SMALL = {
    "sdap": ({**get_method("sdap").config, "width": 8}, {}),
    "ssbsn": ({**get_method("ssbsn").config, "width": 8}, {"refine_rounds": 2}),
    "promptsid": ({**get_method("promptsid").config, "width": 16}, {}),
}
"""Configurations and settings as deep as the published networks, but narrow: these are quick.
A method that is not here runs as published."""

SHALLOW = {
    "sdap": {"blocks": ["single"] * 2},
    "ssbsn": {"blocks": ["double", "attention"]},
    "promptsid": {"blocks": [2, 1], "refine_blocks": 1},
}
"""What makes them less deep, too, where depth is not what is tested."""

EVERY = pytest.mark.parametrize("info", METHODS, ids=lambda info: info.id)


class Network:
    """A method with random weights, as numpy -> numpy on one tile of the image."""

    def __init__(self, info, precision="fp32", shallow=False):
        config, given = SMALL.get(info.id, (info.config, {}))
        config = {**config, **(SHALLOW.get(info.id, {}) if shallow else {})}
        settings = info.choose(given)
        self.scale, self.traits = info.scale, info.traits(config, settings)
        self.method = info.build(config, settings)
        self.method.load(formula_weights(dict(self.method.shapes()), seed=1))
        self.method.prepare(torch.device("cpu"), precision)
        self.context = None

    def __call__(self, noisy, draws=None):
        denoised = self.method.denoise(
            self.tensor(noisy), draws=draws or Draws(), context=self.context
        )
        return denoised[0].numpy() / self.scale

    def tensor(self, noisy):
        return torch.from_numpy(np.ascontiguousarray(noisy))[None] * self.scale

    def study(self):
        """Fix what a method that studies images would have seen of one."""
        if self.traits.studies:
            grid = self.traits.limits.multiple_of
            side = -(-64 // grid) * grid
            parts = np.random.default_rng(3).random((2, self.traits.channels, side, side))
            self.context = self.method.study(
                [self.tensor(part) for part in parts.astype(np.float32)], seed=0
            )
        return self

    def sample(self, seed=2):
        side = max(64, self.traits.limits.multiple_of)
        shape = self.traits.channels, side, side
        return np.random.default_rng(seed).random(shape, np.float32)


@EVERY
def test_limits_are_true(info):
    network = Network(info).study()
    limits = network.traits.limits
    if limits.native is None:
        assert_limits_are_true(network, limits, channels=network.traits.channels)
    else:
        # Nothing is claimed but that such boxes are legal, and that some of them are read.
        assert limits.native % math.lcm(limits.multiple_of, limits.align) == 0
        assert limits.native > 2 * (2 * limits.halo + limits.blend)


@EVERY
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (130, 101)])
def test_tiled_equals_whole(info, size):
    network = Network(info, shallow=True).study()
    # A network that is not local promises nothing of the kind, but one box must do for a
    # small image, and the numbers drawn must not depend on how it is cut.
    limits = network.traits.limits
    image = np.random.default_rng(5).random((*size, network.traits.channels), np.float32)

    def denoised(tile):
        plan = plan_tiles(*size, limits, (tile, tile))
        rows = lambda top, bottom: image[top:bottom]  # noqa: E731
        bands = run_tiled(on_pieces(network), rows, plan, Draws())
        return np.concatenate([rows for _, rows in bands])

    whole = denoised(max(size))
    assert whole.shape == image.shape
    assert np.isfinite(whole).all()
    for tile in (40, 96) if limits.native is None else (limits.native,):
        assert np.abs(denoised(tile) - whole).max() <= 1e-5 * max(1, np.abs(whole).max())


@EVERY
def test_input_is_left_alone_and_runs_repeat(info):
    network = Network(info, shallow=True)
    noisy = network.sample()
    before = noisy.copy()
    first = network(noisy)
    np.testing.assert_array_equal(noisy, before)
    np.testing.assert_array_equal(network(noisy), first)
    assert first.dtype == np.float32


@EVERY
def test_threads_that_share_a_method_get_the_bits_of_one_thread(info):
    network = Network(info, shallow=True).study()
    work = [(network.sample(seed), Draws(seed, row=seed)) for seed in range(8)]
    alone = [network(*one) for one in work]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(network, *zip(*work, strict=True)))
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


@EVERY
def test_only_what_draws_depends_on_the_seed_and_the_place(info):
    network = Network(info, shallow=True)
    noisy = network.sample()
    first = network(noisy, Draws(1))
    again = network(noisy, Draws(1))
    np.testing.assert_array_equal(first, again)
    others = [network(noisy, Draws(2)), network(noisy, Draws(1, row=64))]
    changes = [np.abs(other - first).max() > 0 for other in others]
    draws = {"ssbsn": [True, True], "promptsid": [True, False]}  # the prompt is the image's
    assert changes == draws.get(info.id, [False, False])


@EVERY
def test_nothing_is_clamped(info):
    network = Network(info)
    loud = network(network.sample() * 1000)
    assert loud.max() > 1.5 or loud.min() < -0.5


@EVERY
def test_half_precision_stays_close(info):
    network = Network(info)
    noisy = network.sample()
    exact = network(noisy)
    error = np.abs(Network(info, "bf16")(noisy) - exact)
    # bf16 has 8 bits; a dozen layers of random weights, which average nothing, lose 2 of them.
    assert 0 < error.mean() < 0.05 * exact.std()


@EVERY
def test_what_is_said_is_whole(info):
    for text in (info.title, info.summary, info.best_for, info.citation):
        assert text
        assert "\n" not in text
    traits = info.traits(info.config, info.choose())
    assert set(traits.bytes_per_pixel) == {"fp32", "bf16", "fp16"}
    assert traits.flop(256**2) > 0
    assert info.default_weights or info.without_weights
    for name in info.default_weights:
        assert find_entry(name, load_manifest()).method == info.id


@EVERY
def test_settings_are_checked(info):
    assert info.choose() == {setting.name: setting.default for setting in info.settings}
    for setting in info.settings:
        for value in (setting.minimum, str(setting.maximum), setting.default):
            assert setting.name in info.choose({setting.name: value})
        for wrong in ("much", setting.maximum + 1, setting.minimum - 1):
            with pytest.raises(UsageError, match=setting.name):
                info.choose({setting.name: wrong})
        with pytest.raises(UsageError) as caught:
            info.choose({setting.name[:-1]: 1})
        assert setting.name in caught.value.hint
    with pytest.raises(UsageError, match="sharpness"):
        replace(info, settings=()).choose({"sharpness": 1})


def test_unknown_method_names_the_closest():
    with pytest.raises(UsageError) as caught:
        get_method("aprd")
    assert "aprrd" in caught.value.hint
