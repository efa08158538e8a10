"""What is left out of a fit where there is little time for it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from denoisekit.learn import planning
from denoisekit.learn.checkpoint import State
from denoisekit.learn.fit import (
    Ending,
    distil,
    finished_denoiser,
    train_networks,
    train_on_subsamples,
)
from denoisekit.learn.loop import Budget, learn
from denoisekit.learn.objectives import find_objective
from denoisekit.learn.session import VALIDATIONS, Network
from denoisekit.learn.single_image import Noise, Parts, Validation
from denoisekit.learn.trainee import ProcessGroup
from denoisekit.methods import get_method
from denoisekit.ranges import Range

NOISY = np.random.default_rng(0).normal(0.5, 0.1, (1, 1, 64, 64)).astype(np.float32)
STEP = 0.01
FIRST = Network(get_method("single"), {"width": 8}, {}, "first", 20.0)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands still until it is moved."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("time.monotonic", lambda: now.seconds)
    return now


class Trainee:
    """Takes steps of a time that is told by the time they begin."""

    group = ProcessGroup(0, 1, torch.device("cpu"))

    def __init__(self, clock, seconds):
        self._clock, self._seconds = clock, seconds

    def step(self, step, pair, progress):
        self._clock.seconds += self._seconds(self._clock.seconds)
        return torch.zeros(())


def learned(clock, seconds, budget, validation=0.0):
    """Learn with steps and validations of a time; return the scores."""
    scores = []

    def validate(step, due):
        clock.seconds += validation
        return 20.0

    watcher = SimpleNamespace(
        told=lambda step, loss, seconds: False,
        validate=validate,
        keep=lambda step, score, best: scores.append(score),
        save=lambda: None,
    )
    trainee, batches = Trainee(clock, seconds), itertools.repeat(None)
    options = {"every": {}, "validations": VALIDATIONS, "told_steps": 1}
    assert learn(trainee, batches, budget, State(), watcher, **options)
    return scores


@pytest.mark.parametrize(("seconds", "count"), [(0.0, VALIDATIONS), (0.3, 5), (20.0, 2)])
def test_a_network_is_validated_less_often_where_that_takes_long(clock, seconds, count):
    scores = learned(clock, lambda now: STEP, Budget(None, 10.0), seconds)
    assert len(scores) == count


def image(correlated=False):
    """Return an image of noise, as a fit knows it."""
    return SimpleNamespace(
        noise=Noise(correlated=correlated, reach=0, sigma=0.1),
        channels=1,
        parts=Parts(NOISY),
        seen=Parts(NOISY),
        held_out=Validation(NOISY, NOISY),
        info=None,
        scale=Range(0.0, 1.0),
    )


def session():
    """Return what a fit needs, where a step of a network of middle size takes so long."""

    def train(trainee, sampler, network, validation, until, settings=None, after_validation=None):
        return replace(network, state={"until": until}, score=30.0)

    return SimpleNamespace(
        options=SimpleNamespace(seed=0, width=None, steps=None, seconds=50.0, objective="auto"),
        stopped=False,
        began=0.0,
        reserve=0.0,
        late=1.0,
        left=lambda: 100.0,
        trainee=lambda *_: None,
        sampler=lambda *_: None,
        seconds_per_step=lambda *_: STEP,
        denoise=lambda network, parts, **_: parts.mean((2, 3), keepdims=True) + 0 * parts,
        scored=lambda network, validation: FIRST,
        budget=lambda until, share: until,
        train=train,
    )


LEAST = planning.LEAST_STEPS * STEP * 2**-planning.WIDTH_COST
"""What the smallest network of the objective needs, half as wide as the middle one."""


@pytest.mark.parametrize(
    ("until", "latest", "expected"),
    [
        (0.1, 50, LEAST),
        (0.1, 0.9 * LEAST, 0.9 * LEAST),
        (0.1, 1.9 * LEAST, 1.9 * LEAST),
        (2 * LEAST, 50, 2 * LEAST),
    ],
)
def test_the_first_network_takes_what_it_needs_of_the_time(clock, until, latest, expected):
    objective = find_objective("auto")
    found = train_on_subsamples(session(), image(), objective, None, 1.0, until, latest)
    assert found.state["until"] == pytest.approx(expected)


@pytest.fixture
def first_is(monkeypatch):
    """Make the first network be what was learned from sub-samples, and plan its ending."""
    monkeypatch.setattr("denoisekit.learn.fit.train_on_subsamples", lambda *_: FIRST)
    ending = Ending(0.0, ensemble=False, draws=0)
    monkeypatch.setattr("denoisekit.learn.fit.plan_ending", lambda *_: ending)


@pytest.mark.parametrize("correlated", [False, True])
def test_a_second_network_that_cannot_learn_is_left_out(clock, first_is, correlated):
    second = "distilled" if correlated else "recorrupted"
    for time, taken in ((0.9 * LEAST, "first"), (1.1 * LEAST, second)):
        asked = session()
        asked.options.seconds = time
        found, _ = train_networks(asked, image(correlated), None)
        assert found.name.split(", ")[0] == taken
        assert found.name.endswith("non-local means") == correlated


@pytest.mark.parametrize("correlated", [False, True])
def test_nothing_is_learned_from_a_network_that_leaves_all_noise(clock, first_is, correlated):
    asked = session()
    asked.denoise = lambda network, parts, **_: parts + 0.01
    assert distil(asked, image(correlated), FIRST, None, 50.0, ensemble=False) == ([FIRST], None)
    found, _ = train_networks(asked, image(correlated), None)
    assert found is FIRST


def test_the_rate_of_a_plain_network_rises_first_and_falls_then():
    stage = find_objective("auto").stage(Noise(correlated=False, reach=0, sigma=0.1), 1, 8)
    rates = [stage.schedule(progress) for progress in (0.0, 0.001, 0.01, 0.03, 0.5, 0.99)]
    assert 0 < rates[0] < 0.2 * rates[3]
    assert sorted(rates[:4]) == rates[:4]
    assert sorted(rates[3:], reverse=True) == rates[3:]


def test_a_fit_ends_sooner_where_steps_begin_to_take_longer(clock):
    def steps(slower_after):
        clock.seconds = 0.0
        budget = Budget(None, 24.0, reserve=4.0)
        learned(clock, lambda now: 0.1 if now < slower_after else 0.2, budget)
        return clock.seconds, budget.late

    assert steps(math.inf) == pytest.approx((20.0, 1.0), abs=0.2)
    # What takes 4 s when quiet takes 8 now.
    assert steps(5.0) == pytest.approx((16.0, 2.0), abs=0.4)


@pytest.mark.parametrize(
    ("left", "late", "draws"),
    [
        (20.0, 1.0, 8),
        (10.0, 1.0, 6),
        (5.0, 1.0, 1),
        (4.4, 1.0, 0),
        (20.0, 4.0, 1),
        (math.inf, 9, 8),
    ],
)
def test_noise_is_drawn_as_often_as_there_is_time_for(left, late, draws):
    ending = Ending(4.0 + 8 * 1.0, ensemble=False, draws=8, draw=1.0)
    assert ending.draws_in(left, late) == draws


def test_flips_are_left_out_where_no_time_is_left_for_them():
    asked, known = session(), image()
    known.info = SimpleNamespace(height=64, width=64, colour="gray", dtype="uint8")
    asked.options.keep_mean, asked.options.strength = False, 1.0
    asked.seconds_of = lambda network, info: 1.0
    asked.denoiser = lambda network, ensemble, strength: ensemble
    for left, averaged in ((30.0, True), (15.0, False)):
        asked.left = lambda left=left: left
        assert finished_denoiser(asked, known, FIRST, "0,1", ensemble=True) is averaged
