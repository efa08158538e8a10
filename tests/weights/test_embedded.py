import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import denoisekit
from denoisekit.cli import app
from denoisekit.errors import WeightsError
from denoisekit.methods import METHODS, get_method
from denoisekit.noise import simulate
from denoisekit.weights import find_entry, import_file, load_manifest, load_weights, remove, store
from denoisekit.weights.checkpoint import read_header

SHIPPED = [entry for entry in load_manifest() if entry.embedded]
EACH = pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.id)


@pytest.fixture(autouse=True)
def fresh_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("DENOISEKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")


def test_files_and_entries_are_one_for_one_and_small():
    files = {path.name: path.stat().st_size for path in store.EMBEDDED.iterdir()}
    assert files == {entry.embedded: entry.bytes for entry in SHIPPED}
    assert sum(files.values()) <= 12_000_000


@EACH
def test_file_is_the_one_of_the_manifest_and_says_how_it_was_made(entry):
    path = store.EMBEDDED / entry.embedded
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
    header = read_header(path)
    assert (header["id"], header["method"]) == (entry.id, entry.method)
    assert header["licence"] == entry.licence
    assert '"simulate": "' in header["training"]


@pytest.fixture(scope="module")
def pair():
    """A photograph of smooth and sharp things, and the same as a phone takes it in the dark."""
    rows, columns = np.mgrid[:96, :96] / 96
    clean = np.stack([rows, columns, (rows + columns) / 2], -1) * 0.6 + 0.2
    clean[24:72, 24:72] = [0.7, 0.4, 0.3]
    clean[40:56, 40:56] = [0.2, 0.3, 0.6]
    clean = clean.astype(np.float32)
    return clean, simulate(clean, "phone", np.random.default_rng(0), gain=0.01)


WITH_WEIGHTS = [info for info in METHODS if info.default_weights]


@pytest.mark.parametrize("info", WITH_WEIGHTS, ids=lambda info: info.id)
def test_every_method_denoises_on_a_fresh_machine_without_a_network(info, pair):
    clean, noisy = pair
    denoised = denoisekit.denoise(noisy, method=info.id, strength=1, range="0,1")
    before, after = (np.square(image - clean).mean() for image in (noisy, denoised))
    assert after < before / 2


def test_weights_that_ship_give_back_what_was_no_noise_and_files_do_not():
    loaded = {info.id: load_weights(None, info).strength for info in WITH_WEIGHTS}
    assert loaded == dict.fromkeys(loaded, "auto")
    path = store.EMBEDDED / "sdap.camera.safetensors"
    assert load_weights(path, get_method("sdap")).strength == 1.0


def test_clean_picture_is_left_alone(pair):
    clean, _ = pair
    denoised = denoisekit.denoise(clean, range="0,1")
    assert np.square(denoised - clean).mean() < 10**-4.2


def test_what_is_taken_instead_is_said_once_and_only_to_who_can_act(tmp_path, capsys, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(path)

    def said(*more):
        assert app.run(["denoise", str(path), "--overwrite", *more]) == 0
        return capsys.readouterr().err.splitlines()

    assert said()[0].startswith("aprrd with aprrd.camera on ")  # all tests here are offline
    monkeypatch.delenv("DENOISEKIT_OFFLINE")
    first, second = said()[:2]
    assert first.startswith("note: aprrd.sidd could not be had: ")
    assert "see denoisekit weights info aprrd.sidd" in first
    assert second.startswith("aprrd with aprrd.camera on ")
    assert said()[0].startswith("aprrd with aprrd.camera on ")
    assert said("--method", "sdap")[0].startswith("note: sdap.sidd could not be had: ")


def test_published_weights_come_first_where_they_are_here(tmp_path):
    method, entries = get_method("aprrd"), load_manifest()
    state = load_weights(None, method).state
    file = tmp_path / "theirs.pth"
    torch.save(dict(state), file)
    import_file(file, find_entry("aprrd.sidd", entries), method)
    loaded = load_weights(None, method)
    assert (loaded.id, loaded.instead) == ("aprrd.sidd", "")
    assert load_weights("aprrd.camera", method).id == "aprrd.camera"
    # Damaged ones do not keep anybody from working.
    stored = store.find(find_entry("aprrd.sidd", entries))
    stored.path.write_bytes(b"")
    loaded = load_weights(None, method)
    assert loaded.id == "aprrd.camera"
    assert loaded.instead.startswith("aprrd.sidd could not be had")


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A package whose files are cut off."""
    folder = tmp_path / "embedded"
    folder.mkdir()
    for entry in SHIPPED:
        (folder / entry.embedded).write_bytes(b"no weights")
    monkeypatch.setattr(store, "EMBEDDED", folder)


@pytest.mark.usefixtures("broken")
def test_damaged_package_says_how_to_mend_it():
    with pytest.raises(WeightsError, match=r"aprrd\.camera are damaged") as caught:
        load_weights("aprrd.camera", get_method("aprrd"))
    assert "pip install --force-reinstall --no-deps" in caught.value.hint


def test_they_can_be_neither_removed_nor_replaced(tmp_path):
    entry = find_entry("aprrd.camera", load_manifest())
    with pytest.raises(WeightsError, match="cannot be removed"):
        remove(entry)
    with pytest.raises(WeightsError, match="nothing to import"):
        import_file(store.EMBEDDED / entry.embedded, entry, get_method("aprrd"))


def test_wheel_and_sdist_take_them():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/denoisekit"]
    assert Path("src/denoisekit/weights/embedded").parts[:2] == store.EMBEDDED.parts[-4:-2]
