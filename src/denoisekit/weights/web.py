"""One request over HTTP: answered in time, or told why not in a line.

urllib is enough for this: it needs nothing installed, honours the proxy variables,
and stays the same while huggingface_hub changes its HTTP library from one major
version to the next.
"""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any
from urllib.parse import urlsplit

from denoisekit._version import __version__

_TIMEOUT = 15.0
_ANSWER_SECONDS = 30.0
"""Until the headers are there, however slowly a server sends them."""

_REDIRECTS = {301, 302, 303, 307, 308}
_RETRY = {408, 425, 429, 500, 502, 503, 504}
_CHUNK = 1 << 18


class SourceFailed(Exception):
    """A source will not give the file; another may."""

    def __init__(self, text: str) -> None:
        super().__init__(_line(text))


class Cut(Exception):
    """The connection ended early; trying again may help."""

    def __init__(self, text: str) -> None:
        super().__init__(_line(text))


def _line(text: str) -> str:
    """Return a line, whatever a server answered."""
    return " ".join(text.split())[:500]


class NothingLeft(Cut):
    """The server has nothing from the place on that was asked for."""


def ask(url: str, more: Mapping[str, str]) -> http.client.HTTPResponse:
    """Return the answer to a request; its headers are there, its content is not.

    Parameters
    ----------
    url : str
        http or https; a redirect from https to http is refused.
    more : mapping
        Headers beside the usual ones.

    Raises
    ------
    SourceFailed
        The server has no such file, refuses, or cannot be reached.
    Cut
        Asking again may help.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise SourceFailed(f"{url}: only http and https are fetched")
    headers = {"User-Agent": f"denoisekit/{__version__}", "Accept-Encoding": "identity", **more}
    opener = urllib.request.build_opener(_SafeRedirects(), _Http(), _Https())
    try:
        # The proxy variables are honoured by the opener.
        response: http.client.HTTPResponse = opener.open(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is there is longer than the file
            raise NothingLeft("the server refused to resume") from None
        if error.code in _RETRY:
            raise Cut(f"the server answered {error.code} {error.reason}") from None
        raise SourceFailed(f"{url}: {_status(error)}") from None
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


def read(response: http.client.HTTPResponse) -> bytes:
    """Return what has come of the content; nothing at its end.

    Raises
    ------
    Cut
        The connection was cut, or silent.
    """
    try:
        return response.read1(_CHUNK)
    except TimeoutError:
        raise Cut(f"nothing came for {_TIMEOUT:.0f} seconds") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Cut(f"the connection was cut ({error})") from None


def _status(error: urllib.error.HTTPError) -> str:
    words = {
        401: "the server asks for a login (401)",
        403: "the server refuses access (403); a proxy or filter may be in the way",
        404: "not found (404); it may have been moved or deleted",
        407: "the proxy asks for a login (407)",
        410: "gone (410)",
    }
    if error.code in _REDIRECTS and "sends on" not in str(error.reason):
        return f"the server sends on ({error.code}) in a circle, or to what is not allowed"
    return words.get(error.code, f"the server answered {error.code} {error.reason}")


def _network(reason: str | BaseException) -> str:
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


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
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
