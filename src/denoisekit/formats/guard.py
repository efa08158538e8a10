"""Files that are read and written through one place, where every fault becomes one clear line.

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
from denoisekit.formats.base import Source
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
def reading(path: Path, source: Source | None = None) -> Iterator[None]:
    """Turn anything a decoder raises into InputError; an InputError always gets a hint.

    With ``source``, a file that differs afterwards from when it was opened is an InputError
    too: this explains whatever else is wrong.
    """
    changed = InputError(
        f"{path}: was changed while it was read", "run it again when the file is complete"
    )
    try:
        yield
    except Exception as fault:
        if source is not None and source.changed():
            raise changed from fault
        if isinstance(fault, InputError) and fault.hint is None:
            fault.hint = _DAMAGED_HINT
        if isinstance(fault, DenoisekitError):
            raise
        raise _read_error(path, fault) from fault
    if source is not None and source.changed():
        raise changed


def _read_error(path: Path, fault: Exception) -> InputError:
    if isinstance(fault, OSError):
        message, hint = _READ_FAULTS.get(fault.errno or 0, (_one_line(fault), _DAMAGED_HINT))
    elif isinstance(fault, MemoryError):
        message, hint = "not enough memory to decode it", "close other programs and try again"
    else:
        message, hint = f"cannot be read: {_one_line(fault)}", _DAMAGED_HINT
    return InputError(f"{path}: {message}", hint)


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


class GuardedReader:
    """An open file whose every fault is an InputError, also that it changes meanwhile."""

    def __init__(self, source: Source, reader: Reader, notes: tuple[str, ...] = ()) -> None:
        self._source, self._reader = source, reader
        info = reader.info
        icc = info.metadata.icc
        if icc is not None and not 4 <= int.from_bytes(icc[:4], "big") <= len(icc):
            # Shorter than it says: no program could use it.
            info = replace(info, metadata=replace(info.metadata, icc=None))
            notes = ("the damaged ICC profile is not kept", *notes)
        self.info = replace(info, warnings=(*info.warnings, *notes)) if notes else info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        info = self.info
        if not (0 <= plane < info.planes and 0 <= top < bottom <= info.height):
            raise ValueError(f"rows {top}:{bottom} of plane {plane} are outside {info.shape}")
        with reading(self._source.path, self._source):
            return self._reader.read_rows(plane, top, bottom)

    def close(self) -> None:
        """Let go of the file and of any buffer."""
        self._reader.close()
        self._source.file.close()


class GuardedWriter:
    """A writer whose every fault is an OutputError, and which takes rows in order only."""

    def __init__(self, path: Path, info: ImageInfo, writer: Writer) -> None:
        self._path, self._info, self._writer = path, info, writer
        self._next = (0, 0)

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Take the next rows; see `denoisekit.image.Writer`."""
        info = self._info
        bottom, shape = top + len(rows), (len(rows), info.width, info.samples)
        if (plane, top) != self._next or rows.shape != shape or rows.dtype != info.dtype:
            raise ValueError(
                f"rows {rows.shape} {rows.dtype} at {(plane, top)} are not those at {self._next}"
            )
        if bottom > info.height:
            raise ValueError(f"rows to {bottom} of {info.height}")
        with writing(self._path):
            self._writer.write_rows(plane, top, rows)
        self._next = (plane + 1, 0) if bottom == info.height else (plane, bottom)

    def finish(self) -> None:
        """Complete the file."""
        if self._next != (self._info.planes, 0):
            raise ValueError(f"finished at {self._next}: rows are missing")
        with writing(self._path):
            self._writer.finish()

    def close(self) -> None:
        """Release everything."""
        self._writer.close()
