"""Fetch a set of pictures from its owner: resumed, checked, and the same for ever after.

Of some sets the owner's hashes are known. Of the others they are noted when a set first comes
(``SHA256SUMS`` in its folder, as ``sha256sum`` writes it), and what comes later must have them.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from denoisekit.atomic import write_whole
from denoisekit.bench.checksums import published
from denoisekit.bench.material import as_files
from denoisekit.bench.sets import SetInfo, Source, find_files
from denoisekit.errors import DenoisekitError, InputError, OutputError, UsageError
from denoisekit.pairs import list_planes
from denoisekit.weights.download import OFFLINE, SourceFailed, download, hash_file, offline

SUMS = "SHA256SUMS"

Tell = Callable[[str, int, int], None]
"""``tell(name, done, total)``: bytes of the file under way; the total is 0 where nobody knows."""


def get(info: SetInfo, data: Path, tell: Tell | None = None) -> list[Path]:
    """Fetch the files of a set that are not here.

    Parameters
    ----------
    info : SetInfo
        Which.
    data : pathlib.Path
        Folder of all sets.
    tell : callable, optional
        Called as bytes come.

    Returns
    -------
    list of pathlib.Path
        What was fetched; empty where all was here.

    Raises
    ------
    UsageError
        Its owner lets no program fetch it, or a package that reads it is missing.
    InputError
        It cannot be had, or is not what it was.
    OutputError
        It cannot be written.
    """
    _check_possible(info)
    folder = info.folder(data)
    try:
        from filelock import FileLock

        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            known = published(info.id) or _read_sums(folder / SUMS)
            fetched = [
                path
                for source in info.sources
                for path in _get_file(info, source, folder, known, tell or _nobody)
            ]
            _check_structure(info, data, fetched)
            if fetched and not published(info.id):
                _write_sums(folder, info, known)
    except OSError as error:
        raise OutputError(
            f"cannot write '{info.id}' in {folder}: {error.strerror or error}",
            "name another folder with --data",
        ) from error
    return fetched


def _check_possible(info: SetInfo) -> None:
    if info.sample_of:
        raise UsageError(f"'{info.id}' ships with denoisekit: there is nothing to get")
    if not info.sources:
        raise UsageError(
            f"'{info.id}' cannot be fetched by a program",
            f"open {info.home} in a browser, get it, put it into DIR/{info.id}, "
            "and give --data DIR",
        )
    if any(source.name.endswith(".mat") for source in info.sources):
        absent = [name for name in ("scipy", "h5py") if find_spec(name) is None]
        if absent:
            raise UsageError(
                f"'{info.id}' is MATLAB files, which need {' and '.join(absent)} to be read",
                f"pip install {' '.join(absent)}",
            )
    if offline():
        raise InputError(f"'{info.id}' is not fetched: {OFFLINE} forbids the network")


def _get_file(
    info: SetInfo, source: Source, folder: Path, known: dict[str, str], tell: Tell
) -> list[Path]:
    """Fetch a file unless it is here; return what is new."""
    path = folder / source.name
    if path.exists() or (source.unpack and len(info.find(folder)[1]) == info.pictures):
        return []
    part = folder / f"{source.name}.part"
    failures = []
    for url in source.urls:
        try:
            digest = download(url, part, None, lambda done, total: tell(source.name, done, total))
        except SourceFailed as failure:
            failures.append(str(failure))
            continue
        part.with_suffix(".tag").unlink(missing_ok=True)
        wanted = known.get(source.name, digest)
        if digest == wanted:
            break
        part.unlink()
        failures.append(f"{url} is not what it was: expected sha256 {wanted}, found {digest}")
    else:
        raise InputError(
            f"'{info.id}' could not be fetched: {'; '.join(failures)}",
            f"the same command goes on where this one ended; or get it by hand from {info.home}",
        )
    if not source.unpack:
        part.replace(path)
        return [path]
    try:
        known[source.name] = digest
        return _unpack(part, source.unpack, folder)
    finally:
        part.unlink()


def _unpack(archive: Path, pattern: str, folder: Path) -> list[Path]:
    """Take the files of a pattern out of a tar archive; the last two parts of names are kept."""
    found = []
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                if not member.isfile() or not fnmatch(member.name, pattern):
                    continue
                inner = opened.extractfile(member)
                assert inner is not None  # a file, as was asked above
                path = folder.joinpath(*PurePosixPath(member.name).parts[-2:])
                path.parent.mkdir(exist_ok=True)
                write_whole(path, inner.read())
                found.append(path)
    except (tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        for path in found:
            path.unlink()
        raise InputError(f"{archive.name} is no whole archive: {error}", "get it again") from error
    return found


def _check_structure(info: SetInfo, data: Path, fetched: list[Path]) -> None:
    """Refuse, and delete, what came and is not a whole set that can be read."""
    if not fetched:
        return
    try:
        for files in find_files(info, data):
            count = len(list_planes(as_files(files)))
            if files and count != info.pictures:
                raise InputError(f"{count} pictures in place of {info.pictures}")
    except DenoisekitError as error:
        for path in fetched:
            path.unlink()
        raise InputError(
            f"what came is not '{info.id}', and was deleted: {error.message}",
            f"get it by hand from {info.home}",
        ) from error


def _read_sums(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text("utf-8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def _write_sums(folder: Path, info: SetInfo, known: dict[str, str]) -> None:
    for source in info.sources:
        if not source.unpack:
            known.setdefault(source.name, hash_file(folder / source.name))
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(known.items()))
    write_whole(folder / SUMS, text.encode())


def _nobody(_name: str, _done: int, _total: int) -> None:
    """Tell nobody."""
