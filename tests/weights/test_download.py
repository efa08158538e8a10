"""Downloads against a server that cuts, lies, refuses and sends elsewhere."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from pathlib import Path

import pytest
import tiny_method
import torch
from safetensors.torch import load_file
from tiny_method import METHOD, entry_for, official, pickled

from denoisekit.atomic import part_stem
from denoisekit.errors import WeightsError
from denoisekit.weights import (
    cache_folder,
    choose_entry,
    download,
    find,
    import_file,
    load_weights,
    loading,
    pull,
)
from denoisekit.weights.manifest import UrlSource
from denoisekit.weights.store import path_for, record_of
from processes import launch

DATA = pickled(official())
CUT = len(DATA) // 3


@pytest.fixture
def entry(site):
    site.files["/w.pth"] = DATA
    return entry_for(DATA, UrlSource(site.url("/w.pth")))


def left_over():
    """Names in the cache folder, the empty lock file aside."""
    folder = cache_folder()
    return (
        sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") if folder.exists() else []
    )


def assert_complete(entry, stored):
    assert {k: v.tolist() for k, v in load_file(stored.path).items()} == {
        k: v.tolist() for k, v in official().items()
    }
    assert stored.path.name == f"tiny.test-{entry.pinned[:8]}.safetensors"
    assert left_over() == [stored.path.name, f"{stored.path.name}.json"]


def test_pull_converts_says_the_origin_and_removes_the_published_file(entry, site):
    seen = []
    stored, fetched = pull(entry, METHOD, lambda done, total: seen.append((done, total)))
    assert fetched
    assert_complete(entry, stored)
    assert seen[-1] == (len(DATA), len(DATA))
    header = stored.header()
    assert header["source"] == site.url("/w.pth")
    assert header["source_sha256"] == hashlib.sha256(DATA).hexdigest()
    assert header["verified"] == "yes"
    assert site.asked[0][2]["User-Agent"].startswith("denoisekit/")


def test_second_pull_asks_nobody(entry, site):
    pull(entry, METHOD)
    _, fetched = pull(entry, METHOD)
    assert not fetched
    assert site.count("/w.pth") == 1


def test_resumes_after_a_cut(entry, site):
    site.faults = [("cut", CUT)]
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)
    first, second = (headers for _, _, headers in site.asked)
    assert "Range" not in first
    assert second["Range"] == f"bytes={CUT}-"
    assert second["If-Range"] == '"v1"'


def test_resumes_in_a_later_call(entry, site):
    site.faults = [("cut", CUT), ("cut", 0), ("cut", 0)]
    with pytest.raises(WeightsError, match=r"cut after \d+ of \d+ bytes \(3 attempts\)"):
        pull(entry, METHOD)
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)
    assert site.asked[-1][2]["Range"] == f"bytes={CUT}-"


@pytest.mark.parametrize("tag", ["3", "[]", "{}", "[" * 100_000, "\x00"])
def test_a_damaged_tag_is_none(entry, site, tag):
    site.faults = [("cut", CUT), ("cut", 0), ("cut", 0)]
    with pytest.raises(WeightsError):
        pull(entry, METHOD)
    next(cache_folder().rglob("*.tag")).write_text(tag)
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)


def test_starts_again_where_the_servers_file_changed(entry, site):
    site.faults = [("cut", CUT), ("cut", 0), ("cut", 0)]
    site.files["/w.pth"] = bytes(len(DATA))
    with pytest.raises(WeightsError):
        pull(entry, METHOD)
    site.files["/w.pth"], site.etag = DATA, '"v2"'
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)


def test_starts_again_where_a_part_of_another_file_was_resumed(entry, site):
    site.etag = None
    site.faults = [("cut", CUT), ("cut", 0), ("cut", 0)]
    site.files["/w.pth"] = bytes(len(DATA))
    with pytest.raises(WeightsError):
        pull(entry, METHOD)
    site.files["/w.pth"] = DATA
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)


def test_server_without_ranges(entry, site):
    site.ranges = False
    site.faults = [("cut", CUT)]
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)


def test_server_that_names_no_length(entry, site):
    site.length = False
    site.faults = [("cut", CUT)]
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_tries_again_after(entry, site, status):
    site.faults = [status]
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)


@pytest.mark.parametrize(
    ("status", "words", "requests"),
    [(404, "not found", 1), (403, "refuses access", 1), (500, "500", 3)],
)
def test_status_is_explained(entry, site, status, words, requests):
    site.faults = [status] * 9
    with pytest.raises(WeightsError, match=words) as caught:
        pull(entry, METHOD)
    assert "denoisekit weights pull tiny.test" in caught.value.hint
    assert "denoisekit weights import FILE --as tiny.test" in caught.value.hint
    assert site.count("/w.pth") == requests
    assert left_over() == []


def test_wrong_hash_names_both_and_leaves_nothing(entry, site):
    evil = bytes(len(DATA))
    site.files["/w.pth"] = evil
    with pytest.raises(WeightsError) as caught:
        pull(entry, METHOD)
    assert entry.sha256 in caught.value.message
    assert hashlib.sha256(evil).hexdigest() in caught.value.message
    assert left_over() == []


@pytest.mark.parametrize("length", [True, False])
def test_file_longer_than_promised_is_not_read_to_the_end(entry, site, length):
    site.files["/w.pth"] = DATA + bytes(1 << 20)
    site.length = length
    with pytest.raises(WeightsError, match="bytes"):
        pull(entry, METHOD)
    assert left_over() == []


def test_git_blob_pins_a_file_of_unknown_size(site):
    site.files["/w.pth"] = DATA
    blob = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    source = UrlSource(site.url("/w.pth"))
    entry = entry_for(DATA, source, sha256=None, git_blob=blob, bytes=None)
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)
    assert stored.header()["source_sha256"] == hashlib.sha256(DATA).hexdigest()
    wrong = entry_for(DATA, source, sha256=None, git_blob="0" * 40, bytes=None)
    with pytest.raises(WeightsError, match=f"expected git blob {'0' * 40}, found {blob}"):
        pull(wrong, METHOD)


@pytest.fixture
def by_blob(site):
    """An entry of which only the id in a git repository is known, not even the size."""
    site.files["/w.pth"] = DATA
    blob = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    source = UrlSource(site.url("/w.pth"))
    return entry_for(DATA, source, sha256=None, git_blob=blob, bytes=None)


@pytest.mark.parametrize(("length", "cuts"), [(False, []), (True, [CUT]), (True, [CUT, CUT])])
def test_git_blob_of_a_file_that_comes_in_pieces(site, by_blob, length, cuts, monkeypatch):
    site.length = length
    site.faults = [("cut", cut) for cut in cuts]
    stored, _ = pull(by_blob, METHOD)
    assert_complete(by_blob, stored)
    assert site.count("/w.pth") == 1 + len(cuts)
    monkeypatch.setattr(loading, "load_manifest", lambda: (by_blob,))
    loaded = load_weights("tiny.test", METHOD)
    assert (loaded.sha256, loaded.warnings) == (hashlib.sha256(DATA).hexdigest(), ())


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:-1] + b"\1"]
)
@pytest.mark.parametrize("length", [True, False])
def test_git_blob_refuses_any_other_file(site, by_blob, change, length):
    site.files["/w.pth"] = change(DATA)
    site.length = length
    with pytest.raises(WeightsError, match=f"expected git blob {by_blob.git_blob}, found"):
        pull(by_blob, METHOD)
    assert left_over() == []


def test_git_blob_identifies_a_file_that_is_imported(by_blob, tmp_path):
    path = tmp_path / "any name"
    path.write_bytes(DATA)
    assert choose_entry(path, [by_blob], None) == by_blob
    assert import_file(path, by_blob, METHOD).verified


def test_second_source_serves_where_the_first_fails(site):
    site.files["/b.pth"] = DATA
    entry = entry_for(DATA, UrlSource(site.url("/a.pth")), UrlSource(site.url("/b.pth")))
    stored, _ = pull(entry, METHOD)
    assert stored.header()["source"] == site.url("/b.pth")


def test_mirror_goes_on_where_the_first_source_was_cut(site):
    site.files = {"/a.pth": DATA, "/b.pth": DATA}
    site.faults = [("cut", CUT), ("cut", 0), ("cut", 0)]
    entry = entry_for(DATA, UrlSource(site.url("/a.pth")), UrlSource(site.url("/b.pth")))
    stored, _ = pull(entry, METHOD)
    assert_complete(entry, stored)
    last = site.asked[-1][2]
    assert last["Range"] == f"bytes={CUT}-"
    assert "If-Range" not in last  # the tag is the other server's


def test_redirect_is_followed(entry, site):
    site.status["/moved"], site.headers["/moved"] = 302, {"Location": "/w.pth"}
    moved = entry_for(DATA, UrlSource(site.url("/moved")))
    stored, _ = pull(moved, METHOD)
    assert_complete(entry, stored)


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/w.pth", "file:///etc/hostname"])
def test_redirect_to_another_scheme_is_refused(site, target):
    site.status["/moved"], site.headers["/moved"] = 302, {"Location": target}
    entry = entry_for(DATA, UrlSource(site.url("/moved")))
    with pytest.raises(WeightsError, match=r"302.*(refused|not allowed)"):
        pull(entry, METHOD)


def test_redirect_from_https_to_http_is_refused():
    import urllib.request
    from email.message import Message

    request = urllib.request.Request("https://example.org/w.pth")
    handler = download._SafeRedirects()
    with pytest.raises(urllib.error.HTTPError, match="refused") as caught:
        handler.redirect_request(request, None, 302, "Found", Message(), "http://example.org/w")
    caught.value.close()
    kept = handler.redirect_request(request, None, 302, "Found", Message(), "https://other.org/w")
    assert kept.full_url == "https://other.org/w"


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/w.pth"])
def test_only_http_is_fetched(url):
    with pytest.raises(WeightsError, match="only http and https"):
        pull(entry_for(DATA, UrlSource(url)), METHOD)


def test_proxy_variable_is_honoured(site, monkeypatch):
    # A proxy is asked for the whole address.
    site.files["http://weights.invalid/w.pth"] = DATA
    monkeypatch.setenv("http_proxy", site.url(""))
    stored, _ = pull(entry_for(DATA, UrlSource("http://weights.invalid/w.pth")), METHOD)
    assert_complete(entry_for(DATA), stored)


def test_offline_opens_no_socket(entry, monkeypatch):
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")

    def forbidden(*arguments, **options):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    with pytest.raises(WeightsError, match="DENOISEKIT_OFFLINE") as caught:
        pull(entry, METHOD)
    assert caught.value.exit_code == 3
    assert "weights pull" in caught.value.hint
    assert "weights import" in caught.value.hint


def test_nobody_listens():
    with socket.socket() as busy:  # bound, not listening
        busy.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{busy.getsockname()[1]}/w.pth"
        with pytest.raises(WeightsError, match="cannot be reached: Connection refused"):
            pull(entry_for(DATA, UrlSource(url)), METHOD)
    assert left_over() == []


def test_silence_ends(entry, site, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.05)
    site.pause = 0.3
    with pytest.raises(WeightsError, match="did not answer"):
        pull(entry, METHOD)


class Full:
    """A file on a disk with room for a few bytes."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def write(self, data):
        self.file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["file.part", "safetensors", "json"])
