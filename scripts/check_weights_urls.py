"""Ask every address in the weights manifest whether the file is still there.

python scripts/check_weights_urls.py            sizes only: a HEAD request each
python scripts/check_weights_urls.py --hash     fetch each file and compare its hash

Needs the network, so it is run by hand or nightly, never by the tests. Leaves with 1 if
any source fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import urllib.request
from pathlib import Path

from denoisekit.errors import WeightsError
from denoisekit.weights import WeightEntry, load_manifest
from denoisekit.weights.manifest import HubSource, UrlSource
from denoisekit.weights.store import fetch


def check_size(entry: WeightEntry, source: UrlSource | HubSource) -> str | None:
    """Return what is wrong with a source, by what its server says of it."""
    if isinstance(source, HubSource):
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(source.repo, source.file, revision=source.revision)
    else:
        url = source.url
    # The whole file's length, not that of a compressed answer.
    headers = {"User-Agent": "denoisekit-check", "Accept-Encoding": "identity"}
    try:
        request = urllib.request.Request(url, method="HEAD", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            size = response.headers["X-Linked-Size"] or response.headers["Content-Length"]
    except OSError as error:
        return str(error)
    if entry.bytes and size and int(size) != entry.bytes:
        return f"{size} bytes instead of {entry.bytes}"
    return None


def check_hash(entry: WeightEntry, source: UrlSource | HubSource) -> str | None:
    """Return what is wrong with a source, by its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch(dataclasses.replace(entry, sources=(source,)), Path(folder) / "work")
        except WeightsError as error:
            return error.message
    return None


def main() -> int:
    """Check all sources; print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hash", action="store_true", help="fetch the files and compare hashes")
    check = check_hash if parser.parse_args().hash else check_size
    failed = 0
    for entry in load_manifest():
        for source in entry.sources:
            problem = check(entry, source)
            failed += problem is not None
            print(f"{entry.id}  {source}  {problem or 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
