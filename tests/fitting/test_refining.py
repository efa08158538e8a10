"""Which of the networks of a fit is taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from denoisekit.fitting.material import Material
from denoisekit.fitting.objectives import Noise
from denoisekit.fitting.refining import decide
from denoisekit.fitting.workshop import Network
from denoisekit.methods import get_method

DRAW = np.random.default_rng(0)
CLEAN = np.tile(np.linspace(0.2, 0.8, 128, dtype=np.float32), (1, 1, 128, 1))
NOISY = CLEAN + DRAW.normal(0, 0.1, CLEAN.shape).astype(np.float32)
ERROR, OTHER = (DRAW.normal(0, 0.05, CLEAN.shape).astype(np.float32) for _ in range(2))


def network(name, score):
    return Network(get_method("single"), {"width": 8}, {f"members.0.{name}": None}, name, score)


def shown(noisy):
    """Leave all noise."""
    return noisy


def decided(first, second):
    """Decide between networks with these results, arrays or functions; return what was decided."""

    def result(one, noisy):
        found = {"first": first, "second": second}[one.name]
        return found(noisy) if callable(found) else np.tile(found, (len(noisy), 1, 1, 1))

    told = []
    shop = SimpleNamespace(
        material=Material(NOISY),
        noise=Noise(correlated=False, reach=0, sigma=0.1),
        options=SimpleNamespace(seed=0),
        applied=lambda one, ensemble: result(one, NOISY),
        boxes=lambda one: result(one, shop.held.boxes),
        tell=told.append,
    )
    # The second's score is of another kind: it must not count.
    best = decide(shop, network("first", 20.0), network("second", -90.0), 8)
    assert told == [best]
    return best


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        (CLEAN, CLEAN + ERROR, "first"),
        (CLEAN + ERROR, CLEAN, "second"),
        (CLEAN + ERROR, CLEAN + OTHER, "first, second"),
        (shown, CLEAN, "second"),
    ],
)
def test_what_is_nearest_to_the_clean_image_is_taken(first, second, best):
    assert decided(first, second).name == best


def test_no_network_that_is_taken_scores_less_than_the_first():
    assert decided(CLEAN, CLEAN + ERROR).score == 20.0
    assert decided(CLEAN + ERROR, CLEAN).score > 20.0
