"""Weights from anywhere: what a header claims is checked before anything is built of it."""

from __future__ import annotations

import io
import json
import runpy
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from denoisekit.cli import app
from denoisekit.errors import DenoisekitError, WeightsError
from denoisekit.methods import METHODS, get_method
from denoisekit.weights import find, load_manifest, load_weights
from denoisekit.weights.checkpoint import read_header, read_state
from denoisekit.weights.store import EMBEDDED, path_for, record_of
from peak_memory import peak
from processes import launch

OURS = {info.id: info for info in METHODS}
SHIPPED = EMBEDDED / "aprrd.camera.safetensors"
CONFIG = json.loads(read_header(SHIPPED)["config"])


def weights(tmp_path, config, method="aprrd", state=None):
    """Write a small file whose header says this."""
    text = config if isinstance(config, str) else json.dumps(config)
    header = {"denoisekit": "1", "method": method, "config": text}
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(state or {"a": torch.ones(2)}, metadata=header))
    return path


WRONG = {
    "offset of letters": {"offset": "abc"},
    "offset in an offset": {"offset": [[1.0]]},
    "offset of another number of channels": {"offset": [0.1, 0.1]},
    "offset that is no number": {"offset": [float("nan")]},
    "offset without bounds": {"offset": [10**300]},
    "range as a list": {"range": [1, 2]},
    "range as a number": {"range": 1},
    "range unknown": {"range": "\x1b]0;PWNED\x07"},
    "range backwards": {"range": "2,1"},
    "range endless": {"range": "0,1e400"},
    "channels absurd": {"channels": 10**6},
    "channels huge": {"channels": 10**400},
    "channels below 0": {"channels": -3},
    "channels 0": {"channels": 0},
    "channels a float": {"channels": 3.0},
    "channels a truth": {"channels": True},
    "channels nothing": {"channels": None},
    "channels a list": {"channels": [3]},
    "width endless": {"width": float("inf")},
    "width too large for the file": {"width": 4096},
    "net unknown": {"net": "unet", "variant": "9"},
    "net a table": {"net": {}},
    "key unknown": {"surprise": 1},
    "key of a letter": {"\x1b[2J": 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_refused(tmp_path, name):
    with pytest.raises(WeightsError):
        load_weights(weights(tmp_path, {**CONFIG, **WRONG[name]}), OURS["aprrd"])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000 + "]" * 50_000,
        '{"a":' * 10_000 + "1" + "}" * 10_000,
        "[]",
        "null",
        "3",
        "",
        "{",
        '{"channels": 1' + "0" * 5000 + "}",
        '{"channels": 3, "channels": 4}',
        "\ud800",
    ],
)
def test_what_is_no_configuration(tmp_path, text):
    text = text.encode("utf-8", "replace").decode()
    with pytest.raises(WeightsError, match="header does not say the network's configuration"):
        load_weights(weights(tmp_path, text), OURS["aprrd"])


LARGE = [
    ("single", {"members": 4096, "depth": 4096, "width": 1}),
    ("single", {"width": 4096}),
    ("single", {"pd": 0}),
    ("ssbsn", {"blocks": ["attention"] * 200, "width": 4096}),
    ("ssbsn", {"blocks": "attention"}),
    ("ssbsn", {"blocks": ["attention"] * 1000}),
    ("ssbsn", {"grid": 0}),
    ("sdap", {"blocks": ["single"] * 256}),
    ("sdap", {"blocks": [["single"]]}),
    ("promptsid", {"blocks": [4096, 4096]}),
    ("promptsid", {"blocks": [1]}),
    ("promptsid", {"steps": 4096, "prior_blocks": 4096}),
    ("promptsid", {"features": 4096, "expansion": 4096}),
    ("promptsid", {"betas": [0.1]}),
]


@pytest.mark.parametrize(("method", "changes"), LARGE)
def test_large_networks_are_not_built(tmp_path, method, changes):
    info = get_method(method)
    with pytest.raises(WeightsError):
        load_weights(weights(tmp_path, {**info.config, **changes}, method), info)


