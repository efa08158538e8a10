"""`denoisekit doctor` tells the truth about this computer and about what would be used."""

from __future__ import annotations

import json
import os
import shutil
from importlib import metadata

import pytest
import torch

from denoisekit.cli import app as frame
from denoisekit.engine import device
from denoisekit.formats import FORMATS
from denoisekit.weights import find_entry, load_manifest


@pytest.fixture
def report(capsys):
    """Return a function that runs ``doctor --json``."""

    def run() -> dict:
        assert frame.run(["doctor", "--json"]) == 0
        output, errors = capsys.readouterr()
        assert errors == ""
        return json.loads(output)

    return run


def test_versions_cover_every_dependency_and_are_the_installed_ones(report):
    versions = report()["versions"]
    assert versions["torch"] == torch.__version__
    for package in ("denoisekit", "numpy", "pillow", "imagecodecs", "tifffile"):
        assert versions[package] == metadata.version(package)


def test_formats_are_those_that_the_kit_has(report):
    assert [f["format"] for f in report()["formats"]] == [f.id for f in FORMATS]


def test_the_cache_folder_is_the_one_in_use(report, tmp_path, monkeypatch):
    monkeypatch.setenv("DENOISEKIT_HOME", str(tmp_path / "not" / "yet"))
    cache = report()["weights_cache"]
    assert cache["folder"].startswith(str(tmp_path / "not" / "yet"))
    assert cache["writable"] is True
    assert not (tmp_path / "not").exists()


def test_a_folder_that_cannot_be_written_is_told(report, tmp_path, monkeypatch):
    monkeypatch.setenv("DENOISEKIT_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    found = report()
    assert found["weights_cache"]["writable"] is False
    assert "weights pull" in found["would_use"]["weights_why"]


def test_missing_weights_are_told_with_what_will_happen(report, monkeypatch):
    assert "the first run downloads them" in report()["would_use"]["weights_why"]
    monkeypatch.setenv("DENOISEKIT_OFFLINE", "1")
    found = report()
    assert found["weights_cache"]["network_allowed"] is False
    assert "denoisekit weights pull aprrd.sidd" in found["would_use"]["weights_why"]


def test_damaged_weights_are_told(report):
    from denoisekit.weights.store import install, path_for

    path = path_for(find_entry("aprrd.sidd", load_manifest()), verified=True)
    assert path is not None
    path.parent.mkdir(parents=True)
    install(path, b"0123456789")
    assert report()["would_use"]["weights_why"] == "present"
    path.write_bytes(b"012345")
    assert "6 bytes instead of 10" in report()["would_use"]["weights_why"]


@pytest.mark.parametrize("cuda", [None, "12.8"])
def test_a_driver_that_torch_does_not_use_is_pointed_out(report, monkeypatch, cuda):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    found = report()
    assert found["would_use"]["device"] == "cpu"
    expected = "built without CUDA" if cuda is None else "CUDA 12.8 but reaches no GPU"
    assert any(expected in note for note in found["notes"])


def test_native_bf16_shows_in_the_table_and_in_the_advice(report, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for native in (True, False):
        monkeypatch.setattr("denoisekit.engine.device.native_bf16", lambda native=native: native)
        found = report()
        assert found["devices"][0]["bf16"] == ("native" if native else "slow")
        assert ("bf16" in found["would_use"]["precision_why"]) is native


def test_the_text_holds_the_choice_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert frame.run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (choice,) = [line for line in lines if line.startswith("denoise would use ")]
    for word in ("cpu", "fp32", "aprrd", "aprrd.sidd"):
        assert word in choice
    assert "weights cache" in lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [("model name\t: Fast CPU 9\nflags : sse\n", "Fast CPU 9"), ("Hardware : x\n", "fallback")],
)
def test_the_processor_is_named(monkeypatch, tmp_path, text, expected):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    monkeypatch.setattr(device, "CPUINFO", cpuinfo)
    monkeypatch.setattr(device.platform, "processor", lambda: "fallback")
    monkeypatch.setattr(device.sys, "platform", "linux")
    assert device.cpu_model() == expected
