"""Files that appear whole or not at all: written beside their place, flushed, renamed.

What is being written is called ``.denoisekit-….part``: a short name, whatever the file's own.
Its writer holds a lock on it until it is renamed. So two runs never write one file at a time,
and what a killed run left is known by its missing lock: the next one that writes into the
folder removes it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where files that are open cannot be removed: as good as a lock
    fcntl = None  # type: ignore[assignment]

PREFIX, ENDING = ".denoisekit-", ".part"

BUSY = "another run is writing it"

FOREIGN_SECONDS = 7 * 86400.0
"""Age from which another machine's part counts as dead: its locks may not reach us."""


class Claim:
    """The place of a file, where nobody else writes until it is let go.

    Parameters
    ----------
    path : Path
        The file's name. Its folder must be there.

    Attributes
    ----------
    path, part : Path
        The file's name, and that of the part, which is there and empty.

    Raises
    ------
    BlockingIOError
        Another run is writing it.
    OSError
        It cannot be written: the folder, the name, or the disk does not allow it.
    """

    def __init__(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long fails now, not when all work is done
        self.path, self._there = path, True
        self.part, self._lock = _begun(path)
        try:
            _probe(self._lock)
        except BaseException:
            self.close()
            raise

    def put(self) -> None:
        """Give the part the file's name, in place of a former file."""
        if fcntl is None:
            self._release()  # Windows renames no open file
        self.part.replace(self.path)
        self._there = False  # another run may make one of this name from now on

    def close(self) -> None:
        """Let go; what was not put in place is removed. May be called twice."""
        if fcntl is None:
            self._release()
        if self._there:
            # A disk that is gone must not hide why.
            with suppress(OSError):
                self.part.unlink(missing_ok=True)
        self._there = False
        self._release()

    def _release(self) -> None:
        if self._lock >= 0:
            with suppress(OSError):
                os.close(self._lock)
        self._lock = -1


@contextmanager
def claimed(path: Path) -> Iterator[Claim]:
    """Claim the place of a file for as long as the context lasts; see `Claim`."""
    claim = Claim(path)
    try:
        yield claim
    finally:
        claim.close()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside ``path``; without an error it takes that name at the end."""
    with claimed(path) as claim:
        yield claim.part
        claim.put()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, and return when it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when it is complete and on the disk.

    Raises
    ------
    OSError
        It cannot be written; a former file of this name is as it was.
    """
    with replacing(path) as temporary:
        write_synced(temporary, data)


def flush_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the system lets folders be flushed."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_dead_parts(folder: Path) -> None:
    """Remove what killed runs left in a folder; what living ones write stays.

    Nothing is raised: what cannot be looked at or removed stays too.
    """
    with suppress(OSError):
        for part in _parts(folder):
            _remove_dead(part)


def _parts(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(PREFIX) and entry.name.endswith(ENDING)
        ]


def part_stem(path: Path) -> str:
    """Return what the name of a file's part begins with, in every run."""
    return PREFIX + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]


def _owner() -> str:
    """Return what parts of this machine and user have in their names."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    return hashlib.sha256(f"{platform.node()}:{user}".encode()).hexdigest()[:8]


def _begun(path: Path) -> tuple[Path, int]:
    """Make the part of a file, always anew; return it, and what holds its lock.

    A part that is there may be the file itself, of a run that was killed between giving it its
    name and removing the other.
    """
    # A second time, for one that is begun in the same moment; where that does not help because
    # there are no locks, a name that nobody else has.
    for owner in (_owner(), _owner(), secrets.token_hex(6)):
        _tidy(path)
        part = path.with_name(f"{part_stem(path)}-{owner}{ENDING}")
        try:
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        _hold(handle)
        if _same(handle, part):
            return part, handle
        os.close(handle)  # between the two, another run took it for dead
    raise BlockingIOError(errno.EAGAIN, BUSY, str(path))


def _tidy(path: Path) -> None:
    """Remove dead parts of the file's folder.

    Raises
    ------
    BlockingIOError
        Another run is writing the file.
    """
    with suppress(PermissionError):  # a folder that may be written to and not be read
        for part in _parts(path.parent):
            of_this = part.name.startswith(part_stem(path))
            if not _remove_dead(part) and of_this and _held(part):
                raise BlockingIOError(errno.EAGAIN, BUSY, str(path))


def _remove_dead(part: Path) -> bool:
    """Remove a part that nobody writes any more; return whether it is gone."""
    if fcntl is None:
        with suppress(OSError):
            part.unlink()
        return not part.exists()
    with suppress(OSError):
        handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
        try:
            old = time.time() - os.fstat(handle).st_mtime > FOREIGN_SECONDS
            ours = part.name.endswith(f"-{_owner()}{ENDING}")
            if (ours or old) and _lock(handle, unknown=old) and _same(handle, part):
                part.unlink()
                return True
        finally:
            os.close(handle)
    return False


def _held(part: Path) -> bool:
    """Return whether somebody holds a lock on a part."""
    if fcntl is None:
        return True
    with suppress(OSError):
        handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
        try:
            return not _lock(handle, unknown=True)
        finally:
            os.close(handle)
    return False


def _hold(handle: int) -> None:
    """Lock a new part; who looks whether it is dead is waited for."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)


def _lock(handle: int, *, unknown: bool) -> bool:
    """Lock an open file; return False where it is locked, ``unknown`` where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return True


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _probe(handle: int) -> None:
    """Write a block and take it back: a full disk shows now."""
    os.write(handle, bytes(4096))
    os.ftruncate(handle, 0)
