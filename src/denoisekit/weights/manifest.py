"""The manifest: which weights exist, where they are published, and their hashes.

``weights_manifest.json`` is the only place of the project that holds URLs and
hashes. It is data from our own repository, yet read strictly: a slip in it would
otherwise show as a strange download months later.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from denoisekit.errors import UsageError, WeightsError, did_you_mean
from denoisekit.weights.schema import (
    SchemaError,
    check,
    check_keys,
    check_url,
    distinct,
    no_duplicates,
)

_NAME = "weights_manifest.json"


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file behind a plain address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a Hugging Face model repository at a pinned commit."""

    repo: str
    revision: str
    file: str

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.revision}/{self.file}"


@dataclass(frozen=True, slots=True)
class Result:
    """A quality figure and how it was taken.

    Attributes
    ----------
    dataset, protocol : str
        On what, and how.
    psnr : float
        Mean PSNR in dB, peak 255 (8-bit) unless the protocol says otherwise.
    ssim : float or None
        Mean SSIM.
    origin : {'measured', 'published'}
        By us with the published weights, or by their authors.
    """

    dataset: str
    psnr: float
    ssim: float | None
    origin: str
    protocol: str


@dataclass(frozen=True, slots=True)
class WeightEntry:
    """One set of weights, described.

    Attributes
    ----------
    id : str
        ``method.tag``.
    method : str
        Id of the method they belong to.
    config : mapping
        What the method's ``build`` takes.
    title, trained_on, citation : str
        One line each.
    licence : str
        As stated by whoever published them, or ``"none stated"``.
    bytes : int or None
        Size of the published file.
    sha256, git_blob : str or None
        Hash of the published file. ``git_blob`` is the id a git repository gives
        the file; used where the SHA-256 is not known.
    sources : tuple of UrlSource or HubSource
        Where the file can be fetched, in the order to try.
    page : str or None
        Where a person can get the file with a browser, if it cannot be fetched.
    results : tuple of Result
        Quality figures.
    embedded : str or None
        Name of the file, where it ships with denoisekit.
    strength : float or 'auto'
        Blend with the input where none is asked for; see `denoisekit.options.Options`.
    """

    id: str
    method: str
    config: Mapping[str, Any]
    title: str
    trained_on: str
    licence: str
    citation: str
    bytes: int | None
    sha256: str | None
    git_blob: str | None
    sources: tuple[UrlSource | HubSource, ...]
    page: str | None
    results: tuple[Result, ...]
    embedded: str | None = None
    strength: float | Literal["auto"] = "auto"

    @property
    def pinned(self) -> str | None:
        """The hash that the published file must have."""
        return self.sha256 or self.git_blob


def manifest_path() -> Path:
    """Return the manifest in use: in the wheel, or at the top of the repository."""
    here = Path(__file__).parents[1]
    installed = here / _NAME
    # An editable install runs from src/denoisekit; there is no copy beside it.
    return installed if installed.is_file() else here.parents[1] / _NAME


def load_manifest(path: Path | None = None) -> tuple[WeightEntry, ...]:
    """Read and check a manifest.

    Parameters
    ----------
    path : Path, optional
        Another manifest than the project's own.

    Returns
    -------
    tuple of WeightEntry
        In the file's order.

    Raises
    ------
    WeightsError
        The file is absent, is not JSON, or breaks the schema; the message names the
        entry and the key.
    """
    path = path or manifest_path()
    try:
        data = json.loads(path.read_text("utf-8"), object_pairs_hook=no_duplicates)
        if not isinstance(data, list):
            raise SchemaError("a list of entries is expected")
        entries = tuple(_entry(item, position) for position, item in enumerate(data))
        distinct([entry.id for entry in entries], "id")
        distinct([entry.pinned for entry in entries if entry.pinned], "hash")
    except OSError as error:
        raise WeightsError(f"cannot read the weights manifest {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"the weights manifest {path} is malformed: {error}",
            "reinstall denoisekit, or mend the entry (docs/weights.md lists the keys)",
        ) from error
    return entries


def find_entry(name: str, entries: Sequence[WeightEntry]) -> WeightEntry:
    """Return the entry with this id.

    Raises
    ------
    UsageError
        There is none; the hint names the closest.
    """
    for entry in entries:
        if entry.id == name:
            return entry
    hint = did_you_mean(name, [entry.id for entry in entries])
    if os.path.isfile(name):  # noqa: PTH113 - no permission: no
        hint = f"for the file of that name write ./{name}; otherwise {hint}"
    raise UsageError(f"there are no weights '{name}'", hint)


