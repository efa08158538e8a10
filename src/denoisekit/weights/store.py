"""Bring weights into the cache folder and take them out: pull, import, remove."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from denoisekit.errors import UsageError, WeightsError, pip_install, printable
from denoisekit.methods import all_methods
from denoisekit.methods.base import MethodInfo
from denoisekit.weights.advice import Misfit, explained, find_weights, guesses, only_by_hand
from denoisekit.weights.cache import (
    Stored,
    cache_folder,
    find,
    install,
    path_for,
    record_of,
)
from denoisekit.weights.fetch import fetch, hash_file, mismatch, unwritable
from denoisekit.weights.header import provenance
from denoisekit.weights.manifest import WeightEntry, load_manifest
from denoisekit.weights.transfer import Progress

_LOCK_SECONDS = 1800.0


def pull(
    entry: WeightEntry, method: MethodInfo, progress: Progress | None = None
) -> tuple[Stored, bool]:
    """Fetch weights unless they are here; a damaged file is replaced.

    Parameters
    ----------
    entry : WeightEntry
        What to fetch.
    method : MethodInfo
        The method `entry` names: its network says which keys the file must have.
    progress : callable, optional
        Called with the bytes done and the total.

    Returns
    -------
    stored : Stored
        The weights.
    fetched : bool
        False where they were here already.

    Raises
    ------
    WeightsError
        Offline, unreachable, another hash, another network, or no room.
    """
    present = _pulled(entry)
    if present:
        return present, False
    if entry.embedded:
        raise _ships(entry, "they are damaged")
    target = path_for(entry, verified=True)
    if target is None or not entry.sources:
        raise only_by_hand(entry)
    with _locked(entry):
        present = _pulled(entry)  # by the process that held the lock
        if present:
            return present, False
        work = target.with_suffix(".part")
        got = fetch(entry, work, progress)
        try:
            stored = _store(
                entry, method, got.path, sha256=got.sha256, source=got.source, verified=True
            )
            return stored, True
        finally:
            shutil.rmtree(work, ignore_errors=True)


def choose_entry(path: Path, entries: Sequence[WeightEntry], name: str | None) -> WeightEntry:
    """Say which weights a user's file is: by its hash, as the user says, or by its keys.

    Its keys and shapes decide only where no more than one set of weights can be meant, and
    these have no hash.

    Raises
    ------
    WeightsError
        The file cannot be read, or it is not clear what it is.
    UsageError
        `name` is unknown, or the file has the hash of other weights.
    """
    named = find_weights(name, entries, all_methods()) if name else None
    sha256 = _hash_input(path)
    known = next((e for e in entries if e.pinned and not mismatch(e, path, sha256)), None)
    if known and named and known != named:
        raise UsageError(
            f"{path} is {known.id} by its hash, not {named.id}",
            "leave out --as, or give another file",
        )
    return known or named or _by_its_keys(path, entries, sha256)


def _by_its_keys(path: Path, entries: Sequence[WeightEntry], sha256: str) -> WeightEntry:
    from denoisekit.weights.checkpoint import read_state, shapes_of

    found = guesses(shapes_of(read_state(path)), all_methods())
    offered = [entry for entry in entries if not entry.embedded]
    fitting = [entry for guess in found for entry in offered if guess.fits(entry)]
    unpinned = [entry for entry in fitting if entry.pinned is None]
    if len(found) == 1 and len(unpinned) == 1:
        return unpinned[0]
    unknown = f"{path} is none of the known files (sha256 {sha256})"
    if not found:
        hint = "if you know what it is, add --as ID; its keys and shapes will be checked"
        raise WeightsError(f"{unknown}, and its keys are of no network that is known here", hint)
    itself = f"use the file itself: --method {found[0].method.id} --weights {path}"
    if not fitting:
        raise WeightsError(
            f"{unknown}; it looks like a checkpoint of {found[0].method.id}, but of no weights "
            "in the list",
            itself,
        )
    raise WeightsError(
        f"{unknown}; by its keys and shapes it fits {', '.join(e.id for e in fitting)}",
        f"say which it is with --as ID, or {itself}",
    )


def import_file(path: Path, entry: WeightEntry, method: MethodInfo) -> Stored:
    """Take a file that the user has into the cache folder; the file itself is left alone.

    Parameters
    ----------
    path : Path
        A published checkpoint, or a safetensors file.
    entry : WeightEntry
        What it is. A file without the pinned hash is stored as unverified.
    method : MethodInfo
        The method `entry` names.

    Raises
    ------
    WeightsError
        The file is of another network, holds code, is damaged, or cannot be stored; or
        it is unverified and the verified weights are here already.
    """
    sha256 = _hash_input(path)
    if entry.embedded:
        raise _ships(entry, "there is nothing to import")
    verified = not mismatch(entry, path, sha256)
    with _locked(entry):
        if not verified and entry.pinned and _pulled(entry):
            raise WeightsError(
                f"the verified weights {entry.id} are here already; {path} has another hash",
                f"use the file itself (--weights {path}), or first: "
                f"denoisekit weights remove {entry.id}",
            )
        source = f"file {printable(path.name)}"
        return _store(entry, method, path, sha256=sha256, source=source, verified=verified)


def remove(entry: WeightEntry) -> list[Path]:
    """Delete weights, and what is left of a download of them.

    Returns
    -------
    list of Path
        What was deleted.

    Raises
    ------
    WeightsError
        There was nothing to delete, or it cannot be deleted.
    """
    if entry.embedded:
        raise _ships(entry, "they cannot be removed")
    targets = []
    for verified in (True, False):
        path = path_for(entry, verified=verified)
        if path:
            targets += [path, record_of(path), path.with_suffix(".part")]
    present = [path for path in targets if path.exists()]
    if not present:
        raise WeightsError(f"the weights {entry.id} are not here", f"looked in {cache_folder()}")
    with _locked(entry):
        for path in present:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return present


def _ships(entry: WeightEntry, what: str) -> WeightsError:
    return WeightsError(
        f"the weights {entry.id} ship with denoisekit: {what}",
        f"{pip_install('', '--force-reinstall', '--no-deps')} brings them back whole",
    )


def _pulled(entry: WeightEntry) -> Stored | None:
    stored = find(entry)
    # Where no hash is known, the user's word is all there will ever be.
    final = stored and not stored.damage and (stored.verified or not entry.pinned)
    return stored if final else None


def _hash_input(path: Path) -> str:
    try:
        return hash_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {path}", "check the path") from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def _locked(entry: WeightEntry) -> Iterator[None]:
    """Let one process at a time work on these weights; turn write errors into ours."""
    from filelock import FileLock, Timeout

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{entry.id}.lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise WeightsError(
            f"another process has been working on {entry.id} for {_LOCK_SECONDS / 60:.0f} minutes",
            "wait for it, or end it",
        ) from error
    except OSError as error:
        raise unwritable(entry, folder, error) from error


def _store(
    entry: WeightEntry,
    method: MethodInfo,
    published: Path,
    *,
    sha256: str,
    source: str,
    verified: bool,
) -> Stored:
    """Convert a published file, whose hash was compared already, into the cache folder."""
    from denoisekit.weights.checkpoint import fit, plain, read_state, to_safetensors

    name = entry.id if verified else str(published)
    state = read_state(published)
    try:
        _, config = fit(state, method, entry.config, name)
    except Misfit as misfit:
        raise explained(misfit, all_methods(), load_manifest()) from misfit
    header = provenance(entry, config, source=source, sha256=sha256, verified=verified)
    # Under the authors' keys: a network of ours that changes must not spoil the cache.
    data = to_safetensors(plain(state, name), header)
    path = path_for(entry, verified=verified)
    assert path is not None  # what has no pinned hash is never verified
    return Stored(path, verified, install(path, data), None)
