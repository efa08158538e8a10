"""Files in, files out: the list of formats, and the only two doors.

`open_image` finds the format by content and returns a reader of planes and row
bands; `create_image` returns a writer whose file appears whole or not at all.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from denoisekit.errors import InputError, OutputError, UsageError, did_you_mean
from denoisekit.formats import foreign
from denoisekit.formats.avif import AVIF
from denoisekit.formats.base import Format
from denoisekit.formats.bmp import BMP
from denoisekit.formats.guard import GuardedReader, GuardedWriter, reading, writing
from denoisekit.formats.heif import HEIF
from denoisekit.formats.jpeg import JPEG
from denoisekit.formats.jpeg2000 import JPEG2000
from denoisekit.formats.jxl import JXL
from denoisekit.formats.photo import HeldReader
from denoisekit.formats.png import PNG
from denoisekit.formats.raw_array import NPY
from denoisekit.formats.tiff import TIFF
from denoisekit.formats.webp import WEBP
from denoisekit.image import ImageInfo, Reader, Writer

FORMATS: tuple[Format, ...] = (PNG, JPEG, TIFF, WEBP, BMP, JXL, AVIF, HEIF, JPEG2000, NPY)
"""Every format, in the order of sniffing. A new one is a module and a line here."""


def find_format(name: str) -> Format:
    """Return the format with this id or suffix (``"png"``, ``".tif"``).

    Raises
    ------
    UsageError
        No format has that name.
    """
    wanted = name.lower().lstrip(".")
    for known in FORMATS:
        if wanted == known.id or f".{wanted}" in known.suffixes:
            return known
    names = [known.id for known in FORMATS]
    names += [s[1:] for known in FORMATS for s in known.suffixes if s[1:] != known.id]
    raise UsageError(f"no format is called {name!r}", did_you_mean(wanted, names))


def open_image(path: Path, axes: str | None = None, max_memory: int | None = None) -> Reader:
    """Open a file of any known format, recognised by its content.

    Parameters
    ----------
    path : pathlib.Path
        The file; its name does not matter.
    axes : str, optional
        Overrides the axes that the file states, one letter an axis.
    max_memory : int, optional
        Refuse what is decoded whole and would take more bytes.

    Returns
    -------
    Reader
        Close it when done.

    Raises
    ------
    InputError
        Absent, unreadable, of no known format, damaged, or larger than memory.
    UsageError
        ``axes`` does not fit the file.
    """
    with reading(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            kind = foreign.kind_named(path)  # a store that is a folder
            if kind:
                raise foreign.refusal(path, kind)
            raise InputError(f"{path}: is a folder, not a picture", "name the files in it")
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: is not a regular file", "copy it into a file first")
        with path.open("rb") as file:
            head = file.read(foreign.HEAD)
        found = _sniff(path, head)
        reader = found.open(path, axes)
        if max_memory is not None and isinstance(reader, HeldReader):
            reader.check_memory(max_memory)
        return GuardedReader(path, reader, _name_note(path, found))


def _sniff(path: Path, head: bytes) -> Format:
    if not head:
        raise InputError(f"{path}: is empty", "copy or download it again")
    kind = foreign.kind_of(path, head, first=True)
    known = None if kind else next((known for known in FORMATS if known.sniff(head)), None)
    if known:
        return known
    kind = kind or foreign.kind_of(path, head, first=False)
    if kind:
        raise foreign.refusal(path, kind)
    titles = ", ".join(known.title for known in FORMATS)
    raise InputError(f"{path}: is not a picture of a known format", f"known: {titles}")


def _name_note(path: Path, found: Format) -> tuple[str, ...]:
    """Say that the name promises another format than the content is."""
    suffix = path.suffix.lower()
    named = next((known for known in FORMATS if suffix in known.suffixes), None)
    if named is None or named.id == found.id:
        return ()
    return (f"named {suffix} but holds {found.title}; handled as {found.title}",)


@contextmanager
def create_image(path: Path, info: ImageInfo, *, overwrite: bool = False) -> Iterator[Writer]:
    """Make a file of ``info.format`` that appears under its name only when complete.

    The file grows under a hidden temporary name in the same folder, which is created
    where it is missing. Leaving the context without an error completes it, flushes it
    to the disk and renames it; any error or interruption removes it.

    Parameters
    ----------
    path : pathlib.Path
        Where the file shall be.
    info : ImageInfo
        What it shall hold; ``info.format`` names the format, ``path`` does not.
    overwrite : bool
        Replace an existing file. Otherwise a file that is there, or that appears
        meanwhile, is left alone.

    Yields
    ------
    Writer
        Wants every row, in order; it is finished and closed here.

    Raises
    ------
    OutputError
        The format cannot hold it, the file exists, or it cannot be written.
    """
    known = find_format(info.format)
    info = known.check(info)
    with writing(path):
        _check_target(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        with writing(path):
            writer = known.create(temporary, info)
        try:
            guarded = GuardedWriter(path, writer)
            yield guarded
            guarded.finish()
        finally:
            with suppress(OSError):
                writer.close()
        with writing(path):
            _place(temporary, path, overwrite)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", "name a file")
    if not overwrite and os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> OutputError:
    return OutputError(f"{path}: exists already", "allow it with --overwrite, or name another")


def _place(temporary: Path, path: Path, overwrite: bool) -> None:
    """Flush the finished file to the disk and give it its name."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    if not overwrite:
        try:
            # Unlike a rename, a link never replaces a file that appeared meanwhile.
            os.link(temporary, path)
        except FileExistsError:
            raise _exists(path) from None
        except OSError:
            _reserve(path)  # a file system without hard links
        else:
            _flush_folder(path.parent)
            return
    temporary.replace(path)
    _flush_folder(path.parent)


def _reserve(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        raise _exists(path) from None


def _flush_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system lets folders be flushed."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
