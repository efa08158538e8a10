"""A run: every candidate on every image, kept row by row, so that a killed run goes on.

Rows are the same whatever the order and the number of workers: each depends on its
candidate, its image and the protocol alone. ``results.json`` says what was measured, with what,
and how; `changes` how two of them differ.
"""

from __future__ import annotations

import json
import math
import platform
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit._version import __version__
from denoisekit.atomic import Claim, write_whole
from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.bench.images import Images, Item
from denoisekit.errors import (
    DenoisekitError,
    InputError,
    InternalError,
    OutputError,
    UsageError,
    as_error,
)
from denoisekit.metrics import Protocol
from denoisekit.ranges import Floats

ROWS, RESULTS = "rows.jsonl", "results.json"
"""What has been measured so far (a line of facts, then a line a row), and all of it."""
FORMAT = 1
"""Of the file; raised when what reads it must know."""
PACKAGES = ("torch", "numpy", "scikit-image")
DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)
"""What Python raises where a file is not what it should be."""

FLIPS = 20_000
"""Sign flips that are tried where all of them are too many."""
ALL_FLIPS = 14
"""Most images whose sign flips are all tried."""

Keep = Callable[[Candidate, Item, Floats], None]
"""Called with every denoised image."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one candidate did to one image.

    Attributes
    ----------
    candidate, picture : str
        Which.
    numbers : dict
        ``psnr`` in dB (infinite where nothing differs), ``ssim_`` and its kind,
        ``megapixels``. They repeat.
    seconds : float
        It took; does not repeat.
    """

    candidate: str
    picture: str
    numbers: dict[str, float]
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can say it: an infinite number is null."""
        return {
            "candidate": self.candidate,
            "picture": self.picture,
            **{name: _finite(round(value, 6)) for name, value in self.numbers.items()},
            "seconds": round(self.seconds, 4),
        }

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Row:
        """Return what `facts` had told; where it could not have, raise one of `DAMAGE`."""
        numbers = {
            name: math.inf if value is None else float(value)
            for name, value in facts.items()
            if name not in ("candidate", "picture", "seconds")
        }
        names = facts["candidate"], facts["picture"]
        if not all(isinstance(name, str) for name in names):
            raise TypeError("names are texts")
        if "megapixels" not in numbers or any(map(math.isnan, numbers.values())):
            raise ValueError("numbers are missing")
        return cls(*names, numbers, float(facts["seconds"]))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def facts_of(
    images: dict[str, Any], candidates: Sequence[dict[str, Any]], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Return what a run is, without its rows: the same run says the same."""
    versions = {"denoisekit": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "format": FORMAT,
        "versions": versions,
        "set": dict(images),
        "protocol": protocol,
        "candidates": list(candidates),
    }


