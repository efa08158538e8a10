"""The one place where what a library throws becomes an error a user can read.

Decoders meet damaged files in many ways and raise what they like; encoders meet full
disks. Whatever comes out of a reader or a writer passes through here.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from denoisekit.errors import DenoisekitError, InputError, OutputError, OutputTaken
from denoisekit.image import ImageInfo, Pixels, Reader, Writer

# What libpng warns of goes to a log, which would print it where nobody handles it.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())

_DAMAGED_HINT = "open it in an image viewer to see whether it is damaged, or export it again"

_READ_FAULTS = {
    errno.ENOENT: ("there is no such file", "check the name"),
    errno.EACCES: ("no permission to read it", "check the file's permissions"),
    errno.EPERM: ("no permission to read it", "check the file's permissions"),
    errno.ELOOP: ("a symbolic link that leads to itself", "remove the link"),
    errno.ENAMETOOLONG: ("the name is too long", "check the name"),
    errno.ENOTDIR: ("a part of the path is not a folder", "check the name"),
}
_WRITE_FAULTS = {
    errno.ENOSPC: ("no space left on the device", "free some space, or write to another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or write to another disk"),
    errno.EFBIG: ("the file system does not take files this large", "write to another disk"),
    errno.EACCES: ("no permission to write there", "choose another folder with -o"),
    errno.EPERM: ("no permission to write there", "choose another folder with -o"),
    errno.EROFS: ("the file system is read-only", "choose another folder with -o"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter name, or a folder with -o"),
    errno.ENOTDIR: ("a part of the path is not a folder", "choose another folder with -o"),
    errno.EEXIST: ("a part of the path is not a folder", "choose another folder with -o"),
    errno.ELOOP: ("a symbolic link that leads to itself", "remove the link"),
}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn anything a decoder raises into InputError; an InputError always gets a hint."""
    try:
        yield
    except InputError as fault:
        if fault.hint is None:
            fault.hint = _DAMAGED_HINT
        raise
    except DenoisekitError:
        raise
    except OSError as fault:
        message, hint = _READ_FAULTS.get(fault.errno or 0, (_one_line(fault), _DAMAGED_HINT))
        raise InputError(f"{path}: {message}", hint) from fault
    except MemoryError as fault:
        raise InputError(
            f"{path}: not enough memory to decode it", "close other programs and try again"
        ) from fault
    except Exception as fault:
        raise InputError(f"{path}: cannot be read: {_one_line(fault)}", _DAMAGED_HINT) from fault


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what an encoder or the file system raises into OutputError."""
    try:
        yield
    except BlockingIOError as fault:
        raise OutputTaken(
            f"{path}: another run is writing it", "wait for that run, or name another output"
        ) from fault
    except OSError as fault:
        message, hint = _WRITE_FAULTS.get(fault.errno or 0, (_one_line(fault), None))
        raise OutputError(f"{path}: {message}", hint) from fault
    except MemoryError as fault:
        raise OutputError(
            f"{path}: not enough memory to encode it", "close other programs and try again"
        ) from fault
    except RuntimeError as fault:  # what the encoders of imagecodecs raise
        raise OutputError(f"{path}: cannot be encoded: {_one_line(fault)}") from fault


def _one_line(fault: BaseException) -> str:
    text = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return " ".join(text.split())[:200] or type(fault).__name__


def state_of(path: Path) -> tuple[int, ...]:
    """Return what differs after a file was changed, replaced, or written on."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def unchanged(path: Path, state: tuple[int, ...]) -> Iterator[None]:
    """Raise InputError where a file differs afterwards: this explains what else is wrong."""
    try:
        yield
    except Exception as fault:
        if state_of(path) != state:
            raise _changed(path) from fault
        raise
    if state_of(path) != state:
        raise _changed(path)


def _changed(path: Path) -> InputError:
    return InputError(
        f"{path}: was changed while it was read", "run it again when the file is complete"
    )


class GuardedReader:
    """A reader whose every fault is an InputError, also that the file changes meanwhile."""

    def __init__(
        self, path: Path, reader: Reader, state: tuple[int, ...], notes: tuple[str, ...] = ()
    ) -> None:
        self._path, self._state = path, state
        self._reader = reader
        info = _without_cut_profile(reader.info)
        self._info = replace(info, warnings=(*info.warnings, *notes)) if notes else info

    @property
    def info(self) -> ImageInfo:
        """What the file holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        info = self._info
        if not (0 <= plane < info.planes and 0 <= top < bottom <= info.height):
            raise ValueError(f"rows {top}:{bottom} of plane {plane} are outside {info.shape}")
        with reading(self._path), unchanged(self._path, self._state):
            return self._reader.read_rows(plane, top, bottom)

    def close(self) -> None:
        """Let go of the file and of any buffer."""
        self._reader.close()


def _without_cut_profile(info: ImageInfo) -> ImageInfo:
    """Drop a colour profile that is shorter than it says: no program could use it."""
    icc = info.metadata.icc
    if icc is None or 4 <= int.from_bytes(icc[:4], "big") <= len(icc):
        return info
    metadata = replace(info.metadata, icc=None)
    warnings = (*info.warnings, "the damaged ICC profile is not kept")
    return replace(info, metadata=metadata, warnings=warnings)


class GuardedWriter:
    """A writer whose every fault is an OutputError."""

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
        self._writer = writer

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Take the next rows; see `denoisekit.image.Writer`."""
        with writing(self._path):
            self._writer.write_rows(plane, top, rows)

    def finish(self) -> None:
        """Complete the file."""
        with writing(self._path):
            self._writer.finish()

    def close(self) -> None:
        """Release everything."""
        self._writer.close()
