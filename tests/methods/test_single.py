"""The networks of a single image: where they run, and that files of them are recognised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoisekit.draws import Draws
from denoisekit.learn.fit import pyramid
from denoisekit.methods import get_method
from golden_weights import formula_weights
from helpers import assert_limits_are_true

INFO = get_method("single")


def built(config):
    method = INFO.build(config, INFO.choose())
    method.load(formula_weights(dict(method.shapes()), seed=1))
    method.prepare(torch.device("cpu"), "fp32")
    return method


BOTH = {**INFO.config, "pd": 3, "width": 8, "depth": 4, "full": 8}
FOLLOWED = {**INFO.config, "width": 8, "depth": 4, "levels": 16}


@pytest.mark.parametrize("config", [pyramid(3, 8), BOTH, FOLLOWED, {**BOTH, "levels": 16}])
def test_limits_of_all_that_an_image_goes_through_are_true(config):
    method = built(config)

    def denoise(noisy):
        image = torch.from_numpy(np.ascontiguousarray(noisy))[None]
        return method.denoise(image, draws=Draws())[0].numpy()

    assert_limits_are_true(denoise, INFO.traits(config, INFO.choose()).limits)


def test_both_networks_give_their_mean():
    noisy = torch.rand(1, 3, 24, 36)
    both = built(BOTH)
    state = both.net.state_dict()
    alone = INFO.build({**BOTH, "full": 0}, INFO.choose())
    alone.load({key: state[key] for key in alone.shapes()})
    alone.prepare(torch.device("cpu"), "fp32")
    mean = (alone.denoise(noisy, draws=Draws()) + both.net.full(noisy)) / 2
    torch.testing.assert_close(both.denoise(noisy, draws=Draws()), mean)


def test_non_local_means_follow_in_full_precision():
    noisy = torch.rand(1, 3, 24, 36)
    curve = torch.tensor([[0.0, 0.5, 1.0], [0.01, 0.0, 0.0], [0.1, 0.15, 0.2]]).repeat(3, 1, 1)
    config = {**FOLLOWED, "levels": 3}
    followed = INFO.build(config, INFO.choose())
    state = formula_weights(dict(followed.shapes()), seed=1)
    followed.load({**state, "similar.curve": curve})
    followed.prepare(torch.device("cpu"), "bf16")
    alone = INFO.build({**config, "levels": 0}, INFO.choose())
    alone.load({key: state[key] for key in alone.shapes()})
    alone.prepare(torch.device("cpu"), "bf16")
    assert torch.equal(followed.net.similar.curve, curve)
    expected = followed.net.similar(noisy, alone.denoise(noisy, draws=Draws()))
    torch.testing.assert_close(followed.denoise(noisy, draws=Draws()), expected)


@pytest.mark.parametrize(
    "config", [pyramid(1, 8), BOTH, FOLLOWED, {**INFO.config, "members": 2, "depth": 5}]
)
def test_a_file_shows_which_network_it_is(config):
    shapes = built(config).shapes()
    seen = INFO.infer_config(shapes)
    assert built(seen).shapes() == shapes
    for key in ("net", "channels", "width", "members", "full", "levels"):
        assert seen[key] == config[key]


def test_a_pyramid_begins_as_the_identity():
    method = INFO.build(pyramid(2, 8), INFO.choose())
    method.prepare(torch.device("cpu"), "fp32")
    noisy = torch.rand(1, 2, 16, 24)
    assert torch.equal(method.denoise(noisy, draws=Draws()), noisy)


@pytest.mark.parametrize("net", ["plain", "pyramid"])
def test_a_bent_network_sees_values_beyond_white_as_logarithms(net):
    config = {**INFO.config, "net": net, "channels": 1, "width": 4, "pd": 1, "residual": True}
    one, bent = (INFO.build({**config, "bent": b}, {}) for b in (False, True))
    draw = torch.Generator().manual_seed(0)
    state = {k: torch.randn(v, generator=draw) / 4 for k, v in one.shapes().items()}
    near = torch.rand((1, 1, 32, 32), generator=draw)
    results = []
    for loaded in (one, bent):
        loaded.load(state)
        loaded.prepare(torch.device("cpu"), "fp32")
        results.append([loaded.denoise(x, draws=Draws()) for x in (near, 1000 * near)])
    torch.testing.assert_close(results[0][0], results[1][0])
    removed = [(1000 * near - far).abs().max() for _, far in results]
    assert removed[1] < 0.02 * removed[0]


def test_files_that_do_not_say_are_not_bent():
    config = {key: value for key, value in INFO.config.items() if key != "bent"}
    assert INFO.build(config, {}).shapes() == INFO.build(INFO.config, {}).shapes()
