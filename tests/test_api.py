"""The three functions of the library."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import box_method
import denoisekit
from denoisekit.errors import InputError, OutputError, UsageError


@pytest.fixture
def box(tmp_path, monkeypatch):
    monkeypatch.setattr(box_method.Box, "hook", None)
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    return {"method": "box", "weights": str(box_method.write_weights(tmp_path / "w.safetensors"))}


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(5).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (9, 8, 4), (3, 9, 8), (2, 2, 9, 8)])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<u2", "i2", "f4", ">f8", "f2"])
def test_the_same_shape_and_dtype_and_another_content(box, shape, dtype):
    noisy = noise(*shape, dtype=dtype)
    before = noisy.copy()
    denoised = denoisekit.denoise(noisy, **box)
    assert (denoised.shape, denoised.dtype) == (noisy.shape, noisy.dtype)
    assert denoised is not noisy
    assert (denoised != noisy).mean() > 0.3
    np.testing.assert_array_equal(noisy, before)


def test_byte_order_and_memory_layout_do_not_matter(box):
    noisy = noise(9, 8, 3, dtype="<u2")
    locked = noisy.copy()
    locked.flags.writeable = False
    denoiser = denoisekit.load(**box)
    expected = denoiser(noisy)
    strided = np.zeros((18, 16, 6), "<u2")[::2, ::-2, ::2]
    strided[...] = noisy
    for same in (noisy.astype(">u2"), np.asfortranarray(noisy), strided, locked):
        np.testing.assert_array_equal(denoiser(same), expected)


def test_a_loaded_denoiser_is_reused(box):
    denoiser = denoisekit.load(**box)
    first = denoiser(noise(9, 8))
    denoiser(noise(20, 30, 3))
    np.testing.assert_array_equal(denoiser(noise(9, 8)), first)


@pytest.mark.parametrize("array", [np.zeros((4, 4), bool), np.zeros((4, 4), complex), np.zeros(4)])
def test_what_is_no_picture(box, array):
    with pytest.raises(InputError):
        denoisekit.denoise(array, **box)


def test_files(box, tmp_path):
    source = tmp_path / "a.npy"
    np.save(source, noise(9, 8))
    expected = denoisekit.denoise(noise(9, 8), **box)
    for path in (source, str(source)):
        target = denoisekit.denoise(path, overwrite=True, **box)
        assert target == tmp_path / "a_denoised.npy"
        np.testing.assert_array_equal(np.load(target), expected)
    with pytest.raises(OutputError, match="exists"):
        denoisekit.denoise(source, **box)
    assert denoisekit.denoise(source, output=tmp_path / "o", **box) == tmp_path / "o" / "a.npy"
    made = denoisekit.denoise(source, output=tmp_path / "b.tif", **box)
    assert made.read_bytes()[:2] in (b"II", b"MM")
    with pytest.raises(UsageError, match="is an input"):
        denoisekit.denoise(source, output=source, overwrite=True, **box)
    with pytest.raises(InputError, match="no such file"):
        denoisekit.denoise(Path("none.png"), **box)


@pytest.mark.parametrize("given", [(0, 255), [0.0, 255.0], np.array([0, 255]), "0,255"])
def test_a_range_of_two_numbers(box, tmp_path, given):
    noisy = noise(9, 8, dtype="f4")
    expected = denoisekit.denoise(noisy, range="0,255", **box)
    assert (denoisekit.denoise(noisy, range=(0, 100), **box) != expected).any()
    np.testing.assert_array_equal(denoisekit.denoise(noisy, range=given, **box), expected)
    np.testing.assert_array_equal(denoisekit.load(range=given, **box)(noisy), expected)


@pytest.mark.parametrize("given", [(1, 0), (1,), (0, 1, 2), ("a", "b"), 5, (0, float("nan"))])
def test_what_is_no_range(box, given):
    for call in (denoisekit.load, lambda **how: denoisekit.denoise(noise(9, 8), **how)):
        with pytest.raises(UsageError, match="range"):
            call(range=given, **box)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), torch.device("cpu", 0)])
def test_devices_of_torch(box, device):
    denoiser = denoisekit.load(device=device, **box)
    assert denoiser.device.type == "cpu"
    noisy = noise(9, 8)
    expected = denoiser(noisy)
    np.testing.assert_array_equal(denoisekit.denoise(noisy, device=device, **box), expected)


def test_a_device_that_is_not_here(box):
    with pytest.raises(UsageError, match="xpu"):
        denoisekit.load(device=torch.device("xpu"), **box)


def test_amounts_as_texts(box):
    assert denoisekit.load(max_memory="4GiB", **box).options.max_memory == 4 * 2**30
    with pytest.raises(UsageError, match="not an amount of memory"):
        denoisekit.load(max_memory="much", **box)


def test_weights_by_path(box):
    denoiser = denoisekit.load(**{**box, "weights": Path(box["weights"])})
    np.testing.assert_array_equal(denoiser(noise(9, 8)), denoisekit.load(**box)(noise(9, 8)))


@pytest.fixture
def asked(monkeypatch):
    """What `fit_single` asks of a fit: its image and options."""
    heard = []

    def fit(reader, options, on_look, began):
        heard.append((reader.info, reader.read_rows(0, 0, reader.info.height), options))

    monkeypatch.setattr("denoisekit.learn.fit.fit", fit)
    return heard


def test_a_fit_takes_what_denoise_takes(asked, tmp_path):
    noisy = noise(9, 8, 3)
    np.save(tmp_path / "a.npy", noisy)
    for given in (noisy, tmp_path / "a.npy", str(tmp_path / "a.npy"), Image.fromarray(noisy)):
        denoisekit.fit_single(given)
        np.testing.assert_array_equal(asked[-1][1], noisy)
    denoisekit.fit_single(torch.from_numpy(noisy).permute(2, 0, 1))
    np.testing.assert_array_equal(asked[-1][1], noisy)
    denoisekit.fit_single(noisy, axes="YXC")
    assert (asked[-1][0].axes, asked[-1][0].planes) == ("CYX", 3)
    with (tmp_path / "a.npy").open("rb") as file, pytest.raises(UsageError, match="not an array"):
        denoisekit.fit_single(file)


def test_how_a_fit_is_asked_for(asked):
    denoisekit.fit_single(
        noise(9, 8),
        seconds="1m30s",
        range=(1, 250),
        device=torch.device("cpu"),
        max_memory="1GiB",
        start=Path("w.safetensors"),
    )
    options = asked[-1][2]
    assert (options.seconds, options.range, options.device) == (90, "1.0,250.0", "cpu")
    assert (options.max_memory, options.start) == (2**30, "w.safetensors")
    denoisekit.fit_single(noise(9, 8), seconds=20)
    assert asked[-1][2].seconds == 20
    for seconds in ("soon", "", "-3s", "2s", 2):
        with pytest.raises(UsageError):
            denoisekit.fit_single(noise(9, 8), seconds=seconds)


@pytest.mark.parametrize("function", [denoisekit.load, denoisekit.denoise, denoisekit.fit_single])
def test_every_parameter_is_documented_and_typed(function):
    hints = typing.get_type_hints(function, localns={"torch": torch})
    for name in inspect.signature(function).parameters:
        assert name in hints
        assert name in function.__doc__.partition("Returns")[0]


def test_importing_imports_no_torch():
    program = "import denoisekit, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr
