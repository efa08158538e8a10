"""Student and teacher equal their references, in every form they run in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from denoisekit.draws import Draws
from denoisekit.engine.device import CALL_BYTES
from denoisekit.methods import aprrd
from denoisekit.nets.atbsn import ATBSN, BlockATBSN, denoise_padded
from denoisekit.nets.unet import BlockUNet, UNet
from golden_weights import GOLDEN, fixture, formula_weights, shapes_of
from helpers import assert_limits_are_true
from peak_memory import call_memory

STUDENTS = sorted(GOLDEN.glob("aprrd_student*.safetensors"))
TEACHERS = sorted(GOLDEN.glob("aprrd_bsn*.safetensors"))
OFFICIAL = sorted(GOLDEN.glob("aprrd_*_keys.json"))
TEACHER = {"net": "bsn", "channels": 3, "width": 48}
PARAMETERS = {"1.02M": 1_021_107, "1.00M": 1_003_011, None: 1_268_547}


def ids(path):
    return path.stem


def reference_shapes(path):
    """Keys and shapes of the reference network; where no file has them, worked out."""
    if path.with_name(path.stem + "_keys.json").exists():
        return shapes_of(path)
    names = ("aprrd_bsn", "aprrd_student_1_00M", "aprrd_student_1_02M")
    published = next(name for name in names if path.stem.startswith(name))
    published = "aprrd_bsn_full" if published == "aprrd_bsn" else published
    shapes = shapes_of(Path(__file__).parents[1] / "golden" / f"{published}.safetensors")
    tensors, about = fixture(path)
    sizes = json.loads(about.get("config", "{}"))
    config = {
        **aprrd.INFO.infer_config(shapes),
        "channels": tensors["input"].shape[1],
        "width": sizes.get("mid_channels", 48),
    }
    ours = aprrd.INFO.build(config, {}).shapes()
    return {name: ours[aprrd.INFO.map_key(name, config)] for name in shapes}


def loaded(path):
    shapes = reference_shapes(path)
    config = aprrd.INFO.infer_config(shapes)
    assert config is not None
    method = aprrd.INFO.build(config, {})
    weights = formula_weights(shapes, int(fixture(path)[1]["seed"]))
    method.load({aprrd.INFO.map_key(key, config): value for key, value in weights.items()})
    return method


def error(found, expected):
    """Largest difference as a part of the range."""
    return ((found - expected).abs().max() / (expected.max() - expected.min())).item()


def test_there_are_fixtures():
    assert STUDENTS
    assert TEACHERS
    if Path(__file__).parents[1] / "golden" == GOLDEN:
        configs = [aprrd.INFO.infer_config(shapes_of(path)) for path in (*STUDENTS, *TEACHERS)]
        assert {config.get("variant") for config in configs} == {"1.02M", "1.00M", None}


@pytest.mark.parametrize("path", STUDENTS, ids=ids)
@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "blocks"])
def test_the_student_equals_the_reference(path, prepared):
    tensors, _ = fixture(path)
    student = loaded(path)
    if prepared:
        student.prepare(torch.device("cpu"), "fp32")
    assert error(student.denoise(tensors["input"], draws=Draws()), tensors["output"]) <= 1e-4


@pytest.mark.parametrize("path", TEACHERS, ids=ids)
@pytest.mark.parametrize("prepared", [False, True], ids=["plain", "blocks"])
def test_the_teacher_equals_the_reference(path, prepared):
    tensors, _ = fixture(path)
    teacher = loaded(path)
    if prepared:
        teacher.prepare(torch.device("cpu"), "fp32")
    assert error(teacher.denoise(tensors["input"], draws=Draws()), tensors["denoise"]) <= 1e-4


@pytest.mark.parametrize("path", TEACHERS, ids=ids)
def test_holes_and_distillation_targets_equal_the_reference(path):
    tensors, _ = fixture(path)
    net = loaded(path).net
    holes = [key for key in tensors if key.startswith("bsn_hole")]
    assert holes
    for key in holes:
        shift = (int(key.removeprefix("bsn_hole")) + 1) // 2
        with torch.no_grad():
            assert error(net(tensors["input"], shift), tensors[key]) <= 1e-4
    targets = aprrd.distillation_targets(net, tensors["input"])
    for found, expected in zip(targets, tensors["multi_target"], strict=True):
        assert error(found, expected) <= 1e-4


@pytest.mark.parametrize("path", TEACHERS, ids=ids)
def test_the_teachers_loss_and_gradients_equal_the_reference(path):
    tensors, _ = fixture(path)
    method = loaded(path)
    noisy, pairs = tensors["apr_input"], tensors["apr_draw"]
    assert torch.equal(torch.tensor(aprrd.PAIRS), tensors["apr_window"])
    first, second = aprrd.replaced(noisy, pairs)
    assert torch.equal(first, tensors["apr_h1_y"])
    assert torch.equal(second, tensors["apr_h2_y"])
    loss = aprrd.teacher_loss(method.net, noisy, pairs)
    loss.backward()
    assert loss.item() == pytest.approx(tensors["apr_loss"].item(), rel=1e-4)
    expected = {
        aprrd.INFO.map_key(key.removeprefix("grad_norm."), TEACHER): norm.item()
        for key, norm in tensors.items()
        if key.startswith("grad_norm.")
    }
    found = {key: value.grad.norm().item() for key, value in method.net.named_parameters()}
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("path", TEACHERS, ids=ids)
def test_recharging_and_the_students_loss_equal_the_reference(path):
    tensors, _ = fixture(path)
    noisy = tensors["apr_input"]
    with torch.no_grad():
        denoised = loaded(path).net(noisy, aprrd.TRAINING_SHIFT)
    targets = torch.stack([denoised * part for part in (1, 0.9, 0.8, 0.7, 0.6, 0.5)])
    before = targets.clone()
    charged = aprrd.recharged(targets, noisy, tensors["rd_draw"])
    assert torch.equal(targets, before)
    assert error(charged.sum(0), tensors["rd_targets_sum"]) <= 1e-4
    loss = aprrd.student_loss(0.5 * noisy, charged)
    assert loss.item() == pytest.approx(tensors["rd_loss"].item(), rel=1e-4)


@pytest.mark.parametrize("path", OFFICIAL, ids=ids)
def test_every_key_of_the_reference_has_its_place(path):
    shapes = {key: tuple(shape) for key, shape in json.loads(path.read_text()).items()}
    config = aprrd.INFO.infer_config(shapes)
    renamed = {aprrd.INFO.map_key(key, config): shape for key, shape in shapes.items()}
    assert renamed == dict(aprrd.INFO.build(config, {}).shapes())
    if (config["channels"], config["width"]) == (3, 48):
        parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
        assert parameters == PARAMETERS[config.get("variant")]


@pytest.mark.parametrize(
    "config",
    [
        {"net": "unet", "variant": "1.02M", "channels": 1, "width": 8},
        {"net": "unet", "variant": "1.00M", "channels": 2, "width": 12},
        {"net": "unet", "variant": "half", "channels": 2, "width": 12},
        {"net": "bsn", "channels": 4, "width": 8},
    ],
    ids=lambda config: config.get("variant", "bsn"),
)
def test_other_sizes_are_built_and_denoise(config):
    method = aprrd.INFO.build(config, {})
    noisy = torch.rand(1, config["channels"], 64, 32)
    expected = method.denoise(noisy, draws=Draws())
    method.prepare(torch.device("cpu"), "fp32")
    found = method.denoise(noisy, draws=Draws())
    assert found.shape == noisy.shape
    assert error(found, expected) <= 1e-5


def test_a_wrong_key_is_refused():
    student = aprrd.INFO.build({"net": "unet", "variant": "1.02M"}, {})
    state = {key: torch.zeros(shape) for key, shape in student.shapes().items()}
    state["more"] = state.pop("bottom.bias")
    with pytest.raises(RuntimeError, match=r"bottom\.bias"):
        student.load(state)


def test_other_checkpoints_are_not_recognised():
    assert aprrd.INFO.infer_config({"bsn.head.0.weight": (128, 3, 1, 1)}) is None
    assert aprrd.INFO.infer_config({"unet.intro.conv.weight": (48, 3, 5, 5)}) is None


@pytest.mark.parametrize("variant", ["1.02M", "1.00M", "half"])
def test_blocks_equal_the_plain_network_where_blocks_meet(variant):
    torch.manual_seed(3)
    net = UNet(variant, width=8).eval()
    noisy = torch.rand(2, 3, 288, 1088)  # blocks of 256 that end within the image, also in its half
    with torch.inference_mode():
        expected = net(noisy)
        found = BlockUNet(net, torch.float32)(noisy)
    spread = (expected.max() - expected.min()).item()
    assert (found - expected).abs().max().item() <= 1e-5 * spread


def test_half_resolution_begins_as_the_identity_and_costs_a_quarter():
    config = {**aprrd.INFO.config, "width": 16}
    half = {**config, "variant": "half"}
    net = aprrd.INFO.build(half, {}).net
    aprrd.INFO.initialise(net, half)
    noisy = torch.rand(1, 3, 32, 64)
    assert torch.equal(net(noisy), noisy)
    whole, less = (aprrd.INFO.traits(one, {}).flop_per_pixel for one in (config, half))
    assert less < 0.3 * whole


def test_limits_are_true_at_half_resolution():
    config = {**aprrd.INFO.config, "width": 16, "variant": "half"}
    method = aprrd.INFO.build(config, {})
    method.load(formula_weights(dict(method.shapes()), seed=1))

    def network(tile):
        return method.denoise(torch.from_numpy(tile)[None], draws=Draws())[0].numpy()

    assert_limits_are_true(network, aprrd.INFO.traits(config, {}).limits)


def test_the_network_trains():
    torch.manual_seed(0)
    net = UNet("1.00M")
    noisy = torch.rand(1, 3, 32, 64)
    net(noisy).abs().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_blocks_equal_the_plain_teacher_where_blocks_meet():
    torch.manual_seed(3)
    net = ATBSN(width=8).eval()
    noisy = torch.rand(2, 3, 160, 288)  # blocks of 128, and of 256 on the way down
    with torch.inference_mode():
        expected = denoise_padded(net, noisy)[0]
        found = BlockATBSN(net, torch.float32)(noisy)
    assert error(found, expected) <= 1e-5


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_the_teacher_is_blind_within_its_hole_and_only_there(shift):
    torch.manual_seed(4)
    net = ATBSN(width=8)
    noisy = torch.rand(1, 3, 32, 64, requires_grad=True)
    net(noisy, shift)[0, :, 17, 40].sum().backward()
    seen = noisy.grad[0].abs().sum(0) > 0
    reach = max(shift - 1, 0)
    hole = seen[17 - reach : 18 + reach, 40 - reach : 41 + reach]
    assert hole.any() == (shift == 0)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        assert seen[17 + shift * down, 40 + shift * right]


def test_the_teachers_limits_are_true():
    torch.manual_seed(1)
    config = {**TEACHER, "width": 4}
    teacher = aprrd.INFO.build(config, {})
    teacher.prepare(torch.device("cpu"), "fp32")

    def run(noisy):
        return teacher.denoise(torch.from_numpy(noisy)[None], draws=Draws())[0].numpy()

    assert_limits_are_true(run, aprrd.INFO.traits(config, {}).limits)


def test_half_precision_stays_close_for_the_teacher():
    torch.manual_seed(5)
    noisy = torch.rand(1, 3, 64, 96)
    teacher = aprrd.INFO.build({**TEACHER, "width": 8}, {})
    exact = teacher.denoise(noisy, draws=Draws())
    teacher.prepare(torch.device("cpu"), "bf16")
    found = teacher.denoise(noisy, draws=Draws())
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().mean() < 0.02 * exact.std()


def test_draws_are_even_and_repeat():
    def draw(seed):
        return aprrd.draw_pairs((2, 64, 96), torch.Generator().manual_seed(seed))

    pairs = draw(1)
    assert torch.equal(pairs, draw(1))
    assert not torch.equal(pairs, draw(2))
    counts = torch.bincount(pairs.flatten(), minlength=72)
    expected = pairs.numel() / 72
    assert len(counts) == 72
    # 71 degrees of freedom: above 120 once in 4000 seeds.
    assert ((counts - expected) ** 2 / expected).sum() < 120
    choice = aprrd.draw_targets((1, 64, 64), torch.Generator().manual_seed(0))
    assert choice.unique().tolist() == list(range(6))


def test_recharging_gives_every_pixel_to_one_target():
    noisy = torch.rand(2, 3, 8, 8) + 1
    choice = aprrd.draw_targets((2, 8, 8), torch.Generator().manual_seed(0))
    charged = aprrd.recharged(torch.zeros(6, 2, 3, 8, 8), noisy, choice)
    assert torch.equal(charged.sum(0), noisy)
    assert ((charged != 0).sum(0) == 1).all()


def test_the_arithmetic_is_counted():
    for config in (
        {"net": "unet", "variant": "1.02M", "channels": 2, "width": 8},
        {"net": "unet", "variant": "1.00M", "channels": 2, "width": 8},
        {"net": "unet", "variant": "half", "channels": 2, "width": 8},
        {"net": "bsn", "channels": 2, "width": 8},
    ):
        net, height, width = aprrd.INFO.build(config, {}).net, 64, 32
        flop = []

        def count(conv, _, output, flop=flop):
            flop.append(2 * output.numel() * conv.weight[0].numel())

        for layer in net.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_hook(count)
        with torch.no_grad():
            net(torch.rand(1, 2, height, width))
        said = aprrd.INFO.traits(config, {}).flop_per_pixel
        assert said == pytest.approx(sum(flop) / (height * width))


def check_memory(config, side, precision):
    claimed = aprrd.INFO.traits(config, {}).bytes_per_pixel[precision] * side**2
    real, _ = call_memory("aprrd", config, {}, side, precision)
    assert claimed / 2 <= real <= claimed + CALL_BYTES, f"{real / side**2:.0f} bytes a pixel"


@pytest.mark.slow
def test_the_memory_of_the_teacher_is_as_claimed():
    check_memory({**TEACHER, "width": 32}, 384, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("width", [16, 48])
def test_the_memory_of_large_calls_of_the_teacher_is_as_claimed(width, precision):
    check_memory({**TEACHER, "width": width}, 1024, precision)


@pytest.mark.parametrize("variant", ["1.02M", "1.00M", "half"])
def test_the_core_alone_is_the_same_part_of_the_whole(variant):
    torch.manual_seed(0)
    student = aprrd.INFO.build({"net": "unet", "variant": variant, "width": 8}, {})
    student.prepare(torch.device("cpu"), "fp32")
    noisy = torch.rand(1, 3, 288, 352)
    whole = student.denoise(noisy, draws=Draws())
    for core in ((0, 0, 288, 352), (0, 0, 64, 96), (31, 257, 62, 352), (100, 3, 287, 200)):
        top, left, bottom, right = core
        alone = student.denoise(noisy, draws=Draws(), core=core)
        difference = (alone - whole[:, :, top:bottom, left:right]).abs().max()
        assert difference <= 1e-5 * whole.abs().max()
