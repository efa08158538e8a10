"""The store of weights: what lies in the cache folder, whether it is sound, and how it gets there.

A set of weights is two files::

    aprrd.sidd-f743c0ed.safetensors        converted; its header says where from
    aprrd.sidd-f743c0ed.safetensors.json   size, modification time and hash of the former

The eight digits begin the published file's hash, so a new version of the manifest
never meets an old file. Weights that a user vouched for are called
``aprrd.sidd-unverified``. Those that ship with denoisekit stay in its own folder `EMBEDDED`.

``pins.json`` holds what no manifest knows: the hash of a file that was published without one,
when it first came, and commit and hash of the files of Hugging Face repositories, which stay
in the hub's own cache.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from denoisekit._version import __version__
from denoisekit.atomic import replacing, write_synced, write_whole
from denoisekit.errors import UsageError, WeightsError, pip_install, printable
from denoisekit.methods.base import MethodInfo
from denoisekit.weights import hub
from denoisekit.weights.checkpoint import (
    fit,
    guesses,
    plain,
    read_header,
    read_state,
    shapes_of,
    to_safetensors,
)
from denoisekit.weights.download import (
    OFFLINE,
    Progress,
    SourceFailed,
    download,
    hash_blob,
    hash_file,
    offline,
)
from denoisekit.weights.manifest import (
    HubSource,
    UrlSource,
    WeightEntry,
    absent,
    find_entry,
    load_manifest,
)

EMBEDDED = Path(__file__).parent / "embedded"
"""Folder of the weights that ship with denoisekit."""

PINNED_FIRST = "by the file that was fetched first"
"""What a header says of weights that were published without a hash."""

_LOCK_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights on this machine.

    Attributes
    ----------
    path : Path
        The safetensors file.
    verified : bool
        Made from a file with the pinned hash; False where a user vouched for it.
    sha256 : str
        Of the safetensors file when it was written; empty where no record is left.
    damage : str or None
        What is wrong with the file, if anything.
    """

    path: Path
    verified: bool
    sha256: str
    damage: str | None

    def header(self) -> Mapping[str, str]:
        """Return what the file says of its origin."""
        return read_header(self.path) or {}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A published file on this machine, its hash checked.

    Attributes
    ----------
    path : Path
        The file; what lies in the cache of the Hugging Face hub is not to be removed.
    sha256 : str
        Of the file.
    source : UrlSource, HubSource or str
        Where it is from; of the hub at its commit.
    new : bool
        Whether it came just now.
    warnings : tuple of str
        What the user should know, a line each.
    """

    path: Path
    sha256: str
    source: UrlSource | HubSource | str
    new: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def commit(self) -> str:
        """The commit of a file of the hub; empty for others."""
        return self.source.revision if isinstance(self.source, HubSource) else ""


def cache_folder() -> Path:
    """Return the folder of the weights: in ``DENOISEKIT_HOME``, or the user's cache."""
    home = os.environ.get("DENOISEKIT_HOME")
    if home:
        return user_folder(home, "DENOISEKIT_HOME") / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("denoisekit", appauthor=False) / "weights"


