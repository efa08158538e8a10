"""Random numbers belong to pixels, not to the order in which these are computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoisekit.draws import Draws

SHAPE = (3, 128, 96)


def test_they_are_uniform_and_independent():
    draws = Draws(5)
    first = draws.uniform(0, (2, 512, 512))
    assert first.dtype == np.float32
    assert 0 <= first.min() < 1e-4
    assert 1 - 1e-4 < first.max() < 1
    # Of n such numbers the mean has a deviation of 0.29 / sqrt(n), the correlation of 1 / sqrt(n).
    n = first[0].size
    assert abs(first.mean() - 0.5) < 5 * 0.29 / (2 * n) ** 0.5
    counts, _ = np.histogram(first, 64, (0, 1))
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 130  # chi squared, 63 degrees
    a = first[0]
    others = [
        first[1],
        draws.uniform(1, (1, 512, 512))[0],
        Draws(6).uniform(0, (1, 512, 512))[0],
        *(np.roll(a, shift, (0, 1)) for shift in ((0, 1), (1, 0), (1, 1), (1, -1), (2, 5))),
        a.T,
    ]
    for other in others:
        assert abs(np.corrcoef(a.ravel(), other.ravel())[0, 1]) < 5 / n**0.5


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 60), st.integers(0, 2**63 - 1), st.integers(0, 9))
def test_a_part_gets_what_the_whole_has_there(top, left, seed, step):
    whole = Draws(seed).uniform(step, SHAPE)
    part = Draws(seed).part(top, left).uniform(step, (3, 28, 36))
    np.testing.assert_array_equal(part, whole[:, top : top + 28, left : left + 36])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("across", [False, True])
def test_turned_boxes_take_their_numbers_with_them(transposed, down, across):
    upright = Draws(3).part(7, 11)
    expected, draws = upright.uniform(2, SHAPE), upright
    if transposed:
        expected, draws = expected.transpose(0, 2, 1), draws.transpose()
    _, height, width = expected.shape
    expected = expected[:, :: -1 if down else 1, :: -1 if across else 1]
    draws = draws.flip(height if down else None, width if across else None)
    np.testing.assert_array_equal(draws.uniform(2, expected.shape), expected)
    part = draws.part(5, 9).uniform(2, (3, 20, 30))
    np.testing.assert_array_equal(part, expected[:, 5:25, 9:39])
