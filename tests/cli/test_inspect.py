"""``denoisekit inspect``: what is in a file, how noisy it is, what to do."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from denoisekit.cli import app as frame
from denoisekit.engine import network as inference
from denoisekit.engine import timing


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(inference.Network, "seconds_per_pixel", lambda *_: 1e-5)
    monkeypatch.setattr(timing, "TRIFLE", 0.0)


def facts(capsys, *arguments):
    assert frame.run(["inspect", *map(str, arguments), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_the_noise_that_was_added_is_found(tmp_path, capsys):
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, 256)[None, :, None]
    noisy = ramp + rng.normal(0, [5, 10, 20], (256, 256, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png", dpi=(300, 300))
    found = facts(capsys, tmp_path / "a.png")
    np.testing.assert_allclose(np.array(found["noise_sigma"]) * 255, [5, 10, 20], rtol=0.15)
    assert "independent" in found["noise"]
    assert (found["width"], found["height"], found["dtype"]) == (256, 256, "uint8")
    assert (found["format"], found["colour"], found["planes"]) == ("PNG", "rgb", 1)
    assert found["metadata"] == ["resolution"]
    assert found["suggested"].startswith("denoisekit denoise")
    assert found["estimated_time"] == "1 s"


def test_people_see_the_same_facts(tmp_path, capsys):
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    assert frame.run(["inspect", str(tmp_path / "a.png")]) == 0
    out, _ = capsys.readouterr()
    assert {"width", "height", "noise"} <= {line.split()[0] for line in out.splitlines()}


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (np.zeros((1, 1), np.uint8), "YX"),
        (np.zeros((1, 30), np.uint16), "YX"),
        (np.zeros((30, 1), np.float32), "YX"),
        (np.full((40, 50), np.nan, np.float32), "YX"),
        (np.full((40, 50), np.inf), "YX"),
        (np.zeros((20, 30, 65), np.uint8), "YXS"),
        (np.arange(24000, dtype=np.int32).reshape(10, 40, 60), "TYX"),
    ],
)
def test_odd_images_have_facts_too(tmp_path, capsys, array, axes):
    np.save(tmp_path / "a.npy", array)
    found = facts(capsys, tmp_path / "a.npy", "--axes", axes)
    assert found["shape"] == list(array.shape)
    assert found["axes"] == axes


@pytest.mark.parametrize("content", [b"", b"a text"])
def test_bad_files(tmp_path, capsys, content):
    (tmp_path / "a.png").write_bytes(content)
    assert frame.run(["inspect", str(tmp_path / "a.png")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]


def test_axes_that_do_not_fit(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    assert frame.run(["inspect", str(tmp_path / "a.npy"), "--axes", "TYX"]) == 2
    assert "axes" in capsys.readouterr().err
