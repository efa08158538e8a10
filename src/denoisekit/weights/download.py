"""One file over HTTP: resumed after a cut, hashed while it streams, in time or not at all.

urllib is enough for this: it needs nothing installed, honours the proxy variables,
and stays the same while huggingface_hub changes its HTTP library from one major
version to the next.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import unescape
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

from denoisekit._version import __version__
from denoisekit.errors import printable

OFFLINE = "DENOISEKIT_OFFLINE"
"""Environment variable: anything but empty, 0, false or no forbids the network."""

Progress = Callable[[int, int], None]
"""``progress(done_bytes, total_bytes)``; the total is 0 where nobody knows it."""

LIMIT = 1 << 32
"""The most bytes taken where the manifest does not know the size."""

_DELAYS = (1.0, 2.0, 4.0, 8.0)
"""Seconds between one attempt and the next."""

_STALL_SECONDS, _STALL_BYTES = 20.0, 20_000
"""Less than so many bytes in so many seconds is no download: 20 years ago modems did five times
as much."""

_TIMEOUT = 15.0
_ANSWER_SECONDS = 30.0
"""Until the headers are there, however slowly a server sends them."""

_CHUNK = 1 << 18
_LONGEST_PAGE = 1 << 20

_RETRY = {408, 425, 429, 500, 502, 503, 504}
_STATUS = {
    401: "the server asks for a login (401)",
    403: "the server refuses access (403); a proxy or filter may be in the way",
    404: "not found (404); it may have been moved or deleted",
    407: "the proxy asks for a login (407)",
    410: "gone (410)",
}
_PAGES = {
    "quota": "too many people have fetched it lately; try again tomorrow",
    "sign in": "it is not shared with everybody any more",
    "sign-in": "it is not shared with everybody any more",
    "not found": "it may have been moved or deleted",
}
"""What the titles of pages mean that file-sharing services send in place of a file."""


class SourceFailed(Exception):
    """A source will not give the file; another may. One line, whatever a server answered."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split())[:500])


class Cut(SourceFailed):
    """The connection ended early; trying again may help."""


def offline() -> bool:
    """Return whether the user forbade the network."""
    return is_set(OFFLINE)


def is_set(variable: str) -> bool:
    """Return whether an environment variable says yes."""
    return os.environ.get(variable, "").lower() not in {"", "0", "false", "no"}


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_blob(path: Path) -> str:
    """Return the id that a git repository gives a file, in hex."""
    # SHA-1 because git names its objects so; usedforsecurity=False is for FIPS builds only.
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(url: str, part: Path, size: int | None, progress: Progress | None) -> str:
    """Download a file, going on where an earlier call was cut.

    Parameters
    ----------
    url : str
        http or https; a redirect from https to http is refused. A file-sharing service may
        answer with a page that asks whether to download at all: its form is sent.
    part : Path
        Where to. What is there already is taken for the beginning of the file; a
        ``.tag`` beside it remembers which file of the server's that was.
    size : int or None
        The size that the file must have.
    progress : callable, optional
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


def _attempt(
    url: str, part: Path, size: int | None, progress: Progress | None, confirmed: str | None = None
) -> str:
    """Make one request for what is still missing; return the SHA-256 of the whole."""
    digest, done = hashlib.sha256(), 0
    if part.exists():
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            done = file.tell()
    if done and done == size:
        return digest.hexdigest()
    tag = part.with_suffix(".tag")
    headers = {"Range": f"bytes={done}-"} if done else {}
    with suppress(OSError, ValueError, TypeError, RecursionError):
        saved, validator = json.loads(tag.read_text("utf-8"))
        if done and saved == url and validator:
            headers["If-Range"] = str(validator)
    with _ask(confirmed or url, headers, part) as response:
        chunk = _read(response)
        if response.status != 206:  # a server that knows no ranges sends the whole file
            digest, done = hashlib.sha256(), 0
            if _is_page(chunk):
                form = _form(url, confirmed, response, chunk)
                return _attempt(url, part, size, progress, form)
        total = _total(response, url, done, size, part)
        etag = response.headers["ETag"]
        # A weak tag promises a similar file, not the same bytes.
        strong = etag if etag and not etag.startswith("W/") else response.headers["Last-Modified"]
        tag.write_text(json.dumps([url, strong]), "utf-8")
        since, came = time.monotonic(), 0
        with part.open("ab" if done else "wb") as file:
            while chunk:
                done += len(chunk)
                if done > (total or LIMIT):
                    file.close()
                    part.unlink()
                    raise SourceFailed(f"{url} sends more than the {total or LIMIT} bytes expected")
                file.write(chunk)
                digest.update(chunk)
                if progress:
                    progress(done, total)
                came += len(chunk)
                # A server may send now and then a byte, so that no read ever times out.
                if (seconds := time.monotonic() - since) >= _STALL_SECONDS:
                    if came < _STALL_BYTES:
                        raise Cut(f"no more than {came} bytes came in {seconds:.0f} seconds")
                    since, came = time.monotonic(), 0
                chunk = _read(response)
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


def _is_page(beginning: bytes) -> bool:
    return beginning.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))


def _form(
    url: str, confirmed: str | None, response: http.client.HTTPResponse, content: bytes
) -> str:
    """Return the address that a page's form leads to; say what a page without one means."""
    while len(content) < _LONGEST_PAGE and (chunk := _read(response)):
        content += chunk
    page = content.decode("utf-8", "replace")
    form = re.search(r"<form\b[^>]*\bid=.download-form\b.*?</form>", page, re.S | re.I)
    tags = re.findall(r"<(?:form|input)\b[^>]*>", form[0] if form else "", re.S | re.I)
    told = [dict(re.findall(r"""(\w+)=["']([^"']*)["']""", unescape(tag))) for tag in tags]
    fields = {tag["name"]: tag.get("value", "") for tag in told if "name" in tag}
    target = urljoin(response.url, told[0].get("action", "") if told else "")
    secure = urlsplit(target).scheme == "https" or urlsplit(response.url).scheme == "http"
    if fields and secure and not confirmed:
        # A query that the address has is replaced, as a browser does it.
        return f"{target.partition('?')[0]}?{urlencode(fields)}"
    found = re.search(r"<title[^>]*>(.*?)</title>", page, re.S | re.I)
    title = printable(" ".join(unescape(found[1]).split())[:80] if found else "")
    why = next((f": {why}" for word, why in _PAGES.items() if word in title.lower()), "")
    named = f" ('{title}')" if title else ""
    raise SourceFailed(f"{url} sends a web page in place of the file{named}{why}")


