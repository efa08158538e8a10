"""The time a run will take, and the cheaper ways that are named where it is long."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import box_method
from denoisekit.engine import timing
from denoisekit.engine.denoiser import Denoiser
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.methods import METHODS
from denoisekit.methods.base import Limits, Setting, Traits
from denoisekit.options import Options

ROUNDS = Setting("rounds", 8, "how often", 0, 9)
BOTH = Setting("both", True, "twice")


def traits(config, settings):
    passes = (1 + settings["rounds"]) * (2 if settings["both"] else 1)
    limits = Limits(multiple_of=4, align=4, halo=4, native=config.get("native"))
    memory = {"fp32": 60.0, "bf16": 60.0, "fp16": 60.0}
    return Traits(limits, 1e6 * passes, memory, flop_per_pair=config.get("pair", 0.0))


def slow(config=None, settings=None, **options):
    method = replace(box_method.METHOD, traits=traits, settings=(ROUNDS, BOTH))
    weights = replace(box_method.WEIGHTS, config=config or {"net": "box"})
    denoiser = Denoiser(method, weights, Options(**options))
    # Options check the settings of the method they name, and that is not this one.
    denoiser.settings = method.choose(settings or {})
    denoiser.traits = traits(weights.config, denoiser.settings)
    return denoiser


def images(*shapes):
    return [ArrayReader(np.zeros(shape, np.uint8), None).info for shape in shapes]


def test_work_counts_planes_channels_flips_and_halos():
    plain = timing.measure_work(slow(), images((64, 64, 3)))
    assert (plain.pixels, plain.side) == (64 * 64, 64)
    # Gray goes through once, two extra channels once each, alpha not at all.
    assert timing.measure_work(slow(), images((5, 64, 64))).pixels == 5 * plain.pixels
    assert timing.measure_work(slow(), images((64, 64, 4))).pixels == plain.pixels
    assert timing.measure_work(slow(self_ensemble=True), images((64, 64, 3))).pixels == (
        8 * plain.pixels
    )
    tiled = timing.measure_work(slow(tile=32), images((64, 64, 3)))
    assert tiled.pixels == (2 * 36) ** 2
    assert tiled.side == 36
    both = timing.measure_work(slow(), images((64, 64, 3), (32, 32), (64, 64, 3)))
    assert both.pixels == 2 * plain.pixels + 32 * 32


def test_what_takes_a_moment_is_not_measured(monkeypatch):
    denoiser = slow()
    monkeypatch.setattr(denoiser.network, "seconds_per_pixel", lambda side: pytest.fail("measured"))
    assert timing.estimate_seconds(denoiser, timing.Work(100, 10)) is None


def test_the_estimate_is_speed_times_pixels(monkeypatch):
    denoiser = slow()
    monkeypatch.setattr(denoiser.network, "seconds_per_pixel", lambda side: side * 1e-6)
    assert timing.estimate_seconds(denoiser, timing.Work(1e6, 512)) == pytest.approx(512)


def test_attention_costs_more_in_a_large_call(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    cheap = slow().network.seconds_per_pixel(256)
    attentive = slow({"net": "box", "pair": 1e3}).network.seconds_per_pixel(256)
    # Both calibrations took a second on 64x64 pixels; only one grows with what it sees.
    assert cheap == pytest.approx(1 / 64**2)
    flop = 18e6
    growth = (flop + 1e3 * 256**2) / (flop + 1e3 * 64**2)
    assert attentive == pytest.approx(growth / 64**2)


def test_a_slow_call_now_and_then_is_not_believed(monkeypatch):
    now, sizes = [0.0], []

    def hook(self, tile):
        pixels = tile.shape[-1] * tile.shape[-2]
        setting_up = pixels not in sizes
        sizes.append(pixels)
        disturbed = len(sizes) % 3 == 0
        now[0] += pixels * 1e-6 * (5 if disturbed else 1) + 20 * setting_up

    monkeypatch.setattr(box_method.Box, "hook", hook)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    assert slow().network.seconds_per_pixel(1024) == pytest.approx(1e-6)
    # Large enough to stand for large calls, and no larger: it takes less than a second.
    assert 200 <= max(sizes) ** 0.5 < 1024
    assert len(sizes) <= 12


def test_what_takes_the_time_of_a_method_needs_no_weights():
    denoiser = timing.untrained(METHODS[0])
    assert denoiser.info.id == METHODS[0].id
    assert denoiser.network.seconds_per_pixel(32) > 0


def test_cheaper_ways_are_named_with_their_time(monkeypatch):
    monkeypatch.setattr(timing, "native_bf16", lambda: True)
    denoiser = slow(self_ensemble=True)
    ways = dict(timing.cheaper(denoiser, timing.Work(1e6, 64), 3600.0))
    assert ways["leave --self-ensemble out"] == pytest.approx(450)
    assert ways["--precision bf16"] < 3600
    assert ways["--set rounds=0"] == pytest.approx(400)
    assert ways["--set both=off"] == pytest.approx(1800)
    student = METHODS[0].traits(METHODS[0].config, {}).flop_per_pixel
    assert ways["--method aprrd"] == pytest.approx(3600 * student / 18e6)
    monkeypatch.setattr(timing, "native_bf16", lambda: False)
    fewest = slow(settings={"rounds": 0, "both": False})
    assert not [
        way for way, _ in timing.cheaper(fewest, timing.Work(1e6, 64), 60.0) if "set" in way
    ]
    assert "--precision bf16" not in dict(timing.cheaper(fewest, timing.Work(1e6, 64), 60.0))
