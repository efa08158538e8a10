"""Files in, files out: the list of formats, and the only two doors.

`open_image` finds the format by content and returns a reader of planes and row
bands; `write_image` and `create_image` make a file that appears whole or not at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from denoisekit.atomic import Claim, flush_folder
from denoisekit.errors import InputError, OutputError, OutputTaken, UsageError, did_you_mean
from denoisekit.formats import foreign
from denoisekit.formats.avif import AVIF
from denoisekit.formats.base import Format, Source
from denoisekit.formats.bmp import BMP
from denoisekit.formats.guard import GuardedReader, GuardedWriter, reading, writing
from denoisekit.formats.heif import HEIF
from denoisekit.formats.jpeg import JPEG
from denoisekit.formats.jpeg2000 import JPEG2000
from denoisekit.formats.jxl import JXL
from denoisekit.formats.png import PNG
from denoisekit.formats.raw_array import NPY
from denoisekit.formats.tiff import TIFF
from denoisekit.formats.webp import WEBP
from denoisekit.image import ImageInfo, Pixels, Reader, Writer

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
    """Open a file of any known format, identified by its content.

    The file is opened once: its kind, its header and its pixels are read from there.

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
        source = Source(path, max_memory)
    try:
        with reading(path, source):
            found = _identify(path, source.read(0, foreign.HEAD))
            reader = found.open(source, axes)
        suffix, notes = path.suffix.lower(), tuple[str, ...]()
        if suffix not in found.suffixes and any(suffix in known.suffixes for known in FORMATS):
            notes = (f"named {suffix} but holds {found.title}; handled as {found.title}",)
        return GuardedReader(source, reader, notes)
    except BaseException:
        source.file.close()
        raise


def _identify(path: Path, head: bytes) -> Format:
    """Return the format of a file that begins like this."""
    if not head:
        raise InputError(f"{path}: is empty", "copy or download it again")
    kind = foreign.kind_of(path, head, first=True)
    for known in FORMATS:
        if kind is None and known.matches(head):
            return known
    kind = kind or foreign.kind_of(path, head, first=False)
    if kind:
        raise foreign.refusal(path, kind)
    titles = ", ".join(known.title for known in FORMATS)
    raise InputError(f"{path}: is not a picture of a known format", f"known: {titles}")


def write_image(
    path: Path,
    info: ImageInfo,
    bands: Iterable[tuple[int, int, Pixels]],
    *,
    overwrite: bool = False,
    claim: Claim | None = None,
) -> None:
    """Make a file of ``info.format`` from bands of rows, whole or not at all.

    Parameters
    ----------
    path, info, overwrite, claim
        As in `create_image`.
    bands : iterable of (int, int, numpy.ndarray)
        Plane, first row, and rows (n, W, S); every row, in order. What it raises, and rows
        that lack, leave no file.

    Raises
    ------
    OutputError
        As in `create_image`.
    """
    with create_image(path, info, overwrite=overwrite, claim=claim) as writer:
        for plane, top, rows in bands:
            writer.write_rows(plane, top, rows)


@contextmanager
def create_image(
    path: Path, info: ImageInfo, *, overwrite: bool = False, claim: Claim | None = None
) -> Iterator[Writer]:
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
    claim : Claim, optional
        Of this path, by `claim_output`; it is closed here.

    Yields
    ------
    Writer
        Wants every row, in order; it is finished and closed here.

    Raises
    ------
    OutputError
        The format cannot hold it, the file exists, or it cannot be written.
    """
    try:
        known = find_format(info.format)
        info = known.check(info)
        claim = claim or claim_output(path, overwrite=overwrite)
        with writing(path):
            writer = known.create(claim.part, info)
        try:
            guarded = GuardedWriter(path, info, writer)
            yield guarded
            guarded.finish()
        finally:
            with suppress(OSError):
                writer.close()
        with writing(path):
            with claim.part.open("rb+") as file:
                os.fsync(file.fileno())
            if overwrite or not _linked(claim):
                claim.put()
            flush_folder(path.parent)
    finally:
        if claim is not None:
            claim.close()


def _linked(claim: Claim) -> bool:
    """Give the file its name by a link: unlike a rename, it never replaces another file."""
    try:
        os.link(claim.part, claim.path)
    except OSError as fault:
        if isinstance(fault, FileExistsError) or os.path.lexists(claim.path):
            raise _exists(claim.path) from None
        return False  # no hard links in this file system: only a short moment is unguarded
    return True


def claim_output(path: Path, *, overwrite: bool = False) -> Claim:
    """Take the place of a file, before the work that it shall hold.

    What cannot be written shows here: its folder, which is created where it is missing, its
    name, a full disk. Until the claim is closed, or given to `create_image`, no other run
    writes this file.

    Parameters
    ----------
    path : pathlib.Path
        Where the file shall be.
    overwrite : bool
        As in `create_image`.

    Returns
    -------
    Claim
        To be closed.

    Raises
    ------
    OutputTaken
        The file exists, or another run is writing it.
    OutputError
        It cannot be written.
    """
    check_output(path, overwrite=overwrite)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        claim = Claim(path)
    try:
        check_output(path, overwrite=overwrite)  # another run may just have completed it
    except BaseException:
        claim.close()
        raise
    return claim


def check_output(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a file that cannot be made or must not be replaced, without making anything.

    Raises
    ------
    OutputTaken
        It exists, and ``overwrite`` is not asked for.
    OutputError
        Its name is too long, its folder cannot be looked into, or it is no ordinary file.
    """
    with writing(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:  # also a link that leads nowhere
            mode = stat.S_IFREG
        except ValueError as fault:  # only Python can give a name with a zero byte
            raise OutputError(f"{path} is no name for a file", "choose another") from fault
        there = os.path.lexists(path)
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder", "name a file")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path} is no ordinary file, and is not replaced", "name another")
    if there and not overwrite:
        raise _exists(path)


def _exists(path: Path) -> OutputTaken:
    return OutputTaken(f"{path} exists already", "add --overwrite, or name another")