def user_folder(name: str, where: str) -> Path:
    """Return a folder whose name may begin with ``~``.

    Parameters
    ----------
    name : str
        As the user wrote it.
    where : str
        The option or variable that has the name: for the error.

    Raises
    ------
    UsageError
        There is no such user.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{where}: there is no home folder for {name}", "write it in full"
        ) from error


def find(entry: WeightEntry, *, thorough: bool = False) -> Stored | None:
    """Look for weights on this machine; no network, and no torch.

    Parameters
    ----------
    entry : WeightEntry
        What to look for.
    thorough : bool
        Hash the whole file even if its size and time are as recorded.

    Returns
    -------
    Stored or None
        None where there are none. A damaged file is returned, and says so.
    """
    if entry.embedded:
        path = EMBEDDED / entry.embedded
        return _inspect(path, True, entry.sha256 or "", entry.bytes, None, thorough)
    for verified in (True, False):
        found = path_for(entry, verified=verified)
        if found is None or not os.path.exists(found):  # noqa: PTH110 - no permission: nothing for us
            continue
        try:
            record = json.loads(record_of(found).read_text("utf-8"))
            size, mtime, sha256 = record["bytes"], record["mtime_ns"], str(record["sha256"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return Stored(found, verified, "", "the record of its hash is missing or unreadable")
        return _inspect(found, verified, sha256, size, mtime, thorough)
    return None


def _inspect(
    path: Path, verified: bool, sha256: str, size: int | None, mtime: int | None, thorough: bool
) -> Stored:
    """Compare a file with what is known of it; its time where that is known, too."""
    damage = None
    try:
        stat = path.stat()
        copied = mtime is not None and stat.st_mtime_ns != mtime
        if stat.st_size != size:
            damage = f"it has {stat.st_size} bytes instead of {size}"
        elif (thorough or copied) and (found := hash_file(path)) != sha256:
            damage = f"its sha256 is {found} instead of {sha256}"
        elif copied:  # and sound: the next look is quick again
            with suppress(OSError):
                _write_record(path, stat, sha256)
    except OSError as error:
        damage = f"it cannot be read: {error.strerror}"
    return Stored(path, verified, sha256, damage)


def weights_present(entry: WeightEntry) -> bool:
    """Return whether undamaged weights are on this machine."""
    stored = find(entry)
    return stored is not None and stored.damage is None


def locate(entry: WeightEntry) -> Path | None:
    """Return the file of these weights, or None where there is none.

    Raises
    ------
    WeightsError
        The file is damaged.
    """
    stored = find(entry)
    if stored and stored.damage:
        raise damaged(entry, stored)
    return stored.path if stored else None


def damaged(entry: WeightEntry, stored: Stored) -> WeightsError:
    """Return the error for a damaged file; its hint says how to repair it."""
    repair = f"denoisekit weights pull {entry.id}"
    if entry.embedded:
        repair = pip_install("", "--force-reinstall", "--no-deps")
    elif not stored.verified:
        repair = f"denoisekit weights import FILE --as {entry.id}"
    return WeightsError(
        f"the weights {entry.id} are damaged: {stored.damage} ({stored.path})",
        f"repair them with: {repair}",
    )


def path_for(entry: WeightEntry, *, verified: bool) -> Path | None:
    """Return where weights are kept; None for verified ones of an entry without a hash."""
    if not verified:
        return cache_folder() / f"{entry.id}-unverified.safetensors"
    pinned = _pinned(entry)
    return cache_folder() / f"{entry.id}-{pinned[:8]}.safetensors" if pinned else None


def record_of(path: Path) -> Path:
    """Return the file that holds the size, time and hash of this one."""
    return path.with_name(f"{path.name}.json")


def install(path: Path, data: bytes) -> str:
    """Write a file and the record that `find` compares it with; return its SHA-256.

    The file is either there and whole, with its record, or not there.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    with replacing(path) as temporary:
        write_synced(temporary, data)
        # First the record, with the time that the file will keep when it is renamed.
        _write_record(path, temporary.stat(), sha256)
    return sha256


def _write_record(path: Path, stat: os.stat_result, sha256: str) -> None:
    record = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    write_whole(record_of(path), json.dumps(record).encode())