def _ask(url: str, more: Mapping[str, str], part: Path) -> http.client.HTTPResponse:
    """Return the answer to a request; its headers are there, its content is not."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise SourceFailed(f"{url}: only http and https are fetched")
    headers = {"User-Agent": f"denoisekit/{__version__}", "Accept-Encoding": "identity", **more}
    opener = urllib.request.build_opener(_SafeRedirects(), _Web())
    try:
        # The proxy variables are honoured by the opener.
        response: http.client.HTTPResponse = opener.open(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        code, reason = error.code, str(error.reason)
        if code == 416:  # what is there is longer than the file
            part.unlink(missing_ok=True)
            raise Cut("the server refused to resume") from None
        if code in _RETRY:
            raise Cut(f"the server answered {code} {reason}") from None
        told = _STATUS.get(code, f"the server answered {code} {reason}")
        if code in {301, 302, 303, 307, 308} and "sends on" not in reason:
            told = f"the server sends on ({code}) in a circle, or to what is not allowed"
        raise SourceFailed(f"{url}: {told}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionResetError):
            raise Cut("the connection was reset") from None
        raise SourceFailed(f"{url} cannot be reached: {_network(error.reason)}") from None
    except TimeoutError:
        raise SourceFailed(f"{url} did not answer within {_TIMEOUT:.0f} seconds") from None
    except (OSError, http.client.HTTPException) as error:
        raise Cut(f"the connection was cut ({error})") from None
    except ValueError as error:
        raise SourceFailed(f"{url}, or where it sends on to, is no address: {error}") from None
    return response


def _network(reason: str | BaseException) -> str:
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


def _read(response: http.client.HTTPResponse) -> bytes:
    """Return what has come of the content; nothing at its end."""
    try:
        return response.read1(_CHUNK)
    except TimeoutError:
        raise Cut(f"nothing came for {_TIMEOUT:.0f} seconds") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Cut(f"the connection was cut ({error})") from None


class _Answering:
    """Of a connection: the answer must begin in time, or the socket is shut."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer, its headers read."""
        watch = threading.Timer(_ANSWER_SECONDS, _shut, [self.sock])  # type: ignore[attr-defined]
        watch.daemon = True
        watch.start()
        try:
            response: http.client.HTTPResponse = super().getresponse()  # type: ignore[misc]
            return response
        finally:
            watch.cancel()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class _Connection(_Answering, http.client.HTTPConnection):
    pass


class _SecureConnection(_Answering, http.client.HTTPSConnection):
    pass


class _Web(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req, context=self._context)  # type: ignore[attr-defined]


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
