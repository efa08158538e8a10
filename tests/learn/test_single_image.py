"""What a fit learns from is all over the image, and what it is judged by is nowhere in it."""

from __future__ import annotations

import numpy as np
import pytest

from denoisekit.formats.raw_array import ArrayReader
from denoisekit.learn.crops import Sampler
from denoisekit.learn.single_image import LEAST, PIXELS, Parts, hold_out, read_parts
from denoisekit.ranges import Range
from helpers import view_of

UNIT = Range(0.0, 1.0)


class Watched:
    """A stack that is made up as it is read: the value of a pixel is the number of its plane."""

    def __init__(self, shape, axes):
        self._array = np.lib.stride_tricks.as_strided(
            np.zeros(1, np.uint16), shape, (0,) * len(shape)
        )
        self.info = ArrayReader(self._array, axes).info
        self.most, self.planes = 0, set()

    def read_rows(self, plane, top, bottom):
        rows = np.full((bottom - top, self.info.width, self.info.samples), plane, np.uint16)
        self.most = max(self.most, rows.size)
        self.planes.add(plane)
        return rows

    def close(self):
        pass


def test_a_small_image_is_kept_whole():
    image = np.random.default_rng(0).random((70, 90, 3), np.float32)
    parts = read_parts(view_of(ArrayReader(image, None), UNIT))
    np.testing.assert_array_equal(parts.noisy, image.transpose(2, 0, 1)[None])


def test_of_a_long_stack_a_bounded_part_is_kept_from_all_along_it():
    stack = Watched((200, 512, 512), "TYX")
    parts = read_parts(view_of(stack, UNIT))
    assert parts.noisy.size <= PIXELS
    assert stack.most <= 256 * 512
    assert len(stack.planes) >= 60
    assert {min(stack.planes), max(stack.planes)} == {0, 199}


def test_of_a_large_image_parts_reach_all_borders():
    image = np.zeros((3000, 3000), np.uint8)
    image[0, :] = image[-1, :] = image[:, 0] = image[:, -1] = 255
    noisy = read_parts(view_of(ArrayReader(image, None), Range(0, 255))).noisy
    for edge in (noisy[:, 0, 0], noisy[:, 0, -1], noisy[:, 0, :, 0], noisy[:, 0, :, -1]):
        assert (edge == 1).all(1).any()


def test_opacity_is_left_out_and_other_channels_are_taken_apart():
    image = np.arange(5, dtype=np.uint8) * np.ones((80, 80, 1), np.uint8)
    rgba = read_parts(view_of(ArrayReader(image[..., 1:], "YXS"), UNIT)).noisy
    assert rgba.shape[1] == 3
    assert rgba.max() == 3
    each = read_parts(view_of(ArrayReader(image, "YXS"), UNIT)).noisy
    assert sorted(float(part.max()) for part in each) == [0, 1, 2, 3, 4]
    assert all(np.ptp(part) == 0 for part in each)


def test_tiny_images_are_mirrored_and_holes_are_filled():
    image = np.array([[0.25, np.nan], [0.5, 0.75]], np.float32)
    noisy = read_parts(view_of(ArrayReader(image, None), UNIT)).noisy
    assert noisy.shape == (1, 1, LEAST, LEAST)
    assert set(np.unique(noisy)) <= {0.25, 0.5, 0.75}


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_pixels_held_out_are_nowhere_in_what_is_learned_from(reach):
    # Every pixel has a value of its own, so it can be found wherever it went.
    side = 100
    values = np.random.default_rng(1).permutation(side * side).astype(np.float32)
    parts = Parts(values.reshape(1, 1, side, side))
    learned, held = hold_out(parts, reach, boxes=4, seed=0)
    values_held = held.targets.transpose(0, 2, 3, 1)[held.mask]
    taken = set(values_held.ravel())
    assert len(taken) == len(values_held) >= 16
    assert not taken & set(learned.noisy.ravel())
    assert not taken & set(held.boxes.ravel())
    # What noise is shared with is gone too.
    places = {
        value: (y, x) for y, row in enumerate(parts.noisy[0, 0]) for x, value in enumerate(row)
    }
    left = set(learned.noisy.ravel())
    for value in taken:
        y, x = places[value]
        near = parts.noisy[0, 0, y - reach : y + reach + 1, x - reach : x + reach + 1]
        assert near.size == (2 * reach + 1) ** 2
        assert not left & set(near.ravel())
    np.testing.assert_array_equal(parts.noisy.ravel(), values)


def test_the_score_is_the_psnr_at_those_pixels_alone():
    noisy = np.random.default_rng(2).random((1, 3, 64, 64), np.float32)
    _, held = hold_out(Parts(noisy), 1, boxes=1, seed=3)
    exact = noisy[:, :, :64, :64].copy()
    assert held.score(exact) > 100
    assert held.score(exact + np.float32(0.1)) == pytest.approx(20, abs=1e-3)
    elsewhere = np.where(held.mask[:, None], exact, 0)
    assert held.score(elsewhere) > 100


def test_what_an_average_scores_is_known():
    draw = np.random.default_rng(3)
    noisy = draw.normal(0.5, 0.1, (1, 1, 256, 256)).astype(np.float32)
    _, held = hold_out(Parts(noisy), 1, boxes=1, seed=3)
    # Of 25 values with noise of a tenth, a pixel's own not among them but for those beside it.
    own, mean = 0.01, 0.01 / 25
    assert held.score_of_mean(2) == pytest.approx(-10 * np.log10(own + mean), abs=0.4)
    assert held.score_of_mean(2) > held.score_of_mean(0) + 2


def test_crops_are_turned_and_both_versions_alike():
    noisy = np.random.default_rng(4).random((3, 2, 20, 30), np.float32)
    one, nothing = Sampler(Parts(noisy), 16, (5, 6)).batch(7, range(8))
    assert nothing is None
    both = Sampler(Parts(noisy, denoised=noisy + 1), 16, (5, 6)).batch(7, range(8))
    np.testing.assert_array_equal(both[0], one)
    np.testing.assert_array_equal(both[1], one + 1)
    assert one.shape == (8, 2, 16, 16)
    assert len({patch.tobytes() for patch in one}) == 8
    assert set(one.ravel()) <= set(noisy.ravel())
