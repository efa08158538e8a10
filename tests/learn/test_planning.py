"""What is planned for a time: sizes that learn in it, and what was asked for as it was asked."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import NETWORKS, run, write_pictures

from denoisekit.errors import OutOfMemory
from denoisekit.learn import planning
from denoisekit.learn.config import read_toml, resolve, stages_of
from denoisekit.learn.planning import Cost
from denoisekit.learn.validation import Sample, fewer_samples
from denoisekit.methods import get_method
from denoisekit.options import TrainData, TrainOptions

DATA = TrainData(("a",))
FLOPS = 2e10
"""Of a machine: what a step of a stage costs there."""


def planned(method, memory=2**60, **wanted):
    """Plan for a machine of that memory; return the run and what was measured."""
    info, asked, seen = get_method(method), TrainOptions(**wanted), []

    def cost(stage):
        flop = 3 * stage.batch * stage.patch**2
        flop *= info.traits(stage.config, info.choose()).flop(stage.patch**2)
        held = 40 * stage.batch * stage.patch**2 * stage.config.get("width", 48)
        if held > memory:
            raise OutOfMemory("too much")
        return Cost(flop / FLOPS, held, 0)

    def measure(config):
        seen.append(config)
        return [cost(stage) for stage in stages_of(info, config)]

    def resolved(asked):
        return resolve(info, DATA, asked, 3)

    config, costs = planning.plan_run(info, asked, resolved, measure, time.monotonic())
    assert costs == measure(config)
    return config, seen


METHODS = tuple(NETWORKS)


@pytest.mark.parametrize(
    ("method", "limit"), [*((method, 30.0) for method in METHODS), ("aprrd", 12 * 3600.0)]
)
def test_a_network_is_planned_that_can_learn_in_the_time(method, limit):
    config, seen = planned(method, limit=limit)
    info = get_method(method)
    smallest = seen[0]
    took = sum(
        planning.LEARN_STEPS
        * 3 * s.batch * s.patch**2 * info.traits(s.config, info.choose()).flop(s.patch**2) / FLOPS
        for s in stages_of(info, config)
    )  # fmt: skip
    assert took <= limit or config == smallest
    longer, _ = planned(method, limit=1e9)
    assert longer == resolve(info, DATA, TrainOptions(limit=1e9), 3)


def test_more_time_never_makes_it_smaller():
    sizes = [planned("aprrd", limit=limit)[0] for limit in (10, 1e3, 1e6)]
    pixels = [c.stages[0].batch * c.stages[0].patch ** 2 * c.network["width"] for c in sizes]
    assert pixels == sorted(pixels)
    assert pixels[0] < pixels[-1]


def test_what_was_asked_for_stays():
    config, _ = planned("aprrd", limit=5.0, patch=128, batch=4, network={"width": 24})
    assert config.network["width"] == 24
    assert {(stage.patch, stage.batch) for stage in config.stages} == {(128, 4)}
    config, _ = planned("aprrd", limit=5.0, patch=64)
    assert {stage.patch for stage in config.stages} == {64}
    assert config.network["width"] < 48
    config, _ = planned("aprrd", limit=5.0, teacher="aprrd.teacher-sidd")
    assert config.network["width"] == 48


def test_memory_counts_too(monkeypatch):
    monkeypatch.setattr(planning, "available_memory", lambda: 2**28)
    config, _ = planned("aprrd", memory=2**28, limit=1e9)
    held = [40 * s.batch * s.patch**2 * config.network["width"] for s in config.stages]
    assert max(held) <= planning.MEMORY_SHARE * 2**28
    with pytest.raises(OutOfMemory):
        planned("aprrd", memory=2**10, limit=1e9)


def test_a_run_of_published_sizes_holds_its_time(tmp_path):
    pictures, out = write_pictures(tmp_path / "noisy"), tmp_path / "run"
    wanted = {"steps": None, "batch": None, "patch": None, "network": {}}
    done, records = run("aprrd", pictures, out, limit=3.0, **wanted)
    assert done
    config = read_toml(out / "config.toml")
    assert config.network["width"] < 48
    assert (out / "weights.safetensors").exists()
    (plan,) = [record for record in records if record["event"] == "plan"]
    assert all(stage["bytes"] < 2**30 for stage in plan["stages"])


@pytest.mark.parametrize("learns", [True, False])
def test_a_result_that_is_worse_than_noisy_is_not_called_done(tmp_path, learns, monkeypatch):
    noisy = write_pictures(tmp_path / "noisy")
    clean = write_pictures(tmp_path / "clean", sigma=0)
    scores = iter([30.0 if learns else 10.0, 20.0] * 9)
    monkeypatch.setattr("denoisekit.learn.train.psnr", lambda *_: next(scores))
    _, records = run("sdap", noisy, tmp_path / "run", data=TrainData((str(noisy),), (str(clean),)))
    assert records[-1]["event"] == "done"
    assert records[-1]["learned"] is learns
    assert records[-1]["noisy_psnr"] == 20.0


def test_there_are_fewer_pictures_to_validate_on_where_there_is_little_time():
    noisy = np.zeros((256, 200, 3), np.float32)
    samples = [Sample(noisy + k, noisy) for k in range(8)]
    network = SimpleNamespace(seconds_per_pixel=lambda side: 1e-5)
    denoiser = SimpleNamespace(network=network)
    each = 256 * 200 * 1e-5

    def chosen(seconds):
        found = fewer_samples(samples, denoiser, seconds)
        return len(found), found[0].noisy.shape[0]

    assert chosen(8.5 * each) == (8, 256)
    assert chosen(4.5 * each) == (4, 256)
    assert chosen(1.5 * each)[1] == 128
    assert chosen(0.0) == (1, 64)
    assert fewer_samples(samples, denoiser, 0.0)[0].clean.shape == (64, 64, 3)
