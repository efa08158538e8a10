"""How the values of a file become the 0..1 that methods work on, and back.

A `Range` names the file values that stand for 0 and 1. Values outside it stay outside:
nothing is clipped on the way in, and on the way out integers are clipped once, to what
their type holds. Statistics are those of the whole stack, so all planes of a file are
treated alike. Numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError, UsageError, did_you_mean
from denoisekit.image import ImageInfo, Pixels, Reader

Floats = npt.NDArray[np.float32]

NEAR = 8
"""How far a single value may fill a gap: further on it would draw lines."""

SHARES = (0.001, 0.999)
"""Parts of the values that lie below and above which are taken for outliers."""
SAMPLE = 2**21
"""Most values kept for the quantiles of types too wide for a histogram."""
AT_ONCE = 2**22
"""Most values read in one piece."""

NAMES = ("auto", "dtype", "minmax", "percentile")


@dataclass(frozen=True, slots=True)
class Range:
    """File values that stand for 0 and 1; ``low < high``, both finite."""

    low: float
    high: float

    @property
    def span(self) -> float:
        """Distance between the two."""
        return self.high - self.low

    @staticmethod
    def widened(low: float, high: float) -> Range:
        """Return the range between two values; one unit where they are the same.

        Raises
        ------
        InputError
            They lie too far apart to be told by floating-point numbers.
        """
        if low == high:
            # Beyond 2**53 a unit is less than the distance between floats.
            return Range(low, max(low + 1, math.nextafter(low, math.inf)))
        if not math.isfinite(high - low):
            raise InputError(
                f"values from {low:g} to {high:g} are too far apart to be scaled",
                "give a range: --range LO,HI",
            )
        return Range(low, high)


@dataclass(frozen=True, slots=True)
class RangeSpec:
    """What was asked for: one of `NAMES`, or ``given`` with a `Range`."""

    kind: Literal["auto", "dtype", "minmax", "percentile", "given"]
    given: Range | None = None


def parse_range(text: str) -> RangeSpec:
    """Read a range as a user writes it.

    Parameters
    ----------
    text : str
        ``auto``: photographs of 8 bits, and of 16 bits that use their range, from 0 to the
        largest value; everything else by its own values, see `denoisekit.engine.signal`.
        ``dtype``: all that the type can hold, floats 0 to 1. ``minmax``: least to largest
        value. ``percentile``: 0.1 % to 99.9 %.
        ``LO,HI``: these two numbers.

    Returns
    -------
    RangeSpec
        For `resolve_range`.

    Raises
    ------
    UsageError
        It is none of these, or LO is not below HI.
    """
    for name in NAMES:
        if text.strip() == name:
            return RangeSpec(name)  # type: ignore[arg-type]
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(f"range '{text}' is not known", did_you_mean(text, (*NAMES, "LO,HI")))
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise UsageError(
            f"range '{text}' is not two numbers", "write it like --range 0,4095"
        ) from None
    if not (low < high and math.isfinite(high - low)):
        raise UsageError(
            f"range '{text}' does not go from a number to a larger one",
            "write the value of black, a comma, the value of white: --range 0,4095",
        )
    return RangeSpec("given", Range(low, high))


def resolve_range(spec: RangeSpec, reader: Reader) -> Range:
    """Find the range of a file, reading it once, by bands, where its values are needed.

    Parameters
    ----------
    spec : RangeSpec
        From `parse_range`.
    reader : Reader
        The open image. Alpha and values that are not finite do not count.

    Returns
    -------
    Range
        A constant image gets a range of one unit.

    Raises
    ------
    InputError
        The values lie too far apart to be told by floating-point numbers.
    """
    info = reader.info
    if spec.given is not None:
        return spec.given
    floats = info.dtype.kind == "f"
    if spec.kind == "dtype":
        limits = None if floats else np.iinfo(info.dtype)
        signed = limits is not None and limits.min < 0
        return Range(float(limits.min) if limits and signed else 0.0, info.peak)
    if spec.kind == "auto" and info.dtype.kind == "u":
        return Range(0.0, info.peak)
    if spec.kind == "percentile":
        low, high = quantiles(reader)
        if high - low == 0:
            low, high = minmax(reader)
        return Range.widened(low, high)
    least, largest = minmax(reader)
    if spec.kind == "auto" and least >= 0 and largest <= info.peak:
        return Range(0.0, info.peak)
    return Range.widened(least, largest)


def minmax(reader: Reader) -> tuple[float, float]:
    """Return least and largest finite value, without alpha; 0 and 1 where there is none."""
    low, high = math.inf, -math.inf
    for rows in _bands(reader):
        values = rows[np.isfinite(rows)] if rows.dtype.kind == "f" else rows
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 1.0)


def quantiles(reader: Reader) -> tuple[float, float]:
    """Return the quantiles at `SHARES`: exact, of wide types those of a sample."""
    info = reader.info
    if info.dtype.kind in "iu" and info.dtype.itemsize <= 2:
        least = int(np.iinfo(info.dtype).min)
        counts = np.zeros(2 ** (8 * info.dtype.itemsize), np.int64)
        for rows in _bands(reader):
            counts += np.bincount(rows.ravel().astype(np.intp) - least, minlength=len(counts))
        below = np.cumsum(counts)
        # The least value with at least this share of all at or below it.
        low, high = (int(np.searchsorted(below, share * below[-1])) + least for share in SHARES)
        return float(low), float(high)
    # Every n-th value; n shares no factor with a row's length, so no column is left out.
    row = info.width * (info.samples - info.alpha)
    every = -(-info.planes * info.height * row // SAMPLE)
    while math.gcd(every, row) > 1:
        every += 1
    kept, seen = [], 0
    for rows in _bands(reader):
        part = rows.reshape(-1)[-seen % every :: every].astype(np.float64)
        kept.append(part[np.isfinite(part)])
        seen += rows.size
    sample = np.concatenate(kept)
    if sample.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(sample, SHARES, method="inverted_cdf")
    return float(low), float(high)


def _bands(reader: Reader) -> Iterator[Pixels]:
    """Yield the whole stack, without alpha, in pieces of bounded size."""
    info = reader.info
    step = max(1, AT_ONCE // (info.width * info.samples))
    for plane in range(info.planes):
        for top in range(0, info.height, step):
            rows = reader.read_rows(plane, top, min(top + step, info.height))
            yield rows[..., : info.samples - info.alpha]


def to_unit(rows: Pixels, scale: Range) -> Floats:
    """Map file values to the method's scale.

    Parameters
    ----------
    rows : numpy.ndarray
        Any shape, integers or finite floats.
    scale : Range
        What becomes 0 and 1.

    Returns
    -------
    numpy.ndarray
        Same shape, float32, not clipped.
    """
    if _float32_will_do(rows.dtype, scale):
        unit = np.subtract(rows, np.float32(scale.low), dtype=np.float32)
        unit /= np.float32(scale.span)
        return unit
    wide = np.subtract(rows, scale.low, dtype=np.float64)
    wide /= scale.span
    return wide.clip(*_finite(np.float32), out=wide).astype(np.float32)


def from_unit(values: npt.NDArray[Any], scale: Range, info: ImageInfo) -> Pixels:
    """Map the method's scale back to what the file holds.

    Parameters
    ----------
    values : numpy.ndarray
        Any shape, floats.
    scale : Range
        The one given to `to_unit`.
    info : ImageInfo
        Its dtype and significant bits. Integers are rounded and clipped to them; floats
        only to the largest number of their type.

    Returns
    -------
    numpy.ndarray
        Same shape, ``info.dtype``. Integers of up to 16 bits that went through `to_unit`
        come back exactly, for any range up to a million wide.
    """
    narrow = _float32_will_do(info.dtype, scale)
    number = np.float32 if narrow else np.float64
    out: npt.NDArray[Any] = np.multiply(values, number(scale.span), dtype=number)
    out += number(scale.low)
    if info.dtype.kind == "f":
        return out.clip(*_finite(info.dtype), out=out).astype(info.dtype)
    limits = np.iinfo(info.dtype)
    low, high = limits.min, int(info.peak) if limits.min == 0 else limits.max
    high = min(high, limits.max)
    # 2**63 - 1 has no float; the float above it would wrap around.
    highest = float(high) if int(float(high)) <= high else math.nextafter(float(high), 0)
    np.rint(out, out=out)
    out.clip(low, highest, out=out)
    return out.astype(info.dtype)


def fill_nonfinite(rows: Pixels) -> Pixels:
    """Replace NaN and infinities, which would spread through a network; see `fill_absent`."""
    if rows.dtype.kind != "f":
        return rows
    return fill_absent(rows, ~np.isfinite(rows), 0.0)


def fill_absent(
    rows: Pixels, absent: npt.NDArray[np.bool_], fallback: float | npt.NDArray[Any]
) -> Pixels:
    """Replace what is no measurement by what surrounds it.

    Parameters
    ----------
    rows : numpy.ndarray
        (n, W, C).
    absent : numpy.ndarray
        Same shape: what to replace.
    fallback : float or numpy.ndarray
        Taken far from everything else; one value, or one for each of ``rows``.

    Returns
    -------
    numpy.ndarray
        A gap mirrors what lies beside it in its row and channel, so that noise goes on in it
        as it is; where that is a gap too, it takes the nearest value up to `NEAR` pixels away,
        and further off ``fallback``. The result does not depend on how many rows are given;
        ``rows`` itself if there is nothing to replace.
    """
    affected = np.flatnonzero(absent.any((1, 2)))
    if not len(affected):
        return rows
    filled = rows.copy()
    good = ~absent[affected]
    width = rows.shape[1]
    here = np.arange(width)[:, None]
    left = np.maximum.accumulate(np.where(good, here, -width * 2), 1)
    right = np.minimum.accumulate(np.where(good, here, width * 3)[:, ::-1], 1)[:, ::-1]
    nearest = np.where(here - left <= right - here, left, right)
    distance = np.abs(nearest - here)
    mirrored = 2 * nearest - here
    inside = (mirrored >= 0) & (mirrored < width)
    place = mirrored.clip(0, width - 1)
    mirrors = inside & np.take_along_axis(good, place, 1)
    place = np.where(mirrors, place, nearest.clip(0, width - 1))
    values = np.take_along_axis(rows[affected], place, 1)
    known = mirrors | (good.any(1, keepdims=True) & (distance <= NEAR))
    far = fallback[affected] if isinstance(fallback, np.ndarray) else fallback
    filled[affected] = np.where(good, rows[affected], np.where(known, values, far))
    return filled


def _float32_will_do(dtype: np.dtype[Any], scale: Range) -> bool:
    """Whether float32 tells all values of an integer type apart, with bits to spare."""
    small = dtype.kind in "iu" and dtype.itemsize <= 2
    return small and scale.span >= 0.5 and max(abs(scale.low), abs(scale.high)) < 2**18


def _finite(dtype: npt.DTypeLike) -> tuple[float, float]:
    info = np.finfo(dtype)
    return float(info.min), float(info.max)
