"""Weights for the engine: by id from the store, from a file the user names, or from the hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from denoisekit.errors import UsageError, WeightsError
from denoisekit.methods.base import Config, MethodInfo
from denoisekit.weights.checkpoint import fit, read_config, read_header, read_state
from denoisekit.weights.download import Progress, offline
from denoisekit.weights.hub import is_hub
from denoisekit.weights.manifest import (
    WeightEntry,
    absent,
    find_entry,
    load_manifest,
    unpublished,
)
from denoisekit.weights.store import Stored, damaged, find, pull, pull_hub

if TYPE_CHECKING:
    import torch

_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
_RUN = "config.toml"
"""What a folder of a training run has."""


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """Weights in memory, checked against the method's network.

    Attributes
    ----------
    state : mapping of str to torch.Tensor
        Under our keys, on the CPU; float tensors are float32.
    config : mapping
        What the method's ``build`` takes.
    id : str
        Id in the manifest, the file's name, or ``hf://USER/REPO@REVISION/FILE``.
    sha256 : str
        Of the published file; for a file of the user's, of that.
    method : str
        Id of the method.
    warnings : tuple of str
        What the user should know, a line each.
    instead : str
        Where nothing was asked for: the better weights that could not be had, and how to
        get them; empty where there are none.
    strength : float or 'auto'
        Blend with the input where none is asked for: as the manifest says; 1 for a file,
        which may have been fitted to what it is used for.
    """

    state: Mapping[str, torch.Tensor]
    config: Mapping[str, Any]
    id: str
    sha256: str
    method: str
    warnings: tuple[str, ...] = ()
    instead: str = ""
    strength: float | Literal["auto"] = 1.0

    def __reduce__(self) -> tuple[Any, ...]:
        # As numpy: torch hands tensors to other processes by files that both keep open.
        arrays = {key: value.numpy() for key, value in self.state.items()}
        rest = (self.id, self.sha256, self.method, self.warnings, self.instead, self.strength)
        return _from_arrays, (arrays, dict(self.config), *rest)


def _from_arrays(arrays: Mapping[str, Any], *rest: Any) -> LoadedWeights:
    import torch

    return LoadedWeights({key: torch.from_numpy(a) for key, a in arrays.items()}, *rest)


def load_weights(
    name: str | Path | None,
    method: MethodInfo,
    *,
    allow_download: bool = True,
    progress: Progress | None = None,
) -> LoadedWeights:
    """Load weights for a method.

    Parameters
    ----------
    name : str, Path or None
        An id from the manifest, a file, or ``hf://USER/REPO[@REVISION]/FILE`` of the Hugging
        Face hub. A string is a file's path if it contains a separator or ends in
        ``.safetensors``, ``.pth``, ``.pt`` or ``.ckpt``; the folder of a training run is its
        result. None: the first of the method's own that is here or can be fetched.
    method : MethodInfo
        Whose network they must fit.
    allow_download : bool
        Fetch them if they are not here.
    progress : callable, optional
        Called with the bytes done and the total while fetching.

    Returns
    -------
    LoadedWeights
        Ready for ``method.build(config, settings).load(state)``.

    Raises
    ------
    UsageError
        No weights have this id, or they are of another method.
    WeightsError
        They are absent and cannot be fetched, are damaged, or do not fit; or the method
        has none.
    """
    if name is not None and is_hub(name):
        here = pull_hub(name, allow_download=allow_download, progress=progress)
        return replace(_from_file(here.path, method), id=str(name), warnings=here.warnings)
    if name is not None and is_path(name):
        return _from_file(file_of(name), method)
    entries = load_manifest()
    if name is None:
        return _best(method, entries, allow_download, progress)
    entry = find_entry(str(name), entries, method)
    if entry.method != method.id:
        fitting = ", ".join(e.id for e in entries if e.method == method.id)
        raise UsageError(
            f"the weights {entry.id} are of the method {entry.method}, not {method.id}",
            f"add --method {entry.method}" + (f", or choose from: {fitting}" if fitting else ""),
        )
    return _load(entry, method, allow_download, progress)


def is_path(name: str | Path) -> bool:
    """Return whether this names a file, of this machine or of the hub, rather than an id."""
    if isinstance(name, Path):
        return True
    separators = {os.sep, os.altsep or os.sep, "/"}
    if name.lower().endswith(_SUFFIXES) or any(s in name for s in separators):
        return True
    return os.path.isfile(os.path.join(name, _RUN))  # noqa: PTH113, PTH118 - no permission: no


def file_of(name: str | Path, *, allow_download: bool = True) -> Path:
    """Return the file that is named; of the folder of a training run its weights.

    Raises
    ------
    WeightsError
        The run has none yet, or it is another folder; a file of the hub cannot be had.
    """
    if is_hub(name):
        return pull_hub(name, allow_download=allow_download).path
    path = Path(name)
    if not os.path.isdir(path):  # noqa: PTH112 - no permission: no
        return path
    result, last = path / "weights.safetensors", path / "checkpoints" / "last.safetensors"
    if os.path.exists(result):  # noqa: PTH110
        return result
    if os.path.exists(last):  # noqa: PTH110
        raise WeightsError(
            f"the run {path} is not over", f"take what it has so far: --weights {last}"
        )
    raise WeightsError(f"{path} is a folder without weights", "name a file of weights")


def method_of(name: str, *, allow_download: bool = True) -> str | None:
    """Return the id of the method of some weights, from the manifest or the file's header.

    Parameters
    ----------
    name : str
        An id or a file, as for `load_weights`.
    allow_download : bool
        Fetch a file of the hub if it is not here.

    Returns
    -------
    str or None
        None: nothing of the name is known, or the file does not say.

    Raises
    ------
    WeightsError
        A file of the hub cannot be had.
    """
    if not is_path(name):
        return next((entry.method for entry in load_manifest() if entry.id == name), None)
    try:
        return (read_header(file_of(name, allow_download=allow_download)) or {}).get("method")
    except (OSError, WeightsError):  # said better by what loads it
        if is_hub(name):
            raise
        return None


def _best(
    method: MethodInfo,
    entries: Sequence[WeightEntry],
    allow_download: bool,
    progress: Progress | None,
) -> LoadedWeights:
    """Load the first of a method's own weights that can be had."""
    missed: list[tuple[str, WeightsError]] = []
    for name in method.default_weights:
        entry = find_entry(name, entries, method)
        try:
            loaded = _load(entry, method, allow_download, progress)
        except WeightsError as error:
            missed.append((name, error))
            continue
        if not missed:
            return loaded
        first, why = missed[0]
        reason = why.message.removeprefix(f"the weights {first} are not available: ")
        better = ", ".join(name for name, _ in missed)
        told = f"{better} could not be had: {reason}; see denoisekit weights info {first}"
        return replace(loaded, instead=told)
    raise missed[0][1] if missed else unpublished(method)


