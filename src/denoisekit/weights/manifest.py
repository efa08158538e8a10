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
from urllib.parse import urlsplit

from denoisekit.errors import UsageError, WeightsError, did_you_mean
from denoisekit.methods import all_methods
from denoisekit.methods.base import MethodInfo

_NAME = "weights_manifest.json"


class SchemaError(ValueError):
    """Data break a rule; the message names the entry and the key."""


@dataclass(frozen=True, slots=True)
class UrlSource:
    """A file behind a plain address."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file of a Hugging Face model repository; in the manifest at a pinned commit."""

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
    sources : tuple of UrlSource or HubSource
        Where the file can be fetched, in the order to try.
    results : tuple of Result
        Quality figures.
    sha256, git_blob : str or None
        Hash of the published file. ``git_blob`` is the id a git repository gives
        the file; used where the SHA-256 is not known.
    page : str or None
        Where a person can get the file with a browser. An entry with a page and no hash is
        held to the file that is fetched first.
    embedded : str or None
        Name of the file, where it ships with denoisekit.
    strength : float or 'auto'
        Blend with the input where none is asked for; see `denoisekit.options.Options`.
    use : {'any', 'measured', 'named'}
        Where the method ``auto`` may take them: for colour images, which it tries them on; for
        grey measured data, in place of the default; or nowhere, unless they are named.
    """

    id: str
    method: str
    config: Mapping[str, Any]
    title: str
    trained_on: str
    licence: str
    citation: str
    bytes: int | None
    sources: tuple[UrlSource | HubSource, ...]
    results: tuple[Result, ...]
    sha256: str | None = None
    git_blob: str | None = None
    page: str | None = None
    embedded: str | None = None
    strength: float | Literal["auto"] = "auto"
    use: Literal["any", "measured", "named"] = "any"

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
        _distinct([entry.id for entry in entries], "id")
        _distinct([entry.pinned for entry in entries if entry.pinned], "hash")
    except OSError as error:
        raise WeightsError(f"cannot read the weights manifest {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"the weights manifest {path} is malformed: {error}",
            "reinstall denoisekit, or mend the entry (docs/weights.md lists the keys)",
        ) from error
    return entries


def find_entry(
    name: str, entries: Sequence[WeightEntry], method: MethodInfo | None = None
) -> WeightEntry:
    """Return the entry with this id.

    Parameters
    ----------
    name : str
        The id.
    entries : sequence of WeightEntry
        Where to look.
    method : MethodInfo, optional
        A method that is not among those installed, and may be meant.

    Raises
    ------
    WeightsError
        It would be of a method of which no weights are published.
    UsageError
        There is no such id; the hint names the closest.
    """
    for entry in entries:
        if entry.id == name:
            return entry
    wanted = name.split(".")[0]
    known = next((m for m in (method, *all_methods()) if m and m.id == wanted), None)
    ids = [entry.id for entry in entries if entry.method == wanted]
    if known and not ids:
        raise unpublished(known)
    if known and name == wanted:
        raise UsageError(
            f"'{name}' is a method; weights have ids of their own",
            f"the weights of {name}: {', '.join(ids)}",
        )
    hint = did_you_mean(name, [entry.id for entry in entries])
    if os.path.isfile(name):  # noqa: PTH113 - no permission: no
        hint = f"for the file of that name write ./{name}; otherwise {hint}"
    raise UsageError(f"there are no weights '{name}'", hint)


def ways(entry: WeightEntry) -> list[str]:
    """Return how these weights can be had, best way first."""
    found = []
    if entry.sources:
        found.append(f"with a network: denoisekit weights pull {entry.id}")
    origin = next((s.url for s in entry.sources if isinstance(s, UrlSource)), None)
    fetched = f"with the file from {origin}" if origin else "with the published file"
    if entry.page:
        fetched = f"open {entry.page} in a browser, download the file, then"
    found.append(f"{fetched}: denoisekit weights import FILE --as {entry.id}")
    return found


def absent(entry: WeightEntry, reason: str) -> WeightsError:
    """Return the error for weights that are not here; its hint says how to get them."""
    return WeightsError(
        f"the weights {entry.id} are not available: {reason}", "; or ".join(ways(entry))
    )


def unpublished(method: MethodInfo) -> WeightsError:
    """Return the error for a method that has no weights to be had."""
    return WeightsError(
        f"no weights of the method {method.id} are published",
        method.without_weights or "give a file of your own: --weights FILE",
    )


_KEYS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "method", "title", "trained_on", "licence", "citation"), (str,)),
    "config": (dict,),
    "bytes": (int, type(None)),
    "sources": (list,),
    "results": (list,),
}
_OPTIONAL: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("sha256", "git_blob", "page", "embedded", "use"), (str,)),
    "strength": (int, float),
}
_RESULT: Mapping[str, tuple[type, ...]] = {
    "psnr": (int, float),
    "ssim": (int, float, type(None)),
    **dict.fromkeys(("dataset", "origin", "protocol"), (str,)),
}


def _entry(item: Any, position: int) -> WeightEntry:
    name = item.get("id") if isinstance(item, dict) else None
    where = f"'{name}'" if isinstance(name, str) else f"entry {position}"
    _check_keys(item, where, _KEYS, _OPTIONAL)
    size, strength, embedded = item["bytes"], item.get("strength", 1), item.get("embedded")
    sha256, git_blob, page = item.get("sha256"), item.get("git_blob"), item.get("page")
    sources = tuple(_source(source, where) for source in item["sources"])
    _check(
        where,
        # The id and the name of an embedded file become names of files, so their letters are few.
        (re.fullmatch(r"[a-z0-9]+\.[a-z0-9][a-z0-9.-]*", item["id"]), "id", "method.tag"),
        (item["id"].split(".")[0] == item["method"], "id", "the method before the dot"),
        (size is None or 0 < size < 2**40, "bytes", "a size in bytes or null"),
        (sha256 is None or re.fullmatch(r"[0-9a-f]{64}", sha256), "sha256", "64 hex digits"),
        (git_blob is None or re.fullmatch(r"[0-9a-f]{40}", git_blob), "git_blob", "40 hex"),
        (not (sha256 and git_blob), "git_blob", "absent where sha256 is given"),
        (sha256 is None or size is not None, "bytes", "given where sha256 is"),
        (
            not sources or sha256 or git_blob or page,
            "sha256",
            "given where there are sources, or a page for the browser",
        ),
        (sources or page or embedded, "page", "given where there are no sources"),
        (not (embedded and sources), "embedded", "absent where there are sources"),
        (
            embedded is None or re.fullmatch(r"[a-z0-9][a-z0-9.-]*\.safetensors", embedded),
            "embedded",
            "the name of a safetensors file",
        ),
        (not embedded or sha256, "sha256", "given where the file is embedded"),
        (0 < strength <= 1, "strength", "above 0, at most 1"),
        (item.get("use", "any") in {"any", "measured", "named"}, "use", "any, measured or named"),
        (page is None or _is_url(page), "page", _URL),
    )
    results = []
    for result in item["results"]:
        _check_keys(result, f"{where}, results", _RESULT)
        origin = result["origin"] in {"measured", "published"}
        _check(where, (origin, "origin", "'measured' or 'published'"))
        results.append(Result(**result))
    read = {"config": MappingProxyType(item["config"]), "sources": sources}
    return WeightEntry(**{**item, **read, "results": tuple(results)})


def _source(item: Any, where: str) -> UrlSource | HubSource:
    if isinstance(item, dict) and "url" in item:
        _check_keys(item, f"{where}, sources", {"url": (str,)})
        _check(where, (_is_url(item["url"]), "url", _URL))
        return UrlSource(**item)
    _check_keys(item, f"{where}, sources", dict.fromkeys(("repo", "revision", "file"), (str,)))
    _check(
        where,
        (re.fullmatch(r"[\w.-]+/[\w.-]+", item["repo"]), "repo", "owner/name"),
        # A branch or a tag can move; a commit cannot.
        (re.fullmatch(r"[0-9a-f]{40}", item["revision"]), "revision", "a commit, 40 hex"),
    )
    return HubSource(**item)


def _check_keys(
    item: Any,
    where: str,
    required: Mapping[str, tuple[type, ...]],
    optional: Mapping[str, tuple[type, ...]] = MappingProxyType({}),
) -> None:
    """Refuse what is no object, lacks a key, has another one, or one of a wrong type."""
    if not isinstance(item, dict):
        raise SchemaError(f"{where}: an object is expected, not {type(item).__name__}")
    for key, value in item.items():
        types = required.get(key) or optional.get(key)
        if types is None:
            raise SchemaError(f"{where}: unknown key '{key}'")
        # JSON's true is an int to Python.
        if not isinstance(value, types) or isinstance(value, bool):
            raise SchemaError(f"{where}: '{key}' has the wrong type {type(value).__name__}")
        if value == "":
            raise SchemaError(f"{where}: '{key}' is empty")
    for key in required:
        if key not in item:
            raise SchemaError(f"{where}: '{key}' is missing")


def _check(where: str, *rules: tuple[object, str, str]) -> None:
    """Refuse an entry where a rule (whether it holds, its key, what is expected) is broken."""
    for holds, key, expected in rules:
        if not holds:
            raise SchemaError(f"{where}: '{key}' must be: {expected}")


_URL = "an http(s) address, percent-encoded"


def _is_url(url: str) -> bool:
    parts = urlsplit(url)
    legal = re.fullmatch(r"[!-~]+", url) and parts.scheme in {"http", "https"}
    return bool(legal and parts.hostname)


def _distinct(values: list[str], what: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise SchemaError(f"the {what} '{value}' is there twice")


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON whose keys are distinct; for `json.loads`."""
    _distinct([key for key, _ in pairs], "key")
    return dict(pairs)
