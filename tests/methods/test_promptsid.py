"""Prompt-SID equals its reference, in training and when it denoises."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch

from denoisekit.methods import promptsid_names as names
from denoisekit.methods.promptsid_objective import draw_orders, objective, sub_images
from denoisekit.nets.promptsid import PUBLISHED, PromptSID
from golden_weights import GOLDEN, fixture, formula_weights, shapes_of

FIXTURES = sorted(GOLDEN.glob("promptsid_*.safetensors"))
EVERY = pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)


def config_of(about):
    theirs = json.loads(about["config"])
    assert theirs["inp_channels"] == theirs["out_channels"]
    return {
        "net": "promptsid",
        "channels": theirs["inp_channels"],
        "width": theirs["dim"],
        "blocks": theirs["num_blocks"],
        "heads": theirs["heads"],
        "refine_blocks": theirs["num_refinement_blocks"],
        "expansion": theirs["ffn_expansion_factor"],
        "bias": theirs["bias"],
        "norm_bias": theirs["LayerNorm_type"] == "WithBias",
        "features": theirs["n_feats"],
        "encoder_blocks": theirs["n_encoder_res"],
        "prior_blocks": theirs["n_denoise_res"],
        "steps": theirs["timesteps"],
        "betas": [theirs["linear_start"], theirs["linear_end"]],
    }


@cache
def loaded(path):
    """The fixture and the network with its weights; parameters' names come from the gradients."""
    tensors, about = fixture(path)
    config = config_of(about)
    net = PromptSID(config).eval()
    ours = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    theirs = [key.removeprefix("grad_norm.") for key in tensors if key.startswith("grad_norm.")]
    shapes = {key: ours[names.rename(key, config)] for key in theirs}
    weights = formula_weights(shapes, int(about["seed"]))
    net.load_state_dict({names.rename(key, config): value for key, value in weights.items()})
    return tensors, config, net, theirs


def orders_of(tensors):
    number, _, height, width = tensors["train_input"].shape
    return tensors["sub_index"].long().view(number, height // 2, width // 2, 3)


def assert_close(found, expected, tolerance=1e-4):
    spread = (expected.max() - expected.min()).item() if expected.numel() > 1 else expected.item()
    assert (found - expected).abs().max().item() <= tolerance * spread


def test_there_are_fixtures():
    assert FIXTURES


@EVERY
def test_the_prompt_equals_the_reference(path):
    tensors, _, net, _ = loaded(path)
    with torch.inference_mode():
        condition = net.condition(tensors["input"])
        assert_close(condition, tensors["condition"])
        assert_close(net.sample(tensors["eval_noise"], condition), tensors["eval_prompt"])


@EVERY
def test_training_equals_the_reference(path):
    tensors, config, net, theirs = loaded(path)
    found = objective(
        net,
        tensors["train_input"],
        orders_of(tensors),
        (tensors["train_noise_0"], tensors["train_noise_1"]),
    )
    assert_close(found.denoised_sub, tensors["train_output"])
    assert_close(found.denoised, tensors["noisy_denoised"])
    assert_close(found.reconstruction, tensors["loss_rec"])
    assert_close(found.regularisation, tensors["loss_reg"])
    assert_close(found.total, tensors["train_loss"])
    net.zero_grad()
    found.total.backward()
    parameters = dict(net.named_parameters())
    assert {names.rename(key, config) for key in theirs} == set(parameters)
    for key in theirs:
        gradient = parameters[names.rename(key, config)].grad
        assert_close(gradient.norm(), tensors[f"grad_norm.{key}"])


@EVERY
def test_sub_images_equal_the_reference(path):
    tensors, _, net, _ = loaded(path)
    sub, *targets = sub_images(tensors["train_input"], orders_of(tensors))
    assert torch.equal(sub, tensors["sub_input"])
    assert torch.equal(targets[0], tensors["sub_target1"])
    assert torch.equal(targets[1], tensors["sub_target2"])
    with torch.inference_mode():
        prompt = net.structural_prompt(sub, (targets[0] + targets[1]) / 2)
    assert_close(prompt, tensors["structural_prompt"])


def test_sub_images_are_neighbours_in_all_eight_orders():
    orders = draw_orders((2, 64, 64), torch.Generator().manual_seed(0))
    again = draw_orders((2, 64, 64), torch.Generator().manual_seed(0))
    assert torch.equal(orders, again)
    drawn, counts = orders.view(-1, 3).unique(dim=0, return_counts=True)
    assert len(drawn) == 8
    assert counts.min() > 200  # of 256 on average
    rows, columns = drawn // 2, drawn % 2
    for target in (1, 2):
        steps = (rows[:, 0] != rows[:, target]).int() + (columns[:, 0] != columns[:, target])
        assert torch.equal(steps, torch.ones_like(steps))


@EVERY
def test_a_checkpoint_of_these_sizes_is_recognised(path):
    _, config, net, theirs = loaded(path)
    ours = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    shapes = {key: ours[names.rename(key, config)] for key in theirs}
    shapes["diffusion.betas"] = (config["steps"],)
    assert names.recognise(shapes) == config


KEYS = sorted(GOLDEN.glob("promptsid_*_keys.json"))


def test_there_are_keys():
    assert KEYS


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.stem)
def test_every_key_of_the_reference_has_its_place(path):
    shapes = shapes_of(path.with_name(path.name.replace("_keys.json", ".safetensors")))
    config = names.recognise(shapes)
    assert config == dict(PUBLISHED)
    renamed = {names.rename(key, config): shape for key, shape in shapes.items()}
    renamed.pop("")
    net = PromptSID(config)
    assert renamed == {key: tuple(value.shape) for key, value in net.state_dict().items()}


def test_other_checkpoints_are_not_recognised():
    assert names.recognise({"bsn.head.0.weight": (128, 3, 1, 1)}) is None
    assert names.recognise({"G.patch_embed.proj.weight": (48, 3, 3, 3)}) is None
