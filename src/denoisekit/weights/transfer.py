"""One file over HTTP: resumed after a cut, hashed while it streams."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any

from denoisekit.weights.web import Cut, NothingLeft, SourceFailed, ask, read

Progress = Callable[[int, int], None]
"""``progress(done_bytes, total_bytes)``; the total is 0 where nobody knows it."""

LIMIT = 1 << 32
"""The most bytes taken where the manifest does not know the size."""

_DELAYS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between one attempt and the next."""

_STALL_SECONDS, _STALL_BYTES = 20.0, 20_000
"""Less than so many bytes in so many seconds is no download: 20 years ago modems did five times
as much."""

_CHUNK = 1 << 18


def download(url: str, part: Path, size: int | None, progress: Progress) -> str:
    """Download a file, going on where an earlier call was cut.

    Parameters
    ----------
    url : str
        http or https; a redirect from https to http is refused.
    part : Path
        Where to. What is there already is taken for the beginning of the file; a
        ``.tag`` beside it remembers which file of the server's that was.
    size : int or None
        The size that the file must have.
    progress : callable
        Called after each chunk.

    Returns
    -------
    str
        SHA-256 of the whole file, not yet compared with anything.

    Raises
    ------
    SourceFailed
        The server has no such file, refuses, cannot be reached, or cut every attempt.
    OSError
        `part` cannot be written.
    """
    reason = ""
    for delay in (0.0, *_DELAYS):
        time.sleep(delay)
        try:
            return _attempt(url, part, size, progress)
        except Cut as cut:
            reason = str(cut)
    raise SourceFailed(f"{url}: {reason} ({len(_DELAYS) + 1} attempts)")


def _attempt(url: str, part: Path, size: int | None, progress: Progress) -> str:
    """Make one request for what is still missing; return the SHA-256 of the whole."""
    digest = hashlib.sha256()
    done = _rehash(part, digest)
    if done and done == size:
        return digest.hexdigest()
    tag = part.with_suffix(".tag")
    with _resume(url, done, _validator(tag, url), part) as response:
        if response.status != 206:  # a server that knows no ranges sends the whole file
            digest, done = hashlib.sha256(), 0
        total = _total(response, url, done, size, part)
        tag.write_text(json.dumps([url, _strong_validator(response.headers)]), "utf-8")
        pace = _Pace()
        with part.open("ab" if done else "wb") as file:
            while chunk := read(response):
                if not done and _web_page(chunk):
                    file.close()
                    part.unlink()
                    raise SourceFailed(f"{url} sends a web page in place of the file")
                done += len(chunk)
                if done > (total or LIMIT):
                    file.close()
                    part.unlink()
                    raise SourceFailed(f"{url} sends more than the {total or LIMIT} bytes expected")
                file.write(chunk)
                digest.update(chunk)
                progress(done, total)
                pace.check(len(chunk))
    if done < total:
        raise Cut(f"the connection was cut after {done} of {total} bytes")
    return digest.hexdigest()


def _total(
    response: http.client.HTTPResponse, url: str, done: int, size: int | None, part: Path
) -> int:
    """Return how long the file is by what the server says; 0 where it does not."""
    headers = response.headers
    if headers["Content-Encoding"] not in {None, "identity"}:
        raise SourceFailed(f"{url} sends the file compressed, though asked not to")
    length = headers["Content-Length"]
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 16):
        raise SourceFailed(f"{url}: the server gives a length that is none ({length[:40]})")
    total = done + int(length) if length else size or 0
    if response.status == 206:
        where = re.fullmatch(
            r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16}|\*)", headers["Content-Range"] or ""
        )
        whole = where and where[3] != "*" and int(where[3]) == int(where[2]) + 1
        if not where or int(where[1]) != done or not (whole or where[3] == "*"):
            part.unlink(missing_ok=True)
            raise Cut("the server answered with another range than asked for")
        total = int(where[2]) + 1
    if size and total != size:
        raise SourceFailed(f"{url} has {total} bytes, the published file {size}")
    if total > LIMIT:
        raise SourceFailed(f"{url} has {total} bytes, more than is ever taken")
    return total


def _web_page(beginning: bytes) -> bool:
    return beginning.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))


class _Pace:
    """Notices a server that sends now and then a byte, so that no read ever times out."""

    def __init__(self) -> None:
        self._began, self._bytes = time.monotonic(), 0

    def check(self, received: int) -> None:
        """Count bytes that came; give up where too few did."""
        self._bytes += received
        seconds = time.monotonic() - self._began
        if seconds < _STALL_SECONDS:
            return
        if self._bytes < _STALL_BYTES:
            raise Cut(f"no more than {self._bytes} bytes came in {seconds:.0f} seconds")
        self._began, self._bytes = time.monotonic(), 0


def _rehash(part: Path, digest: Any) -> int:
    if not part.exists():
        return 0
    with part.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return file.tell()


def _validator(tag: Path, url: str) -> str | None:
    with suppress(OSError, ValueError, TypeError, RecursionError):
        saved_url, validator = json.loads(tag.read_text("utf-8"))
        if saved_url == url and validator:
            return str(validator)
    return None


def _strong_validator(headers: Message) -> str | None:
    etag = headers["ETag"]
    # A weak tag promises a similar file, not the same bytes.
    return etag if etag and not etag.startswith("W/") else headers["Last-Modified"]


def _resume(url: str, done: int, validator: str | None, part: Path) -> http.client.HTTPResponse:
    headers = {"Range": f"bytes={done}-"} if done else {}
    if done and validator:
        headers["If-Range"] = validator
    try:
        return ask(url, headers)
    except NothingLeft:  # what is there is longer than the file
        part.unlink(missing_ok=True)
        raise
