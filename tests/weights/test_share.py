"""A file-sharing service: the file, a page that asks first, pages in place of the file."""

from __future__ import annotations

import hashlib
import io
import json
from types import SimpleNamespace

import pytest
import torch
from test_checkpoint import Harmful
from tiny_method import METHOD, entry_for, official, pickled

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
    remove,
)
from denoisekit.weights.manifest import UrlSource
from denoisekit.weights.store import PINNED_FIRST, fetch, read_pins

DATA = pickled(official())
OTHER = pickled(official(seed=1))
ASKED, PLACE = "/uc?export=download&id=F", "/download?id=F&export=download"
CONFIRMED = "/download?id=F&export=download&confirm=t&uuid=1-2%263"
FORM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form action="/nowhere" method="get"><input name="q" value="no"></form>
<form id="download-form" action="{action}" method="get"><input type="submit" value="anyway"/>
<input type="hidden" name="id" value="F"><input type="hidden" name="export" value="download">
<input value="t" type='hidden' name='confirm'><input name="uuid" value="1-2&amp;3"></form>"""


@pytest.fixture
def share(site):
    """The service; what is asked for lies elsewhere."""
    site.status[ASKED], site.headers[ASKED] = 303, {"Location": PLACE}
    site.files[PLACE] = DATA
    return site


@pytest.fixture
def entry(share, monkeypatch):
    """An entry of which no hash and no size is published."""
    changes = {"sha256": None, "bytes": None, "page": "https://example.org/view"}
    entry = entry_for(DATA, UrlSource(share.url(ASKED)), **changes)
    monkeypatch.setattr(loading, "load_manifest", lambda: (entry,))
    return entry


def page(share, text, place=PLACE):
    share.files[place] = text.encode()
    share.headers[place] = {"Content-Type": "text/html; charset=utf-8"}


def left_over():
    return sorted(p.name for p in cache_folder().glob("*") if p.suffix != ".lock")


def test_file_is_fetched_and_its_hash_is_kept(share, entry):
    stored, fetched = pull(entry, METHOD)
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert (fetched, stored.verified) == (True, True)
    assert stored.path.name == f"tiny.test-{sha256[:8]}.safetensors"
    assert stored.header()["verified"] == PINNED_FIRST
    assert read_pins() == {"tiny.test": {"sha256": sha256, "source": share.url(ASKED)}}
    assert left_over() == ["pins.json", stored.path.name, f"{stored.path.name}.json"]
    assert pull(entry, METHOD)[1] is False
    assert share.count(ASKED) == 1
    loaded = load_weights("tiny.test", METHOD)
    assert (loaded.sha256, loaded.warnings) == (sha256, ())


def test_what_comes_later_is_held_to_what_came_first(share, entry):
    pull(entry, METHOD)
    remove(entry)
    share.files[PLACE] = OTHER
    first, now = (hashlib.sha256(data).hexdigest() for data in (DATA, OTHER))
    with pytest.raises(WeightsError, match=f"expected sha256 {first}, found {now}") as caught:
        pull(entry, METHOD)
    assert "denoisekit weights pull tiny.test --renew takes the new one" in caught.value.message
    assert find(entry) is None
    share.files[PLACE] = DATA
    assert pull(entry, METHOD)[1]
    share.files[PLACE] = OTHER
    stored, fetched = pull(entry, METHOD, renew=True)
    assert fetched
    assert load_weights("tiny.test", METHOD).sha256 == now
    assert left_over() == ["pins.json", stored.path.name, f"{stored.path.name}.json"]


def test_fetching_alone_needs_no_hash(share, entry, tmp_path):
    got = fetch(entry, tmp_path / "work")
    assert got.path.read_bytes() == DATA
    assert read_pins() == {}


def test_renewing_takes_nothing_else_than_the_pinned_file(share):
    entry = entry_for(DATA, UrlSource(share.url(ASKED)))
    pull(entry, METHOD)
    share.files[PLACE] = OTHER
    assert pull(entry, METHOD, renew=True)[1] is False


@pytest.mark.parametrize("action", ["{host}/download", "/download?id=F", "download"])
def test_form_of_a_page_that_asks_first_is_sent(share, entry, action):
    page(share, FORM.format(action=action.format(host=share.url(""))))
    share.files[CONFIRMED] = DATA
    stored, _ = pull(entry, METHOD)
    assert stored.header()["source_sha256"] == hashlib.sha256(DATA).hexdigest()
    assert share.count(CONFIRMED) == 1


def test_cut_behind_a_page_is_resumed(share, entry):
    page(share, FORM.format(action="/download"))
    share.files[CONFIRMED] = DATA
    share.faults = [None, None, ("cut", 900)]
    pull(entry, METHOD)
    assert share.asked[-1][1:][0] == CONFIRMED
    assert share.asked[-1][2]["Range"] == "bytes=900-"
    assert share.asked[-1][2]["If-Range"] == '"v1"'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "try again tomorrow"),
        ("<!DOCTYPE html><title>Sign in - Google Accounts</title>", "not shared with everybody"),
        (
            "<html><title>404 File\n Not Found</title>",
            r"404 File Not Found'\): it may have been",
        ),
        ("<html><title>&lt;b&gt;\x1b[31m</title>", r"\('<b>\\x1b\[31m'\)$"),
        ("<html>", "in place of the file$"),
        (FORM.format(action="/download"), "Virus scan warning"),
    ],
)
def test_page_in_place_of_the_file_is_explained(share, entry, text, words):
    page(share, text)
    page(share, text, CONFIRMED)
    with pytest.raises(WeightsError, match="sends a web page in place of the file") as caught:
        pull(entry, METHOD)
    with pytest.raises(WeightsError, match=words):
        raise caught.value
    assert "open https://example.org/view in a browser" in caught.value.hint
    assert share.count(CONFIRMED) <= 1
    assert left_over() == []


def test_page_does_not_spoil_what_had_come(share, entry):
    share.faults = [None, ("cut", 900), None, ("cut", 0), None, ("cut", 0)]
    with pytest.raises(WeightsError, match="cut after 900"):
        pull(entry, METHOD)
    page(share, "<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    with pytest.raises(WeightsError, match="Quota"):
        pull(entry, METHOD)
    share.files[PLACE] = DATA
    del share.headers[PLACE]
    pull(entry, METHOD)
    assert share.asked[-1][2]["Range"] == "bytes=900-"


def test_form_that_leads_from_https_to_http_is_not_sent():
    text = FORM.format(action="http://example.org/download").encode()
    answer = SimpleNamespace(url="https://example.org/", read1=lambda size: b"")
    with pytest.raises(download.SourceFailed, match="web page"):
        download._form("https://example.org/", None, answer, text)


def test_first_file_is_checked_as_any_other(share, entry, tmp_path):
    mark, content = tmp_path / "ran", io.BytesIO()
    torch.save({**official(), "more": Harmful(mark)}, content)
    for data, words in (
        (content.getvalue(), "holds more than weights"),
        (pickled({"other.weight": torch.zeros(4)}), "does not fit"),
        (b"\x00" * 100, "is not a readable checkpoint"),
    ):
        share.files[PLACE] = data
        with pytest.raises(WeightsError, match=words):
            pull(entry, METHOD)
        assert (left_over(), mark.exists()) == ([], False)


def test_import_knows_the_file_that_came_first(share, entry, tmp_path):
    pull(entry, METHOD)
    path = tmp_path / "from a browser"
    path.write_bytes(DATA)
    assert choose_entry(path, [entry], None) == entry
    assert import_file(path, entry, METHOD).verified
    path.write_bytes(OTHER)
    with pytest.raises(WeightsError, match="here already"):
        import_file(path, entry, METHOD)


def test_file_of_the_users_word_gives_way_when_it_is_renewed(share, entry, tmp_path):
    path = tmp_path / "from a browser"
    path.write_bytes(OTHER)
    import_file(path, entry, METHOD)
    assert pull(entry, METHOD)[1] is False
    assert load_weights("tiny.test", METHOD).warnings
    assert pull(entry, METHOD, renew=True)[1] is True
    assert load_weights("tiny.test", METHOD).warnings == ()


@pytest.mark.parametrize("text", ["[]", "{", '{"tiny.test": 3}', "[" * 100_000, "\x00"])
def test_damaged_pins_are_none(share, entry, text):
    cache_folder().mkdir(parents=True)
    (cache_folder() / "pins.json").write_text(text)
    assert pull(entry, METHOD)[1]
    assert json.loads((cache_folder() / "pins.json").read_text()) == read_pins()
