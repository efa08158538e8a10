"""Files of the Hugging Face hub, against the few answers of a hub that a download needs."""

from __future__ import annotations

import hashlib
import json
import socket

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save
from test_checkpoint import Harmful
from tiny_method import CONFIG, METHOD, entry_for, official, pickled

import denoisekit
from denoisekit.cli import app
from denoisekit.errors import UsageError, WeightsError
from denoisekit.methods import get_method
from denoisekit.weights import cache_folder, load_weights, method_of, pull, pull_hub, store
from denoisekit.weights.hub import parse
from denoisekit.weights.manifest import HubSource
from denoisekit.weights.store import read_pins

DATA, OTHER = pickled(official()), pickled(official(seed=1))
FIRST, SECOND = "a" * 40, "b" * 40
SOURCE = HubSource("org/denoiser", FIRST, "sub folder/w.pth")
SPEC = "hf://org/denoiser/sub folder/w.pth"
MAIN = "hf://org/denoiser@main/sub folder/w.pth"
PINNED = str(SOURCE)


def place(revision, file="sub%20folder/w.pth"):
    return f"/org/denoiser/resolve/{revision}/{file}"


@pytest.fixture
def hub(site, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", site.url(""))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    publish(site, DATA)
    return site


def publish(site, data, commit=FIRST, branch="main", file="sub%20folder/w.pth"):
    site.etag = f'"{hashlib.sha256(data).hexdigest()}"'
    for revision in (commit, branch):
        site.files[place(revision, file)] = data
        site.headers[place(revision, file)] = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}


def refuse(site, path, status, code):
    site.files.pop(path, None)
    site.status[path], site.headers[path] = status, {"X-Error-Code": code}


def cached(tmp_path, commit=FIRST, file="sub folder/w.pth"):
    return tmp_path / "hub-cache/models--org--denoiser/snapshots" / commit / file


def left_over():
    return [p.name for p in cache_folder().iterdir() if p.suffix != ".lock"]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_pull_from_the_endpoint_at_the_pinned_commit(hub, capfd):
    seen = []
    stored, fetched = pull(
        entry_for(DATA, SOURCE), METHOD, lambda done, total: seen.append((done, total))
    )
    assert fetched
    assert hub.count(place(FIRST)) == 1
    assert stored.header()["source"] == PINNED
    assert seen[-1] == (len(DATA), len(DATA))
    assert sorted(left_over()) == [stored.path.name, f"{stored.path.name}.json"]
    assert capfd.readouterr() == ("", "")  # the hub's own bars stay hidden


def test_hash_is_ours_to_check(hub):
    # Same size, so huggingface_hub is content.
    publish(hub, bytes(len(DATA)))
    entry = entry_for(DATA, SOURCE)
    with pytest.raises(WeightsError, match=f"expected sha256 {entry.sha256}, found"):
        pull(entry, METHOD)
    assert left_over() == []


def test_file_of_another_size_is_refused(hub):
    hub.files[place(FIRST)] = DATA + bytes(1 << 20)
    with pytest.raises(WeightsError, match=rf"has {len(DATA) + (1 << 20)} bytes"):
        pull(entry_for(DATA, SOURCE), METHOD)
    assert left_over() == []


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "EntryNotFound", r"no file sub folder/w\.pth \(404\)"),
        (404, "RevisionNotFound", rf"no revision {FIRST} \(404\)"),
        (404, "RepoNotFound", "no repository org/denoiser, or it is private.*HF_TOKEN"),
        (401, "RepoNotFound", "no repository org/denoiser, or it is private.*HF_TOKEN"),
        (401, "GatedRepo", r"gated: ask for access on https://huggingface\.co/org/denoiser"),
        (403, "GatedRepo", "gated.*HF_TOKEN"),
        (500, "", "500"),
    ],
)
def test_refusals_are_one_line(hub, status, code, words):
    refuse(hub, place(FIRST), status, code)
    refuse(hub, place("main"), status, code)
    for get in (lambda: pull(entry_for(DATA, SOURCE), METHOD), lambda: pull_hub(PINNED)):
        with pytest.raises(WeightsError, match=words) as caught:
            get()
        assert "hf://org/denoiser" in caught.value.message
        assert "\n" not in caught.value.message
        assert caught.value.exit_code == 3
    assert "--weights FILE" in caught.value.hint
    assert left_over() == []


