"""Hub sources, against the few answers of a hub that a download needs."""

from __future__ import annotations

import pytest
from huggingface_hub import constants
from tiny_method import METHOD, entry_for, official, pickled

from denoisekit.errors import WeightsError
from denoisekit.weights import cache_folder, pull
from denoisekit.weights.manifest import HubSource

DATA = pickled(official())
SOURCE = HubSource("org/denoiser", "a" * 40, "sub folder/w.pth")
PATH = f"/org/denoiser/resolve/{'a' * 40}/sub%20folder/w.pth"


@pytest.fixture
def hub(site, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", site.url(""))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    site.files[PATH] = DATA
    site.headers[PATH] = {"X-Repo-Commit": SOURCE.revision, "Accept-Ranges": "bytes"}
    return site


def left_over():
    return [p.name for p in cache_folder().iterdir() if p.suffix != ".lock"]


def test_pull_from_the_endpoint_at_the_pinned_commit(hub, capfd):
    seen = []
    stored, fetched = pull(
        entry_for(DATA, SOURCE), METHOD, lambda done, total: seen.append((done, total))
    )
    assert fetched
    assert hub.count(PATH) == 1
    assert stored.header()["source"] == str(SOURCE)
    assert seen[-1] == (len(DATA), len(DATA))
    assert sorted(left_over()) == [stored.path.name, f"{stored.path.name}.json"]
    assert capfd.readouterr() == ("", "")  # the hub's own bars stay hidden


def test_hash_is_ours_to_check(hub):
    # Same size, so huggingface_hub is content.
    hub.files[PATH] = bytes(len(DATA))
    entry = entry_for(DATA, SOURCE)
    with pytest.raises(WeightsError, match=f"expected sha256 {entry.sha256}, found"):
        pull(entry, METHOD)
    assert left_over() == []


def test_file_of_another_size_is_refused(hub):
    hub.files[PATH] = DATA + bytes(1 << 20)
    with pytest.raises(WeightsError, match=rf"has {len(DATA) + (1 << 20)} bytes"):
        pull(entry_for(DATA, SOURCE), METHOD)
    assert left_over() == []


def test_absent_file_is_one_line(hub):
    del hub.files[PATH]
    hub.headers[PATH] = {"X-Error-Code": "EntryNotFound"}
    with pytest.raises(WeightsError, match="hf://org/denoiser") as caught:
        pull(entry_for(DATA, SOURCE), METHOD)
    assert "\n" not in caught.value.message
    assert "404" in caught.value.message
    assert left_over() == []


def test_users_hub_cache_comes_before_the_network(hub, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub-cache/models--org--denoiser/snapshots" / SOURCE.revision
    file = snapshot / SOURCE.file
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    pull(entry_for(DATA, SOURCE), METHOD)
    assert hub.asked == []
    assert file.read_bytes() == DATA  # it is not ours to remove


def test_wrong_file_in_the_users_hub_cache_is_passed_over(hub, tmp_path):
    file = tmp_path / "hub-cache/models--org--denoiser/snapshots" / SOURCE.revision / SOURCE.file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damage")
    pull(entry_for(DATA, SOURCE), METHOD)
    assert hub.count(PATH) == 1


def test_unreachable_hub_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="hf://org/denoiser") as caught:
        pull(entry_for(DATA, SOURCE), METHOD)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 3
