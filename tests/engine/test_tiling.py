"""Cutting, padding and joining: what a tile is, and that the joined tiles equal the whole."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoisekit.draws import Draws
from denoisekit.engine.tiling import (
    ROWS_AT_ONCE,
    Box,
    Piece,
    plan_tiles,
    reflect_index,
    run_tiled,
    self_ensemble,
)
from denoisekit.limits import Limits
from helpers import assert_limits_are_true, on_pieces

SIZES = st.integers(1, 70)
TILES = st.tuples(st.integers(1, 80), st.integers(1, 80))
LIMITS = st.builds(Limits, st.sampled_from([1, 2, 4, 6]), st.sampled_from([1, 2, 4]), SIZES)


# --- a small network with pooling, of which every limit is known -----------------------


def convolve(pixels: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """3x3 convolution with zero padding; ``kernel`` is (out, in, 3, 3)."""
    _, height, width = pixels.shape
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))
    total = np.zeros((len(kernel), height, width), np.float32)
    for dy in range(3):
        for dx in range(3):
            shifted = padded[:, dy : dy + height, dx : dx + width]
            total += np.einsum("oi,ihw->ohw", kernel[:, :, dy, dx], shifted)
    return total


KERNELS = np.random.default_rng(5).normal(0, 0.4, (3, 2, 2, 3, 3)).astype(np.float32)


def pooling_net(pixels: np.ndarray, draws: Draws | None = None) -> np.ndarray:
    """conv, 4x4 max-pool, conv, nearest upsampling, added to a conv of the input."""
    channels, height, width = pixels.shape
    assert height % 4 == 0
    assert width % 4 == 0
    features = np.maximum(convolve(pixels, KERNELS[0]), 0)
    cells = features.reshape(channels, height // 4, 4, width // 4, 4).max((2, 4))
    context = convolve(cells, KERNELS[1]).repeat(4, 1).repeat(4, 2)
    return convolve(pixels, KERNELS[2]) + context


# A pixel at one side of its cell sees the far side of the next cell, and one more: 3 + 4 + 1.
POOLING = Limits(multiple_of=4, align=4, halo=8)


def whole_image(fn, image: np.ndarray, limits: Limits) -> np.ndarray:
    """What the network says of the whole image, padded by numpy's own reflection."""
    height, width, _ = image.shape
    grid = math.lcm(limits.multiple_of, limits.align)
    bottom, right = -height % grid, -width % grid
    rows = np.pad(image, ((0, bottom), (0, 0), (0, 0)), "reflect" if height > 1 else "edge")
    padded = np.pad(rows, ((0, 0), (0, right), (0, 0)), "reflect" if width > 1 else "edge")
    answer = fn(np.ascontiguousarray(padded.transpose(2, 0, 1)))
    return answer.transpose(1, 2, 0)[:height, :width]


def tiled_image(fn, image: np.ndarray, limits: Limits, tile, ensemble=False) -> np.ndarray:
    plan = plan_tiles(*image.shape[:2], limits, tile)
    run = on_pieces(fn)
    if ensemble:
        run = partial(self_ensemble, on_pieces(fn))
    bands = list(run_tiled(run, lambda top, bottom: image[top:bottom], plan, Draws()))
    assert [top for top, _ in bands] == [0, *np.cumsum([len(rows) for _, rows in bands])[:-1]]
    return np.concatenate([rows for _, rows in bands])


def whole_piece(pixels: np.ndarray) -> Piece:
    return Piece(pixels, Draws(), Box(0, 0, *pixels.shape[1:]))


def random_image(height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 2), np.float32)


# --- geometry ----------------------------------------------------------------------------


@given(SIZES, SIZES, LIMITS, TILES)
def test_cores_partition_the_padded_image_and_reads_hold_the_halo(height, width, limits, tile):
    plan = plan_tiles(height, width, limits, tile)
    padded_height, padded_width = plan.padded
    assert height <= padded_height < height + math.lcm(limits.multiple_of, limits.align)
    cover = np.zeros(plan.padded, int)
    tiles = [t for band in plan.bands() for t in band]
    for t in tiles:
        cover[t.core.top : t.core.bottom, t.core.left : t.core.right] += 1
        assert t.read.top == 0 or t.read.top <= t.core.top - limits.halo
        assert t.read.left == 0 or t.read.left <= t.core.left - limits.halo
        assert t.read.bottom == padded_height or t.read.bottom >= t.core.bottom + limits.halo
        assert t.read.right == padded_width or t.read.right >= t.core.right + limits.halo
        assert 0 <= t.read.top < t.read.bottom <= padded_height
        assert 0 <= t.read.left < t.read.right <= padded_width
        for start, size in ((t.read.top, t.read.height), (t.read.left, t.read.width)):
            assert start % limits.align == 0
            assert size % limits.multiple_of == 0
        # mirrored, a tile begins where it ended: that too must be on the grid
        assert (padded_height - t.read.bottom) % limits.align == 0
        assert (padded_width - t.read.right) % limits.align == 0
    assert (cover == 1).all()
    assert plan.count == len(tiles)
    assert plan.read_pixels == sum(t.read.pixels for t in tiles)
    assert plan.largest_read == (
        max(t.read.height for t in tiles),
        max(t.read.width for t in tiles),
    )


def test_a_tile_as_large_as_the_image_is_the_whole_image():
    plan = plan_tiles(50, 70, Limits(32, 32, 160), (50, 10**9))
    assert plan.count == 1
    assert plan.largest_read == plan.padded == (64, 96)


