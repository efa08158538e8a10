"""The cache folder: damage is found, imports are checked, nothing is guessed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_method import CONFIG, METHOD, entry_for, official, pickled

from denoisekit.errors import UsageError, WeightsError
from denoisekit.methods import METHODS, get_method
from denoisekit.weights import (
    cache_folder,
    choose_entry,
    find,
    import_file,
    is_path,
    load_manifest,
    load_weights,
    loading,
    locate,
    remove,
    weights_present,
)
from denoisekit.weights.manifest import UrlSource

DATA = pickled(official())
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "published.pth"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def entry(monkeypatch):
    entry = entry_for(DATA, UrlSource("http://127.0.0.1:9/w.pth"))
    monkeypatch.setattr(loading, "load_manifest", lambda: (entry,))
    return entry


def test_import_by_hash_then_load(file, entry):
    assert choose_entry(file, [entry], None) == entry
    stored = import_file(file, entry, METHOD)
    assert locate(entry) == stored.path
    assert weights_present(entry)
    assert stored.header() == {
        "denoisekit": "1",
        "id": "tiny.test",
        "method": "tiny",
        "config": '{"net": "tiny"}',
        "source": "file published.pth",
        "source_sha256": SHA256,
        "verified": "yes",
        "licence": "MIT",
        "citation": "none",
        "converter": stored.header()["converter"],
    }
    loaded = load_weights("tiny.test", METHOD)
    assert loaded.state["mix.weight"].tolist() == official()["layer.weight"].tolist()
    assert (loaded.id, loaded.sha256, loaded.config) == ("tiny.test", SHA256, CONFIG)
    assert (loaded.method, loaded.warnings) == ("tiny", ())
    assert file.read_bytes() == DATA


def test_import_of_an_unknown_file(tmp_path, entry):
    path = tmp_path / "mine.pth"
    path.write_bytes(pickled(official(seed=1)))
    with pytest.raises(WeightsError, match="none of the known files") as caught:
        choose_entry(path, [entry], None)
    assert "--as ID" in caught.value.hint
    assert choose_entry(path, [entry], "tiny.test") == entry
    stored = import_file(path, entry, METHOD)
    assert stored.header()["verified"] == "no: unverified source"
    assert "unverified" in stored.path.name
    loaded = load_weights("tiny.test", METHOD)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.state["mix.bias"].tolist() == official(seed=1)["layer.bias"].tolist()
    assert "unverified source" in loaded.warnings[0]


def test_unverified_file_never_takes_the_place_of_the_verified(tmp_path, file, entry):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(pickled(official(seed=1)))
    import_file(mine, entry, METHOD)
    import_file(file, entry, METHOD)
    assert load_weights("tiny.test", METHOD).sha256 == SHA256
    with pytest.raises(WeightsError, match="here already"):
        import_file(mine, entry, METHOD)


def test_import_of_a_file_known_as_another(file, entry):
    other = entry_for(b"other", name="tiny.other")
    with pytest.raises(UsageError, match=r"is tiny\.test by its hash, not tiny\.other"):
        choose_entry(file, [entry, other], "tiny.other")


def test_import_of_another_network_stores_nothing(tmp_path, entry):
    path = tmp_path / "other.pth"
    path.write_bytes(pickled({"x": torch.zeros(3)}))
    with pytest.raises(WeightsError, match=r"other\.pth does not fit"):
        import_file(path, entry, METHOD)
    assert find(entry) is None
    with pytest.raises(WeightsError, match="there is no file"):
        choose_entry(tmp_path / "absent.pth", [entry], None)


def flip(path):
    """Change a byte; the size and the time stay."""
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_damage_that_keeps_size_and_time_is_found_by_verify_and_by_loading(file, entry):
    stored = import_file(file, entry, METHOD)
    flip(stored.path)
    assert find(entry).damage is None  # the quick look cannot know
    assert "instead of" in find(entry, thorough=True).damage
    with pytest.raises(WeightsError, match="damaged"):
        load_weights("tiny.test", METHOD)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def overwrite(path):
    path.write_bytes(bytes(path.stat().st_size))
    os.utime(path, ns=(1, 1))


def lose_record(path):
    path.with_name(f"{path.name}.json").unlink()


def garble_record(path):
    path.with_name(f"{path.name}.json").write_text("[]")


@pytest.mark.parametrize("harm", [cut, overwrite, lose_record, garble_record])
def test_damage_is_found_by_locate(file, entry, harm):
    stored = import_file(file, entry, METHOD)
    harm(stored.path)
    with pytest.raises(WeightsError, match="damaged") as caught:
        locate(entry)
    assert caught.value.exit_code == 3
    assert "denoisekit weights pull tiny.test" in caught.value.hint
    assert not weights_present(entry)
    import_file(file, entry, METHOD)
    assert weights_present(entry)


def test_folder_copied_to_another_machine_is_taken(file, entry, monkeypatch, tmp_path):
    import_file(file, entry, METHOD)
    shutil.copytree(cache_folder(), tmp_path / "copy/weights", copy_function=shutil.copyfile)
    monkeypatch.setenv("DENOISEKIT_HOME", str(tmp_path / "copy"))
    path = locate(entry)
    assert path.is_relative_to(tmp_path / "copy")
    record = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert record["mtime_ns"] == path.stat().st_mtime_ns  # the next look is quick


def test_looking_writes_nothing_and_asks_nobody(entry):
    assert find(entry) is None
    assert locate(entry) is None
    assert not cache_folder().exists()
    with pytest.raises(WeightsError, match="not in the cache folder"):
        load_weights("tiny.test", METHOD, allow_download=False)
    assert not cache_folder().exists()


def test_remove(file, entry):
    stored = import_file(file, entry, METHOD)
    work = stored.path.with_suffix(".part")
    work.mkdir()
    (work / "file.part").write_bytes(b"begun")
    assert set(remove(entry)) == {
        stored.path,
        stored.path.with_name(stored.path.name + ".json"),
        work,
    }
    assert find(entry) is None
    with pytest.raises(WeightsError, match="are not here"):
        remove(entry)


def test_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("DENOISEKIT_HOME", "~/kit")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "kit/weights"
    monkeypatch.delenv("DENOISEKIT_HOME")
    assert cache_folder().parts[-2:] == ("denoisekit", "weights")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("aprrd.sidd", False),
        ("aprrd.sidd-1.00m", False),
        ("mine", False),
        ("./mine", True),
        ("folder/mine", True),
        ("mine.pth", True),
        ("MINE.PTH", True),
        ("mine.safetensors", True),
        (Path("mine"), True),
    ],
)
def test_what_counts_as_a_path(name, path):
    assert is_path(name) is path


def test_load_from_a_file(file, entry, tmp_path):
    loaded = load_weights(str(file), METHOD)
    assert (loaded.id, loaded.sha256, loaded.config) == ("published.pth", SHA256, CONFIG)
    stored = import_file(file, entry, METHOD)
    own = load_weights(stored.path, METHOD)
    assert own.state["mix.bias"].tolist() == loaded.state["mix.bias"].tolist()
    with pytest.raises(WeightsError, match="there is no file"):
        load_weights(tmp_path / "absent.pth", METHOD)
    with pytest.raises(WeightsError, match="folder without weights"):
        load_weights(tmp_path, METHOD)


def test_weights_of_another_method(file, entry):
    other = METHODS[0]
    with pytest.raises(UsageError, match="are of the method tiny, not aprrd") as caught:
        load_weights("tiny.test", other)
    assert "--method tiny" in caught.value.hint
    stored = import_file(file, entry, METHOD)
    with pytest.raises(WeightsError, match="of the method tiny, not aprrd"):
        load_weights(stored.path, other)
    with pytest.raises(WeightsError, match="does not fit the network of aprrd"):
        load_weights(file, other)


def test_entry_without_a_hash_is_imported_on_the_users_word(file, monkeypatch):
    by_hand = entry_for(DATA, sha256=None, bytes=None, page="https://example.org/")
    monkeypatch.setattr(loading, "load_manifest", lambda: (by_hand,))
    with pytest.raises(WeightsError) as caught:
        load_weights("tiny.test", METHOD)
    assert "https://example.org/" in caught.value.hint
    assert "weights import FILE --as tiny.test" in caught.value.hint
    assert "weights pull" not in caught.value.hint
    assert import_file(file, by_hand, METHOD).verified is False
    assert load_weights("tiny.test", METHOD).sha256 == SHA256


@pytest.mark.shared
def test_published_checkpoints_import_by_hash_and_load(shared):
    entries = load_manifest()
    files = sorted((shared / "weights").glob("*.pth"))
    assert len(files) == 4
    seen = set()
    for path in files:
        entry = choose_entry(path, entries, None)
        assert path.stat().st_size == entry.bytes
        method = get_method(entry.method)
        assert import_file(path, entry, method).verified
        loaded = load_weights(entry.id, method, allow_download=False)
        method.build(loaded.config, method.choose()).load(loaded.state)
        official = torch.load(path, weights_only=True, map_location="cpu")
        official = official.get("model_state_dict", official)
        assert sum(v.sum(dtype=torch.float64) for v in loaded.state.values()) == pytest.approx(
            float(sum(v.sum(dtype=torch.float64) for v in official.values()))
        )
        seen.add(entry.id)
    assert seen == {"aprrd.sidd", "aprrd.sidd-1.00m", "aprrd.tmbsn-sidd", "aprrd.tmbsn-dnd"}
