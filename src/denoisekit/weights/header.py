"""What a stored file says of its origin: the header of a safetensors file.

Read without torch, so that ``denoisekit weights info`` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from denoisekit._version import __version__
from denoisekit.weights.manifest import WeightEntry

_HEADER_LIMIT = 1 << 24
"""The longest header that is read, in bytes; that of a network of 2000 tensors has 200 kB."""

_LONGEST_ID = 64
"""Letters of the name of a method; no real one has 20."""


def read_header(path: Path) -> dict[str, str] | None:
    """Return the metadata of a safetensors file without reading its tensors.

    Parameters
    ----------
    path : Path
        Any file.

    Returns
    -------
    dict of str to str or None
        None if this is no safetensors file.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= _HEADER_LIMIT or file.read(1) != b"{":
            return None
        try:
            header = json.loads(b"{" + file.read(size - 1))
            metadata = header.get("__metadata__", {})
        except (ValueError, AttributeError, RecursionError):
            return None
    if not isinstance(metadata, dict):
        return None
    told = {str(key): str(value) for key, value in metadata.items()}
    if "method" in told:  # it is compared with those that there are
        told["method"] = told["method"][:_LONGEST_ID]
    return told


def provenance(
    entry: WeightEntry, config: Mapping[str, Any], *, source: str, sha256: str, verified: bool
) -> dict[str, str]:
    """Return the header of converted weights.

    Parameters
    ----------
    entry : WeightEntry
        What they are, or what a user says they are.
    config : mapping
        Configuration of their network.
    source : str
        Where the published file came from.
    sha256 : str
        Its hash.
    verified : bool
        Whether that is the pinned hash.
    """
    return {
        "denoisekit": "1",
        "id": entry.id,
        "method": entry.method,
        "config": json.dumps(dict(config), sort_keys=True),
        "source": source,
        "source_sha256": sha256,
        "verified": "yes" if verified else "no: unverified source",
        "licence": entry.licence,
        "citation": entry.citation,
        "converter": f"denoisekit {__version__}",
    }
