"""One file over HTTP: resumed after a cut, hashed while it streams.

urllib is enough for this: it needs nothing installed, honours the proxy variables,
and stays the same while huggingface_hub changes its HTTP library from one major
version to the next.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from denoisekit._version import __version__

Progress = Callable[[int, int], None]
"""``progress(done_bytes, total_bytes)``; the total is 0 where nobody knows it."""

LIMIT = 1 << 32
"""The most bytes taken where the manifest does not know the size."""

_TIMEOUT = 15.0
_DELAYS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between one attempt and the next."""

_RETRY = {408, 425, 429, 500, 502, 503, 504}
_CHUNK = 1 << 18


class SourceFailed(Exception):
    """A source will not give the file; another may."""


class _Cut(Exception):
    """The connection ended early; trying again may help."""


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
        except _Cut as cut:
            reason = str(cut)
    raise SourceFailed(f"{url}: {reason} ({len(_DELAYS) + 1} attempts)")


def _attempt(url: str, part: Path, size: int | None, progress: Progress) -> str:
    """Make one request for what is still missing; return the SHA-256 of the whole."""
    digest = hashlib.sha256()
    done = _rehash(part, digest)
    if done and done == size:
        return digest.hexdigest()
    tag = part.with_suffix(".tag")
    with _request(url, done, _validator(tag, url), part) as response:
        if response.status != 206:  # a server that knows no ranges sends the whole file
            digest, done = hashlib.sha256(), 0
        elif not str(response.headers["Content-Range"]).startswith(f"bytes {done}-"):
            part.unlink()
            raise _Cut("the server answered with another range than asked for")
        length = response.headers["Content-Length"]
        total = done + int(length) if length else size or 0
        if size and total != size:
            raise SourceFailed(f"{url} has {total} bytes, the published file {size}")
        tag.write_text(json.dumps([url, _strong_validator(response.headers)]), "utf-8")
        with part.open("ab" if done else "wb") as file:
            while chunk := _read(response):
                done += len(chunk)
                if done > (total or LIMIT):
                    file.close()
                    part.unlink()
                    raise SourceFailed(f"{url} sends more than the {total} bytes expected")
                file.write(chunk)
                digest.update(chunk)
                progress(done, total)
    if done < total:
        raise _Cut(f"the connection was cut after {done} of {total} bytes")
    return digest.hexdigest()


def _rehash(part: Path, digest: Any) -> int:
    if not part.exists():
        return 0
    with part.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        return file.tell()


def _validator(tag: Path, url: str) -> str | None:
    with suppress(OSError, ValueError):
        saved_url, validator = json.loads(tag.read_text("utf-8"))
        if saved_url == url and validator:
            return str(validator)
    return None


def _strong_validator(headers: Message) -> str | None:
    etag = headers["ETag"]
    # A weak tag promises a similar file, not the same bytes.
    return etag if etag and not etag.startswith("W/") else headers["Last-Modified"]


def _request(url: str, done: int, validator: str | None, part: Path) -> http.client.HTTPResponse:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise SourceFailed(f"{url}: only http and https are fetched")
    headers = {"User-Agent": f"denoisekit/{__version__}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if validator:
            headers["If-Range"] = validator
    opener = urllib.request.build_opener(_SafeRedirects())
    try:
        # The proxy variables are honoured by the opener.
        response: http.client.HTTPResponse = opener.open(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is there is longer than the file
            part.unlink(missing_ok=True)
            raise _Cut("the server refused to resume") from None
        if error.code in _RETRY:
            raise _Cut(f"the server answered {error.code} {error.reason}") from None
        raise SourceFailed(f"{url}: {_status(error)}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionResetError):
            raise _Cut("the connection was reset") from None
        raise SourceFailed(f"{url} cannot be reached: {_network(error.reason)}") from None
    except TimeoutError:
        raise SourceFailed(f"{url} did not answer within {_TIMEOUT:.0f} seconds") from None
    except (ConnectionError, http.client.HTTPException) as error:
        raise _Cut(f"the connection was cut ({error})") from None
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except TimeoutError:
        raise _Cut(f"nothing came for {_TIMEOUT:.0f} seconds") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(f"the connection was cut ({error})") from None


def _status(error: urllib.error.HTTPError) -> str:
    words = {
        401: "the server asks for a login (401)",
        403: "the server refuses access (403); a proxy or filter may be in the way",
        404: "not found (404); it may have been moved or deleted",
        407: "the proxy asks for a login (407)",
        410: "gone (410)",
    }
    return words.get(error.code, f"the server answered {error.code} {error.reason}")


def _network(reason: str | BaseException) -> str:
    import socket
    import ssl

    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate was not accepted ({reason.verify_message}); behind a company "
            "proxy set SSL_CERT_FILE to its certificates"
        )
    if isinstance(reason, socket.gaierror):
        return "the name could not be looked up; is there a network?"
    if isinstance(reason, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} seconds"
    return str(getattr(reason, "strerror", None) or reason)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in {"http", "https"} or (old == "https" and new == "http"):
            text = f"which sends on to {newurl}: refused, not {old}"
            raise urllib.error.HTTPError(req.full_url, code, text, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