def test_users_hub_cache_comes_before_the_network(hub, tmp_path, monkeypatch):
    file = cached(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    pull(entry_for(DATA, SOURCE), METHOD)
    assert load_weights(PINNED, METHOD).sha256 == sha256(DATA)
    assert hub.asked == []
    assert file.read_bytes() == DATA  # it is not ours to remove


def test_wrong_file_in_the_users_hub_cache_is_passed_over(hub, tmp_path):
    file = cached(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"damage")
    pull(entry_for(DATA, SOURCE), METHOD)
    assert hub.count(place(FIRST)) == 1


def test_unreachable_hub_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for get in (lambda: pull(entry_for(DATA, SOURCE), METHOD), lambda: pull_hub(SPEC)):
        with pytest.raises(WeightsError, match="hf://org/denoiser") as caught:
            get()
        assert "\n" not in caught.value.message
        assert caught.value.exit_code == 3


def test_branch_is_pinned_to_its_commit_and_needs_no_network_again(hub, tmp_path, monkeypatch):
    loaded = load_weights(SPEC, METHOD)
    assert (loaded.id, loaded.sha256, loaded.warnings) == (SPEC, sha256(DATA), ())
    assert loaded.state["mix.bias"].tolist() == official()["layer.bias"].tolist()
    assert read_pins() == {MAIN: {"commit": FIRST, "sha256": sha256(DATA)}}
    assert cached(tmp_path).read_bytes() == DATA
    publish(hub, OTHER, SECOND)

    def forbidden(*arguments, **options):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", forbidden)
    assert load_weights(SPEC, METHOD).sha256 == sha256(DATA)
    assert load_weights(MAIN, METHOD, allow_download=False).sha256 == sha256(DATA)


def test_moved_branch_is_told_and_taken_only_when_asked(hub):
    pull_hub(SPEC)
    assert pull_hub(SPEC, look=True).warnings == ()
    publish(hub, OTHER, SECOND)
    here = pull_hub(SPEC, look=True)
    assert (here.new, here.commit, here.sha256) == (False, FIRST, sha256(DATA))
    (warning,) = here.warnings
    assert f"main of org/denoiser has moved from commit {'a' * 10} to {'b' * 10}" in warning
    assert f"denoisekit weights pull {MAIN} --renew takes the new one" in warning
    here = pull_hub(SPEC, renew=True)
    assert (here.commit, here.sha256) == (SECOND, sha256(OTHER))
    assert load_weights(SPEC, METHOD).sha256 == sha256(OTHER)


def test_pinned_commit_is_fetched_again_where_the_cache_was_emptied(hub, tmp_path, monkeypatch):
    pull_hub(SPEC)
    publish(hub, OTHER, SECOND)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    hub.etag = None  # each file has its own
    hub.headers[place(FIRST)]["ETag"] = f'"{sha256(DATA)}"'
    hub.headers[place("main")]["ETag"] = f'"{sha256(OTHER)}"'
    loaded = load_weights(SPEC, METHOD)
    assert loaded.sha256 == sha256(DATA)
    assert "has moved" in loaded.warnings[0]
    # A branch that was written anew has lost the commit.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "a third"))
    refuse(hub, place(FIRST), 404, "RevisionNotFound")
    with pytest.raises(WeightsError, match=f"no revision {FIRST}.*has moved.*--renew") as caught:
        load_weights(SPEC, METHOD)
    assert "\n" not in caught.value.message


def test_changed_file_at_the_same_commit_is_refused(hub, tmp_path, monkeypatch):
    pull_hub(PINNED)
    publish(hub, OTHER)
    assert pull_hub(PINNED, look=True).sha256 == sha256(DATA)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    with pytest.raises(WeightsError, match="is not what it was at this commit") as caught:
        load_weights(PINNED, METHOD)
    assert f"expected sha256 {sha256(DATA)}, found {sha256(OTHER)}" in caught.value.message


def test_damage_in_the_cache_is_mended(hub, tmp_path, monkeypatch):
    pull_hub(SPEC)
    cached(tmp_path).write_bytes(b"damage")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE forbids the network"):
        load_weights(SPEC, METHOD)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert load_weights(SPEC, METHOD).sha256 == sha256(DATA)
    assert cached(tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("etag", [hashlib.sha256(b"x").hexdigest(), "0" * 40])
def test_file_that_is_not_what_the_hub_names_is_refused(hub, etag):
    hub.etag = f'"{etag}"'
    with pytest.raises(WeightsError, match=f"came damaged: expected {etag}, found"):
        pull_hub(SPEC)
    assert read_pins() == {}


def test_small_files_are_named_by_their_id_in_the_repository(hub):
    blob = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    hub.etag = f'"{blob}"'
    assert pull_hub(SPEC).sha256 == sha256(DATA)


@pytest.mark.parametrize("variable", ["DENOISEKIT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_without_a_cache(hub, variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsError, match=f"{variable} forbids the network") as caught:
        load_weights(SPEC, METHOD)
    assert f"denoisekit weights pull {MAIN}" in caught.value.hint
    monkeypatch.delenv(variable)
    with pytest.raises(WeightsError, match="it is not here"):
        load_weights(SPEC, METHOD, allow_download=False)
    assert hub.asked == []


def test_server_that_is_no_hub(hub):
    hub.headers = {}
    with pytest.raises(WeightsError, match="names no commit"):
        pull_hub(SPEC)


def test_code_in_a_file_of_the_hub_never_runs(hub, tmp_path):
    publish(hub, pickled({"state_dict": official(), "extra": Harmful(tmp_path / "ran")}))
    with pytest.raises(WeightsError, match="holds more than weights"):
        load_weights(SPEC, METHOD)
    assert not (tmp_path / "ran").exists()


def test_store_that_cannot_be_written_is_no_hindrance_to_a_commit(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DENOISEKIT_HOME", str(tmp_path / "file"))
    assert pull_hub(PINNED).sha256 == sha256(DATA)
    with pytest.raises(WeightsError, match="cannot write pins") as caught:
        pull_hub(SPEC)
    assert "DENOISEKIT_HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf://a/b/c.safetensors", HubSource("a/b", "main", "c.safetensors")),
        ("hf:/a/b/c.safetensors", HubSource("a/b", "main", "c.safetensors")),
        ("hf://a/b@v1.0/d/c.pth", HubSource("a/b", "v1.0", "d/c.pth")),
        ("hf://a/b", None),
        ("hf://a/b/", None),
        ("hf://a/b@/c", None),
        ("hf://a/b/../c", None),
        ("hf://a b/c/d", None),
        ("hf://a/b/c\n", None),
    ],
)
def test_what_names_a_file_of_the_hub(text, source):
    if source:
        assert parse(text) == source
        return
    with pytest.raises(UsageError) as caught:
        load_weights(text, METHOD)
    assert "hf://USER/REPO/FILE" in caught.value.hint


SMALL = {"net": "unet", "variant": "1.00M", "channels": 3, "width": 4}
OURS = "hf://org/denoiser/weights.safetensors"


@pytest.fixture
def ours(hub):
    """A file that denoisekit wrote, as somebody published it."""
    method = get_method("aprrd")
    shapes = method.build(SMALL, method.choose()).shapes()
    header = {"denoisekit": "1", "method": "aprrd", "config": json.dumps(SMALL)}
    data = save({key: torch.zeros(shape) for key, shape in shapes.items()}, metadata=header)
    publish(hub, data, file="weights.safetensors")
    return hub


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(np.full((32, 40, 3), 90, np.uint8)).save(path)
    return path


def test_method_follows_from_the_header(ours):
    with pytest.raises(WeightsError, match="it is not here"):
        denoisekit.load(weights=OURS, allow_download=False)
    assert ours.asked == []
    assert method_of(OURS) == "aprrd"
    denoiser = denoisekit.load(weights=OURS)
    assert denoiser.weights.id == OURS
    assert denoiser.weights.config == SMALL
    with pytest.raises(WeightsError, match="of the method aprrd, not tiny"):
        load_weights(OURS, METHOD)


def test_commands_take_it_as_they_take_a_file(ours, image, capsys, monkeypatch, tmp_path):
    def run(*arguments):
        code = app.run([*map(str, arguments)])
        done = capsys.readouterr()
        return code, done.out, done.err

    code, out, err = run("denoise", image, "--weights", OURS, "--json")
    assert (code, json.loads(out)["weights"], err.count("warning")) == (0, OURS, 0)
    code, out, _ = run("weights", "pull", OURS)
    assert (code, out.split(" (")[0]) == (0, f"{OURS}: already here, nothing to do")
    assert f"commit {FIRST[:10]}" in out
    told = json.loads(run("weights", "pull", OURS, "--renew", "--json")[1])
    assert (told["commit"], told["id"]) == (FIRST, OURS)
    code, out, _ = run("weights", "path", OURS)
    assert (code, out.strip()) == (0, told["path"])
    code, _, err = run("weights", "info", OURS)
    assert (code, f"denoisekit weights path {OURS}" in err) == (2, True)
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    code, out, _ = run(
        "weights", "export", OURS, tmp_path / "x.pt", "--to", "torchscript", "--json"
    )
    assert (code, json.loads(out)["weights"]) == (0, OURS)
    code, out, err = run("denoise", image, "--weights", "hf://org/denoiser/no.pth")
    assert (code, out, err.count("\n")) == (3, "", 2)
    assert "DENOISEKIT_OFFLINE forbids the network" in err


def test_file_without_a_header_is_fit_by_its_keys(hub):
    assert method_of(SPEC) is None
    assert load_weights(SPEC, METHOD).config == CONFIG
    assert store.find(entry_for(DATA)) is None  # nothing is converted
