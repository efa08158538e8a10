"""A run: every candidate on every picture, kept row by row, so that a killed run goes on.

Rows are the same whatever the order and the number of workers: each depends on its
candidate, its picture and the protocol alone.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from denoisekit.atomic import Claim, write_whole
from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.bench.material import Item
from denoisekit.bench.results import RESULTS, Row, check_alike, complete, facts_of
from denoisekit.errors import (
    DenoisekitError,
    InputError,
    InternalError,
    OutputError,
    UsageError,
    as_error,
)
from denoisekit.metrics import Protocol as Measure
from denoisekit.ranges import Floats

ROWS = "rows.jsonl"
"""What has been measured so far: a line of facts, then a line a row."""


class Pictures(Protocol):
    """What is measured on: `denoisekit.bench.material.Material`, or what reads like it."""

    items: list[Item]

    @property
    def known(self) -> bool:
        """Whether there are clean pictures."""
        ...

    def facts(self) -> dict[str, object]:
        """Return what it is."""
        ...

    def read(self, item: Item) -> tuple[Floats, Floats | None]:
        """Return the noisy picture and the clean one."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run keeps its rows and results.

    Attributes
    ----------
    folder : pathlib.Path
        Is made where it is absent.
    overwrite : bool
        Whether what another run left there is thrown away.
    """

    folder: Path
    overwrite: bool = False


def run(
    pictures: Pictures,
    candidates: Sequence[Candidate],
    measure: Measure,
    place: Place,
    *,
    workers: int = 2,
    tell: Callable[[int, int], None] | None = None,
    keep: Callable[[Candidate, Item, Floats], None] | None = None,
) -> dict[str, Any]:
    """Measure what is not measured yet, and write ``results.json``.

    Parameters
    ----------
    pictures : Pictures
        Of what.
    candidates : sequence of Candidate
        Which denoisers.
    measure : Protocol
        How.
    place : Place
        Where rows and results are kept.
    workers : int
        Pictures that are read and measured side by side; one at a time is denoised.
    tell : callable, optional
        Called with the rows done and all of them.
    keep : callable, optional
        Called with every denoised picture; before its row is kept.

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
        A picture cannot be read, denoised or measured: the others are, and kept.
    """
    if workers < 1:
        raise UsageError(f"{workers} workers make no sense", "it is 1 or more")
    facts = facts_of(pictures.facts(), [c.facts for c in candidates], measure.facts())
    try:
        rows = _Rows(place, facts)
        try:
            _measure_all(pictures, candidates, measure, rows, workers, tell or _nobody, keep)
        finally:
            rows.close()
        order = [(c.id, item.name) for c in candidates for item in pictures.items]
        kept = [rows.done[key] for key in order]
        check_alike(kept)
        results = complete(facts, kept)
        text = json.dumps(results, indent=1, allow_nan=False) + "\n"
        write_whole(place.folder / RESULTS, text.encode())
    except OSError as error:
        raise OutputError(f"{place.folder}: {error.strerror or error}") from error
    return results


def _measure_all(
    pictures: Pictures,
    candidates: Sequence[Candidate],
    measure: Measure,
    rows: _Rows,
    workers: int,
    tell: Callable[[int, int], None],
    keep: Callable[[Candidate, Item, Floats], None] | None,
) -> None:
    denoising = threading.Lock()
    failed: list[DenoisekitError] = []

    def work(item: Item) -> None:
        try:
            attempt(item)
        except OSError:  # of the folder of results
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this picture's own
            failed.append(as_error(error, item.name))

    def attempt(item: Item) -> None:
        missing = [c for c in candidates if (c.id, item.name) not in rows.done]
        if not missing:
            return
        noisy, clean = pictures.read(item)
        for candidate in missing:
            with denoising:
                began = time.perf_counter()
                denoised = candidate.run(noisy)
                seconds = time.perf_counter() - began
            if not np.isfinite(denoised).all():
                raise DenoisekitError(f"{candidate.id} made of {item.name} what are not numbers")
            if keep and candidate.id != NOISY:
                keep(candidate, item, denoised)
            numbers = {} if clean is None else measure.measure(clean, denoised, noisy)
            numbers["megapixels"] = noisy.shape[0] * noisy.shape[1] / 1e6
            rows.add(Row(candidate.id, item.name, numbers, seconds))

    total = len(candidates) * len(pictures.items)
    tell(len(rows.done), total)
    with ThreadPoolExecutor(workers, "bench") as pool:
        coming = [pool.submit(work, item) for item in pictures.items]
        try:
            for done in as_completed(coming):
                done.result()
                tell(len(rows.done), total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise _one_of(failed, len(pictures.items))


def _one_of(failed: Sequence[DenoisekitError], pictures: int) -> DenoisekitError:
    """Return the error to tell of several: a bug, if one is."""
    told = max(failed, key=lambda error: isinstance(error, InternalError))
    if pictures == 1:
        return told
    count = f"({len(failed)} of {pictures} pictures failed; the others are kept)"
    more = type(told)(f"{told.message} {count}", told.hint)
    more.__cause__ = told.__cause__
    return more


def _nobody(_done: int, _total: int) -> None:
    """Tell nobody."""


class _Rows:
    """The rows of a run, each on disk as soon as it is there."""

    def __init__(self, place: Place, facts: dict[str, Any]) -> None:
        self.done: dict[tuple[str, str], Row] = {}
        self._lock = threading.Lock()
        path = place.folder / ROWS
        place.folder.mkdir(parents=True, exist_ok=True)
        self._claim = Claim(path)  # the rows of two runs would be mixed
        try:
            self._read(path, place, facts)
        except BaseException:
            self._claim.close()
            raise

    def _read(self, path: Path, place: Place, facts: dict[str, Any]) -> None:
        head = json.dumps(facts, allow_nan=False)
        lines = [] if place.overwrite or not path.exists() else _whole_lines(path)
        if lines and lines[0] != head:
            raise UsageError(
                f"{place.folder} holds results of another run{_difference(lines[0], facts)}",
                "name another folder with --out, or throw them away with --overwrite",
            )
        for number, line in enumerate(lines[1:], 2):
            row = _row_of(path, number, line)
            self.done[row.candidate, row.picture] = row
        if not lines:
            with suppress(FileNotFoundError):
                (place.folder / RESULTS).unlink()
            path.write_text(head + "\n", encoding="utf-8")
        else:  # a killed run may have left part of a line
            kept = "".join(f"{line}\n" for line in lines)
            if path.stat().st_size != len(kept.encode()):
                path.write_text(kept, encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

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


def _row_of(path: Path, number: int, line: str) -> Row:
    try:
        return Row.read(json.loads(line))
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        raise InputError(
            f"{path} is damaged in line {number}",
            "delete that line to go on, or throw all away with --overwrite",
        ) from None


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.split("\n")[:-1]


def _difference(line: str, facts: dict[str, Any]) -> str:
    """Say in what the facts of a former run differ."""
    try:
        former = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(former, dict):
        return ""
    names = [name for name in facts if former.get(name) != json.loads(json.dumps(facts[name]))]
    return f": other {', '.join(names)}" if names else ""
