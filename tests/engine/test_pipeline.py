"""An image through a method: fidelity to the input, tiles, overflow, memory."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import box_method
from denoisekit.batch.run import Job, run_batch
from denoisekit.engine.denoiser import Denoiser
from denoisekit.errors import DenoisekitError, OutOfMemory, UsageError
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.options import Options


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(box_method.Box, "hook", None)
    box_method.CALLS.clear()


def box(**options) -> Denoiser:
    return Denoiser(box_method.METHOD, box_method.WEIGHTS, Options(**options))


def picture(*shape, dtype=np.uint8):
    rng = np.random.default_rng(7)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3), (9, 11, 4), (2, 9, 11)])
def test_strength_0_is_exactly_the_input(shape, dtype):
    noisy = picture(*shape, dtype=dtype)
    if noisy.dtype.kind == "f":
        noisy.flat[[3, 50, 51]] = np.nan, np.inf, 7.5
    np.testing.assert_array_equal(box(strength=0.0)(noisy), noisy)
    assert not box_method.CALLS


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_strength_a_half_is_the_mean(dtype):
    noisy = picture(12, 13, 3, dtype=dtype)
    full = box()(noisy).astype(np.float64)
    half = box(strength=0.5)(noisy)
    rounding = 1e-6 if noisy.dtype.kind == "f" else 1.0
    assert half.dtype == noisy.dtype
    assert np.abs(half - (full + noisy) / 2).max() <= rounding
    assert np.abs(full - noisy).max() > 100 * rounding or noisy.dtype.kind == "f"


@pytest.mark.parametrize("own", [0.5, "auto"])
def test_where_no_strength_is_asked_for_it_is_that_of_the_weights(own):
    noisy = picture(40, 56, 3)
    weights = replace(box_method.WEIGHTS, strength=own)
    unasked = Denoiser(box_method.METHOD, weights, Options(strength=None))
    np.testing.assert_array_equal(unasked(noisy), box(strength=own)(noisy))
    asked = Denoiser(box_method.METHOD, weights, Options())
    np.testing.assert_array_equal(asked(noisy), box()(noisy))


def test_alpha_is_untouched_and_not_seen_by_the_network():
    noisy = picture(12, 13, 4)
    denoised = box()(noisy)
    np.testing.assert_array_equal(denoised[..., 3], noisy[..., 3])
    np.testing.assert_array_equal(denoised[..., :3], box()(noisy[..., :3].copy()))


def test_16_bits_are_kept():
    noisy = picture(20, 20, dtype=np.uint16)
    denoised = box()(noisy)
    assert denoised.dtype == np.uint16
    assert len(np.unique(denoised)) > 256


def test_gray_is_the_mean_of_the_replicated_colours():
    noisy = picture(16, 19, dtype=np.float32)
    colour = box()(np.repeat(noisy[..., None], 3, 2), axes="YXS")
    np.testing.assert_allclose(box()(noisy), colour.mean(2), atol=1e-6)


def test_every_plane_of_a_stack_equals_the_plane_alone():
    noisy = picture(2, 3, 9, 14, dtype=np.uint16)
    made = box(range="dtype")  # otherwise it is that of all planes
    denoised = made(noisy)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(denoised[index], made(noisy[index]))


def test_many_channels_go_one_by_one():
    noisy = picture(8, 9, 65)
    denoised = box()(noisy, axes="YXS")
    for channel in (0, 31, 64):
        alone = box()(np.ascontiguousarray(noisy[..., channel]))
        np.testing.assert_array_equal(denoised[..., channel], alone)


def test_float_values_are_not_clipped():
    noisy = picture(16, 16, dtype=np.float32) * 4 - 2
    denoised = box(range="0,1")(noisy)
    assert denoised.min() < 0
    assert denoised.max() > 1


def test_pixels_that_are_not_numbers_stay_and_do_not_spread():
    noisy = picture(16, 17, 3, dtype=np.float32)
    noisy[5, 6, 1], noisy[9, :, 2], noisy[0, 0] = np.nan, np.inf, -np.inf
    denoised = box()(noisy)
    finite = np.isfinite(noisy)
    np.testing.assert_array_equal(denoised[~finite], noisy[~finite])
    assert np.isfinite(denoised[finite]).all()


def test_an_image_without_any_number_comes_back():
    noisy = np.full((7, 8), np.nan, np.float32)
    np.testing.assert_array_equal(box()(noisy), noisy)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3, 3)])
@pytest.mark.parametrize("tile", [None, 0, 4])
def test_tiny_images(shape, tile):
    noisy = picture(*shape)
    np.testing.assert_array_equal(box(tile=tile)(noisy), box(tile=0)(noisy))


@pytest.mark.parametrize("ensemble", [False, True])
def test_tiles_make_no_difference(ensemble):
    noisy = picture(45, 50, 3, dtype=np.float32)
    whole = box(tile=0, self_ensemble=ensemble)(noisy)
    for tile in (None, 4, 16):
        tiled = box(tile=tile, self_ensemble=ensemble)(noisy)
        assert np.abs(tiled - whole).max() <= 1e-5
    assert len(box_method.CALLS) > 20


def test_self_ensemble_undoes_what_it_turns(monkeypatch):
    monkeypatch.setattr(box_method.Box, "hook", lambda self, noisy: noisy.clone())
    noisy = picture(12, 17, 3)
    np.testing.assert_array_equal(box(self_ensemble=True)(noisy), noisy)
    assert len(box_method.CALLS) == 8


def test_an_overflowing_tile_is_computed_again_in_fp32_and_reported(monkeypatch):
    noisy = picture(40, 40, 3)
    expected = box(tile=16)(noisy)

    def spoil(self, tile):
        if self.precision == "bf16" and tile.shape[2] == 24:
            return torch.full_like(tile, torch.nan)
        return None

    monkeypatch.setattr(box_method.Box, "hook", spoil)
    denoiser = box(tile=16, precision="bf16")
    np.testing.assert_array_equal(denoiser(noisy), expected)
    from denoisekit.formats.raw_array import ArrayReader

    run = denoiser.run(ArrayReader(noisy, None))
    assert list(run)
    assert run.report().warnings == ("a tile overflowed in bf16 and was computed again in fp32",)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_that_returns_no_numbers_is_an_error(monkeypatch, precision):
    monkeypatch.setattr(box_method.Box, "hook", lambda self, x: torch.full_like(x, torch.inf))
    with pytest.raises(DenoisekitError, match="not numbers"):
        box(precision=precision)(picture(8, 8))


FULL = [
    lambda: torch.OutOfMemoryError("CUDA out of memory"),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    lambda: MemoryError(),
]


@pytest.mark.parametrize("error", FULL)
def test_out_of_memory_leads_to_smaller_tiles_and_the_same_result(monkeypatch, error):
    noisy = picture(61, 70, 3, dtype=np.float32)
    expected = box(tile=0)(noisy)
    box_method.CALLS.clear()

    def limited(self, tile):
        if tile.shape[2] * tile.shape[3] > 600:
            raise error()

    monkeypatch.setattr(box_method.Box, "hook", limited)
    denoiser = box(tile=0)
    assert np.abs(denoiser(noisy) - expected).max() <= 1e-5
    failed = [s for s in box_method.CALLS if s[2] * s[3] > 600]
    denoiser(noisy)
    again = [s for s in box_method.CALLS if s[2] * s[3] > 600]
    assert 0 < len(failed) < 8
    assert len(again) == len(failed), "what did not fit once was tried again"


def test_the_memory_of_a_failed_tile_is_free_before_smaller_ones_are_tried(monkeypatch):
    held: list[weakref.ref] = []

    def limited(self, tile):
        if tile.shape[2] * tile.shape[3] > 600:
            scratch = torch.zeros(1000)
            held.append(weakref.ref(scratch))
            raise torch.OutOfMemoryError("CUDA out of memory")
        gc.collect()
        assert all(ref() is None for ref in held)

    monkeypatch.setattr(box_method.Box, "hook", limited)
    box(tile=0)(picture(40, 40))
    assert held


def test_out_of_memory_at_every_size_is_an_error(monkeypatch):
    def never(self, tile):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(box_method.Box, "hook", never)
    with pytest.raises(OutOfMemory, match="does not fit in memory") as caught:
        box()(picture(30, 30))
    assert caught.value.exit_code == 4


def test_other_errors_of_a_network_are_not_hidden(monkeypatch):
    def broken(self, tile):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(box_method.Box, "hook", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        box()(picture(8, 8))


@pytest.mark.parametrize(
    "change",
    [
        {"strength": -0.1},
        {"strength": float("nan")},
        {"tile": -1},
        {"range": "5,2"},
        {"seed": -1},
        {"seed": 2**63},
        {"method": "aprd"},
        {"precision": "fp23"},
        {"device": "gpu"},
    ],
)
def test_options_that_make_no_sense(change):
    with pytest.raises(UsageError) as caught:
        box(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("shape", [(2, 30, 21), (30, 21, 3)])
def test_progress_ends_at_the_pixels_of_the_image(shape, ensemble):
    from denoisekit.formats.raw_array import ArrayReader

    # Twice: what one image left behind must not count for the next.
    denoiser, done = box(tile=8, self_ensemble=ensemble), []
    for _ in range(2):
        done.clear()
        reader = ArrayReader(picture(*shape), None)
        assert list(denoiser.run(reader, on_progress=done.append))
    assert done == sorted(done)
    assert len(done) > 5
    info = reader.info
    assert done[-1] == pytest.approx(info.planes * info.height * info.width)


def test_one_denoiser_serves_threads_and_mixes_nothing():
    rng = np.random.default_rng(0)
    images = [
        rng.normal(0.2 + 0.1 * i, 0.05, (48 + 8 * i, 64, 3)).clip(0, 1).astype(np.float32)
        for i in range(8)
    ]
    images[3][5, 5] = np.nan
    made = box(strength="auto", range="0,1", tile=16)

    def one(image):
        steps, out = [0.0], np.empty_like(image)
        run = made.run(ArrayReader(image, None), on_progress=steps.append)
        for _, top, rows in run:
            out[top : top + len(rows)] = rows
        assert steps == sorted(steps)
        report = run.report()
        return report, max(steps), out.tobytes()

    alone = [one(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(one, images))
    assert together == alone
    assert [bool(report.notes) for report, _, _ in alone] == [i == 3 for i in range(8)]


def test_the_way_to_the_network_is_short(monkeypatch, tmp_path):
    found = []

    def look(self, tile):
        frame, stack = sys._getframe(), []
        while frame is not None:
            if f"{os.sep}denoisekit{os.sep}" in frame.f_code.co_filename:
                stack.append((frame.f_code.co_filename, frame.f_code.co_qualname))
            frame = frame.f_back
        found.append(stack)

    monkeypatch.setattr(box_method.Box, "hook", look)
    np.save(tmp_path / "in.npy", picture(20, 20, 3))
    list(run_batch([Job(tmp_path / "in.npy", tmp_path / "out.npy", "npy")], box()))
    for stack in found:
        assert len(stack) <= 10
        assert len({file for file, _ in stack}) <= 5
