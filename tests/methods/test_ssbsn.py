"""SS-BSN equals its reference; its draws belong to pixels; its memory is bounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blind_spot_parity import BOTH_FORMS, close, load_case, narrow, settings_of, slow_where_full
from denoisekit.draws import Draws
from denoisekit.engine.device import CALL_BYTES
from denoisekit.methods import aprrd, sdap, ssbsn
from denoisekit.nets.blind_spot import from_mosaic, to_mosaic
from golden_weights import GOLDEN, shapes_of
from peak_memory import call_memory

FIXTURES = sorted(GOLDEN.glob("ssbsn_*.safetensors"))
KEYS = sorted(GOLDEN.glob("ssbsn_*_keys.json"))
NARROW = pytest.mark.parametrize("path", narrow(FIXTURES), ids=lambda path: path.stem)
EVERY = pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
TRAINING = pytest.mark.parametrize("path", slow_where_full(FIXTURES))
FORMS = pytest.mark.parametrize("prepared", BOTH_FORMS, ids=["plain", "prepared"])

SMALL = {
    "net": "blind_spot",
    "channels": 3,
    "width": 8,
    "blocks": ["double", "attention"],
    "grid": 2,
}


def case(path, prepared=False, **settings):
    about = settings_of(path)
    kinds = {"na": "double", "ss": "attention"}
    mode = about["mode"]
    modes = [mode] * about["bsn_num_module"] if isinstance(mode, str) else mode
    config = {
        "net": "blind_spot",
        "channels": about["in_ch"],
        "width": about["bsn_base_ch"],
        "blocks": [kinds[kind] for kind in modes],
        "grid": about["f_scale"],
    }
    return load_case(path, ssbsn.INFO, config, prepared, **settings)


def built(config=SMALL, **settings):
    torch.manual_seed(0)
    return ssbsn.INFO.build(config, ssbsn.INFO.choose(settings))


@dataclass
class Given:
    """The draws of a fixture."""

    tensors: dict

    def uniform(self, step, shape):
        drawn = self.tensors[f"r3_uniform_{step}"][0].numpy()
        assert drawn.shape == shape
        return drawn


def evened(image):
    """As the reference pads an image of odd size; here the kit has done it before."""
    height, width = image.shape[2:]
    return F.pad(image, (0, width % 2, 0, height % 2))


def test_there_are_fixtures_and_keys():
    assert FIXTURES
    assert KEYS or GOLDEN.name != "golden"


@NARROW
def test_the_network_equals_the_reference(path):
    this = case(path)
    about = settings_of(path)
    (size,) = [key.removeprefix("input_") for key in this.tensors if key.startswith("input_")]
    noisy = this.tensors[f"input_{size}"]
    with torch.no_grad():
        assert close(this.method.net(noisy), this.tensors[f"bsn_{size}"])
        for factor in (about["pd_a"], about["pd_b"]):
            mosaic = to_mosaic(noisy, factor, about["pd_pad"])
            found = from_mosaic(this.method.net(mosaic), factor, about["pd_pad"])
            assert close(found, this.tensors[f"forward_pd{factor}_{size}"])


@EVERY
def test_denoising_equals_the_reference(path):
    about = settings_of(path)
    this = case(path, True, refine_rounds=about["R3_T"], replace_p=about["R3_p"])
    found = this.method.denoise(evened(this.tensors["input"]), draws=Given(this.tensors))
    assert close(found, this.tensors["denoise_r3"])


@NARROW
@FORMS
def test_denoising_without_refinement_equals_the_reference(path, prepared):
    this = case(path, prepared, refine_rounds=0)
    noisy = this.tensors["input"]
    height, width = noisy.shape[2:]
    found = this.method.denoise(evened(noisy), draws=Draws())
    assert close(found[:, :, :height, :width], this.tensors["denoise_no_r3"])


@TRAINING
def test_training_equals_the_reference(path):
    this = case(path)
    (noisy,) = [value for key, value in this.tensors.items() if key.startswith("input_")]
    loss = ssbsn.training_loss(this.method.net, noisy)
    torch.testing.assert_close(loss, this.tensors["train_loss"][0], rtol=1e-4, atol=0)
    this.expect_gradients(loss)


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
def test_every_key_of_the_reference_has_its_place(path):
    shapes = shapes_of(path.with_name(path.name.replace("_keys.json", ".safetensors")))
    config = ssbsn.INFO.infer_config(shapes)
    renamed = {ssbsn.INFO.map_key(key, config): shape for key, shape in shapes.items()}
    masks = [key for key in shapes if not ssbsn.INFO.map_key(key, config)]
    assert masks == ["bsn.branch1.body.0.mask", "bsn.branch2.body.0.mask"]
    del renamed[""]
    assert renamed == built(config).shapes()


def test_the_published_network_has_its_size():
    shapes = built(ssbsn.INFO.config).shapes().values()
    assert sum(torch.Size(shape).numel() for shape in shapes) == 6_410_947


def test_other_checkpoints_are_not_recognised():
    for other in (sdap, aprrd):
        config, settings = other.INFO.config, other.INFO.choose({})
        assert ssbsn.INFO.infer_config(other.INFO.build(config, settings).shapes()) is None
    for path in GOLDEN.glob("*_keys.json"):
        if not path.stem.startswith("ssbsn"):
            assert ssbsn.INFO.infer_config(shapes_of(path.with_name(path.stem[:-5]))) is None


@pytest.mark.parametrize("shape", [(10, 15), (20, 5)])
def test_a_mosaic_can_be_undone(shape):
    image = torch.rand(2, 3, *shape)
    mosaic = to_mosaic(image, 5, 2)
    assert torch.equal(from_mosaic(mosaic, 5, 2), image)
    # Phase (1, 2) is the tile in the second row and third column, zeros around it.
    height, width = shape[0] // 5, shape[1] // 5
    top, left = height + 4 + 2, 2 * (width + 4) + 2
    assert torch.equal(mosaic[:, :, top:, left:][:, :, :height, :width], image[:, :, 1::5, 2::5])
    assert mosaic[:, :, top - 2 : top].abs().sum() == 0


def test_one_seed_gives_one_result():
    method = built(refine_rounds=2)
    noisy = torch.rand(1, 3, 32, 28) * 255
    first = method.denoise(noisy, draws=Draws(seed=5))
    assert torch.equal(method.denoise(noisy, draws=Draws(seed=5)), first)
    assert not torch.equal(method.denoise(noisy, draws=Draws(seed=6)), first)
    assert not torch.equal(method.denoise(noisy, draws=Draws(seed=5, row=2)), first)


def test_nothing_is_drawn_without_refinement():
    method = built(refine_rounds=0)
    noisy = torch.rand(1, 3, 32, 28) * 255
    first = method.denoise(noisy, draws=Draws(seed=5))
    assert torch.equal(method.denoise(noisy, draws=Draws(seed=6)), first)


def test_the_draws_of_a_tile_are_those_of_the_whole_image():
    """Without attention the network is local, so tiles must be exact, refinement and all."""
    method = built({**SMALL, "blocks": ["double"]}, refine_rounds=3, replace_p=0.5)
    with torch.no_grad():
        for parameter in method.net.parameters():
            parameter *= 2  # torch's own initial weights hardly look at the image
    noisy = torch.rand(1, 3, 128, 112) * 255
    whole = method.denoise(noisy, draws=Draws(seed=1))
    reach = 3 * 8 + 2
    for top, left in ((0, 0), (20, 14), (64, 48)):
        tile = noisy[:, :, top : top + 64, left : left + 64]
        found = method.denoise(tile, draws=Draws(seed=1).part(top, left))
        core = slice(reach, 64 - reach)
        expected = whole[:, :, top : top + 64, left : left + 64]
        error = (found - expected)[:, :, core, core].abs().max()
        assert error <= 1e-5 * expected.abs().max()
        elsewhere = method.denoise(tile, draws=Draws(seed=1).part(top + 2, left))
        assert (elsewhere - expected)[:, :, core, core].abs().max() > 1e-2 * expected.abs().max()


@pytest.mark.parametrize("size", [(2, 2), (2, 40), (4, 2)])
def test_the_smallest_images(size):
    method = built(refine_rounds=2)
    noisy = torch.rand(1, 3, *size) * 255
    before = noisy.clone()
    denoised = method.denoise(noisy, draws=Draws())
    assert denoised.shape == noisy.shape
    assert denoised.isfinite().all()
    assert torch.equal(noisy, before)


def test_reflection_of_an_image_smaller_than_the_padding_goes_on():
    image = torch.tensor([[0.0, 1.0], [2.0, 3.0]])[None, None]
    rows = ssbsn._reflected(image, 2)[0, 0].numpy()
    np.testing.assert_array_equal(rows[0], [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(rows[:, 0], [0, 2, 0, 2, 0, 2])


def test_attention_equals_its_definition_and_sees_the_padding():
    """As in the paper, with the matrix of all pairs, on a size that the grid does not divide."""
    from denoisekit.nets.self_similarity import SelfSimilarity

    torch.manual_seed(2)
    attention = SelfSimilarity(6, 4).double()
    x = torch.rand(1, 6, 9, 10, dtype=torch.float64) * 50
    expected = torch.zeros(1, 6, 12, 12, dtype=torch.float64)
    value = F.pad(x, (0, 2, 0, 3))
    normal = F.pad((x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt(), (0, 2, 0, 3))
    for top in range(4):
        for left in range(4):
            grid = np.s_[0, :, top::4, left::4]
            q = normal[grid].flatten(1).T @ attention.embed
            q = q / (q.norm(dim=1, keepdim=True) + 1e-8)
            weights = torch.softmax((q @ q.T + 1) / 6**0.5, 1)
            expected[grid] = (weights @ value[grid].flatten(1).T).T.view(6, 3, 3)
    torch.testing.assert_close(attention(x), expected[:, :, :9, :10])


def test_the_centre_is_not_seen_and_still_gets_a_gradient():
    from denoisekit.nets.blind_spot import CentreMaskedConv

    conv = CentreMaskedConv(2, 3, 5, padding=2)
    x = torch.rand(1, 2, 9, 9)
    changed = x.clone()
    changed[:, :, 4, 4] += 1
    assert torch.equal(conv(x)[:, :, 4, 4], conv(changed)[:, :, 4, 4])
    conv(x).sum().backward()
    assert (conv.weight.grad[:, :, 2, 2] != 0).all()


def expect_memory(config, side, precision):
    settings = {"refine_rounds": 1, "replace_p": 0.16}
    claimed = ssbsn.INFO.traits(config, settings).bytes_per_pixel[precision] * side**2
    found, whole = call_memory("ssbsn", config, settings, side, precision)
    assert claimed / 2 <= found <= claimed + CALL_BYTES, f"{found / side**2:.0f} bytes a pixel"
    return whole


@pytest.mark.slow
def test_the_memory_of_a_call_is_as_claimed():
    expect_memory({**ssbsn.INFO.config, "width": 64}, 256, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_memory_of_the_published_network_is_as_claimed(precision):
    """Rounds of refinement follow one another, so one is as good as eight."""
    assert expect_memory(ssbsn.INFO.config, 512, precision) <= 2.5 * 2**30
