"""File values to 0..1 and back: what each range means, and that nothing is lost on the way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from denoisekit import ranges
from denoisekit.errors import InputError, UsageError
from denoisekit.image import ImageInfo
from denoisekit.ranges import (
    Range,
    fill_absent,
    fill_nonfinite,
    from_unit,
    parse_range,
    resolve_range,
    to_unit,
)


class Stack:
    """A reader of an array (planes, H, W, S)."""

    def __init__(self, pixels, *, alpha=False, bits=None):
        self.pixels = np.asarray(pixels)
        colour = "channels" if self.pixels.shape[-1] - alpha > 1 else "gray"
        self.info = ImageInfo(
            "npy", self.pixels.shape, "TYXS", self.pixels.dtype, colour, alpha, bits
        )

    def read_rows(self, plane, top, bottom):
        return self.pixels[plane, top:bottom]

    def close(self):
        pass


def stack(values, dtype, **options):
    return Stack(np.array(values, dtype).reshape(1, 1, -1, 1), **options)


def found(text, reader):
    scale = resolve_range(parse_range(text), reader)
    return scale.low, scale.high


# --- what the user writes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("0,4095", 0, 4095), (" -1 , 1 ", -1, 1), ("1e3,2.5e3", 1000, 2500)],
)
def test_two_numbers_are_taken_as_they_are(text, low, high):
    assert parse_range(text).given == Range(low, high)
    assert found(text, stack([7], "uint8")) == (low, high)


@pytest.mark.parametrize(
    "text",
    [
        *["", "Auto", "percent", "1", "1,", ",", "1,2,3", "2,1", "1,1", "a,b", "0;1", "0..1"],
        *["nan,1", "0,nan", "0,inf", "-inf,0", "-1.7e308,1.7e308"],
    ],
)
def test_nonsense_is_refused_with_a_hint(text):
    with pytest.raises(UsageError) as caught:
        parse_range(text)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


# --- what is found in a file -------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype", "bits", "expected"),
    [
        ([3, 9], "uint8", None, (0, 255)),
        ([3, 9], "uint16", None, (0, 65535)),
        ([3, 9], "uint16", 12, (0, 4095)),
        ([3, 9], "uint32", None, (0, 2**32 - 1)),
        ([3, 9], "int16", None, (0, 32767)),
        ([-1024, 3071], "int16", None, (-1024, 3071)),
        ([0.2, 0.9], "float32", None, (0, 1)),
        ([0.2, 1.1], "float32", None, (0.2, 1.1)),
        ([-0.25, 0.5], "float64", None, (-0.25, 0.5)),
        ([np.nan, 0.2, np.inf, 0.9], "float32", None, (0, 1)),
        ([np.nan, 20, -np.inf, 90], "float32", None, (20, 90)),
        ([np.nan, np.inf], "float32", None, (0, 1)),
        ([7.5, 7.5], "float32", None, (7.5, 8.5)),
        ([-7, -7], "int16", None, (-7, -6)),
        ([1e300, 1e300], "float64", None, (1e300, math.nextafter(1e300, math.inf))),
    ],
)
def test_auto_is_nominal_where_that_is_asked_for_photographs(values, dtype, bits, expected):
    low, high = found("auto", stack(values, dtype, bits=bits))
    np.testing.assert_allclose((low, high), expected, rtol=1e-7)
    assert low < high


@pytest.mark.parametrize(
    ("dtype", "bits", "expected"),
    [
        ("uint8", None, (0, 255)),
        ("uint16", 12, (0, 4095)),
        ("int16", None, (-32768, 32767)),
        ("float32", None, (0, 1)),
    ],
)
def test_dtype_does_not_look_at_the_values(dtype, bits, expected):
    assert found("dtype", stack([2, 100], dtype, bits=bits)) == expected


def test_minmax_is_that_of_the_whole_stack_without_alpha(monkeypatch):
    monkeypatch.setattr(ranges, "AT_ONCE", 12)
    pixels = np.full((3, 7, 5, 2), 50, np.uint16)
    pixels[..., 1] = 9999
    pixels[2, 6, 4, 0], pixels[0, 3, 0, 0] = 70, 20
    assert found("minmax", Stack(pixels, alpha=True)) == (20, 70)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_percentiles_of_integers_are_exact(dtype, monkeypatch):
    monkeypatch.setattr(ranges, "AT_ONCE", 1000)
    limits = np.iinfo(dtype)
    pixels = np.random.default_rng(1).normal(0.1, 0.1, (4, 50, 41, 1)) * limits.max
    pixels = pixels.clip(limits.min, limits.max).astype(dtype)
    expected = np.quantile(pixels, [0.001, 0.999], method="inverted_cdf")
    assert found("percentile", Stack(pixels)) == tuple(expected)


def test_percentiles_of_floats_are_close_and_see_every_column(monkeypatch):
    monkeypatch.setattr(ranges, "SAMPLE", 4000)
    monkeypatch.setattr(ranges, "AT_ONCE", 700)
    # 20 values fall on one sampled: a row of 20 would show the same column for ever.
    pixels = np.random.default_rng(1).random((4, 1000, 20, 1), np.float32)
    pixels += 10 * np.arange(20, dtype=np.float32)[:, None]
    pixels[0, 0, 0] = np.nan
    low, high = found("percentile", Stack(pixels))
    assert 0 <= low < 0.3
    assert 190.7 < high <= 191
    assert (low, high) == found("percentile", Stack(pixels))


def test_percentiles_of_an_almost_constant_image_fall_back_to_its_extremes():
    values = np.zeros(10_000)
    values[5] = 200
    assert found("percentile", stack(values, "uint16")) == (0, 200)
    assert found("percentile", stack(values, "float32")) == (0, 200)
    assert found("percentile", stack(np.full(9, 4), "uint8")) == (4, 5)
    assert found("percentile", stack([np.nan, np.inf], "float32")) == (0, 1)


@pytest.mark.parametrize("text", ["auto", "minmax", "percentile"])
def test_values_too_far_apart_are_an_input_error(text):
    with pytest.raises(InputError, match="too far apart"):
        found(text, stack([-1.7e308, 1.7e308], "float64"))


# --- there and back ------------------------------------------------------------------------


def round_trip(values, scale, info):
    unit = to_unit(values, scale)
    assert unit.dtype == np.float32
    return from_unit(unit, scale, info)


@pytest.mark.parametrize(
    ("dtype", "bits", "scale"),
    [
        ("uint8", None, Range(0, 255)),
        ("uint8", None, Range(17.3, 19.1)),
        ("int8", None, Range(-128, 127)),
        ("uint16", None, Range(0, 65535)),
        ("uint16", None, Range(100.7, 101.3)),
        ("uint16", None, Range(-1e6, 60_000)),
        ("uint16", 12, Range(0, 4095)),
        ("uint16", 12, Range(-200, 800.5)),
        ("int16", None, Range(-32768, 32767)),
        ("int16", None, Range(0, 32767)),
        ("int16", None, Range(-1024.5, 3071)),
    ],
)
def test_every_integer_comes_back(dtype, bits, scale):
    limits = np.iinfo(dtype)
    high = 2**bits - 1 if bits else limits.max
    values = np.arange(limits.min, high + 1, dtype=np.int64).astype(dtype).reshape(1, 1, -1, 1)
    info = Stack(values, bits=bits).info
    assert np.array_equal(round_trip(values, scale, info), values)


@given(
    hnp.arrays(np.float32, 20, elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
)
def test_floats_come_back_close(values, low, span):
    scale = Range(low, low + span)
    back = round_trip(values, scale, stack(values, "float32").info)
    room = np.maximum(np.maximum(abs(values), abs(low)), span)
    assert (abs(back.astype(float) - values) <= 4e-7 * room).all()


def test_an_offset_does_not_cost_float_precision():
    values = np.linspace(1e6, 1e6 + 1, 50)
    scale = Range(1e6, 1e6 + 1)
    back = round_trip(values, scale, stack(values, "float64").info)
    np.testing.assert_allclose(back - 1e6, values - 1e6, atol=1e-7)
    assert to_unit(values, scale)[[0, -1]].tolist() == [0, 1]


def test_floats_are_not_clipped_and_integers_are_rounded_and_clipped():
    values = np.array([-0.5, 0.4999 / 255, 0.5001 / 255, 1.5], np.float32)
    scale = Range(0, 255)
    assert from_unit(values, scale, stack([0], "uint8").info).tolist() == [0, 0, 1, 255]
    floats = from_unit(values, Range(0, 1), stack([0], "float32").info)
    assert floats.dtype == np.float32
    assert floats.tolist() == values.tolist()
    twelve = stack([0], "uint16", bits=12).info
    assert from_unit(np.float32([2.0]), Range(0, 4095), twelve).tolist() == [4095]
    assert from_unit(np.float32([-2, 2]), Range(0, 32767), stack([0], "int16").info).tolist() == [
        -32768,
        32767,
    ]


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_wide_integers_do_not_wrap_around(dtype):
    limits = np.iinfo(dtype)
    scale = Range(float(limits.min), float(limits.max))
    back = from_unit(np.float32([-0.1, 0.5, 1.1]), scale, stack([0], dtype).info)
    assert back[0] == limits.min
    assert abs(int(back[2]) - int(limits.max)) <= 2048
    assert back[0] < back[1] < back[2]


def test_half_floats_do_not_overflow():
    info = stack([0], "float16").info
    assert from_unit(np.float32([1.1, -1.1]), Range(0, 65504), info).tolist() == [65504, -65504]


def test_extreme_floats_stay_finite_on_the_way_in():
    unit = to_unit(np.array([1e300, -1e300]), Range(0, 1))
    assert np.isfinite(unit).all()


def test_the_input_is_left_as_it_was():
    rows = np.array([[[np.nan], [3.0]]], np.float32)
    before = rows.copy()
    filled = fill_nonfinite(rows)
    to_unit(filled, Range(0, 2))
    from_unit(filled, Range(0, 2), stack([0], "float32").info)
    np.testing.assert_array_equal(rows, before)


# --- values that are not finite ----------------------------------------------------------


def test_holes_mirror_what_lies_beside_them():
    n, i = np.nan, np.inf
    rows = np.array([[n, n, 1, 2, 3, n, n], [9, n, 8, n, -i, 7, n], [n] * 7], float)
    rows = np.stack([rows, np.zeros_like(rows)], -1)
    filled = fill_absent(rows, ~np.isfinite(rows), fallback=4)
    assert filled[0, :, 0].tolist() == [3, 2, 1, 2, 3, 2, 1]
    # The nearest where the mirrored one is a hole as well, or lies outside.
    assert filled[1, :, 0].tolist() == [9, 9, 8, 8, 7, 7, 7]
    assert filled[2, :, 0].tolist() == [4] * 7
    assert (filled[..., 1] == 0).all()
    alone = np.full((1, 30, 1), n)
    alone[0, 0] = 6
    assert fill_absent(alone, np.isnan(alone), 2)[0, :, 0].tolist() == [6] * 9 + [2] * 21


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)))
def test_filling_changes_holes_alone_and_does_not_depend_on_the_band(rows):
    filled = fill_nonfinite(rows)
    assert np.isfinite(filled).all()
    finite = np.isfinite(rows)
    assert np.array_equal(filled[finite], rows[finite])
    assert filled is rows or not finite.all()
    alone = [fill_nonfinite(rows[i : i + 1]) for i in range(len(rows))]
    assert np.array_equal(np.concatenate(alone), filled)


def test_integers_have_no_holes():
    rows = np.ones((2, 2, 1), np.uint8)
    assert fill_nonfinite(rows) is rows
