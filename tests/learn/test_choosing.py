"""Which of the networks of a fit is taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from denoisekit.learn.fit import choose_network
from denoisekit.learn.session import Network
from denoisekit.learn.single_image import Noise, Parts
from denoisekit.methods import get_method

DRAW = np.random.default_rng(0)
CLEAN = np.tile(np.linspace(0.2, 0.8, 128, dtype=np.float32), (1, 1, 128, 1))
NOISY = CLEAN + DRAW.normal(0, 0.1, CLEAN.shape).astype(np.float32)
MEANS = ", non-local means"
ERROR, OTHER = (DRAW.normal(0, 0.05, CLEAN.shape).astype(np.float32) for _ in range(2))


def network(name, score):
    return Network(get_method("single"), {"width": 8}, {f"members.0.{name}": None}, name, score)


def shown(noisy):
    """Leave all noise."""
    return noisy


def decided(first, second, correlated=False):
    """Decide between networks with these results, arrays or functions; return what was decided."""

    def result(one, noisy):
        found = {"first": first, "second": second}[one.name.removesuffix(MEANS)]
        return found(noisy) if callable(found) else np.tile(found, (len(noisy), 1, 1, 1))

    told = []
    noise = Noise(correlated=correlated, reach=0, sigma=0.1)
    image = SimpleNamespace(parts=Parts(NOISY), noise=noise)
    session = SimpleNamespace(
        options=SimpleNamespace(seed=0),
        steps=5,
        denoise=lambda one, parts, **_: result(one, parts),
        tell=lambda *told_of, best: told.append((*told_of, best)),
    )
    # The second's score is of another kind: it must not count.
    best = choose_network(session, image, network("first", 20.0), network("second", -90.0), 8)
    assert told == [(best.name, 5, best.score, True)]
    return best


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        (CLEAN, CLEAN + ERROR, "first"),
        (CLEAN + ERROR, CLEAN, "second"),
        (CLEAN + ERROR, CLEAN + OTHER, "first, second" + MEANS),
        (shown, CLEAN, "second"),
    ],
)
def test_what_is_nearest_to_the_clean_image_is_taken(first, second, best):
    assert decided(first, second).name == best


@pytest.mark.parametrize(
    ("first", "second", "best"), [(CLEAN, CLEAN + ERROR, "first"), (CLEAN + ERROR, CLEAN, "second")]
)
def test_non_local_means_follow_where_noise_is_correlated(first, second, best):
    taken = decided(first, second, correlated=True)
    assert taken.name == best + MEANS
    brightness, mean, deviation = taken.state["similar.curve"][0].numpy()
    assert taken.config["levels"] == len(brightness)
    # What the second took away: of its error too, where it is that network that errs.
    assert deviation == pytest.approx(np.full(16, 0.11 if best == "first" else 0.1), rel=0.1)
    assert mean[1:-1] == pytest.approx(np.zeros(14), abs=0.02)


def test_the_mean_of_independent_noise_is_taken_for_0():
    assert not decided(CLEAN + ERROR, CLEAN + OTHER).state["similar.curve"][:, 1].any()


def test_no_network_that_is_taken_scores_less_than_the_first():
    assert decided(CLEAN, CLEAN + ERROR).score == 20.0
    assert decided(CLEAN + ERROR, CLEAN).score > 20.0
