"""Least, largest and nearly extreme values of a whole stack, read once, by bands. Numpy only."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from denoisekit.image import ImageInfo, Pixels, Reader

SHARES = (0.001, 0.999)
SAMPLE = 2**21
"""Most values kept for the percentiles of types too wide for a histogram."""
AT_ONCE = 2**22
"""Most values read in one piece."""


def extremes(reader: Reader) -> tuple[float, float]:
    """Return least and largest finite value, without opacity; 0 and 1 where there is none."""
    found = (math.inf, -math.inf)
    for rows in _bands(reader):
        found = wider(found, rows)
    return found if found[0] <= found[1] else (0.0, 1.0)


def percentiles(reader: Reader) -> tuple[float, float]:
    """Return the values below and above which 0.1 % lie: exact, of wide types of a sample."""
    small = reader.info.dtype.kind in "iu" and reader.info.dtype.itemsize <= 2
    return _by_histogram(reader) if small else _by_sample(reader)


def wider(known: tuple[float, float], values: Pixels) -> tuple[float, float]:
    """Return least and largest value of what was seen and of these; not finite ones left out."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if values.size == 0:
        return known
    return min(known[0], float(values.min())), max(known[1], float(values.max()))


def colours(rows: Pixels, info: ImageInfo) -> Pixels:
    """Return rows without opacity."""
    return rows[..., : info.samples - info.alpha]


def _bands(reader: Reader) -> Iterator[Pixels]:
    """Yield the whole stack, without alpha, in pieces of bounded size."""
    info = reader.info
    step = max(1, AT_ONCE // (info.width * info.samples))
    for plane in range(info.planes):
        for top in range(0, info.height, step):
            bottom = min(top + step, info.height)
            yield colours(reader.read_rows(plane, top, bottom), info)


def _by_histogram(reader: Reader) -> tuple[float, float]:
    limits = np.iinfo(reader.info.dtype)
    counts = np.zeros(limits.max - limits.min + 1, np.int64)
    for rows in _bands(reader):
        counts += np.bincount(rows.ravel().astype(np.intp) - limits.min, minlength=len(counts))
    below = np.cumsum(counts)
    # The least value with at least this share of all at or below it.
    low, high = (int(np.searchsorted(below, share * below[-1])) + limits.min for share in SHARES)
    return float(low), float(high)


def _by_sample(reader: Reader) -> tuple[float, float]:
    """Take every n-th value; n shares no factor with a row's length, so no column is left out."""
    info = reader.info
    row = info.width * (info.samples - info.alpha)
    every = -(-info.planes * info.height * row // SAMPLE)
    while math.gcd(every, row) > 1:
        every += 1
    kept, seen = [], 0
    for rows in _bands(reader):
        values = rows.reshape(-1)
        part = values[-seen % every :: every].astype(np.float64)
        kept.append(part[np.isfinite(part)])
        seen += values.size
    sample = np.concatenate(kept)
    if sample.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(sample, SHARES, method="inverted_cdf")
    return float(low), float(high)
