"""Sets of images as arrays in MATLAB and HDF5 files, read as if they were stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange

from denoisekit.errors import InputError, UsageError, did_you_mean, pip_install
from denoisekit.formats.guard import reading
from denoisekit.formats.raw_array import ArrayReader, describe_array
from denoisekit.image import Reader

SUFFIXES = (".mat", ".h5", ".hdf5")
SMALLEST = 8
"""Arrays with fewer rows or columns are no images."""


def open_arrays(path: Path, name: str | None = None) -> Reader:
    """Open the array of images in a file.

    Parameters
    ----------
    path : Path
        MATLAB of any version, or HDF5.
    name : str, optional
        Of the array; needed where the file holds several.

    Returns
    -------
    Reader
        Axes are (..., rows, columns) or (..., rows, columns, 3); from MATLAB also
        (rows, columns, 3, images).

    Raises
    ------
    InputError
        The file cannot be read, or holds no images.
    UsageError
        It is not clear which array is meant, or a package is missing.
    """
    with reading(path):
        with path.open("rb") as file:
            head = file.read(520)
        if b"\x89HDF" in (head[:4], head[512:516]):
            return _open_hdf(path, name, turned=head.startswith(b"MATLAB"))
        return _open_mat(path, name)


def _open_mat(path: Path, name: str | None) -> Reader:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise _missing("scipy", path) from error
    found = {
        key: value
        for key, value in loadmat(path).items()
        if isinstance(value, np.ndarray) and _may_be_images(value.shape, value.dtype)
    }
    array = found[_choose(path, name, list(found))]
    if array.ndim == 4 and array.shape[2] in (1, 3) and array.shape[3] not in (3, 4):
        array = np.ascontiguousarray(rearrange(array, "h w c n -> n h w c"))
    return ArrayReader(array, _axes(array.shape))


def _open_hdf(path: Path, name: str | None, *, turned: bool) -> Reader:
    try:
        import h5py
    except ImportError as error:
        raise _missing("h5py", path) from error
    file = h5py.File(path, "r")
    found: dict[str, Any] = {}

    def visit(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and _may_be_images(item.shape, item.dtype):
            found[key] = item

    file.visititems(visit)
    try:
        data = found[_choose(path, name, list(found))]
    except Exception:
        file.close()
        raise
    if not turned:
        info = describe_array(data, _axes(data.shape), str(path))
        return ArrayReader(data, info=info, close=file.close)
    # MATLAB counts axes from the other end.
    with file:
        array = np.ascontiguousarray(data[()].T)
    if array.ndim == 4 and array.shape[2] in (1, 3) and array.shape[3] not in (3, 4):
        array = np.ascontiguousarray(rearrange(array, "h w c n -> n h w c"))
    return ArrayReader(array, _axes(array.shape))


def _may_be_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    if dtype.kind not in "uif" or len(shape) < 2 or 0 in shape:
        return False
    return sum(length >= SMALLEST for length in shape) >= 2


def _axes(shape: tuple[int, ...]) -> str:
    colour = len(shape) > 2 and shape[-1] in (1, 3, 4) and min(shape[-3:-1]) >= SMALLEST
    letters = "YXS" if colour else "YX"
    return "Q" * (len(shape) - len(letters)) + letters


def _choose(path: Path, name: str | None, names: list[str]) -> str:
    if name is not None:
        if name not in names:
            raise UsageError(f"{path} holds no pictures '{name}'", did_you_mean(name, names))
        return name
    if not names:
        raise InputError(f"{path} holds no array of pictures", "numbers of two or more axes")
    if len(names) > 1:
        listed = ", ".join(names[:6])
        raise UsageError(f"{path} holds several arrays: {listed}", f"write {path}:{names[0]}")
    return names[0]


def _missing(package: str, path: Path) -> UsageError:
    return UsageError(
        f"{path}: the package {package} is needed to read it",
        f"pip install {package}, or {pip_install('train')}",
    )
