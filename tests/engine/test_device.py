"""Device, precision and memory: what is asked for, and what the figures of a method claim."""

from __future__ import annotations

import pytest
import torch

from denoisekit.engine import device
from denoisekit.engine.device import (
    BAND_BYTES,
    CALL_BYTES,
    choose_plan,
    choose_precision,
    resolve_device,
    smaller_plan,
    tile_memory,
)
from denoisekit.errors import OutOfMemory, UsageError
from denoisekit.methods import Limits, get_method
from peak_memory import call_memory


@pytest.mark.parametrize(
    "name", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "", "cuda:²"]
)
def test_names_of_no_device(name):
    with pytest.raises(UsageError, match="no device"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:99999999999999999999", "mps"])
def test_a_device_that_is_absent_is_an_error(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees") as caught:
        resolve_device(name)
    assert "--device cpu" in caught.value.hint
    assert resolve_device("auto").type == "cpu"


def test_the_second_gpu_of_one_is_absent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto").type == "cuda"
    assert str(resolve_device("cuda:0")) == "cuda:0"
    with pytest.raises(UsageError, match="torch sees 1"):
        resolve_device("cuda:1")


def test_all_gpus_share_an_image_unless_one_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert device.all_devices(torch.device("cuda")) == [torch.device("cuda", i) for i in range(3)]
    assert device.all_devices(torch.device("cuda:1")) == [torch.device("cuda:1")]
    assert device.all_devices(torch.device("cpu")) == [torch.device("cpu")]


def test_precisions():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_precision(cpu, "auto") == choose_precision(cuda, "auto") == "fp32"
    assert choose_precision(cpu, "bf16") == "bf16"
    assert choose_precision(cuda, "fp16") == "fp16"
    with pytest.raises(UsageError, match="GPU"):
        choose_precision(cpu, "fp16")
    with pytest.raises(UsageError) as caught:
        choose_precision(cpu, "fp61")
    assert "fp16" in caught.value.hint


def student():
    info = get_method("aprrd")
    return info.traits(info.config, {})


@pytest.mark.parametrize("size", [(700, 900), (5000, 40), (40, 5000), (12000, 9000)])
@pytest.mark.parametrize("memory", [80e6, 300e6, 5e9])
def test_a_plan_stays_within_its_memory(size, memory):
    traits = student()
    try:
        plan, at_once = choose_plan(*size, traits, "fp32", int(memory), 8)
    except OutOfMemory:
        assert memory == 80e6
        assert size[1] == 9000
        return
    tile, band = plan.largest_read[0] * plan.largest_read[1], plan.largest_read[0] * plan.padded[1]
    assert at_once * tile * traits.bytes_per_pixel["fp32"] + band * BAND_BYTES <= memory


def test_the_limit_is_what_the_process_may_hold(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(device, "used_memory", lambda: 2**30)
    assert tile_memory(cpu, 3 * 2**30, 2**29) == 2**31 - 2**29 - CALL_BYTES
    with pytest.raises(OutOfMemory, match="before any tile"):
        tile_memory(cpu, 2**30, 0)
    monkeypatch.setattr(device, "available_memory", lambda: 2**30)
    assert tile_memory(cpu, None, 0) < 2**30


def test_smaller_plans_shrink_until_halos_leave_nothing():
    limits = Limits(multiple_of=4, align=4, halo=4)
    height = width = 64
    sizes = []
    while (plan := smaller_plan(height, width, limits)) is not None:
        height, width = plan.largest_read
        sizes.append(height * width)
    assert sizes
    assert all(b <= a / 2 for a, b in zip([64 * 64, *sizes], sizes, strict=False))
    assert height * width <= 16 * 16


def check_claim(side, precision, variant="1.02M"):
    claimed = student().bytes_per_pixel[precision] * side**2
    config = {"net": "unet", "variant": variant, "channels": 3, "width": 48}
    real, _ = call_memory("aprrd", config, {}, side, precision)
    assert claimed / 2 <= real <= claimed + CALL_BYTES, (
        f"{real / side**2:.0f} bytes a pixel measured, {claimed / side**2:.0f} claimed"
    )


def test_the_memory_of_a_network_call_is_as_claimed():
    check_claim(640, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("side", [1024, 1536])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", ["1.02M", "1.00M"])
def test_the_memory_of_large_calls_is_as_claimed(side, precision, variant):
    check_claim(side, precision, variant)
