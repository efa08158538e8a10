"""The cache folder, its file names, and whether what lies there is sound.

A set of weights is two files::

    aprrd.sidd-f743c0ed.safetensors        converted; its header says where from
    aprrd.sidd-f743c0ed.safetensors.json   size, modification time and hash of the former

The eight digits begin the published file's hash, so a new version of the manifest
never meets an old file. Weights that a user vouched for are called
``aprrd.sidd-unverified``. Those that ship with denoisekit stay in its own folder `EMBEDDED`.
Nothing here touches the network or imports torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from denoisekit.atomic import replacing, write_synced, write_whole
from denoisekit.errors import UsageError, WeightsError, pip_install
from denoisekit.weights.fetch import hash_file
from denoisekit.weights.header import read_header
from denoisekit.weights.manifest import WeightEntry

EMBEDDED = Path(__file__).parent / "embedded"
"""Folder of the weights that ship with denoisekit."""


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


def cache_folder() -> Path:
    """Return the folder of the weights: in ``DENOISEKIT_HOME``, or the user's cache."""
    home = os.environ.get("DENOISEKIT_HOME")
    if home:
        return user_folder(home, "DENOISEKIT_HOME") / "weights"
    from platformdirs import user_cache_path

    return user_cache_path("denoisekit", appauthor=False) / "weights"


def user_folder(name: str, said: str) -> Path:
    """Return a folder whose name may begin with ``~``.

    Parameters
    ----------
    name : str
        As the user wrote it.
    said : str
        Where: for the error.

    Raises
    ------
    UsageError
        There is no such user.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{said}: there is no home folder for {name}", "write it in full"
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
        return _embedded(entry, thorough)
    for verified in (True, False):
        path = path_for(entry, verified=verified)
        if path and os.path.exists(path):  # noqa: PTH110 - no permission: nothing for us
            return _inspect(path, verified, thorough)
    return None


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
    return cache_folder() / f"{entry.id}-{entry.pinned[:8]}.safetensors" if entry.pinned else None


def record_of(path: Path) -> Path:
    """Return the file that holds the size, time and hash of this one."""
    return path.with_name(f"{path.name}.json")


def _embedded(entry: WeightEntry, thorough: bool) -> Stored:
    assert entry.embedded
    assert entry.sha256  # the schema of the manifest wants it
    path, damage = EMBEDDED / entry.embedded, None
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            damage = f"it has {size} bytes instead of {entry.bytes}"
        elif thorough and (found := hash_file(path)) != entry.sha256:
            damage = f"its sha256 is {found} instead of {entry.sha256}"
    except OSError as error:
        damage = f"it cannot be read: {error.strerror}"
    return Stored(path, True, entry.sha256, damage)


def _inspect(path: Path, verified: bool, thorough: bool) -> Stored:
    try:
        record = json.loads(record_of(path).read_text("utf-8"))
        size, mtime, sha256 = record["bytes"], record["mtime_ns"], str(record["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return Stored(path, verified, "", "the record of its hash is missing or unreadable")
    damage = None
    try:
        stat = path.stat()
        if stat.st_size != size:
            damage = f"it has {stat.st_size} bytes instead of {size}"
        elif (thorough or stat.st_mtime_ns != mtime) and (found := hash_file(path)) != sha256:
            damage = f"its sha256 is {found} instead of {sha256}"
        elif stat.st_mtime_ns != mtime:
            # Copied from elsewhere, and sound: the next look is quick again.
            with suppress(OSError):
                write_record(path, stat, sha256)
    except OSError as error:
        damage = f"it cannot be read: {error.strerror}"
    return Stored(path, verified, sha256, damage)


def install(path: Path, data: bytes) -> str:
    """Write a file and the record that `find` compares it with; return its SHA-256.

    The file is either there and whole, with its record, or not there.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    with replacing(path) as temporary:
        write_synced(temporary, data)
        # First the record, with the time that the file will keep when it is renamed.
        write_record(path, temporary.stat(), sha256)
    return sha256


def write_record(path: Path, stat: os.stat_result, sha256: str) -> None:
    """Note what `find` compares a file with."""
    record = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}
    write_whole(record_of(path), json.dumps(record).encode())
