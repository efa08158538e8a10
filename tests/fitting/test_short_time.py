"""What is left out of a fit where there is little time for it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from denoisekit.fitting import plan
from denoisekit.fitting.learner import LOOKS, Learner, Span
from denoisekit.fitting.material import Material
from denoisekit.fitting.objectives import Noise, find_objective
from denoisekit.fitting.refining import refine
from denoisekit.fitting.teaching import teach
from denoisekit.fitting.workshop import Network
from denoisekit.methods import get_method

NOISY = np.random.default_rng(0).normal(0.5, 0.1, (1, 1, 64, 64)).astype(np.float32)
STEP = 0.01
FIRST = Network(get_method("single"), {"width": 8}, {}, "first", 20.0)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands still until it is moved."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("time.monotonic", lambda: now.seconds)
    return now


@pytest.mark.parametrize(("look", "looks"), [(0.0, LOOKS), (0.3, 5), (20.0, 2)])
def test_a_network_is_judged_less_often_where_that_takes_long(clock, look, looks):
    class Quick(Learner):
        def __init__(self):
            pass

        def step(self, step, progress):
            clock.seconds += STEP
            return 0.0

        def weights(self):
            return {}

    def score(weights):
        clock.seconds += look
        return 20.0

    scores = []

    def tell(step, score, better):
        scores.append(score)
        return False

    Quick().run(Span(0.0, 10.0), SimpleNamespace(score=score), None, tell)
    assert sum(score is not None for score in scores) == looks


def shop(correlated=False):
    """Return what a fit needs, where a step of a network of middle size takes so long."""

    def learn(learner, network, until, judged, on_look=None):
        return replace(network, state={"until": until}, score=30.0)

    return SimpleNamespace(
        options=SimpleNamespace(seed=0, width=None, steps=None),
        noise=Noise(correlated=correlated, reach=0, sigma=0.1),
        channels=1,
        material=Material(NOISY),
        learned=Material(NOISY),
        stopped=False,
        learner=lambda *_: SimpleNamespace(seconds_per_step=lambda: STEP),
        applied=lambda network, ensemble: NOISY.mean((2, 3), keepdims=True) + 0 * NOISY,
        judged=lambda network: FIRST,
        span=lambda until, share: until,
        left=lambda: 100.0,
        late=1.0,
        learn=learn,
    )


LEAST = plan.LEAST_STEPS * STEP * 2**-plan.GROWTH
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
    found = teach(shop(), find_objective("auto"), None, 1.0, until, latest)
    assert found.state["until"] == pytest.approx(expected)


@pytest.mark.parametrize("correlated", [False, True])
def test_a_second_network_that_cannot_learn_is_left_out(clock, correlated):
    applying = plan.Applying(1.0, ensemble=False, draws=0)
    second = "distilled" if correlated else "recorrupted"
    for time, taken in ((0.9 * LEAST, "first"), (1.1 * LEAST, second)):
        found = refine(shop(correlated), FIRST, None, 1.0, time, applying)
        assert found.name.split(", ")[0] == taken
        assert found.name.endswith("non-local means") == correlated


def test_time_without_length_is_over():
    assert Span(1.0, 1.0).part(0.1) == math.inf
    assert Span(1.0, 3.0).part(0.5) == 0.25
    assert Span(1.0, 3.0, steps=5).part(0.5) == 0.0


@pytest.mark.parametrize("correlated", [False, True])
def test_nothing_is_learned_from_a_network_that_leaves_all_noise(clock, correlated):
    asked = shop(correlated)
    asked.applied = lambda network, ensemble: NOISY + 0.01
    found = refine(asked, FIRST, None, 1.0, 50.0, plan.Applying(1.0, ensemble=False))
    assert found is FIRST


def test_the_rate_of_a_plain_network_rises_first_and_falls_then():
    stage = find_objective("auto").stage(Noise(correlated=False, reach=0, sigma=0.1), 1, 8)
    rates = [stage.schedule(progress) for progress in (0.0, 0.001, 0.01, 0.03, 0.5, 0.99)]
    assert 0 < rates[0] < 0.2 * rates[3]
    assert sorted(rates[:4]) == rates[:4]
    assert sorted(rates[3:], reverse=True) == rates[3:]


def test_a_fit_ends_sooner_where_steps_begin_to_take_longer(clock):
    def steps(slower_after):
        class Slowing(Learner):
            def __init__(self):
                self.late = 1.0

            def step(self, step, progress):
                clock.seconds += 0.1 if clock.seconds < slower_after else 0.2
                return 0.0

            def weights(self):
                return {}

        clock.seconds = 0.0
        learner = Slowing()
        span = Span(0.0, 20.0, ending=4.0)
        judge = SimpleNamespace(score=lambda weights: 20.0)
        learner.run(span, judge, None, lambda *_: False)
        return clock.seconds, learner.late

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
    applying = plan.Applying(4.0 + 8 * 1.0, ensemble=False, draws=8, draw=1.0)
    assert applying.drawn(left, late) == draws


def test_flips_are_left_out_where_no_time_is_left_for_them():
    assert plan.has_turns(1.0, 30.0, 1.0)
    assert not plan.has_turns(1.0, 15.0, 1.0)
