"""The two functions of the library."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize("function", [denoisekit.load, denoisekit.denoise])
def test_every_parameter_is_documented_and_typed(function):
    hints = typing.get_type_hints(function)
    for name in inspect.signature(function).parameters:
        assert name in hints
        assert name in function.__doc__.partition("Returns")[0]


def test_importing_imports_no_torch():
    program = "import denoisekit, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False False\n", done.stderr
