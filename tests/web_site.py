"""A small web server whose faults a test can order."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from denoisekit.weights import download


class Site:
    """What the server holds, how it misbehaves, and what it was asked.

    Attributes
    ----------
    files : dict of str to bytes
        By path.
    faults : list
        One is taken by each GET: a status to answer, a number of bytes after which to
        cut as ``("cut", n)``, or None to behave.
    ranges, etag : bool
        Whether ranges are honoured, though never for pages, and tags given.
    headers : dict
        More headers, by path: ``{"/a": {"Location": "/b"}}`` with a status in `status`.
    asked : list of (str, str, dict)
        Method, path and headers of every request.
    """

    def __init__(self):
        self.files, self.faults, self.asked = {}, [], []
        self.headers, self.status = {}, {}
        self.ranges, self.etag, self.pause, self.length = True, '"v1"', 0.0, True
        self.port = 0

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self, path):
        return sum(method == "GET" and asked == path for method, asked, _ in self.asked)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        site = self.site
        site.asked.append((self.command, self.path, dict(self.headers)))
        time.sleep(site.pause)
        fault = site.faults.pop(0) if body and site.faults else None
        data = site.files.get(self.path)
        if isinstance(fault, int) or data is None:
            status = fault if isinstance(fault, int) else site.status.get(self.path, 404)
            self.send_response(status)
            self.more(0)
            return
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in {None, site.etag}
        page = "text/html" in site.headers.get(self.path, {}).get("Content-Type", "")
        if site.ranges and wanted and same and not page:
            start, status = int(wanted[1]), 206
            if start >= len(data):
                self.send_response(416)
                self.more(0)
                return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if site.etag:
            self.send_header("ETag", site.etag)
        self.more(len(data) - start if site.length else None)
        if body:
            cut = start + fault[1] if fault else len(data)
            self.wfile.write(data[start:cut])

    def more(self, length):
        for key, value in self.site.headers.get(self.path, {}).items():
            self.send_header(key, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    """A running server; retries do not wait."""
    monkeypatch.setattr(download, "_DELAYS", (0.0, 0.0))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    content = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"site": content}))
    content.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield content
    server.shutdown()
    thread.join()
    server.server_close()
