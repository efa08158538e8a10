"""SDAP equals its reference, and its tiles are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blind_spot_parity import BOTH_FORMS, close, load_case, narrow, settings_of, slow_where_full
from denoisekit.draws import Draws
from denoisekit.engine.device import CALL_BYTES
from denoisekit.methods import aprrd, sdap, ssbsn
from golden_weights import GOLDEN, shapes_of
from helpers import assert_limits_are_true
from peak_memory import call_memory

FIXTURES = sorted(GOLDEN.glob("sdap_*.safetensors"))
KEYS = sorted(GOLDEN.glob("sdap_*_keys.json"))
NARROW = pytest.mark.parametrize("path", narrow(FIXTURES), ids=lambda path: path.stem)
EVERY = pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
TRAINING = pytest.mark.parametrize("path", slow_where_full(FIXTURES))
FORMS = pytest.mark.parametrize("prepared", BOTH_FORMS, ids=["plain", "prepared"])

SMALL = {"net": "blind_spot", "channels": 3, "width": 8, "blocks": ["single"] * 2}


def case(path, prepared=False, **settings):
    about = settings_of(path)
    assert about["in_ch"] == about["out_ch"]
    config = {
        "net": "blind_spot",
        "channels": about["in_ch"],
        "width": about["base_ch"],
        "blocks": ["single"] * about["num_module"],
    }
    return load_case(path, sdap.INFO, config, prepared, **settings)


def built(config=SMALL, **settings):
    torch.manual_seed(0)
    return sdap.INFO.build(config, sdap.INFO.choose(settings))


def test_there_are_fixtures_and_keys():
    assert FIXTURES
    assert KEYS or GOLDEN.name != "golden"


@NARROW
def test_the_network_equals_the_reference(path):
    this = case(path)
    with torch.no_grad():
        assert close(this.method.net(this.tensors["input"]), this.tensors["bsn"])


@EVERY
@FORMS
@pytest.mark.parametrize(
    ("enhance", "name"), [("off", "denoise"), ("on", "denoise_enhanced")], ids=["once", "enhanced"]
)
def test_denoising_equals_the_reference(path, prepared, enhance, name):
    this = case(path, prepared, enhance=enhance)
    found = this.method.denoise(this.tensors["input"], draws=Draws())
    assert close(found, this.tensors[name])


@TRAINING
def test_training_equals_the_reference(path):
    this = case(path)
    noisy, order = this.tensors["train_input"], this.tensors["rsg_order"]
    assert torch.equal(sdap.sub_samples(noisy, order), this.tensors["rsg_subsamples"])
    loss = sdap.training_loss(this.method.net, noisy, order)
    torch.testing.assert_close(loss, this.tensors["train_loss"][0], rtol=1e-4, atol=0)
    this.expect_gradients(loss)


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
def test_every_key_of_the_reference_has_its_place(path):
    shapes = shapes_of(path.with_name(path.name.replace("_keys.json", ".safetensors")))
    config = sdap.INFO.infer_config(shapes)
    renamed = {sdap.INFO.map_key(key, config): shape for key, shape in shapes.items()}
    masks = [key for key in shapes if not sdap.INFO.map_key(key, config)]
    assert masks == ["branch1.body.0.mask", "branch2.body.0.mask"]
    del renamed[""]
    assert renamed == built(config).shapes()


def test_the_published_network_has_its_size():
    parameters = sum(
        torch.Size(shape).numel() for shape in built(sdap.INFO.config).shapes().values()
    )
    assert parameters == 3_656_131


def test_other_checkpoints_are_not_recognised():
    for other in (ssbsn, aprrd):
        config, settings = other.INFO.config, other.INFO.choose({})
        assert sdap.INFO.infer_config(other.INFO.build(config, settings).shapes()) is None
    assert sdap.INFO.infer_config({}) is None
    for path in GOLDEN.glob("*_keys.json"):
        if not path.stem.startswith("sdap"):
            assert sdap.INFO.infer_config(shapes_of(path.with_name(path.stem[:-5]))) is None


def test_every_pixel_of_a_cell_goes_to_one_sub_sample():
    noisy = torch.arange(2 * 3 * 10 * 15.0).view(2, 3, 10, 15)
    order = sdap.draw_order(noisy.shape, torch.Generator().manual_seed(3))
    subs = sdap.sub_samples(noisy, order)
    assert subs.shape == (25, 2, 3, 2, 3)
    for cell in np.ndindex(2, 3, 2, 3):
        n, c, y, x = cell
        expected = noisy[n, c, 5 * y : 5 * y + 5, 5 * x : 5 * x + 5].flatten()
        assert torch.equal(subs[:, n, c, y, x].sort().values, expected)
    again = sdap.draw_order(noisy.shape, torch.Generator().manual_seed(3))
    other = sdap.draw_order(noisy.shape, torch.Generator().manual_seed(4))
    assert torch.equal(again, order)
    assert not torch.equal(other, order)


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("enhance", [False, True])
def test_limits_follow_the_depth(depth, enhance):
    config = {**SMALL, "blocks": ["single"] * depth}
    method = built(config, enhance=enhance)
    limits = sdap.INFO.traits(config, {"enhance": enhance}).limits
    # Random weights as small as torch's would hide that far pixels are seen.
    for parameter in method.net.parameters():
        if parameter.ndim == 4:
            torch.nn.init.uniform_(parameter, 0, 4 / parameter[0].numel())

    def run(noisy):
        return method.denoise(torch.from_numpy(noisy)[None], draws=Draws())[0].numpy()

    noisy = np.random.default_rng(0).random((3, 8, 200), np.float32)
    scale = np.abs(run(noisy)).max()
    assert_limits_are_true(lambda x: run(x) / scale, limits)

    # Not wider than needed: some pixel on the last even distance is seen.
    at = 100
    other = noisy.copy()
    other[:, :, : at - limits.halo + 3] += 1000
    assert np.abs(run(other) - run(noisy))[:, :, at].max() > 1e-5 * scale


def test_limits_of_the_published_network():
    for enhance, halo in ((True, 88), (False, 58)):
        traits = sdap.INFO.traits(sdap.INFO.config, {"enhance": enhance})
        assert traits.limits.halo == halo
        assert traits.limits.multiple_of == 2


def test_the_first_pass_does_not_see_its_own_pixel():
    method = built(enhance=False)
    noisy = torch.rand(1, 3, 24, 24)
    changed = noisy.clone()
    changed[:, :, 10, 11] += 1
    difference = method.denoise(changed, draws=Draws()) - method.denoise(noisy, draws=Draws())
    assert difference[:, :, 10, 11].abs().max() == 0
    assert difference.abs().max() > 0


def expect_memory(config, side, precision):
    claimed = sdap.INFO.traits(config, {"enhance": True}).bytes_per_pixel[precision] * side**2
    found, _ = call_memory("sdap", config, {"enhance": True}, side, precision)
    assert claimed / 2 <= found <= claimed + CALL_BYTES, f"{found / side**2:.0f} bytes a pixel"


@pytest.mark.slow
def test_the_memory_of_a_call_is_as_claimed():
    expect_memory({**sdap.INFO.config, "width": 64}, 512, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("side", [512, 1024])
def test_the_memory_of_the_published_network_is_as_claimed(side, precision):
    expect_memory(sdap.INFO.config, side, precision)
