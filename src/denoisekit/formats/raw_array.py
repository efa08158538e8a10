"""NumPy's .npy: arrays of any size, read and written piece by piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.formats.base import Format
from denoisekit.formats.photo import RowOrder, carried
from denoisekit.image import Colour, ImageInfo, Metadata, Pixels, Reader, Writer

_DTYPES = {"u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"}


def _sniff(head: bytes) -> bool:
    return head[:6] == b"\x93NUMPY" and head[6:7] in (b"\1", b"\2", b"\3")


def _open(path: Path, axes: str | None) -> Reader:
    try:
        # A pickle inside could run code: a memory map never unpickles.
        array = np.lib.format.open_memmap(path, mode="r")
    except ValueError as fault:
        if "Python objects" in str(fault):
            raise InputError(
                f"{path}: an array of Python objects is not a picture",
                "save numbers, e.g. array.astype('float32')",
            ) from fault
        raise
    return NpyReader(path, array, describe_array(array, axes, str(path)))


def describe_array(array: npt.NDArray[Any], axes: str | None, name: str) -> ImageInfo:
    """Return what an array holds, as a picture.

    Parameters
    ----------
    array : numpy.ndarray
        Any number type.
    axes : str or None
        A letter an axis, ending in ``YX`` or ``YXS``; None: guessed from the shape.
    name : str
        What errors call it.

    Raises
    ------
    InputError
        Not a picture: bool, complex, objects, empty, fewer than two axes.
    UsageError
        ``axes`` do not fit the shape.
    """
    _check_array(name, array)
    letters = _guess(array.shape) if axes is None else _stated(name, axes.upper(), array.shape)
    samples = array.shape[-1] if letters.endswith("S") else 1
    colour: Colour = "gray" if samples == 1 else "rgb" if samples in (3, 4) else "channels"
    swapped = array.dtype.newbyteorder("=") != array.dtype
    return ImageInfo(
        format="npy",
        shape=array.shape,
        axes=letters,
        dtype=array.dtype.newbyteorder("="),
        colour=colour,
        alpha=samples == 4,
        metadata=Metadata(container=MappingProxyType({"swapped": swapped})),
        warnings=("4 samples a pixel are taken as RGB and opacity",) if samples == 4 else (),
    )


def _check_array(name: str, array: np.ndarray[Any, Any]) -> None:
    if array.dtype.str[1:] not in _DTYPES:
        raise InputError(
            f"{name}: an array of {array.dtype} is not a picture",
            "save 8-, 16- or 32-bit integers or floats, e.g. array.astype('float32')",
        )
    if array.ndim < 2 or 0 in array.shape:
        raise InputError(
            f"{name}: an array of shape {array.shape} is not a picture", "save (rows, columns)"
        )


def _guess(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] in (3, 4) and min(shape[:2]) > shape[-1]:
        return "YXS"
    return "Q" * (len(shape) - 2) + "YX"


def _stated(name: str, axes: str, shape: tuple[int, ...]) -> str:
    if len(axes) != len(shape) or not axes.isalpha():
        raise UsageError(
            f"{name}: axes {axes!r} do not fit the shape {shape}",
            f"name {len(shape)} axes, one letter each, such as {_guess(shape)}",
        )
    if not axes.removesuffix("S").endswith("YX") or any(axes.count(a) > 1 for a in "YXS"):
        raise UsageError(
            f"{name}: axes {axes!r} must end in YX, or in YXS with the samples of a pixel last",
            f"for this shape, such as {_guess(shape)}",
        )
    return axes


class ArrayReader:
    """An array in memory, read as if it were a file."""

    def __init__(self, array: npt.NDArray[Any], axes: str | None) -> None:
        self._info = describe_array(array, axes, "the array")
        info = self._info
        self._planes = array.reshape(info.planes, info.height, info.width, info.samples)

    @property
    def info(self) -> ImageInfo:
        """What the array holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        return self._planes[plane, top:bottom].astype(self._info.dtype, copy=False)

    def close(self) -> None:
        """Nothing to let go of: the array is the caller's."""


class NpyReader:
    """Reads rows by position; only arrays in Fortran order stay mapped."""

    def __init__(self, path: Path, array: np.memmap[Any, Any], info: ImageInfo) -> None:
        self._info = info
        self._dtype = array.dtype
        self._start = array.offset
        self._mapped = None if array.flags.c_contiguous else array
        # Mapped pages count as this process's memory; plain reads do not.
        self._file = path.open("rb", buffering=0)

    @property
    def info(self) -> ImageInfo:
        """What the file holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        info = self._info
        shape = (bottom - top, info.width, info.samples)
        if self._mapped is not None:
            leading = info.shape[: info.axes.index("Y")]
            whole = self._mapped[np.unravel_index(plane, leading)] if leading else self._mapped
            return np.array(whole[top:bottom], info.dtype, order="C", subok=False).reshape(shape)
        row = info.plane_bytes // info.height
        self._file.seek(self._start + plane * info.plane_bytes + top * row)
        rows = np.empty(shape, self._dtype)
        target, filled = rows.reshape(-1).view(np.uint8).data, 0
        while filled < len(target):
            got = self._file.readinto(target[filled:])
            if not got:
                raise ValueError("the file ends early")
            filled += got
        return rows.astype(info.dtype, copy=False)

    def close(self) -> None:
        """Let go of the file."""
        self._mapped = None
        self._file.close()


def _check(info: ImageInfo) -> ImageInfo:
    if info.dtype.str[1:] not in _DTYPES:
        raise OutputError(f".npy pictures of {info.dtype} are not supported")
    if info.format == "npy":
        return info
    metadata, lost = carried(info.metadata, ())
    notes = (f".npy has no place for {' and '.join(lost)}",) if lost else ()
    return replace(info, format="npy", metadata=metadata, warnings=(*info.warnings, *notes))


class NpyWriter:
    """Writes rows one after another, in the byte order of the input."""

    def __init__(self, path: Path, info: ImageInfo) -> None:
        swapped = info.metadata.container.get("swapped")
        self._dtype = info.dtype.newbyteorder("S") if swapped else info.dtype
        self._order = RowOrder(info)
        self._file = path.open("wb")
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": info.shape,
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Write the next rows; see `denoisekit.image.Writer`."""
        self._order.take(plane, top, rows)
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)

    def finish(self) -> None:
        """Complete the file."""
        self._order.complete()
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _create(path: Path, info: ImageInfo) -> Writer:
    return NpyWriter(path, info)


NPY = Format(
    id="npy",
    title="NumPy .npy",
    suffixes=(".npy",),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
    streams=True,
)
