"""Bring a published file here: try its sources, check its hash, explain what failed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from denoisekit.errors import WeightsError
from denoisekit.weights import hub, transfer
from denoisekit.weights.advice import absent
from denoisekit.weights.manifest import HubSource, UrlSource, WeightEntry
from denoisekit.weights.transfer import Progress
from denoisekit.weights.web import SourceFailed

OFFLINE = "DENOISEKIT_OFFLINE"
"""Environment variable: anything but empty, 0, false or no forbids the network."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A published file on this machine, its hash checked."""

    path: Path
    sha256: str
    source: str


def offline() -> bool:
    """Return whether the user forbade the network."""
    return os.environ.get(OFFLINE, "").lower() not in {"", "0", "false", "no"}


def fetch(entry: WeightEntry, folder: Path, progress: Progress | None = None) -> Fetched:
    """Bring the published file here and check its hash.

    Parameters
    ----------
    entry : WeightEntry
        What to fetch.
    folder : Path
        Where to work. What was received stays there after a cut connection, to be
        resumed; after any other failure the folder is removed.
    progress : callable, optional
        Called with the bytes done and the total.

    Returns
    -------
    Fetched
        A file in `folder`, or in the user's Hugging Face cache: not to be removed.

    Raises
    ------
    WeightsError
        Offline, no source gave the right file, or it cannot be written.
    """
    cached = _in_hub_cache(entry)
    if cached:
        return cached
    if offline():
        raise absent(entry, f"{OFFLINE} forbids the network")
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in entry.sources:
            try:
                return _from_source(entry, source, folder, progress or _ignore)
            except SourceFailed as failure:
                failures.append(str(failure))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise unwritable(entry, folder.parent, error) from error
    if not (folder / "file.part").exists() and not any(folder.rglob("*.incomplete")):
        shutil.rmtree(folder)
    raise absent(entry, "; ".join(failures))


def unwritable(entry: WeightEntry, folder: Path, error: OSError) -> WeightsError:
    """Return the error for a cache folder that takes no file."""
    hint = "set DENOISEKIT_HOME to a folder that you can write to"
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", None)}:
        need = f" ({entry.bytes / 1e6:.1f} MB needed twice)" if entry.bytes else ""
        hint = f"free some space{need}, or set DENOISEKIT_HOME to another disk"
    return WeightsError(f"cannot write {entry.id} in {folder}: {error.strerror or error}", hint)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mismatch(entry: WeightEntry, path: Path, sha256: str) -> str | None:
    """Say how a file's hash differs from the pinned one; None where it is right."""
    if entry.sha256:
        found, expected, kind = sha256, entry.sha256, "sha256"
    elif entry.git_blob:
        found, expected, kind = _git_blob(path), entry.git_blob, "git blob"
    else:
        return "no hash is known for it"
    return None if found == expected else f"expected {kind} {expected}, found {found}"


def _git_blob(path: Path) -> str:
    # SHA-1 because git names its objects so; usedforsecurity=False is for FIPS builds only.
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 18):
            digest.update(chunk)
    return digest.hexdigest()


def _from_source(
    entry: WeightEntry, source: UrlSource | HubSource, folder: Path, progress: Progress
) -> Fetched:
    if isinstance(source, HubSource):
        path = hub.download(source, folder / "hub", entry.bytes, progress)
        return _checked(entry, source, path, hash_file(path), folder)
    part = folder / "file.part"
    resumed = part.exists()
    sha256 = transfer.download(source.url, part, entry.bytes, progress)
    if resumed and mismatch(entry, part, sha256):
        # The old part may be of another file: once more, from the start.
        part.unlink()
        sha256 = transfer.download(source.url, part, entry.bytes, progress)
    return _checked(entry, source, part, sha256, folder)


def _checked(
    entry: WeightEntry, source: UrlSource | HubSource, path: Path, sha256: str, folder: Path
) -> Fetched:
    problem = mismatch(entry, path, sha256)
    if problem:
        shutil.rmtree(folder)
        folder.mkdir()  # for the next source
        raise SourceFailed(f"{source} is not the published file and was deleted: {problem}")
    return Fetched(path, sha256, str(source))


def _in_hub_cache(entry: WeightEntry) -> Fetched | None:
    for source in entry.sources:
        path = hub.cached(source) if isinstance(source, HubSource) else None
        if path:
            sha256 = hash_file(path)
            if not mismatch(entry, path, sha256):
                return Fetched(path, sha256, str(source))
    return None


def _ignore(done: int, total: int) -> None:
    """Take the place of a progress callback."""
