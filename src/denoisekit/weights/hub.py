"""One file from a Hugging Face repository, at a pinned commit.

huggingface_hub checks the size of what it fetched, not its hash: the caller does.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from denoisekit._version import __version__
from denoisekit.weights.manifest import HubSource
from denoisekit.weights.transfer import LIMIT, Progress
from denoisekit.weights.web import SourceFailed


def cached(source: HubSource) -> Path | None:
    """Return the file where another program fetched it already; needs no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source.repo, source.file, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def download(source: HubSource, folder: Path, size: int | None, progress: Progress) -> Path:
    """Fetch the file into a folder; ``HF_ENDPOINT`` and the hub's other settings hold.

    Raises
    ------
    SourceFailed
        The hub has no such file, refuses, cannot be reached, or sends too much.
    OSError
        The folder cannot be written.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    # Read now: huggingface_hub looks at the variable once, when it is imported.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        url = hf_hub_url(source.repo, source.file, revision=source.revision, endpoint=endpoint)
        # Asked beforehand, it fails at once where hf_hub_download waits and tries again.
        offered = get_hf_file_metadata(url, endpoint=endpoint).size
        if size and offered != size:
            raise SourceFailed(f"{source} has {offered} bytes, the published file {size}")
        path = hf_hub_download(
            source.repo,
            source.file,
            revision=source.revision,
            local_dir=folder,
            cache_dir=folder / "cache",  # not the user's, from which it would copy unchecked
            endpoint=endpoint,
            library_name="denoisekit",
            library_version=__version__,
            tqdm_class=_bar(size, progress),
        )
    except SourceFailed:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EACCES, errno.EROFS}:
            raise
        # Its errors fill a screen; the first line says what happened.
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SourceFailed(f"{source}: {text}") from error
    return Path(path)


def _bar(size: int | None, progress: Progress) -> Any:
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
            progress(self.done, size or int(self.total or 0))
            return None

    return Bar
