"""Files of results: what was measured, with what, and how; and how two of them differ."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from denoisekit._version import __version__
from denoisekit.errors import InputError

RESULTS = "results.json"
FORMAT = 1
"""Of the file; raised when what reads it must know."""

PACKAGES = ("torch", "numpy", "scikit-image")


@dataclass(frozen=True, slots=True)
class Row:
    """What one candidate did to one picture.

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
        told = {name: _finite(round(value, 6)) for name, value in self.numbers.items()}
        return {
            "candidate": self.candidate,
            "picture": self.picture,
            **told,
            "seconds": round(self.seconds, 4),
        }

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Row:
        """Return what `facts` had told; where it could not have, raise whatever Python does."""
        numbers = {
            name: math.inf if value is None else float(value)
            for name, value in facts.items()
            if name not in ("candidate", "picture", "seconds")
        }
        candidate, picture = facts["candidate"], facts["picture"]
        if not isinstance(candidate, str) or not isinstance(picture, str):
            raise TypeError("names are texts")
        if not {"megapixels"} <= numbers.keys() or any(map(math.isnan, numbers.values())):
            raise ValueError("numbers are missing")
        return cls(candidate, picture, numbers, float(facts["seconds"]))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def facts_of(
    pictures: dict[str, object], candidates: Sequence[dict[str, Any]], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Return what a run is, without its rows: the same run says the same."""
    return {
        "format": FORMAT,
        "versions": {"denoisekit": __version__, "python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := _version(name))},
        "set": dict(pictures),
        "protocol": protocol,
        "candidates": list(candidates),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def complete(facts: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a whole file of results."""
    told = [row.facts() for row in rows]
    return {**facts, "means": means([Row.read(row) for row in told]), "rows": told}


def means(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Return the mean of every number over pictures, and the seconds of a megapixel."""
    found: dict[str, dict[str, float | None]] = {}
    for name, own in _by_candidate(rows):
        pixels = math.fsum(row.numbers["megapixels"] for row in own)
        values = {
            key: _finite(round(math.fsum(row.numbers[key] for row in own) / len(own), 6))
            for key in own[0].numbers
            if key != "megapixels"
        }
        took = math.fsum(row.seconds for row in own)
        found[name] = {**values, "seconds_per_megapixel": round(took / pixels, 4)}
    return found


def _by_candidate(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for name in dict.fromkeys(row.candidate for row in rows):
        yield name, [row for row in rows if row.candidate == name]


def read_results(path: Path) -> dict[str, Any]:
    """Read a file of results, or that of a folder.

    Raises
    ------
    InputError
        It is not one.
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
    tables = [found.get(name, {}) for name in ("protocol", "set", "versions")]
    candidates = found.get("candidates")
    if (
        not all(isinstance(table, dict) for table in tables)
        or not isinstance(candidates, list)
        or not all(isinstance(c, dict) and isinstance(c.get("id"), str) for c in candidates)
    ):
        raise InputError(f"{path} is damaged", "measure again")
    rows_of(found)
    return found


def rows_of(results: dict[str, Any]) -> list[Row]:
    """Return the rows of a file that `read_results` has read.

    Raises
    ------
    InputError
        They are damaged.
    """
    try:
        rows = [Row.read(row) for row in results["rows"]]
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError("the rows of the file of results are damaged", "measure again") from error
    check_alike(rows)
    return rows


def check_alike(rows: Sequence[Row]) -> None:
    """Refuse rows of a candidate that have not all the same numbers.

    Raises
    ------
    InputError
        They are damaged.
    """
    for name, own in _by_candidate(rows):
        if any(row.numbers.keys() != own[0].numbers.keys() for row in own):
            raise InputError(f"the rows of {name} have not all the same numbers", "measure again")