def complete(facts: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a whole file of results: with the mean of every number, and seconds a megapixel."""
    told = [row.facts() for row in rows]
    means: dict[str, dict[str, float | None]] = {}
    for name, own in _by_candidate([Row.read(row) for row in told]).items():
        sums = {key: math.fsum(row.numbers[key] for row in own) for key in own[0].numbers}
        pixels = sums.pop("megapixels")
        means[name] = {key: _finite(round(total / len(own), 6)) for key, total in sums.items()}
        took = math.fsum(row.seconds for row in own)
        means[name]["seconds_per_megapixel"] = round(took / pixels, 4)
    return {**facts, "means": means, "rows": told}


def _by_candidate(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each candidate; refuse those that have not all the same numbers."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.candidate, []).append(row)
        if row.numbers.keys() != found[row.candidate][0].numbers.keys():
            raise InputError(
                f"the rows of {row.candidate} have not all the same numbers", "measure again"
            )
    return found


def read_results(path: Path) -> dict[str, Any]:
    """Read a file of results, or that of a folder.

    Raises
    ------
    InputError
        It is not one, or damaged.
    """
    path = path / RESULTS if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not {"format", "rows", "protocol"} <= found.keys():
        raise InputError(f"{path} is no file of results", "denoisekit bench writes results.json")
    if found["format"] != FORMAT:
        raise InputError(f"{path} is of another version of denoisekit", "measure again")
    try:
        tables = [found.get(name, {}) for name in ("protocol", "set", "versions")]
        names = [candidate["id"] for candidate in found["candidates"]]
        sound = all(isinstance(table, dict) for table in tables)
        sound = sound and all(isinstance(name, str) for name in names)
        _by_candidate(rows_of(found))
    except DAMAGE:
        sound = False
    if not sound:
        raise InputError(f"{path} is damaged", "measure again")
    return found


def rows_of(results: dict[str, Any]) -> list[Row]:
    """Return the rows of a file of results."""
    return [Row.read(row) for row in results["rows"]]


def run(
    images: Images,
    candidates: Sequence[Candidate],
    protocol: Protocol,
    folder: Path,
    *,
    overwrite: bool = False,
    workers: int = 2,
    on_progress: Callable[[int], None] = lambda _: None,
    keep: Keep | None = None,
) -> dict[str, Any]:
    """Measure what is not measured yet, and write ``results.json``.

    Parameters
    ----------
    images : Images
        Of what.
    candidates : sequence of Candidate
        Which denoisers.
    protocol : Protocol
        How.
    folder : pathlib.Path
        Where rows and results are kept; is made where it is absent.
    overwrite : bool
        Whether what another run left there is thrown away.
    workers : int
        Images that are read and measured side by side; one at a time is denoised.
    on_progress : callable
        Called with the rows done.
    keep : callable, optional
        Called with every denoised image; before its row is kept.

    Returns
    -------
    dict
        What ``results.json`` holds.

    Raises
    ------
    UsageError
        The folder holds another run.
    OutputError
        It cannot be written.
    DenoisekitError
        An image cannot be read, denoised or measured: the others are, and kept.
    """
    if workers < 1:
        raise UsageError(f"{workers} workers make no sense", "it is 1 or more")
    facts = facts_of(images.facts, [c.facts for c in candidates], protocol.facts())
    denoising = threading.Lock()
    failed: list[DenoisekitError] = []

    def measure(item: Item, rows: _Rows) -> None:
        missing = [c for c in candidates if (c.id, item.name) not in rows.done]
        if not missing:
            return
        noisy, clean = images.read(item)
        for candidate in missing:
            with denoising:
                began = time.perf_counter()
                denoised = candidate.run(noisy)
                seconds = time.perf_counter() - began
            if not np.isfinite(denoised).all():
                raise DenoisekitError(f"{candidate.id} made of {item.name} what are not numbers")
            if keep and candidate.id != NOISY:
                keep(candidate, item, denoised)
            numbers = {} if clean is None else protocol.measure(clean, denoised, noisy)
            numbers["megapixels"] = noisy.shape[0] * noisy.shape[1] / 1e6
            rows.add(Row(candidate.id, item.name, numbers, seconds))

    def work(item: Item, rows: _Rows) -> None:
        try:
            measure(item, rows)
        except OSError:  # of the folder of results
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this image's own
            failed.append(as_error(error, item.name))

    try:
        with closing(_Rows(folder, overwrite, facts)) as rows:
            on_progress(len(rows.done))
            with ThreadPoolExecutor(workers, "bench") as pool:
                coming = [pool.submit(work, item, rows) for item in images.items]
                try:
                    for done in as_completed(coming):
                        done.result()
                        on_progress(len(rows.done))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        if failed:
            told = max(failed, key=lambda error: isinstance(error, InternalError))
            if len(images.items) == 1:
                raise told
            count = f"({len(failed)} of {len(images.items)} pictures failed; the others are kept)"
            raise type(told)(f"{told.message} {count}", told.hint) from told.__cause__
        order = [(c.id, item.name) for c in candidates for item in images.items]
        results = complete(facts, [rows.done[key] for key in order])
        text = json.dumps(results, indent=1, allow_nan=False) + "\n"
        write_whole(folder / RESULTS, text.encode())
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}") from error
    return results


class _Rows:
    """The rows of a run, each on disk as soon as it is there."""

    def __init__(self, folder: Path, overwrite: bool, facts: dict[str, Any]) -> None:
        self.done: dict[tuple[str, str], Row] = {}
        self._lock = threading.Lock()
        path = folder / ROWS
        folder.mkdir(parents=True, exist_ok=True)
        self._claim = Claim(path)  # the rows of two runs would be mixed
        try:
            self._read(path, overwrite, facts)
            self._file = path.open("a", encoding="utf-8")
        except BaseException:
            self._claim.close()
            raise

    def _read(self, path: Path, overwrite: bool, facts: dict[str, Any]) -> None:
        """Take the rows that are there; a killed run may have left part of a line."""
        head, lines = json.dumps(facts, allow_nan=False), []
        if path.exists() and not overwrite:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        if lines and lines[0] != head:
            raise UsageError(
                f"{path.parent} holds results of another run{_difference(lines[0], facts)}",
                "name another folder with --out, or throw them away with --overwrite",
            )
        for number, line in enumerate(lines[1:], 2):
            try:
                row = Row.read(json.loads(line))
            except DAMAGE:
                raise InputError(
                    f"{path} is damaged in line {number}",
                    "delete that line to go on, or throw all away with --overwrite",
                ) from None
            self.done[row.candidate, row.picture] = row
        if not lines:
            path.with_name(RESULTS).unlink(missing_ok=True)
        kept = "".join(f"{line}\n" for line in lines or [head])
        if not path.exists() or path.read_bytes() != kept.encode():
            path.write_text(kept, encoding="utf-8")

    def add(self, row: Row) -> None:
        """Keep a row."""
        with self._lock:
            self._file.write(json.dumps(row.facts(), allow_nan=False) + "\n")
            self._file.flush()
            self.done[row.candidate, row.picture] = row

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._claim.close()


def _difference(line: str, facts: dict[str, Any]) -> str:
    """Say in what the facts of a former run differ."""
    try:
        former = dict(json.loads(line))
    except DAMAGE:
        return ""
    names = [name for name in facts if former.get(name) != json.loads(json.dumps(facts[name]))]
    return f": other {', '.join(names)}" if names else ""


@dataclass(frozen=True, slots=True)
class Change:
    """How a number changed, over the images that both files have.

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
        Images of which the second number is larger.
    p : float
        How often a difference so large comes of chance, if the two were alike: that of a
        sign-flip test of the mean, on pairs of the same image.
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

    @property
    def words(self) -> str:
        """What the probability means, in a word or two."""
        if math.isclose(self.p, 1):
            return "nothing changed"
        return "significant" if self.p < 0.05 else "may be chance"


def changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[Change], list[str]]:
    """Compare two files that `read_results` has read.

    Parameters
    ----------
    before, after : dict
        The files. Candidates of one name are compared; where none are, and each file has
        one beside the noisy images, these two.

    Returns
    -------
    changes : list of Change
        One for each candidate and number.
    notes : list of str
        What else differs: versions, weights, protocols.

    Raises
    ------
    UsageError
        The two have no candidate, no image or no number in common.
    """
    ones, others = (
        {
            name: {row.picture: row.numbers for row in own}
            for name, own in _by_candidate(rows_of(side)).items()
        }
        for side in (before, after)
    )
    pairs = [(name, name) for name in ones if name in others]
    if all(name == NOISY for name, _ in pairs):
        alone = [[name for name in side if name != NOISY] for side in (ones, others)]
        if len(alone[0]) == len(alone[1]) == 1:
            pairs.append((alone[0][0], alone[1][0]))
    found = []
    for one, other in pairs:
        both = [(ones[one][k], others[other][k]) for k in ones[one] if k in others[other]]
        for name in both[0][0] if both else ():
            if name == "megapixels" or name not in both[0][1]:
                continue
            table = np.array([[row[name] for row in rows] for rows in both])
            table = table[np.isfinite(table).all(1)]  # where nothing differs there is no PSNR
            if not len(table):
                continue
            difference = table[:, 1] - table[:, 0]
            means = float(table[:, 0].mean()), float(table[:, 1].mean())
            better = int((difference > 0).sum())
            p = sign_flip(difference)
            found.append(Change(one, other, name, len(table), means, better, p))
    if not found:
        raise UsageError(
            "the two files have no candidate, picture and number in common",
            "compare runs on one set, by one kind of SSIM",
        )
    return found, _notes(before, after)