def test_full_disk_leaves_nothing(entry, monkeypatch, name):
    """Whichever of the files it hits: the download, the converted file, its record."""
    real, stored = Path.open, path_for(entry, verified=True)
    places = {
        "file.part": "file.part",
        "safetensors": part_stem(stored),
        "json": part_stem(record_of(stored)),
    }

    def full(path, mode="r", *arguments, **options):
        file = real(path, mode, *arguments, **options)
        hit = path.name.startswith(places[name])
        return Full(file) if hit and mode[0] in "wa" else file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(WeightsError, match="No space left on device") as caught:
        pull(entry, METHOD)
    assert "DENOISEKIT_HOME" in caught.value.hint
    assert "weights import" not in caught.value.hint
    assert left_over() == []


def test_folder_that_cannot_be_made(entry, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DENOISEKIT_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="cannot write tiny") as caught:
        pull(entry, METHOD)
    assert "DENOISEKIT_HOME" in caught.value.hint


def test_two_processes_at_once_download_once(site, tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(DATA)
    site.files["/w.pth"], site.pause = DATA, 0.5
    logs = [tmp_path / "one", tmp_path / "other"]
    both = [launch(tiny_method.main, str(file), site.url("/w.pth"), log=log) for log in logs]
    for process in both:
        process.join(timeout=120)
    assert sorted(log.read_text().strip() for log in logs) == ["False", "True"]
    assert site.count("/w.pth") == 1


def test_published_file_of_another_network_is_not_stored(site):
    data = pickled({"other.weight": torch.zeros(4)})
    site.files["/w.pth"] = data
    with pytest.raises(
        WeightsError, match=r"does not fit.*mix\.weight \[2, 3\].*other\.weight \[4\]"
    ):
        pull(entry_for(data, UrlSource(site.url("/w.pth"))), METHOD)
    assert left_over() == []


def test_damaged_weights_are_fetched_again_when_loaded(entry, site, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_manifest", lambda: (entry,))
    stored, _ = pull(entry, METHOD)
    stored.path.write_bytes(b"damage")
    loaded = load_weights("tiny.test", METHOD)
    assert loaded.state["mix.bias"].tolist() == official()["layer.bias"].tolist()
    assert "fetched again" in loaded.warnings[0]
    assert find(entry, thorough=True).damage is None
    assert load_weights("tiny.test", METHOD).warnings == ()
