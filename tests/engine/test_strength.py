"""``--strength auto`` through the pipeline and the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from PIL import Image
from torch.nn import functional

import box_method
from denoisekit.cli import app as frame
from denoisekit.engine.denoiser import Denoiser
from denoisekit.errors import UsageError
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.options import Options
from helpers import finished


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(box_method.Box, "hook", None)


def box(**options) -> Denoiser:
    return Denoiser(box_method.METHOD, box_method.WEIGHTS, Options(**options))


def stripes(height, width, samples=3):
    """Return fine stripes, that the box wipes, on the right of light noise."""
    rng = np.random.default_rng(0)
    picture = 0.5 + 0.01 * rng.standard_normal((height, width, samples))
    wave = np.where(np.arange(width - width // 2) % 4 < 2, 0.1, -0.1)
    picture[:, width // 2 :, :3] += wave[:, None]
    return picture.astype(np.float32)


def test_lost_stripes_come_back():
    noisy = stripes(96, 128)
    lost, kept = (np.abs(box(strength=s, range="0,1")(noisy) - noisy) for s in (1.0, "auto"))
    assert lost[16:-16, 80:-16].mean() > 0.05
    assert kept[16:-16, 80:-16].mean() < 0.02


def test_tiles_equal_the_whole_image():
    noisy = stripes(150, 131)
    whole = box(strength="auto", range="0,1", tile=0)(noisy)
    tiled = box(strength="auto", range="0,1", tile=32)(noisy)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_type_transparency_and_holes_stay():
    noisy = stripes(40, 48, 4)  # not clipped: floats need not be
    noisy[..., 3] = np.linspace(0, 1, 48)
    noisy[3, 4, 1] = np.nan
    denoised = box(strength="auto", range="0,1")(noisy, axes="YXS")
    np.testing.assert_array_equal(denoised[..., 3], noisy[..., 3])
    np.testing.assert_array_equal(np.isnan(denoised), np.isnan(noisy))
    sixteen = (noisy[..., 0].clip(0, 1) * 65535).astype(np.uint16)
    assert box(strength="auto")(sixteen).dtype == np.uint16


@pytest.mark.parametrize("strength", [1.0, "auto"])
def test_the_report_says_what_came_back(strength):
    reader = ArrayReader(stripes(64, 64), None)
    _, report = finished(box(strength=strength, range="0,1").run(reader))
    if strength == "auto":
        assert 0.5 < report.returned <= 1
    else:
        assert report.returned is None


def test_another_word_is_refused():
    with pytest.raises(UsageError, match="strength"):
        Options(strength="some")


def test_the_command_says_what_came_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    weights = box_method.write_weights(tmp_path / "box.safetensors")
    monkeypatch.chdir(tmp_path)
    Image.fromarray((stripes(64, 64) * 255).clip(0, 255).astype(np.uint8)).save("a.png")
    command = ["denoise", "a.png", "--method", "box", "--weights", str(weights)]
    assert frame.run([*command, "--strength", "auto"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "a.png: strength auto: " in err
    assert "% of what was removed was no noise and is back" in err
    assert frame.run([*command, "--strength", "auto", "--json", "--overwrite"]) == 0
    assert 0.5 < json.loads(capsys.readouterr().out)["returned"] <= 1
    assert frame.run([*command, "--strength", "much", "--overwrite"]) == 2


@pytest.mark.parametrize("level", [-0.5, -1e-3, 0.0, 1e-6, 2e-3])
@pytest.mark.parametrize("sigma", [1e-6, 1e-3])
def test_dim_pictures_are_denoised_wherever_black_lies(level, sigma):
    rng = np.random.default_rng(0)
    clean = level + 3 * sigma * np.linspace(-1, 1, 96)[:, None] * np.ones(96)
    noisy = (clean + sigma * rng.standard_normal(clean.shape)).astype(np.float32)
    denoised = box(strength="auto", range="0,1")(noisy)
    # The box darkens its borders.
    inner = np.s_[16:-16, 16:-16]
    before, after = (np.square((p - clean)[inner]).mean() for p in (noisy, denoised))
    assert after < 0.4 * before


def test_a_result_may_reach_below_black(monkeypatch):
    rng = np.random.default_rng(0)
    noisy = (0.01 + 0.03 * np.abs(rng.standard_normal((96, 96)))).astype(np.float32)

    def darker(self, tile):
        return (
            functional.avg_pool2d(functional.pad(tile, (1, 1, 1, 1), mode="replicate"), 3, 1) - 0.05
        )

    monkeypatch.setattr(box_method.Box, "hook", darker)
    denoised = box(strength="auto", range="0,1")(noisy)[16:-16, 16:-16]
    assert denoised.std() < 0.5 * noisy.std()


@pytest.mark.parametrize("value", [-2.0, 0.0, 1e-6, 0.5, 7.0])
def test_a_constant_stays_one(value):
    noisy = np.full((64, 80, 3), value, np.float32)
    denoised = box(strength="auto", range="0,1")(noisy)
    np.testing.assert_allclose(denoised[16:-16, 16:-16], noisy[16:-16, 16:-16], rtol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["u2_lowcount", "int32_0_255", "float_1e-6"])
def test_a_dim_file_is_denoised(name, shared, tmp_path):
    source, target = shared / "cases" / "faults" / f"{name}.tif", tmp_path / "out.tif"
    command = ["denoise", str(source), "-o", str(target), "--method", "aprrd"]
    assert frame.run([*command, "--strength", "auto"]) == 0
    noisy, denoised = (tifffile.imread(path) for path in (source, target))
    assert denoised.dtype == noisy.dtype
    assert (denoised != noisy).any()