def test_sizes_that_no_tensor_shows_must_fit_too(tmp_path):
    info = get_method("single")
    config = {**info.config, "net": "pyramid", "width": 4, "pd": 1, "residual": True}
    shapes = info.build(config, {}).shapes()
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    assert load_weights(weights(tmp_path, config, "single", state), info).config["pd"] == 1
    for wrong in ({"pd": 0}, {"pd": 2}, {"offset": [0.0]}):
        with pytest.raises(WeightsError, match="no network of the configuration"):
            load_weights(weights(tmp_path, {**config, **wrong}, "single", state), info)


def test_refusing_takes_no_memory(tmp_path):
    path, log = (
        weights(tmp_path, {**OURS["ssbsn"].config, "width": 4096}, "ssbsn"),
        tmp_path / "log",
    )
    process = launch(refuse_in_little_memory, str(path), log=log)
    process.join()
    assert process.exitcode == 0, log.read_text()


def refuse_in_little_memory(path):
    before = peak()
    with pytest.raises(WeightsError):
        load_weights(path, OURS["ssbsn"])
    assert peak() - before < 100e6


def test_every_shipped_configuration_passes():
    for path in EMBEDDED.glob("*.safetensors"):
        method = get_method(read_header(path)["method"])
        assert load_weights(path, method, allow_download=False).method == method.id


def test_a_view_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"enc1.conv.weight": torch.ones(1).expand(10**5, 10**5, 3, 3)}, path)
    with pytest.raises(WeightsError, match="claims"):
        read_state(path)


def test_a_compressed_archive(tmp_path):
    plain, path = tmp_path / "plain.pth", tmp_path / "w.pth"
    torch.save({"a": torch.zeros(10**6)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(WeightsError, match="compressed"):
        read_state(path)


def test_wrappers_that_hold_themselves(tmp_path):
    state = {}
    state["state_dict"] = state
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (tmp_path / "w.pth").write_bytes(buffer.getvalue())
    with pytest.raises(WeightsError, match="not a tensor"):
        read_state(tmp_path / "w.pth")


def test_what_a_header_says_without_end_is_not_repeated(tmp_path, capsys):
    image = tmp_path / "a.npy"
    np.save(image, np.zeros((8, 8), np.uint8))
    for path in (
        weights(tmp_path, CONFIG, "m" * 10**6),
        weights(tmp_path, {**CONFIG, "net": "n" * 60_000}),
        weights(tmp_path, CONFIG, state={"k" * 10**6: torch.ones(2)}),
        weights(tmp_path, CONFIG, state={"\x1b[31m\n": torch.ones(2)}),
    ):
        assert app.run(["denoise", str(image), "--weights", str(path)]) in {2, 3}
        err = capsys.readouterr().err
        assert len(err) < 10_000
        assert len(err.splitlines()) == 2
        assert "\x1b" not in err


@pytest.mark.parametrize("text", ["[" * 100_000, "3", "[1]", "{}", "\x00", '{"bytes": {}}'])
def test_damaged_records_are_damage(text):
    entry = next(entry for entry in load_manifest() if entry.id == "aprrd.sidd")
    path = path_for(entry, verified=True)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    record_of(path).write_text(text)
    assert find(entry).damage


def test_method_of_a_header_is_only_a_name(tmp_path):
    path = weights(tmp_path, CONFIG, "../../\x1b[31m")
    with pytest.raises(DenoisekitError):
        load_weights(path, OURS["aprrd"])


@pytest.mark.shared
def test_the_cases_that_were_found(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(shared / "cases" / "faults" / "make_weight_cases.py"))
    np.save("a.npy", np.zeros((8, 8), np.uint8))
    found = sorted(tmp_path.glob("weights_cases/*"))
    assert len(found) == 5
    for path in found:
        assert app.run(["denoise", "a.npy", "--weights", str(path)]) == 3
        error, hint = capsys.readouterr().err.splitlines()
        assert error.startswith(f"error: {path}: its header does not say")
        assert hint.startswith("hint: ")
        assert error.isprintable()
    assert not list(tmp_path.glob("a_*"))
