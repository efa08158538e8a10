"""The manifest's schema, and the project's own manifest."""

from __future__ import annotations

import copy
import json

import pytest

from denoisekit.errors import UsageError, WeightsError
from denoisekit.methods import METHODS, get_method
from denoisekit.weights import find_entry, load_manifest
from denoisekit.weights.manifest import HubSource, UrlSource, manifest_path

WITHOUT_FIGURES = {"aprrd.teacher-sidd"}  # the authors give the student's alone

ENTRY = {
    "id": "tiny.test",
    "method": "tiny",
    "config": {"net": "tiny"},
    "title": "Tiny",
    "trained_on": "nothing",
    "licence": "MIT",
    "citation": "none",
    "bytes": 10,
    "sha256": "0" * 64,
    "sources": [
        {"url": "https://example.org/a%20b.pth"},
        {"repo": "org/name", "revision": "a" * 40, "file": "w.pth"},
    ],
    "results": [
        {"dataset": "d", "psnr": 30.0, "ssim": None, "origin": "measured", "protocol": "p"}
    ],
}


def manifest(tmp_path, *entries):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(entries))
    return path


def changed(**changes):
    entry = copy.deepcopy(ENTRY)
    for key, value in changes.items():
        if value is ...:
            del entry[key]
        else:
            entry[key] = value
    return entry


def test_entry_is_read_whole(tmp_path):
    (entry,) = load_manifest(manifest(tmp_path, ENTRY))
    assert (entry.id, entry.bytes, entry.pinned) == ("tiny.test", 10, "0" * 64)
    assert entry.sources == (
        UrlSource("https://example.org/a%20b.pth"),
        HubSource("org/name", "a" * 40, "w.pth"),
    )
    assert entry.results[0].psnr == 30.0
    with pytest.raises(TypeError):
        entry.config["net"] = "other"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (changed(colour="red"), "'tiny.test': unknown key 'colour'"),
        (changed(title=...), "'title' is missing"),
        (changed(title=""), "'title' is empty"),
        (changed(bytes="10"), "'bytes' has the wrong type str"),
        (changed(bytes=True), "'bytes' has the wrong type bool"),
        (changed(bytes=-1), "'bytes' must be"),
        (changed(strength=0), "'strength' must be: above 0"),
        (changed(use="grey"), "'use' must be: any, measured or named"),
        (changed(strength="auto"), "'strength' has the wrong type str"),
        (changed(bytes=None), "'bytes' must be: given where sha256 is"),
        (changed(sha256="0" * 63), "'sha256' must be: 64 hex"),
        (changed(sha256="A" * 64), "'sha256' must be: 64 hex"),
        (changed(git_blob="0" * 40), "'git_blob' must be: absent"),
        (changed(sha256=..., git_blob="0" * 39), "'git_blob' must be: 40 hex"),
        (changed(sha256=...), "'sha256' must be: given where there are sources"),
        (changed(sources=[]), "'page' must be: given where there are no sources"),
        (changed(sources=[{"url": "ftp://example.org/w.pth"}]), r"'url' must be: an http\(s\)"),
        (changed(sources=[{"url": "https://example.org/a b.pth"}]), "percent-encoded"),
        (changed(sources=[{"url": "https:///w.pth"}]), r"'url' must be: an http\(s\)"),
        (changed(sources=[{"url": "https://e.org/w", "sha": "1"}]), "unknown key 'sha'"),
        (changed(sources=[{"repo": "o/n", "revision": "main", "file": "w"}]), "a commit"),
        (changed(sources=[{"repo": "o/n", "file": "w"}]), "'revision' is missing"),
        (changed(sources=["https://example.org"]), "an object is expected"),
        (changed(id="../tiny.test"), "'id' must be: method.tag"),
        (changed(id="tiny"), "'id' must be: method.tag"),
        (changed(id="other.test"), "'id' must be: the method before the dot"),
        (changed(results=[{"dataset": "d"}]), "'psnr' is missing"),
        ([], "entry 0: an object is expected"),
    ],
)
def test_slip_is_named(tmp_path, entry, words):
    with pytest.raises(WeightsError, match=words):
        load_manifest(manifest(tmp_path, entry))


def test_weights_that_only_a_person_can_fetch(tmp_path):
    by_hand = changed(sources=[], page="https://example.org/", sha256=..., bytes=None)
    (entry,) = load_manifest(manifest(tmp_path, by_hand))
    assert entry.pinned is None


def test_twice_the_same_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"id 'tiny\.test' is there twice"):
        load_manifest(manifest(tmp_path, ENTRY, changed(sha256="1" * 64)))
    with pytest.raises(WeightsError, match=r"hash '0+' is there twice"):
        load_manifest(manifest(tmp_path, ENTRY, changed(id="tiny.other")))
    path = tmp_path / "twice.json"
    path.write_text('[{"id": "a", "id": "b"}]')
    with pytest.raises(WeightsError, match="key 'id' is there twice"):
        load_manifest(path)


@pytest.mark.parametrize("text", ["", "[", "{}", "null", "\udcff"])
def test_what_is_no_manifest(tmp_path, text):
    path = tmp_path / "m.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match="malformed"):
        load_manifest(path)
    with pytest.raises(WeightsError, match="cannot read"):
        load_manifest(tmp_path / "absent.json")


def test_unknown_id_names_the_closest(tmp_path, monkeypatch):
    entries = load_manifest(manifest(tmp_path, ENTRY))
    with pytest.raises(UsageError) as caught:
        find_entry("tiny.tset", entries)
    assert caught.value.hint == "did you mean 'tiny.test'?"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        find_entry("mine", entries)
    assert "./mine" in caught.value.hint


def test_own_manifest_is_sound():
    entries = load_manifest()
    ids = [entry.id for entry in entries]
    assert {"aprrd.sidd", "aprrd.sidd-1.00m", "aprrd.tmbsn-sidd", "aprrd.tmbsn-dnd"} <= set(ids)
    for entry in entries:
        method = get_method(entry.method)
        assert method.build(entry.config, method.choose()).shapes()
        assert entry.results or entry.id in WITHOUT_FIGURES, f"{entry.id} has no figure"
        for source in entry.sources:
            if isinstance(source, UrlSource):
                assert source.url.startswith("https://")
                # A branch would move; a commit cannot.
                assert "/main/" not in source.url
                assert "/master/" not in source.url
    for method in METHODS:
        if not method.default_weights:
            assert method.without_weights
            continue
        defaults = [find_entry(name, entries) for name in method.default_weights]
        assert {entry.method for entry in defaults} == {method.id}
        # Every method works without a network, and the published network comes first.
        assert defaults[-1].embedded
        assert all(entry.config == method.config for entry in defaults[:-1])


def test_own_manifest_is_the_one_that_ships():
    import tomllib
    from pathlib import Path

    root = Path(__file__).parents[2]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = build["targets"]["wheel"]["force-include"]
    assert wheel["weights_manifest.json"] == "denoisekit/weights_manifest.json"
    if manifest_path().parent != root:  # a wheel is installed
        assert json.loads(manifest_path().read_text()) == json.loads(
            (root / "weights_manifest.json").read_text()
        )
