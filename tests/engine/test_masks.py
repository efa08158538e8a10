"""Pixels that are no measurement: what is taken for one, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.engine.masks import (
    FLAT,
    LIKELY,
    REACH,
    SPIKE,
    SURE,
    absurd,
    flat_windows,
    spikes,
    typical_spike,
)


def scene(height=96, width=120, sigma=0.03, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    clean = 0.4 + 0.2 * np.sin(x / 17) * np.cos(y / 11)
    return (clean + sigma * rng.standard_normal((height, width))).astype(np.float32)


def found(image, local=SURE):
    typical = typical_spike(image)
    return spikes(image, max(0.12, SPIKE * typical), typical, local)


# --- hot and dead pixels ---------------------------------------------------------------------


def test_hot_and_dead_pixels_are_found_exactly():
    image = scene()
    rng = np.random.default_rng(1)
    places = [(y, x) for y in range(4, 92, 11) for x in range(4, 116, 11)]
    hot = {tuple(places[i]) for i in rng.choice(len(places), 12, replace=False)}
    dead = {tuple(places[i]) for i in rng.choice(len(places), 12, replace=False)} - hot
    for place in hot:
        image[place] = 1.2
    for place in dead:
        image[place] = -0.4
    masks = found(image)
    assert {tuple(p) for p in np.argwhere(masks[0])} == hot
    assert {tuple(p) for p in np.argwhere(masks[1])} == dead


def test_two_side_by_side_are_found():
    image = scene()
    image[40, 50:52] = 1.3
    assert [tuple(p) for p in np.argwhere(found(image, LIKELY)[0])] == [(40, 50), (40, 51)]


def test_pixels_at_the_border_are_looked_at_too():
    image = scene()
    image[0, 0] = image[95, 60] = 1.5
    assert found(image)[0].sum() == 2


def stars():
    rng = np.random.default_rng(2)
    image = (0.1 + 0.01 * rng.standard_normal((128, 128))).astype(np.float32)
    y, x = np.mgrid[:128, :128]
    for _ in range(60):
        cy, cx = rng.uniform(4, 124, 2)
        light = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 0.65**2))
        image += (rng.uniform(0.3, 3) * light).astype(np.float32)
    return image


def photons(rate):
    return np.random.default_rng(3).poisson(rate, (128, 128)).astype(np.float32)


def grain():
    white = np.random.default_rng(4).standard_normal((129, 129))
    mixed = white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]
    return (0.5 + 0.08 * mixed).astype(np.float32)


def dots():
    drawn = np.ones((128, 128), np.float32)
    drawn[::7, ::5] = 0
    return drawn


@pytest.mark.parametrize(
    "image",
    [stars(), photons(0.05) / 4, photons(1) / 8, photons(20) / 60, grain(), dots(), scene()],
    ids=["stars", "rare photons", "some photons", "photons", "grain", "drawn dots", "noise"],
)
def test_what_is_no_hot_pixel(image):
    hot, dead = found(image)
    assert not hot.any()
    assert not dead.any()


# --- windows of one value ---------------------------------------------------------------------


def test_padding_is_found_to_its_last_pixel():
    rows = np.random.default_rng(0).integers(0, 3, (40, 50, 2))
    rows[:11] = 0
    rows[:, 37:] = 5
    mask = flat_windows(rows)
    assert mask[:11].all()
    assert mask[:, 37:].all()
    assert not mask[13:, :35].any()


def test_less_than_a_window_is_none():
    rows = np.random.default_rng(0).integers(0, 99, (30, 30, 1))
    rows[4 : 3 + FLAT, 5:20] = 7
    assert flat_windows(rows) is None
    assert flat_windows(rows[: FLAT - 1]) is None
    assert flat_windows(np.zeros((FLAT, FLAT, 3))).all()


@pytest.mark.parametrize("top", [8, 20, 24])
def test_a_part_with_its_surroundings_says_the_same_as_the_whole(top):
    rows = np.random.default_rng(5).integers(0, 2, (64, 40, 1))
    rows[12:29, 3:22] = 1
    rows[20:21, 4] = 0
    whole = flat_windows(rows)
    part = flat_windows(rows[top - REACH : top + 16 + REACH])
    if part is None:
        part = np.zeros((16 + 2 * REACH, 40), bool)
    np.testing.assert_array_equal(part[REACH : REACH + 16], whole[top : top + 16])


# --- absurd values ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1e3, -1e6, 1e300, 3.0e38])
def test_a_single_absurd_value_is_found(value):
    rows = scene().astype(np.float64)
    rows[30, 40] = value
    assert [tuple(p) for p in np.argwhere(absurd(rows, 0.0, 1.0))] == [(30, 40)]


def test_a_bright_star_and_a_bright_region_are_not_absurd():
    rows = scene().astype(np.float64)
    rows[30:33, 40:43] += 40 * np.array([[0.1, 0.3, 0.1], [0.3, 1, 0.3], [0.1, 0.3, 0.1]])
    rows[60:, 60:] += 80
    assert absurd(rows, 0.0, 1.0) is None
    assert absurd(scene(), 0.0, 1.0) is None
