"""Files of Hugging Face repositories, in the hub's own cache, at a commit.

huggingface_hub checks the size of what it fetched, not its hash: the caller does.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from denoisekit._version import __version__
from denoisekit.errors import UsageError
from denoisekit.weights.download import LIMIT, OFFLINE, Progress, SourceFailed, is_set
from denoisekit.weights.manifest import HubSource


def is_hub(name: str | Path) -> bool:
    """Return whether this names a file of the hub: ``hf://…``, which `Path` shortens by a ``/``."""
    return str(name).startswith("hf:/")


def parse(name: str | Path) -> HubSource:
    """Return what ``hf://USER/REPO[@REVISION]/FILE`` names; the revision is ``main`` if not said.

    Raises
    ------
    UsageError
        It is not of that form.
    """
    told = re.fullmatch(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w.-]+))?/([^\x00-\x1f]+)", str(name))
    if told is None or ".." in told[3].split("/"):
        raise UsageError(
            f"{name} does not name a file of the Hugging Face hub",
            "write hf://USER/REPO/FILE, or hf://USER/REPO@REVISION/FILE with a branch, tag or "
            "commit",
        )
    return HubSource(told[1], told[2] or "main", told[3])


def is_commit(source: HubSource) -> bool:
    """Return whether the revision is a commit, which cannot move as a branch can."""
    return re.fullmatch(r"[0-9a-f]{40}", source.revision) is not None


def forbidden() -> str | None:
    """Return the variable that forbids the hub, if one is set."""
    return next((name for name in (OFFLINE, "HF_HUB_OFFLINE") if is_set(name)), None)


def cached(source: HubSource) -> tuple[Path, HubSource] | None:
    """Return the file in the hub's cache and its commit; needs no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo, source.file, revision=source.revision)
    if not isinstance(found, str):
        return None
    path = Path(found)  # …/snapshots/COMMIT/FILE
    commit = path.parents[len(Path(source.file).parts) - 1].name
    return path, replace(source, revision=commit)


def look(source: HubSource) -> tuple[HubSource, str, int | None]:
    """Ask the hub for a file without its content: return it at its commit, its ETag and size.

    Asked beforehand, it fails at once where the hub's own function waits and tries again.

    Raises
    ------
    SourceFailed
        The hub has no such file, refuses, or cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    # Read now: huggingface_hub looks at the variable once, when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        url = hf_hub_url(source.repo, source.file, revision=source.revision, endpoint=endpoint)
        told = get_hf_file_metadata(url, endpoint=endpoint)
    except Exception as error:
        raise SourceFailed(f"{source}: {_reason(error, source)}") from error
    commit = replace(source, revision=told.commit_hash or "")
    if not is_commit(commit):
        raise SourceFailed(f"{source}: the server names no commit; is it a hub?")
    return commit, told.etag or "", told.size


def fetch(
    source: HubSource, size: int | None, progress: Progress | None, *, damaged: Path | None = None
) -> Path:
    """Fetch a file into the hub's cache; ``HF_ENDPOINT`` and the hub's other settings hold.

    Parameters
    ----------
    source : HubSource
        The file at its commit, as `look` returned it.
    size : int or None
        The size that the file must have.
    progress : callable, optional
        Called with the bytes done and the total.
    damaged : Path, optional
        The file of the cache that is to be replaced.

    Raises
    ------
    SourceFailed
        The hub refuses, cannot be reached, sends too much, or its cache cannot be written.
    """
    from huggingface_hub import hf_hub_download

    try:
        if damaged:  # the hub's function would leave a file that is no link
            damaged.unlink(missing_ok=True)
        path = hf_hub_download(
            source.repo,
            source.file,
            revision=source.revision,
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            force_download=damaged is not None,
            library_name="denoisekit",
            library_version=__version__,
            tqdm_class=_bar(size, progress),
        )
    except SourceFailed:
        raise
    except Exception as error:
        raise SourceFailed(f"{source}: {_reason(error, source)}") from error
    return Path(path)


def _reason(error: Exception, source: HubSource) -> str:
    """Return in one line why the hub has not given a file; its own errors fill a screen."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{source.repo}"
    told = {
        errors.GatedRepoError: f"its repository is gated: ask for access on {page}, then set "
        "HF_TOKEN or run hf auth login",
        errors.RepositoryNotFoundError: f"there is no repository {source.repo}, or it is private: "
        "then set HF_TOKEN or run hf auth login",
        errors.RevisionNotFoundError: f"the repository has no revision {source.revision} (404)",
        errors.EntryNotFoundError: f"the repository has no file {source.file} (404)",
    }
    for kind, words in told.items():
        if isinstance(error, kind) and not isinstance(error, errors.LocalEntryNotFoundError):
            return words
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first if not isinstance(error, PermissionError) else f"cannot write {error.filename}"


def _bar(size: int | None, progress: Progress | None) -> Any:
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        """Draws nothing, and tells our callback what huggingface_hub tells its bar."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options["disable"] = True
            super().__init__(*args, **options)
            self.done = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            if self.done > (size or LIMIT):
                raise SourceFailed(f"the hub sends more than the {size} bytes expected")
            if progress:
                progress(self.done, size or int(self.total or 0))
            return None

    return Bar
