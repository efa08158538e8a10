"""The student network equals its reference, in every form it runs in."""

from __future__ import annotations

import pytest
import torch

from denoisekit.methods import aprrd
from denoisekit.nets.unet import UNet
from denoisekit.nets.unet_blocks import BlockUNet
from golden_weights import GOLDEN, fixture, formula_weights, shapes_of

STUDENTS = sorted(GOLDEN.glob("aprrd_student*.safetensors"))


def ids(path):
    return path.stem


def loaded(path, seed):
    shapes = shapes_of(path)
    config = aprrd.INFO.recognise(shapes)
    assert config is not None
    student = aprrd.INFO.build(config)
    weights = formula_weights(shapes, seed)
    student.load({aprrd.INFO.rename(key, config): value for key, value in weights.items()})
    return student


def test_there_are_fixtures_of_both_variants():
    variants = {aprrd.INFO.recognise(shapes_of(path))["variant"] for path in STUDENTS}
    assert variants == {"1.02M", "1.00M"}


@pytest.mark.parametrize("path", STUDENTS, ids=ids)
@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "blocks"])
def test_output_equals_the_reference(path, prepared):
    tensors, about = fixture(path)
    student = loaded(path, int(about["seed"]))
    if prepared:
        student.prepare(torch.device("cpu"), "fp32")
    found, expected = student.denoise(tensors["input"]), tensors["output"]
    spread = (expected.max() - expected.min()).item()
    assert (found - expected).abs().max().item() <= 1e-4 * spread


@pytest.mark.parametrize("path", STUDENTS, ids=ids)
def test_every_key_of_the_reference_has_its_place(path):
    shapes = shapes_of(path)
    config = aprrd.INFO.recognise(shapes)
    renamed = {aprrd.INFO.rename(key, config): shape for key, shape in shapes.items()}
    assert renamed == dict(aprrd.INFO.build(config).shapes())
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert parameters == {"1.02M": 1_021_107, "1.00M": 1_003_011}[config["variant"]]


def test_a_wrong_key_is_refused():
    student = aprrd.INFO.build({"variant": "1.02M"})
    state = {key: torch.zeros(shape) for key, shape in student.shapes().items()}
    state["more"] = state.pop("bottom.bias")
    with pytest.raises(RuntimeError, match=r"bottom\.bias"):
        student.load(state)


def test_other_checkpoints_are_not_recognised():
    assert aprrd.INFO.recognise({"bsn.head.0.weight": (128, 3, 1, 1)}) is None


@pytest.mark.parametrize("variant", ["1.02M", "1.00M"])
def test_blocks_equal_the_plain_network_where_blocks_meet(variant):
    torch.manual_seed(3)
    net = UNet(variant).eval()
    noisy = torch.rand(2, 3, 288, 544)  # blocks of 256 that end within the image
    with torch.inference_mode():
        expected = net(noisy)
        found = BlockUNet(net, torch.float32)(noisy)
    spread = (expected.max() - expected.min()).item()
    assert (found - expected).abs().max().item() <= 1e-5 * spread


def test_the_network_trains():
    torch.manual_seed(0)
    net = UNet("1.00M")
    noisy = torch.rand(1, 3, 32, 64)
    net(noisy).abs().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_progress_within_a_tile_rises_to_the_whole():
    student = aprrd.INFO.build({"variant": "1.00M"})
    student.prepare(torch.device("cpu"), "fp32")
    parts = []
    student.denoise(torch.rand(1, 3, 288, 320), on_part=parts.append)
    assert parts == sorted(parts)
    assert len(parts) > 3
    assert parts[0] > 0
    assert parts[-1] == pytest.approx(1)