_KEYS: Mapping[str, tuple[type, ...]] = {
    "id": (str,),
    "method": (str,),
    "config": (dict,),
    "title": (str,),
    "trained_on": (str,),
    "licence": (str,),
    "citation": (str,),
    "bytes": (int, type(None)),
    "sources": (list,),
    "results": (list,),
}
_OPTIONAL: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("sha256", "git_blob", "page", "embedded"), (str,)),
    "strength": (int, float),
}
_RESULT: Mapping[str, tuple[type, ...]] = {
    "dataset": (str,),
    "psnr": (int, float),
    "ssim": (int, float, type(None)),
    "origin": (str,),
    "protocol": (str,),
}


def _entry(item: Any, position: int) -> WeightEntry:
    name = item.get("id") if isinstance(item, dict) else None
    where = f"'{name}'" if isinstance(name, str) else f"entry {position}"
    check_keys(item, _KEYS, _OPTIONAL, where)
    # The id becomes a file name, so its letters are few.
    check(re.fullmatch(r"[a-z0-9]+\.[a-z0-9][a-z0-9.-]*", item["id"]), where, "id", "method.tag")
    check(item["id"].split(".")[0] == item["method"], where, "id", "the method before the dot")
    size = item["bytes"]
    check(size is None or 0 < size < 2**40, where, "bytes", "a size in bytes or null")
    sha256, git_blob = item.get("sha256"), item.get("git_blob")
    check(sha256 is None or re.fullmatch(r"[0-9a-f]{64}", sha256), where, "sha256", "64 hex digits")
    check(git_blob is None or re.fullmatch(r"[0-9a-f]{40}", git_blob), where, "git_blob", "40 hex")
    check(not (sha256 and git_blob), where, "git_blob", "absent where sha256 is given")
    check(sha256 is None or size is not None, where, "bytes", "given where sha256 is")
    sources = tuple(_source(source, where) for source in item["sources"])
    check(not sources or sha256 or git_blob, where, "sha256", "given where there are sources")
    embedded = item.get("embedded")
    origins = sources or item.get("page") or embedded
    check(origins, where, "page", "given where there are no sources")
    check(not (embedded and sources), where, "embedded", "absent where there are sources")
    # The name is joined to a folder.
    plain = embedded is None or re.fullmatch(r"[a-z0-9][a-z0-9.-]*\.safetensors", embedded)
    check(plain, where, "embedded", "the name of a safetensors file")
    check(not embedded or sha256, where, "sha256", "given where the file is embedded")
    strength = item.get("strength", "auto")
    check(strength == "auto" or 0 < strength <= 1, where, "strength", "above 0, at most 1")
    if item.get("page"):
        check_url(item["page"], where, "page")
    return WeightEntry(
        id=item["id"],
        method=item["method"],
        config=MappingProxyType(item["config"]),
        title=item["title"],
        trained_on=item["trained_on"],
        licence=item["licence"],
        citation=item["citation"],
        bytes=size,
        sha256=sha256,
        git_blob=git_blob,
        sources=sources,
        page=item.get("page"),
        results=tuple(_result(result, where) for result in item["results"]),
        embedded=embedded,
        strength=strength,
    )


def _source(item: Any, where: str) -> UrlSource | HubSource:
    if isinstance(item, dict) and "url" in item:
        check_keys(item, {"url": (str,)}, {}, f"{where}, sources")
        check_url(item["url"], where, "url")
        return UrlSource(item["url"])
    hub: Mapping[str, tuple[type, ...]] = {"repo": (str,), "revision": (str,), "file": (str,)}
    check_keys(item, hub, {}, f"{where}, sources")
    check(re.fullmatch(r"[\w.-]+/[\w.-]+", item["repo"]), where, "repo", "owner/name")
    # A branch or a tag can move; a commit cannot.
    check(re.fullmatch(r"[0-9a-f]{40}", item["revision"]), where, "revision", "a commit, 40 hex")
    return HubSource(item["repo"], item["revision"], item["file"])


def _result(item: Any, where: str) -> Result:
    check_keys(item, _RESULT, {}, f"{where}, results")
    origin = item["origin"]
    check(origin in {"measured", "published"}, where, "origin", "'measured' or 'published'")
    return Result(item["dataset"], item["psnr"], item["ssim"], origin, item["protocol"])