def _load(
    entry: WeightEntry, method: MethodInfo, allow_download: bool, progress: Progress | None
) -> LoadedWeights:
    """Load weights from this machine, or from where they are published."""
    from safetensors.torch import load

    stored = find(entry)
    warnings: list[str] = []
    fetchable = entry.sources and allow_download and not offline()
    if stored and stored.damage and stored.verified and fetchable:
        warnings += [f"the weights {entry.id} were damaged ({stored.damage}) and fetched again"]
        stored = None
    if stored is None:
        if not allow_download:
            raise absent(entry, "they are not in the cache folder")
        stored, _ = pull(entry, method, progress)
    if stored.damage:
        raise damaged(entry, stored)
    data = _read(stored.path)
    # The file is in memory anyway: hashing it costs little.
    found = hashlib.sha256(data).hexdigest()
    if found != stored.sha256:
        harm = f"its sha256 is {found} instead of {stored.sha256}"
        raise damaged(entry, Stored(stored.path, stored.verified, stored.sha256, harm))
    state, config = fit(load(data), method, entry.config, entry.id)
    if not stored.verified:
        warnings += [f"{entry.id} was imported from an unverified source"]
    return LoadedWeights(
        state=state,
        config=config,
        id=entry.id,
        sha256=stored.header().get("source_sha256", stored.sha256),
        method=method.id,
        warnings=tuple(warnings),
        strength=entry.strength,
    )


def _from_file(path: Path, method: MethodInfo) -> LoadedWeights:
    sha256 = hashlib.sha256(_read(path)).hexdigest()
    header = read_header(path) or {}
    config: Config | None = None
    if header.get("denoisekit"):
        if header.get("method") != method.id:
            raise WeightsError(
                f"{path} holds weights of the method {header.get('method')}, not {method.id}",
                f"add --method {header.get('method')}",
            )
        config = read_config(path, header, method)
    state, config = fit(read_state(path), method, config, str(path))
    return LoadedWeights(state, config, path.name, sha256, method.id)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {path}", "check the path") from error
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
