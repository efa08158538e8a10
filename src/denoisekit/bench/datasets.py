"""Sets of images that papers measure on: what they are, where they are, and how they come here.

`DATASETS` is read from ``datasets.toml``. A set lies in a folder of its id below ``--data`` or
``DENOISEKIT_DATA``, or else in the cache. A sample of SIDD ships with denoisekit.

Of some sets the owner's hashes are known: those in ``checksums``, a file a set as ``sha256sum``
writes it, got from the owner's own repository. Of the others they are noted when a set first
comes (``SHA256SUMS`` in its folder), and what comes later must have them.
"""

from __future__ import annotations

import os
import tarfile
import tomllib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from denoisekit.atomic import write_whole
from denoisekit.errors import DenoisekitError, InputError, OutputError, UsageError, find_by_id
from denoisekit.pairs import File, list_planes
from denoisekit.weights.download import OFFLINE, SourceFailed, download, hash_file, offline
from denoisekit.weights.store import cache_folder, user_folder

DATA = "DENOISEKIT_DATA"
"""Environment variable: the folder of all sets."""
SAMPLE = Path(__file__).parent / "sample"
"""Folder of the sample that ships, with its licence."""
CHECKSUMS = Path(__file__).parent / "checksums"
SUMS = "SHA256SUMS"
SAME, OTHER, ABSENT = "the owner's", "NOT the owner's", "-"
"""What a file is that an owner gives out: as it was, called so only, or not here."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that the owner of a set gives out.

    Attributes
    ----------
    name : str
        Under which it is kept in the folder of the set.
    urls : tuple of str
        Where from, the best first.
    unpack : str
        It is a tar archive, of which the files of this pattern are kept; empty: it is not.
    """

    name: str
    urls: tuple[str, ...]
    unpack: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What a paper says that a method reaches.

    Attributes
    ----------
    method : str
        What the paper calls it.
    ours : str
        The id of the candidate here that is nearest to it: weights, or a method.
    psnr, ssim : float
        Means; the latter 0 where it is not known.
    source : str
        Where it stands.
    noise : str
        As in a file of results; empty where the images are noisy already.
    kind : str
        Of SSIM, as in a protocol; empty: not known.
    """

    method: str
    ours: str
    psnr: float
    source: str
    noise: str = ""
    ssim: float = 0.0
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set of images.

    Attributes
    ----------
    id : str
        Its name, and that of its folder.
    title : str
        What it shows, in a line.
    home : str
        Where to get it.
    licence : str
        What its authors say of its use.
    pictures : int
        How many there are when it is complete.
    noisy, clean : str
        Patterns of its files within its folder; empty: there are none.
    noise : str
        What is put on clean images where none are noisy, unless asked for otherwise.
    protocol : str
        How it is measured, unless asked for otherwise.
    range : str
        What is black and white, unless asked for otherwise.
    sources : tuple of Source
        Its files, where its owner lets a program fetch them.
    sample_of : str
        Id of the set that this is a part of, so that the figures of the two are not mixed.
    published : tuple of Published
        What papers say of it.
    """

    id: str
    title: str
    home: str
    licence: str
    pictures: int
    noisy: str = ""
    clean: str = ""
    noise: str = ""
    protocol: str = "srgb"
    range: str = "auto"
    sources: tuple[Source, ...] = ()
    sample_of: str = ""
    published: tuple[Published, ...] = ()

    def folder(self, data: Path) -> Path:
        """Return the folder of its files, given that of all sets."""
        return SAMPLE if self.sample_of else data / self.id

    def find(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the noisy files that are in a folder, and the clean ones."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        # Endings of some sets are written large or small.
        names = {path: f"/{path.relative_to(folder)}".lower() for path in paths}

        def matching(pattern: str) -> list[Path]:
            wanted = f"*/{pattern}".lower()
            return [path for path in paths if pattern and fnmatch(names[path], wanted)]

        return matching(self.noisy), matching(self.clean)

    @property
    def how_to_get(self) -> str:
        """What to do to have it here."""
        by_hand = f"from {self.home}, put it into DIR/{self.id}, and give --data DIR"
        if self.sources:
            return f"denoisekit bench sets get {self.id}; or get it {by_hand}"
        return f"get it by hand {by_hand}"


def checksums(name: str) -> dict[str, str]:
    """Return the sha256 of the owner's files of a set; empty where none are known."""
    return _read_sums(CHECKSUMS / f"{name}.sha256")


def _read_sums(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = path.read_text("utf-8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def _dataset(facts: dict[str, Any]) -> Dataset:
    """Return what an entry of the table says."""
    base, names = facts.pop("base", ""), facts.pop("names", ()) or checksums(facts["id"])
    files = [{"name": name, "urls": [f"{base}/{name}"]} for name in names if base]
    sources = [
        Source(one["name"], tuple(one["urls"]), one.get("unpack", ""))
        for one in files + facts.pop("sources", [])
    ]
    published = tuple(Published(**one) for one in facts.pop("published", ()))
    return Dataset(**facts, sources=tuple(sources), published=published)


DATASETS = tuple(
    _dataset(entry)
    for entry in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["set"]
)


def find_dataset(name: str) -> Dataset:
    """Return the set with this id.

    Raises
    ------
    UsageError
        There is none.
    """
    return find_by_id("set", name, DATASETS)


def data_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of all sets: the one given, that of the environment, or the cache's."""
    named = given or os.environ.get(DATA)
    if named:
        return user_folder(os.fspath(named), f"--data or {DATA}")
    return cache_folder().with_name("sets")


def files_of(info: Dataset, data: Path) -> tuple[list[File], list[File]]:
    """Return the files of a set, noisy and clean.

    Raises
    ------
    InputError
        They are not there.
    """
    folder = info.folder(data)
    found = info.find(folder)
    patterns = zip((info.noisy, info.clean), found, strict=True)
    absent = [pattern for pattern, paths in patterns if pattern and not paths]
    if absent:
        raise InputError(f"{folder} holds no {' and no '.join(absent)}", info.how_to_get)
    noisy, clean = ([File(path) for path in paths] for paths in found)
    return noisy, clean


def check_files(name: str, paths: Iterable[Path]) -> dict[str, str]:
    """Compare the files of a set with those of its owner.

    Parameters
    ----------
    name : str
        Id of the set.
    paths : iterable of pathlib.Path
        That are here.

    Returns
    -------
    dict
        `SAME`, `OTHER` or `ABSENT` by the names of the owner's files; empty where no hashes
        are known.
    """
    wanted = checksums(name)
    digests = {path.name: hash_file(path) for path in paths if wanted}
    states = {True: SAME, False: OTHER}
    return {
        file: states[digests[file] == digest] if file in digests else ABSENT
        for file, digest in wanted.items()
    }


def check_words(states: dict[str, str]) -> str:
    """Return what `check_files` has found, in a line."""
    same, other = (list(states.values()).count(state) for state in (SAME, OTHER))
    if same == len(states):
        return "all are the owner's"
    return f"{same} of {len(states)} are the owner's" + f", {other} are not" * bool(other)


Tell = Callable[[str, int, int], None]
"""``tell(name, done, total)``: bytes of the file under way; the total is 0 where nobody knows."""


def get(info: Dataset, data: Path, tell: Tell = lambda *_: None) -> list[Path]:
    """Fetch the files of a set that are not here; what was cut goes on.

    Parameters
    ----------
    info : Dataset
        Which.
    data : pathlib.Path
        Folder of all sets.
    tell : callable
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
    if info.sample_of:
        raise UsageError(f"'{info.id}' ships with denoisekit: there is nothing to get")
    if not info.sources:
        raise UsageError(
            f"'{info.id}' cannot be fetched by a program",
            f"open {info.home} in a browser, get it, put it into DIR/{info.id}, "
            "and give --data DIR",
        )
    matlab = any(source.name.endswith(".mat") for source in info.sources)
    missing = [name for name in ("scipy", "h5py") if matlab and find_spec(name) is None]
    if missing:
        raise UsageError(
            f"'{info.id}' is MATLAB files, which need {' and '.join(missing)} to be read",
            f"pip install {' '.join(missing)}",
        )
    if offline():
        raise InputError(f"'{info.id}' is not fetched: {OFFLINE} forbids the network")
    folder = info.folder(data)
    try:
        from filelock import FileLock

        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            known = checksums(info.id) or _read_sums(folder / SUMS)
            fetched = []
            for source in info.sources:
                fetched += _get_file(info, source, folder, known, tell)
            if fetched:
                _check_whole(info, data, fetched)
            if fetched and not checksums(info.id):
                for source in info.sources:
                    if not source.unpack and source.name not in known:
                        known[source.name] = hash_file(folder / source.name)
                text = "".join(f"{digest}  {name}\n" for name, digest in sorted(known.items()))
                write_whole(folder / SUMS, text.encode())
    except OSError as error:
        raise OutputError(
            f"cannot write '{info.id}' in {folder}: {error.strerror or error}",
            "name another folder with --data",
        ) from error
    return fetched


def _get_file(
    info: Dataset, source: Source, folder: Path, known: dict[str, str], tell: Tell
) -> list[Path]:
    """Fetch a file unless it is here; return what is new."""
    path, part = folder / source.name, folder / f"{source.name}.part"
    if path.exists() or (source.unpack and len(info.find(folder)[1]) == info.pictures):
        return []
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


def _check_whole(info: Dataset, data: Path, fetched: list[Path]) -> None:
    """Refuse, and delete, what came and is not a whole set that can be read."""
    try:
        for files in files_of(info, data):
            count = len(list_planes(files))
            if files and count != info.pictures:
                raise InputError(f"{count} pictures in place of {info.pictures}")
    except DenoisekitError as error:
        for path in fetched:
            path.unlink()
        raise InputError(
            f"what came is not '{info.id}', and was deleted: {error.message}",
            f"get it by hand from {info.home}",
        ) from error
