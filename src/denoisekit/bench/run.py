"""A run: every candidate on every image, kept row by row, so that a killed run goes on.

Rows are the same whatever the order and the number of workers: each depends on its
candidate, its image and the protocol alone.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from denoisekit.atomic import Claim, write_whole
from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.bench.images import Images, Item
from denoisekit.bench.results import DAMAGE, RESULTS, Row, complete, facts_of
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

ROWS = "rows.jsonl"
"""What has been measured so far: a line of facts, then a line a row."""

Keep = Callable[[Candidate, Item, Floats], None]


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