def test_the_first_bands_of_a_gigapixel_are_there_at_once():
    plan = plan_tiles(31_623, 31_623, Limits(1, 1, 29), (1, 512))
    assert plan.count == 31_623 * 62
    first, second = islice(plan.bands(), 2)
    assert (first[0].core.bottom, second[0].core.top, second[0].read.bottom) == (1, 1, 31)


def test_sizes_below_one_are_refused():
    for height, width, tile in ((0, 1, (1, 1)), (1, 1, (0, 1))):
        with pytest.raises(ValueError, match="at least 1"):
            plan_tiles(height, width, Limits(), tile)


@given(st.integers(1, 9), st.integers(0, 40))
def test_reflection_is_numpys(size, extra):
    signal = np.arange(size)
    expected = np.pad(signal, (0, extra), "reflect" if size > 1 else "edge")
    assert signal[reflect_index(0, size + extra, size)].tolist() == expected.tolist()


def test_geometry_and_tiles_need_no_torch():
    code = "import denoisekit.engine.tiling, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- pixels --------------------------------------------------------------------------------


@settings(deadline=None)
@given(SIZES, SIZES, TILES, st.booleans())
def test_tiled_equals_whole_on_any_size_and_tile(height, width, tile, ensemble):
    image = random_image(height, width)
    expected = whole_image(
        (lambda t: self_ensemble(on_pieces(pooling_net), whole_piece(t)))
        if ensemble
        else pooling_net,
        image,
        POOLING,
    )
    actual = tiled_image(pooling_net, image, POOLING, tile, ensemble=ensemble)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_the_ensemble_is_the_mean_of_eight_different_answers():
    tile = random_image(12, 8).transpose(2, 0, 1).copy()
    answers = [
        np.rot90(pooling_net(np.rot90(seen, k, (1, 2)).copy()), -k, (1, 2))
        for seen in (tile,)
        for k in range(4)
    ] + [
        np.rot90(pooling_net(np.rot90(tile[:, ::-1], k, (1, 2)).copy()), -k, (1, 2))[:, ::-1]
        for k in range(4)
    ]
    assert len({round(float(a[0, 0, 0]), 4) for a in answers}) == 8
    np.testing.assert_allclose(
        self_ensemble(on_pieces(pooling_net), whole_piece(tile)),
        np.mean(answers, 0),
        rtol=0,
        atol=1e-6,
    )


def test_a_halo_too_small_is_caught():
    with pytest.raises(AssertionError, match="sees farther than halo=7"):
        assert_limits_are_true(pooling_net, replace(POOLING, halo=7), channels=2)


@pytest.mark.parametrize("align", [1, 2])
def test_an_alignment_too_small_is_caught(align):
    lie = Limits(multiple_of=align, align=align, halo=8)
    with pytest.raises(AssertionError, match="on the grid"):
        assert_limits_are_true(unaligned_pooling_net, lie, channels=2)


def unaligned_pooling_net(pixels: np.ndarray) -> np.ndarray:
    """`pooling_net` that accepts any size, as networks that pad inside do."""
    _, height, width = pixels.shape
    padded = np.pad(pixels, ((0, 0), (0, -height % 4), (0, -width % 4)))
    return pooling_net(padded)[:, :height, :width]


def test_limits_that_are_true_pass():
    assert_limits_are_true(pooling_net, POOLING, channels=2)


def test_an_alignment_larger_than_needed_is_caught():
    wasteful = replace(POOLING, align=8)
    with pytest.raises(AssertionError, match="more than needed"):
        assert_limits_are_true(pooling_net, wasteful, channels=2)


def test_a_misaligned_tile_is_wrong_whatever_its_halo():
    image = random_image(16, 96).transpose(2, 0, 1)
    whole = unaligned_pooling_net(image)
    for halo in (8, 16, 32):
        left, core = 40 - halo + 2, slice(halo, halo + 8)
        part = unaligned_pooling_net(np.ascontiguousarray(image[:, :, left : left + 8 + 2 * halo]))
        assert np.abs(part[:, :, core] - whole[:, :, 42:50]).max() > 0.05


@given(SIZES, SIZES, LIMITS, TILES)
def test_every_row_is_asked_for_once_and_in_order(height, width, limits, tile):
    asked = []
    image = random_image(height, width)

    def rows(top, bottom):
        asked.append((top, bottom))
        return image[top:bottom]

    plan = plan_tiles(height, width, limits, tile)
    out = np.concatenate(
        [r for _, r in run_tiled(on_pieces(lambda t, draws: t), rows, plan, Draws())]
    )
    assert asked[0][0] == 0
    assert asked[-1][1] == height
    assert all(a[1] == b[0] for a, b in pairwise(asked))
    assert np.array_equal(out, image)


def test_only_a_band_of_rows_is_read_ahead():
    height = 40 * ROWS_AT_ONCE
    read = 0

    def rows(top, bottom):
        nonlocal read
        assert bottom - top <= ROWS_AT_ONCE
        read = bottom
        return np.zeros((bottom - top, 3, 1), np.float32)

    plan = plan_tiles(height, 3, Limits(8, 8, 24), (2 * ROWS_AT_ONCE, 3))
    for top, out in run_tiled(on_pieces(lambda t, draws: t), rows, plan, Draws()):
        assert read <= top + len(out) + 24
