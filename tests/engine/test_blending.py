"""Networks that are not local: boxes of one size, blended; and a look at the whole image."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoisekit.draws import Draws
from denoisekit.engine.device import choose_plan
from denoisekit.engine.tiling import plan_tiles, run_tiled, self_ensemble, spread_boxes
from denoisekit.errors import OutOfMemory
from denoisekit.limits import Limits
from denoisekit.methods.base import Traits
from helpers import on_pieces

SIZES = st.integers(1, 300)
LIMITS = st.builds(
    Limits,
    multiple_of=st.sampled_from([1, 2, 4]),
    align=st.sampled_from([1, 2]),
    halo=st.sampled_from([0, 4, 7]),
    native=st.just(64),
    blend=st.sampled_from([0, 2, 8]),
)


@settings(deadline=None)
@given(SIZES, SIZES, LIMITS, st.integers(1, 100))
def test_boxes_are_alike_and_cores_partition_the_image(height, width, limits, side):
    plan = plan_tiles(height, width, limits, (side, side))
    cover = np.zeros(plan.padded, int)
    tiles = [t for band in plan.bands() for t in band]
    for t in tiles:
        cover[t.core.top : t.core.bottom, t.core.left : t.core.right] += 1
        assert (t.read.height, t.read.width) == plan.largest_read
        for start, stop, read_start, read_stop, size in (
            (t.core.top, t.core.bottom, t.read.top, t.read.bottom, plan.padded[0]),
            (t.core.left, t.core.right, t.read.left, t.read.right, plan.padded[1]),
        ):
            assert read_start % limits.align == 0
            assert (read_stop - read_start) % limits.multiple_of == 0
            # Beyond the rim that is thrown away there must be something to blend with.
            margin = limits.halo + limits.blend // 2
            assert start == 0 or start - read_start >= margin
            assert stop == size or read_stop - stop >= margin
    assert (cover == 1).all()
    assert plan.count == len(tiles)
    assert plan.read_pixels == sum(t.read.pixels for t in tiles)


@settings(deadline=None)
@given(SIZES, SIZES, LIMITS, st.booleans())
def test_what_all_boxes_agree_on_comes_back_as_it_is(height, width, limits, ensemble):
    image = np.random.default_rng(0).random((height, width, 2), np.float32)
    draws = Draws(4)
    expected = image + draws.uniform(0, (2, height, width)).transpose(1, 2, 0)
    plan = plan_tiles(height, width, limits, (64, 64))

    def network(noisy, place):
        return noisy + place.uniform(0, noisy.shape)

    def rows(top, bottom):
        return image[top:bottom]

    run = on_pieces(network)
    bands = list(run_tiled(partial(self_ensemble, run) if ensemble else run, rows, plan, draws))
    ends = [(top, top + len(band)) for top, band in bands]
    assert ends[0][0] == 0
    assert ends[-1][1] == height
    assert all(a[1] == b[0] for a, b in pairwise(ends))
    result = np.concatenate([band for _, band in bands])
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6)


def test_what_boxes_disagree_on_is_mixed_without_a_seam():
    limits = Limits(native=64, halo=8, blend=16)
    plan = plan_tiles(200, 200, limits, (64, 64))
    answers = iter(range(plan.count))

    def network(noisy, place):
        return np.full_like(noisy, next(answers))

    zeros = lambda a, b: np.zeros((b - a, 200, 1), np.float32)  # noqa: E731
    bands = run_tiled(on_pieces(network), zeros, plan, Draws())
    result = np.concatenate([band for _, band in bands])[..., 0]
    across = np.abs(np.diff(result, axis=1)).max()
    down = np.abs(np.diff(result, axis=0)).max()
    tiles_a_row = round(plan.count**0.5)
    assert across <= 1 / 16 + 1e-6  # neighbours in a row differ by 1
    assert down <= tiles_a_row / 16 + 1e-6
    assert result[0, 0] == 0
    assert result[-1, -1] == plan.count - 1


def test_memory_makes_boxes_smaller_but_never_more_than_it_must():
    traits = Traits(Limits(2, 2, 8, native=256, blend=16), 1.0, {"fp32": 1000.0})

    def read(height, width, memory):
        plan, _ = choose_plan(height, width, traits, "fp32", memory, 4)
        return plan.largest_read

    assert read(2000, 2000, 10**9) == (256, 256)
    assert read(2000, 2000, 60 * 10**6) == (128, 128)
    with pytest.raises(OutOfMemory):
        read(2000, 2000, 10**6)
    assert read(200, 100, 10**9) == (200, 100)


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 200000), st.sampled_from([4, 32]))
def test_an_image_is_shown_in_boxes_spread_over_it(height, width, pixels, grid):
    image = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)
    plan = plan_tiles(height, width, Limits(grid, grid, grid), (64, 64))
    asked = []

    def rows(top, bottom):
        asked.append(top)
        assert 0 <= top < bottom <= height
        return image[top:bottom]

    boxes = spread_boxes(rows, plan, 64, grid, pixels)
    assert asked == sorted(asked)
    assert len({box.shape for box in boxes}) == 1
    _, box_height, box_width = boxes[0].shape
    assert box_height % grid == box_width % grid == 0
    assert len(boxes) == 1 or len(boxes) * box_height * box_width <= pixels
    origins = [(int(box[0].min()), int(box[1].min())) for box in boxes]
    assert len(set(origins)) == len(boxes)
    # As many above the middle as below it, give or take one row of them.
    middle = np.mean([box.mean((1, 2)) for box in boxes], 0)
    assert np.abs(middle - [height / 2, width / 2]).max() <= 64 / 2 + grid
