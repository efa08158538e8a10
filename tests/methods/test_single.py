"""The networks of a single image: where they run, and that files of them are recognised."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoisekit.draws import Draws
from denoisekit.fitting.refining import pyramid
from denoisekit.methods import get_method
from golden_weights import formula_weights
from helpers import assert_limits_are_true

INFO = get_method("single")


def built(config):
    method = INFO.build(config, INFO.choose())
    method.load(formula_weights(dict(method.shapes()), seed=1))
    method.prepare(torch.device("cpu"), "fp32")
    return method


def test_limits_of_the_pyramid_are_true():
    config = pyramid(3, 8)
    method = built(config)

    def denoise(noisy):
        image = torch.from_numpy(np.ascontiguousarray(noisy))[None]
        return method.denoise(image, draws=Draws())[0].numpy()

    assert_limits_are_true(denoise, INFO.traits(config, INFO.choose()).limits)


@pytest.mark.parametrize("config", [pyramid(1, 8), {**INFO.config, "members": 2, "depth": 5}])
def test_a_file_shows_which_network_it_is(config):
    shapes = built(config).shapes()
    seen = INFO.recognise(shapes)
    assert built(seen).shapes() == shapes
    for key in ("net", "channels", "width", "members"):
        assert seen[key] == config[key]


def test_a_pyramid_begins_as_the_identity():
    method = INFO.build(pyramid(2, 8), INFO.choose())
    method.prepare(torch.device("cpu"), "fp32")
    noisy = torch.rand(1, 2, 16, 24)
    assert torch.equal(method.denoise(noisy, draws=Draws()), noisy)
