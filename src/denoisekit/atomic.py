"""Files that appear whole or not at all: written beside their place, flushed, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, sole: bool = False) -> Iterator[Path]:
    """Give a temporary file beside ``path``; without an error it takes that name at the end.

    Parameters
    ----------
    path : Path
        The file's name.
    sole : bool
        Whether no other process writes this file: then the temporary file always has the
        same name, and what a killed process left is used again.
    """
    mark = "part" if sole else f"{os.getpid()}.tmp"
    temporary = path.with_name(f".{path.name}.{mark}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        # A disk that is gone must not hide why.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, and return when it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes, *, sole: bool = False) -> None:
    """Write a file that appears under its name only when it is complete and on the disk.

    ``sole`` is as for `replacing`.

    Raises
    ------
    OSError
        It cannot be written; a former file of this name is as it was.
    """
    with replacing(path, sole=sole) as temporary:
        write_synced(temporary, data)
