"""Servers that answer nonsense: each is one line, and nothing of it is kept."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest
from tiny_method import METHOD, entry_for, official, pickled

from denoisekit.errors import WeightsError
from denoisekit.weights import cache_folder, download, pull
from denoisekit.weights.manifest import UrlSource

DATA = pickled(official())
WHOLE = len(DATA)


@pytest.fixture
def serve(monkeypatch):
    """Return the address of a server that answers every request with these pieces of bytes."""
    monkeypatch.setattr(download, "_DELAYS", (0.0,))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    ended, threads, asked = threading.Event(), [], []
    listener = socket.create_server(("127.0.0.1", 0))

    def start(*pieces, pause=0.0):
        def answer():
            with suppress(OSError):
                while not ended.is_set():
                    caller, _ = listener.accept()
                    with caller:
                        asked.append(caller.recv(65536).decode())
                        with suppress(OSError):
                            for piece in pieces:
                                caller.sendall(piece)
                                if pause and ended.wait(pause):
                                    break

        thread = threading.Thread(target=answer)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/w.pth"

    start.asked = asked
    yield start
    ended.set()
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join()


def head(*lines, status="200 OK"):
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *lines, "", ""]).encode()


def refused(url, data=DATA, **changes):
    with pytest.raises(WeightsError) as caught:
        pull(entry_for(data, UrlSource(url), **changes), METHOD)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("length", ["abc", "-5", "1e9", "9" * 40, "0x10", "²", "12, 13", ""])
def test_nonsense_lengths(serve, length):
    assert "length that is none" in refused(serve(head(f"Content-Length: {length}"), DATA))


@pytest.mark.parametrize(
    "range_",
    [
        None,
        "bytes 0-9/10",
        f"bytes 5-{WHOLE - 1}/{WHOLE}",
        "bytes */10",
        "bytes x-y/z",
        f"bytes 0-10/{WHOLE}",
        "0-10",
        f"bytes 0-{'9' * 30}/{'9' * 30}",
    ],
)
def test_parts_that_nobody_asked_for(serve, range_):
    lines = [f"Content-Length: {WHOLE}"] + ([f"Content-Range: {range_}"] if range_ else [])
    text = refused(serve(head(*lines, status="206 Partial Content"), DATA))
    assert "another range" in text or "bytes, the published file" in text


def test_a_part_is_not_taken_for_a_whole_of_unknown_length(serve):
    lines = ["Content-Length: 10", f"Content-Range: bytes 0-9/{WHOLE}"]
    url = serve(head(*lines, status="206 Partial Content"), DATA[:10])
    assert "another range" in refused(url, bytes=None)


@pytest.mark.parametrize(
    "place",
    [
        "{url}",
        "file:///etc/passwd",
        "ftp://127.0.0.1/w.pth",
        "data:,x",
        "http://[::bad/",
        "http://127.0.0.1:99999999/",
        "http://127.0.0.1:port/",
        "http://",
        "//",
        "",
        "http://exa mple/\x1b[31m",
        "javascript:alert(1)",
    ],
)
def test_bad_redirects(serve, place):
    assert refused(serve(head(f"Location: {place.format(url='/w.pth')}", status="302 Found")))
    assert len(serve.asked) < 40


def test_a_redirect_to_nowhere(serve):
    assert "not allowed" in refused(serve(head(status="301 Moved Permanently")))


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>login</html>", b"\n <html lang=en>"])
def test_a_page_in_place_of_the_file(serve, page):
    page += b" " * (WHOLE - len(page))
    lines = ["Content-Type: text/html", f"Content-Length: {WHOLE}"]
    assert "sends a web page" in refused(serve(head(*lines), page))
    assert not list(cache_folder().rglob("*.part/*"))


def test_compressed_though_asked_not_to(serve):
    lines = ["Content-Encoding: gzip", f"Content-Length: {WHOLE}"]
    assert "compressed" in refused(serve(head(*lines), DATA))


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\xff\xfe nonsense\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 abc\r\n\r\n"],
)
def test_what_is_no_answer(serve, answer):
    assert "the connection was cut" in refused(serve(answer))


def test_endless_headers(serve):
    lines = [f"X-{number}: {'x' * 1000}" for number in range(200)]
    assert "the connection was cut" in refused(serve(head(*lines), DATA))


@pytest.mark.parametrize("size", [b"zz", b"5", b"5;", b""])
def test_nonsense_chunks(serve, size):
    url = serve(head("Transfer-Encoding: chunked"), size + b"\r\n" + DATA)
    assert refused(url)


def test_a_drip_of_bytes(serve, monkeypatch):
    monkeypatch.setattr(download, "_STALL_SECONDS", 0.1)
    url = serve(
        head(f"Content-Length: {WHOLE}"), *(DATA[i : i + 1] for i in range(WHOLE)), pause=0.01
    )
    assert "bytes came in" in refused(url)


def test_a_drip_of_headers(serve, monkeypatch):
    monkeypatch.setattr(download, "_ANSWER_SECONDS", 0.1)
    answer = head("X: " + "x" * 10_000)
    url = serve(*(answer[i : i + 1] for i in range(len(answer))), pause=0.01)
    assert "the connection was cut" in refused(url)
