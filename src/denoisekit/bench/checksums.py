"""Whether the files of a set are those that its owner gives out.

Hashes are in ``published``, a file a set, as ``sha256sum`` writes them: only of files that
were got from the owner's own repository.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PUBLISHED = Path(__file__).parent / "published"


@dataclass(frozen=True, slots=True)
class Check:
    """How files compare with those of the owner, by their names.

    Attributes
    ----------
    same, other, absent : tuple of str
        Names of files that are the owner's, that are not though they are called so, and that
        are not here.
    """

    same: tuple[str, ...]
    other: tuple[str, ...]
    absent: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.same) + len(self.other) + len(self.absent)
        if len(self.same) == total:
            return "all are the owner's"
        return f"{len(self.same)} of {total} are the owner's" + (
            f", {len(self.other)} are not" if self.other else ""
        )


def published(name: str) -> dict[str, str]:
    """Return the sha256 of the files of a set by their names; empty where none are known."""
    path = PUBLISHED / f"{name}.sha256"
    if not path.exists():
        return {}
    lines = path.read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def check(name: str, files: Iterable[Path]) -> Check | None:
    """Compare the files of a set with those of its owner; None where no hashes are known.

    Parameters
    ----------
    name : str
        Id of the set.
    files : iterable of pathlib.Path
        That are here.
    """
    wanted = published(name)
    if not wanted:
        return None
    digests = {path.name: _digest(path) for path in files}
    return Check(
        tuple(key for key, digest in wanted.items() if digests.get(key) == digest),
        tuple(key for key, digest in wanted.items() if digests.get(key, digest) != digest),
        tuple(key for key in wanted if key not in digests),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
