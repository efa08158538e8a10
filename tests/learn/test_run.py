"""A run from its beginning to its weights, and all that may stop it on the way."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import runpy
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_runs import NETWORKS, asked, run, spoiling, write_pictures

from denoisekit.engine.denoiser import Denoiser
from denoisekit.errors import DenoisekitError, OutputError, UsageError
from denoisekit.learn import loop, planning, train
from denoisekit.learn.config import read_toml, recipe, resolve, write_toml
from denoisekit.learn.crops import open_images
from denoisekit.learn.train import Machine, resume
from denoisekit.learn.trainee import ProcessGroup, Trainee, frozen, new_network
from denoisekit.methods import METHODS, get_method
from denoisekit.methods.recipe import Batch, distance
from denoisekit.options import Options, TrainData
from denoisekit.weights import load_weights
from denoisekit.weights.checkpoint import read_header

APRRD = get_method("aprrd")
ALONE = ProcessGroup(0, 1, torch.device("cpu"))


def parameters(out):
    """All that a run leaves in numbers."""
    kept = torch.load(out / "checkpoints" / "state.pt", weights_only=True)
    return kept, load_file(out / "weights.safetensors")


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


TRAINED = [info for info in METHODS if info.recipe is not None]


def stages():
    for info in TRAINED:
        network = {**info.config, **NETWORKS[info.id]}
        for paired in (False, True):
            for place, stage in enumerate(recipe(info, network, paired=paired)):
                before = recipe(info, network, paired=paired)[place - 1] if place else None
                yield pytest.param(info, stage, before, paired, id=f"{info.id}-{stage.name}")


@pytest.mark.parametrize(("info", "stage", "before", "paired"), list(stages()))
def test_every_recipe_learns(info, stage, before, paired):
    patch = {"sdap": 20, "ssbsn": 20}.get(info.id, 32)
    clean = np.random.default_rng(0).random((2, 3, 1, 1), np.float32) * np.ones(
        (2, 3, patch, patch), np.float32
    )
    noisy = clean + 0.1 * np.random.default_rng(1).standard_normal(clean.shape, np.float32)
    pair = (noisy, clean if paired else None)
    # Without the average, which follows slowly.
    trainee = Trainee(info, replace(stage, average=0.0, rate=2e-3), ALONE)
    if before is not None and before.config != stage.config:
        trainee.teacher = frozen(
            info, before.config, new_network(info, before.config, 1).state_dict()
        )
    began = trainee.mean_loss([pair])
    for step in range(25):
        trainee.step(step, pair, step / 400)
    assert trainee.mean_loss([pair]) < 0.95 * began


def test_on_pairs_mottle_counts_more_than_grain_of_the_same_strength():
    def loss(side):
        signs = 1 - 2 * (torch.arange(64) // side % 2)
        error = 0.02 * torch.outer(signs, signs).expand(1, 3, 64, 64)
        return float(distance(error, Batch(error, torch.Generator(), torch.zeros_like(error))))

    assert loss(16) == pytest.approx(2 * loss(1))
    assert loss(4) == pytest.approx(1.5 * loss(1))


# In the second stage, with a teacher; and with a moving average.
@pytest.mark.parametrize(("method", "at"), [("aprrd", 5), ("sdap", 2), ("promptsid", 3)])
def test_a_run_that_is_stopped_and_resumed_is_the_unbroken_one(tmp_path, noisy, method, at):
    done, _ = run(method, noisy, tmp_path / "whole", save_every=2, clip=1.0)
    assert done
    calls = iter(range(100))
    machine = Machine(workers=1, stop=lambda: next(calls) + 1 >= at)
    done, _ = run(method, noisy, tmp_path / "parts", machine=machine, save_every=2, clip=1.0)
    assert not done
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    assert resume(tmp_path / "parts", Machine(workers=3))
    one, other = parameters(tmp_path / "whole"), parameters(tmp_path / "parts")
    del one[0]["seconds"], other[0]["seconds"]
    assert same(one, other)


def test_a_run_is_repeated_by_its_seed_and_by_nothing_else(tmp_path, noisy):
    run("sdap", noisy, tmp_path / "a", seed=3)
    torch.manual_seed(99)
    run("sdap", noisy, tmp_path / "b", seed=3, machine=Machine(workers=4), validate_every=1)
    run("sdap", noisy, tmp_path / "c", seed=4)
    found = [parameters(tmp_path / name)[1] for name in "abc"]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("info", TRAINED, ids=lambda info: info.id)
def test_the_result_is_what_denoise_takes(tmp_path, noisy, info):
    _, records = run(info.id, noisy, tmp_path / "run", steps=4)
    assert records[-1]["event"] == "done"
    path = tmp_path / "run" / "weights.safetensors"
    weights = load_weights(path, info)
    assert {**weights.config, **NETWORKS[info.id]} == weights.config
    settings = {"refine_rounds": 1} if info.id == "ssbsn" else {}
    image = np.load(noisy / "0.npy")
    denoised = Denoiser(info, weights, Options(info.id, settings=settings))(image)
    assert not np.array_equal(denoised, image)
    told = json.loads(read_header(path)["training"])
    assert told["pictures"] == 3
    assert told["names"] == ["noisy"]
    assert str(tmp_path) not in json.dumps(read_header(path))


def test_the_student_learns_from_the_teacher_that_the_run_trained(tmp_path, noisy):
    run("aprrd", noisy, tmp_path / "a", steps=2)
    kept = tmp_path / "a" / "checkpoints" / "teacher.safetensors"
    teacher = load_weights(kept, APRRD)
    assert teacher.config == {"net": "bsn", "channels": 3, "width": 4}
    _, records = run("aprrd", noisy, tmp_path / "b", steps=2, teacher=str(kept))
    assert [stage["stage"] for stage in records[1]["stages"]] == ["student"]
    # A student may have another size, but no student can teach.
    wide, _ = run("aprrd", noisy, tmp_path / "c", teacher=str(kept), network={"width": 8}, steps=1)
    assert wide
    with pytest.raises(UsageError, match="is of the network"):
        run("aprrd", noisy, tmp_path / "d", teacher=str(tmp_path / "a" / "weights.safetensors"))


def test_a_run_may_start_from_weights(tmp_path, noisy):
    run("sdap", noisy, tmp_path / "a")
    first = str(tmp_path / "a" / "weights.safetensors")
    tiny = {"weights": first, "rate": 1e-12, "steps": 2}
    run("sdap", noisy, tmp_path / "b", **tiny)
    one, other = parameters(tmp_path / "a")[1], parameters(tmp_path / "b")[1]
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)


@pytest.mark.parametrize("spoil", ["loss", "gradient"])
def test_numbers_that_are_none_stop_the_run_with_its_last_good_state(tmp_path, noisy, spoil):
    def spoilt(loss, net):
        if spoil == "loss":
            return loss * float("nan")
        # A loss that is a number, with a gradient that is none.
        return loss + (net.down[0].bias * 0).sqrt().sum() * 0

    info = spoiling(APRRD, at=5 + 4, spoil=spoilt)  # four steps are taken to measure
    out = tmp_path / "run"
    with pytest.raises(DenoisekitError, match="not numbers") as caught:
        run("aprrd", noisy, out, info=info, save_every=1)
    assert "--weights" in caught.value.hint
    kept = torch.load(out / "checkpoints" / "state.pt", weights_only=True)
    assert kept["step"] in (4, 5)
    assert all(torch.isfinite(value).all() for value in kept["net"].values())
    load_weights(out / "checkpoints" / "last.safetensors", APRRD)
    assert not (out / "weights.safetensors").exists()


def test_a_full_disk_stops_the_run_and_keeps_the_last_state(tmp_path, noisy, monkeypatch):
    flush, left = os.fsync, 4  # config, then state and weights of the first save, then best

    def full(handle):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "run"
    with pytest.raises(OutputError, match="No space left") as caught:
        run("ssbsn", noisy, out, save_every=2)
    assert "--resume" in caught.value.hint
    kept = torch.load(out / "checkpoints" / "state.pt", weights_only=True)
    assert 0 < kept["step"] < 6
    assert not list(out.rglob("*.part"))
    monkeypatch.setattr(os, "fsync", flush)
    assert resume(out, Machine(workers=1))


def test_validation_is_by_psnr_where_clean_pictures_are_known(tmp_path):
    noisy = write_pictures(tmp_path / "n", count=4)
    clean = write_pictures(tmp_path / "c", count=4, sigma=0.0)
    data = TrainData((str(noisy),), val_noisy=(str(noisy),), val_clean=(str(clean),))
    out = tmp_path / "run"
    _, records = run("sdap", noisy, out, data=data, validate_every=2, preview_every=3)
    found = [record for record in records if record["event"] == "validation"]
    assert [record["step"] for record in found if record["stage"] == "small"] == [2, 4]
    assert all(0 < record["psnr"] < 60 for record in found)
    previews = sorted(path.name for path in (out / "previews").iterdir())
    assert previews[0] == "large_0000002.png"
    assert "small_0000003.png" in previews
    with Image.open(out / "previews" / "large_0000002.png") as shown:
        pixels = np.asarray(shown)
    assert pixels.shape == (4 * 40 + 3 * 4, 3 * 44 + 2 * 4, 3)
    assert np.array_equal(pixels[:40, :44], np.load(noisy / "0.npy"))
    assert np.array_equal(pixels[:40, -44:], np.load(clean / "0.npy"))
    best = max(record["psnr"] for record in found if record["stage"] == "large")
    told = json.loads(read_header(out / "checkpoints" / "best.safetensors")["training"])
    assert told["score"] == pytest.approx(best, abs=1e-3)


def test_many_noisy_pictures_are_shown_in_part(tmp_path):
    folder = write_pictures(tmp_path / "n", count=6)
    _, records = run("promptsid", folder, tmp_path / "run", steps=2)
    (score,) = [record for record in records if record["event"] == "validation"]
    assert score["held_out_loss"] > 0
    with Image.open(tmp_path / "run" / "previews" / "noisy_0000002.png") as shown:
        assert shown.size == (2 * 44 + 4, 4 * 40 + 3 * 4)


def test_tensorboard_is_asked_for_before_anything_is_written(tmp_path, noisy, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    machine = Machine(workers=1, tensorboard=True)
    with pytest.raises(UsageError, match="TensorBoard is not installed"):
        run("ssbsn", noisy, tmp_path / "run", machine=machine)
    assert not (tmp_path / "run").exists()


def test_the_log_holds_every_record_and_mends_a_torn_line(tmp_path, noisy):
    out = tmp_path / "run"
    machine = Machine(workers=1, stop=lambda: True)
    # Its own folder lies in that of the pictures: the previews must not become data.
    data = TrainData((str(tmp_path),))
    _, records = run("sdap", noisy, out, machine=machine, data=data, preview_every=1)
    assert list((out / "previews").iterdir())
    with (out / "log.jsonl").open("a") as file:
        file.write('{"event": "st')
    resume(out, Machine(workers=1, tell=records.append))
    lines = (out / "log.jsonl").read_text().splitlines()
    torn = lines.index('{"event": "st')
    assert [json.loads(line) for line in lines[:torn] + lines[torn + 1 :]] == records
    assert [r["pictures"] for r in records if r["event"] == "data"] == [3, 3]


def test_rates_follow_the_published_schedules():
    rates = {}
    for info in TRAINED:
        for stage in recipe(info, info.config, paired=False):
            rates[info.id, stage.name] = [stage.schedule(step / 10) for step in range(10)]
    assert rates["ssbsn", "noisy"] == pytest.approx([1.0] * 8 + [0.1] * 2)
    assert rates["sdap", "small"] == rates["sdap", "large"] == [1.0] * 10
    halves = [1.0, 0.5, 0.25, 0.125, 0.0625]
    assert rates["promptsid", "noisy"] == pytest.approx(np.repeat(halves, 2))
    cosine = 0.5 + 0.5 * np.cos(np.pi * np.arange(10) / 10)
    assert rates["aprrd", "teacher"] == pytest.approx(cosine)


def test_a_time_limit_plans_the_steps_and_ends_with_weights(tmp_path, noisy, monkeypatch):
    out = tmp_path / "run"
    # Steps are measured at once, and the clock stands still until they are taken.
    clock = SimpleNamespace(monotonic=lambda: 0.0, perf_counter=time.perf_counter)
    monkeypatch.setattr(train, "time", clock)
    monkeypatch.setattr(planning, "time", clock)
    done, _ = run("sdap", noisy, out, steps=10**7, limit=0.8, preview_every=10**6)
    assert done
    small, large = read_toml(out / "config.toml").stages
    assert 2 <= small.steps + large.steps < 10**5
    assert small.steps == pytest.approx(1.5 * large.steps, abs=2)
    assert 0 < small.limit < large.limit == 0.8
    assert (out / "weights.safetensors").exists()


def test_a_slow_stage_leaves_the_next_its_time(tmp_path, noisy, monkeypatch):
    out = tmp_path / "run"
    # The clock is a hundred times faster once the plan is made.
    faster = SimpleNamespace(monotonic=lambda: 100 * time.perf_counter())
    monkeypatch.setattr(loop, "time", faster)
    done, records = run("sdap", noisy, out, steps=10**7, limit=20.0)
    assert done
    late = [record for record in records if record["event"] == "late"]
    assert [record["stage"] for record in late] == ["small", "large"]
    assert all(0 < record["step"] < record["steps"] for record in late)
    assert (out / "weights.safetensors").exists()


def test_a_run_is_never_overwritten_nor_taken_up_when_complete(tmp_path, noisy):
    out = tmp_path / "run"
    run("ssbsn", noisy, out, steps=1)
    with pytest.raises(UsageError, match="exists already"):
        run("ssbsn", noisy, out)
    with pytest.raises(UsageError, match="complete"):
        resume(out)
    with pytest.raises(DenoisekitError, match="holds no run"):
        resume(tmp_path / "other")


def test_a_config_survives_its_file(tmp_path):
    odd = {"width": 8, 'name "x"': "ä\\\n", "nested": {"a": [1, 2.5], "b": True}}
    config = resolve(APRRD, TrainData(("/a b/*.png",), range="0,4095"), asked("aprrd"), 3)
    config = replace(config, network={**config.network, **odd}, clip=1e-7).fitted([1.0, 2.0], 60.0)
    (tmp_path / "config.toml").write_text(write_toml(config), encoding="utf-8")
    assert read_toml(tmp_path / "config.toml") == config


def test_the_average_follows_and_is_what_is_kept():
    info = get_method("promptsid")
    (stage,) = recipe(info, {**info.config, **NETWORKS["promptsid"]}, paired=False)
    trainee = Trainee(info, replace(stage, rate=1e-2), ALONE)
    pair = (np.random.default_rng(0).random((1, 3, 16, 16), np.float32), None)
    wanted = trainee.weights()["denoiser.first.weight"].clone()
    for step in range(4):
        trainee.step(step, pair, step / 100)
        decay = (1 + step) / (10 + step)
        wanted = decay * wanted + (1 - decay) * trainee.net.denoiser.first.weight.detach()
    assert torch.allclose(trainee.weights()["denoiser.first.weight"], wanted, atol=1e-6)


def test_gray_pictures_train_a_network_of_one_channel(tmp_path):
    for index in range(2):
        np.save(tmp_path / f"{index}.npy", np.random.default_rng(index).random((40, 40)))
    channels = open_images(TrainData((str(tmp_path),))).train.channels
    assert channels == 1
    config = resolve(APRRD, TrainData((str(tmp_path),)), asked("aprrd"), channels)
    assert config.network["channels"] == 1
    assert Path(config.data.pictures[0]) == tmp_path


@pytest.mark.parametrize("paired", [False, True])
def test_the_recipe_in_the_documents_trains(tmp_path, noisy, monkeypatch, paired):
    root = Path(__file__).parents[2]
    runpy.run_path(str(root / "scripts" / "write_example_plugin.py"))["write"](tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "src")
    page = (root / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "def recipe" in b)
    names: dict[str, object] = {}
    exec(block, names)  # noqa: S102 - our own page
    info = replace(importlib.import_module("denoisekit_tiny").INFO, recipe=names["recipe"])
    data = TrainData((str(noisy),), simulate="gaussian:0.1" if paired else "")
    wish = {"network": {"width": 6}, "patch": 32, "steps": 40, "rate": 3e-3}
    done, records = run("aprrd", noisy, tmp_path / "run", data=data, info=info, **wish)
    assert done
    losses = [record["loss"] for record in records if record["event"] == "step"]
    assert np.mean(losses[-5:]) < 0.95 * losses[0]
    assert load_weights(tmp_path / "run" / "weights.safetensors", info).config["width"] == 6
    for name in [name for name in sys.modules if name.startswith("denoisekit_tiny")]:
        del sys.modules[name]