def read_pins() -> dict[str, dict[str, str]]:
    """Return what ``pins.json`` holds, by id or ``hf://…@…``: sha256, and commit or source."""
    pins: dict[str, dict[str, str]] = {}
    with suppress(OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        for name, pin in json.loads((cache_folder() / "pins.json").read_text("utf-8")).items():
            if re.fullmatch(r"[0-9a-f]{64}", pin["sha256"]):
                pins[name] = {str(key): str(value) for key, value in pin.items()}
    return pins


def _pin(name: str, **pin: str) -> None:
    """Note a hash for ever after."""
    with _locked("pins"):
        pins = {**read_pins(), name: pin}
        text = json.dumps(pins, indent=2, sort_keys=True)
        write_whole(cache_folder() / "pins.json", f"{text}\n".encode())


def _pinned(entry: WeightEntry) -> str | None:
    """Return the hash that the published file must have, or had when it first came."""
    if entry.pinned or entry.embedded or not entry.sources:
        return entry.pinned
    return read_pins().get(entry.id, {}).get("sha256")


def pull(
    entry: WeightEntry, method: MethodInfo, progress: Progress | None = None, *, renew: bool = False
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
    renew : bool
        Fetch anew what is published without a hash, and take it whatever it is.

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
    renew = renew and entry.pinned is None
    present = _pulled(entry)
    if present and not renew:
        return present, False
    if entry.embedded:
        raise _ships(entry, "they are damaged")
    if not entry.sources:
        raise absent(entry, "they can only be downloaded by hand, in a browser")
    with _locked(entry.id, entry.bytes):
        present = _pulled(entry)  # by the process that held the lock
        if present and not renew:
            return present, False
        former, work = path_for(entry, verified=True), _work_for(entry)
        got = fetch(entry, work, progress, renew=renew)
        try:
            stored = _convert(entry, method, got, verified=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if former not in {None, stored.path}:
            _delete(former, record_of(former))
        return stored, True


def fetch(
    entry: WeightEntry, folder: Path, progress: Progress | None = None, *, renew: bool = False
) -> Fetched:
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
    renew : bool
        Whether a file that is published without a hash may be another one than at first.

    Raises
    ------
    WeightsError
        Offline, no source gave the right file, or it cannot be written.
    """
    failures = []
    held = _pinned(entry) is not None and not renew
    try:
        if not offline():
            folder.mkdir(parents=True, exist_ok=True)
        for source in entry.sources:
            try:
                got = _from_source(entry, source, folder / "file.part", progress, held)
            except SourceFailed as failure:
                failures.append(str(failure))
                continue
            problem = mismatch(entry, got.path, got.sha256) if held else None
            if not problem:
                return got
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()  # for the next source
            failures.append(f"{source} is not the published file and was deleted: {problem}")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise _unwritable(entry.id, entry.bytes, folder.parent, error) from error
    if not (folder / "file.part").exists():
        shutil.rmtree(folder, ignore_errors=True)
    raise absent(entry, f"{OFFLINE} forbids the network" if offline() else "; ".join(failures))


def _from_source(
    entry: WeightEntry,
    source: UrlSource | HubSource,
    part: Path,
    progress: Progress | None,
    held: bool,
) -> Fetched:
    if isinstance(source, HubSource):
        pin = {"commit": source.revision, **({"sha256": entry.sha256} if entry.sha256 else {})}
        return _from_hub(source, pin, size=entry.bytes, progress=progress)
    if offline():
        raise SourceFailed("")
    resumed = part.exists()
    sha256 = download(source.url, part, entry.bytes, progress)
    if resumed and held and mismatch(entry, part, sha256):
        # The old part may be of another file: once more, from the start.
        part.unlink()
        sha256 = download(source.url, part, entry.bytes, progress)
    return Fetched(part, sha256, source)


def mismatch(entry: WeightEntry, path: Path, sha256: str) -> str | None:
    """Say how a file's hash differs from the pinned one; None where it is right."""
    expected = _pinned(entry)
    if expected is None:
        return "no hash is known for it"
    kind, found = ("git blob", hash_blob(path)) if entry.git_blob else ("sha256", sha256)
    if found == expected:
        return None
    told = f"expected {kind} {expected}, found {found}"
    if entry.pinned:
        return told
    return (
        f"{told}; it is not what came first; where its publisher replaced it, "
        f"denoisekit weights pull {entry.id} --renew takes the new one"
    )


def pull_hub(
    name: str | Path,
    *,
    allow_download: bool = True,
    progress: Progress | None = None,
    look: bool = False,
    renew: bool = False,
) -> Fetched:
    """Bring a file of the Hugging Face hub here, and hold it to the commit it first came from.

    Parameters
    ----------
    name : str
        ``hf://USER/REPO[@REVISION]/FILE``.
    allow_download : bool
        Fetch it if it is not here.
    progress : callable, optional
        Called with the bytes done and the total.
    look : bool
        Ask the hub whether the branch has moved, even if the file is here.
    renew : bool
        Take the commit where the branch is now, whatever was pinned.

    Raises
    ------
    UsageError
        `name` is not of that form.
    WeightsError
        It is neither here nor to be had, or not what it was.
    """
    asked = hub.parse(name)
    spec = str(asked)
    pin = {} if renew else read_pins().get(spec, {})
    try:
        here = _from_hub(asked, pin, allow_download=allow_download, progress=progress)
    except SourceFailed as failure:
        moved = _moved(asked, pin["commit"]) if pin and allow_download else ()
        raise WeightsError(
            f"the weights {spec} are not available: {failure}" + "".join(f"; {m}" for m in moved),
            f"where there is a network: denoisekit weights pull {spec}; or download the file, "
            "and give it: --weights FILE",
        ) from failure
    if not pin:
        try:
            _pin(spec, commit=here.commit, sha256=here.sha256)
        except WeightsError:
            if not hub.is_commit(asked):  # a commit is a pin; a branch is none
                raise
    elif here.new or look:
        return replace(here, warnings=_moved(asked, pin["commit"]))
    return here


def _from_hub(
    asked: HubSource,
    pin: Mapping[str, str],
    *,
    size: int | None = None,
    allow_download: bool = True,
    progress: Progress | None = None,
) -> Fetched:
    """Return a file of the hub's cache, at the pinned commit; fetch it if it is not there."""
    at = replace(asked, revision=pin.get("commit", asked.revision))
    closed = hub.forbidden()
    here, damaged = hub.cached(at), None
    # Of a branch, the cache knows where it was when another program looked.
    if here and (hub.is_commit(at) or closed or not allow_download):
        sha256 = hash_file(here[0])
        if sha256 == pin.get("sha256", sha256):
            return Fetched(here[0], sha256, here[1], new=False)
        damaged = here[0]
    if closed or not allow_download:
        raise SourceFailed(f"{closed} forbids the network" if closed else "it is not here")
    source, etag, offered = hub.look(at)
    if size and offered != size:
        raise SourceFailed(f"{source} has {offered} bytes, the published file {size}")
    path = hub.fetch(source, size, progress, damaged=damaged)
    sha256 = hash_file(path)
    # The hub names what it has: SHA-256 of large files, the id in the repository of small ones.
    found = {64: sha256, 40: hash_blob(path)}.get(len(etag), etag)
    if found != etag and not etag.strip("0123456789abcdef"):
        raise SourceFailed(f"{source} came damaged: expected {etag}, found {found}")
    if sha256 != pin.get("sha256", sha256):
        raise SourceFailed(
            f"{source} is not what it was at this commit, or was to be: expected sha256 "
            f"{pin['sha256']}, found {sha256}"
        )
    return Fetched(path, sha256, source)


def _moved(asked: HubSource, commit: str) -> tuple[str, ...]:
    """Say whether a branch has moved from the commit that is pinned."""
    if hub.is_commit(asked) or hub.forbidden():
        return ()
    with suppress(SourceFailed):
        now = hub.look(asked)[0].revision
        if now != commit:
            return (
                f"{asked.revision} of {asked.repo} has moved from commit {commit[:10]} "
                f"to {now[:10]}; denoisekit weights pull {asked} --renew takes the new one",
            )
    return ()


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
    named = find_entry(name, entries) if name else None
    sha256 = _hash_input(path)
    known = next((entry for entry in entries if not mismatch(entry, path, sha256)), None)
    if known and named and known != named:
        raise UsageError(
            f"{path} is {known.id} by its hash, not {named.id}",
            "leave out --as, or give another file",
        )
    if entry := known or named:
        return entry
    found = guesses(shapes_of(read_state(path)))
    offered = [entry for entry in entries if not entry.embedded]
    fitting = [entry for guess in found for entry in offered if guess.fits(entry)]
    unpinned = [entry for entry in fitting if entry.pinned is None]
    if len(found) == 1 and len(unpinned) == 1:
        return unpinned[0]
    unknown = f"{path} is none of the known files (sha256 {sha256})"
    if not found:
        raise WeightsError(
            f"{unknown}, and its keys are of no network that is known here",
            "if you know what it is, add --as ID; its keys and shapes will be checked",
        )
    itself = f"use the file itself: --method {found[0].method.id} --weights {path}"
    if not fitting:
        looks = f"it looks like a checkpoint of {found[0].method.id}, but of no weights in the list"
        raise WeightsError(f"{unknown}; {looks}", itself)
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
    with _locked(entry.id, entry.bytes):
        present = _pulled(entry)
        if not verified and present and present.verified:
            raise WeightsError(
                f"the verified weights {entry.id} are here already; {path} has another hash",
                f"use the file itself (--weights {path}), or first: "
                f"denoisekit weights remove {entry.id}",
            )
        got = Fetched(path, sha256, f"file {printable(path.name)}")
        return _convert(entry, method, got, verified=verified)


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
    kept = [path for verified in (True, False) if (path := path_for(entry, verified=verified))]
    targets = [_work_for(entry), *kept, *map(record_of, kept)]
    present = [path for path in targets if path.exists()]
    if not present:
        raise WeightsError(f"the weights {entry.id} are not here", f"looked in {cache_folder()}")
    with _locked(entry.id, entry.bytes):
        _delete(*present)
    return present


def _delete(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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


def _work_for(entry: WeightEntry) -> Path:
    """Return the folder of a download."""
    return cache_folder() / f"{entry.id}-{(_pinned(entry) or 'first')[:8]}.part"


def _hash_input(path: Path) -> str:
    try:
        return hash_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {path}", "check the path") from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def _locked(name: str, size: int | None = None) -> Iterator[None]:
    """Let one process at a time work on these weights; turn write errors into ours."""
    from filelock import FileLock, Timeout

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise WeightsError(
            f"another process has been working on {name} for {_LOCK_SECONDS / 60:.0f} minutes",
            "wait for it, or end it",
        ) from error
    except OSError as error:
        raise _unwritable(name, size, folder, error) from error


def _unwritable(name: str, size: int | None, folder: Path, error: OSError) -> WeightsError:
    """Return the error for a cache folder that takes no file."""
    hint = "set DENOISEKIT_HOME to a folder that you can write to"
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", None)}:
        need = f" ({size / 1e6:.1f} MB needed twice)" if size else ""
        hint = f"free some space{need}, or set DENOISEKIT_HOME to another disk"
    return WeightsError(f"cannot write {name} in {folder}: {error.strerror or error}", hint)


def _convert(entry: WeightEntry, method: MethodInfo, got: Fetched, *, verified: bool) -> Stored:
    """Convert a published file, whose hash was compared already, into the cache folder."""
    name = entry.id if verified else str(got.path)
    state = read_state(got.path)
    _, config = fit(state, method, entry.config, name, load_manifest())
    how = "no: unverified source"
    if verified:
        how = "yes" if entry.pinned else PINNED_FIRST
        if not entry.pinned and _pinned(entry) != got.sha256:
            _pin(entry.id, sha256=got.sha256, source=str(got.source))
    header = {
        "denoisekit": "1",
        "id": entry.id,
        "method": entry.method,
        "config": json.dumps(dict(config), sort_keys=True),
        "source": str(got.source),
        "source_sha256": got.sha256,
        "verified": how,
        "licence": entry.licence,
        "citation": entry.citation,
        "converter": f"denoisekit {__version__}",
    }
    # Under the authors' keys: a network of ours that changes must not spoil the cache.
    data = to_safetensors(plain(state, name), header)
    path = path_for(entry, verified=verified)
    assert path is not None  # what has no pinned hash is never verified
    return Stored(path, verified, install(path, data), None)