def sign_flip(difference: npt.NDArray[np.floating[Any]]) -> float:
    """Return how often flipped signs give a mean as far from 0: 1 where nothing differs.

    Parameters
    ----------
    difference : numpy.ndarray
        (n,) One an image. Up to 14 all flips are tried, otherwise 20 000 random ones, the
        same every time.
    """
    values = np.asarray(difference, np.float64)
    count = len(values)
    observed = abs(values.sum()) * (1 - 1e-12)
    if count <= ALL_FLIPS:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float((np.abs((1 - 2 * bits) @ values) >= observed).mean())
    draw, hits = np.random.default_rng(0), 0
    for _ in range(0, FLIPS, 1000):  # what fits into memory
        signs = 1 - 2 * draw.integers(0, 2, (1000, count))
        hits += int((np.abs(signs @ values) >= observed).sum())
    return (hits + 1) / (FLIPS + 1)


def _notes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Say what else differs."""
    names = ("set", "protocol", "versions")
    tables = [(name, before.get(name, {}), after.get(name, {})) for name in names]
    ones, others = ({c["id"]: c for c in side["candidates"]} for side in (before, after))
    tables += [(name, ones[name], others[name]) for name in ones if name in others]
    return [
        f"{name}, {key}: {one.get(key)} -> {other.get(key)}"
        for name, one, other in tables
        for key in {**one, **other}
        if one.get(key) != other.get(key)
    ]
