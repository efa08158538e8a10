"""What differs between two files of results, and whether chance alone could have done it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.bench.candidates import NOISY
from denoisekit.bench.results import Row, rows_of
from denoisekit.errors import UsageError

FLIPS = 20_000
"""Sign flips that are tried where all of them are too many."""

ALL_FLIPS = 14
"""Most pictures whose sign flips are all tried."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a number changed, over the pictures that both files have.

    Attributes
    ----------
    before, after : str
        The candidates.
    number : str
        Its name, such as ``psnr``.
    pictures : int
        How many both have.
    means : (float, float)
        Before and after.
    better : int
        Pictures of which the second number is larger.
    p : float
        How often a difference so large comes of chance, if the two were alike: that of a
        sign-flip test of the mean, on pairs of the same picture.
    """

    before: str
    after: str
    number: str
    pictures: int
    means: tuple[float, float]
    better: int
    p: float

    @property
    def change(self) -> float:
        """Mean after less mean before."""
        return self.means[1] - self.means[0]


def compare(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[Change], list[str]]:
    """Compare two files that `denoisekit.bench.results.read_results` has read.

    Parameters
    ----------
    before, after : dict
        The files. Candidates of one name are compared; where none are, and each file has
        one beside the noisy pictures, these two.

    Returns
    -------
    changes : list of Change
        One for each candidate and number.
    notes : list of str
        What else differs: versions, weights, protocols.

    Raises
    ------
    UsageError
        The two have no candidate, no picture or no number in common.
    InputError
        Their rows are damaged.
    """
    ones, others = _numbers(rows_of(before)), _numbers(rows_of(after))
    pairs = [(name, name) for name in ones if name in others]
    if all(name == NOISY for name, _ in pairs):
        alone = [[name for name in side if name != NOISY] for side in (ones, others)]
        if len(alone[0]) == len(alone[1]) == 1:
            pairs.append((alone[0][0], alone[1][0]))
    changes = [
        change for one, other in pairs for change in _changes(one, other, ones[one], others[other])
    ]
    if not changes:
        raise UsageError(
            "the two files have no candidate, picture and number in common",
            "compare runs on one set, by one kind of SSIM",
        )
    return changes, _notes(before, after)


def _numbers(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        found.setdefault(row.candidate, {})[row.picture] = row.numbers
    return found


def _changes(
    one: str,
    other: str,
    before: dict[str, dict[str, float]],
    after: dict[str, dict[str, float]],
) -> list[Change]:
    pictures = [name for name in before if name in after]
    if not pictures:
        return []
    names = [
        name for name in before[pictures[0]] if name in after[pictures[0]] and name != "megapixels"
    ]
    changes = []
    for name in names:
        table = np.array([[before[p][name], after[p][name]] for p in pictures])
        table = table[np.isfinite(table).all(1)]  # where nothing differs there is no PSNR
        if not len(table):
            continue
        difference = table[:, 1] - table[:, 0]
        means = float(table[:, 0].mean()), float(table[:, 1].mean())
        better = int((difference > 0).sum())
        changes.append(Change(one, other, name, len(table), means, better, sign_flip(difference)))
    return changes


def sign_flip(difference: npt.NDArray[np.floating[Any]]) -> float:
    """Return how often flipped signs give a mean as far from 0: 1 where nothing differs.

    Parameters
    ----------
    difference : numpy.ndarray
        (n,) One a picture. Up to 14 all flips are tried, otherwise 20 000 random ones, the
        same every time.
    """
    values = np.asarray(difference, np.float64)
    count = len(values)
    observed = abs(values.sum()) * (1 - 1e-12)
    if count <= ALL_FLIPS:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float((np.abs((1 - 2 * bits) @ values) >= observed).mean())
    draw = np.random.default_rng(0)
    hits = 0
    step = max(1, 2**22 // count)
    for start in range(0, FLIPS, step):
        signs = 1 - 2 * draw.integers(0, 2, (min(step, FLIPS - start), count))
        hits += int((np.abs(signs @ values) >= observed).sum())
    return (hits + 1) / (FLIPS + 1)


def _notes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    notes = []
    for name in ("set", "protocol", "versions"):
        one, other = before.get(name, {}), after.get(name, {})
        for key in [key for key in {**one, **other} if one.get(key) != other.get(key)]:
            notes.append(f"{name}, {key}: {one.get(key)} -> {other.get(key)}")
    ones, others = ({c["id"]: c for c in side["candidates"]} for side in (before, after))
    for name in [name for name in ones if name in others]:
        both = {**ones[name], **others[name]}
        for key in [key for key in both if ones[name].get(key) != others[name].get(key)]:
            notes.append(f"{name}, {key}: {ones[name].get(key)} -> {others[name].get(key)}")
    return notes


def words(p: float) -> str:
    """Return what a probability means, in a word or two."""
    if math.isclose(p, 1):
        return "nothing changed"
    return "significant" if p < 0.05 else "may be chance"
