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

_DTYPES = {"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"}

COLOURS = 4
"""Axes as short as this, where they come last, are never the columns of a picture."""
BANDS = 8
"""How many times as long as the bands of a spectral picture its sides must be, for the last axis
to be taken for bands: 31 and 512 are, and a stack of planes is seldom so narrow."""


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
        A letter an axis, in any order: ``Y`` and ``X``, ``S`` for the samples of a pixel, any
        other for axes whose planes are denoised apart. None: guessed from the shape.
    name : str
        What errors call it.

    Returns
    -------
    ImageInfo
        With the axes in the order that all readers have. Where the array has them in another
        one, ``metadata.container["order"]`` says which of its axes is which of these.

    Raises
    ------
    InputError
        Not a picture: bool, complex, objects, empty, fewer than two axes.
    UsageError
        ``axes`` do not fit the shape.
    """
    _check_array(name, array)
    stated = _guess(array.shape) if axes is None else _stated(name, axes.upper(), array.shape)
    order = tuple(sorted(range(array.ndim), key=lambda axis: "YXS".find(stated[axis])))
    letters = "".join(stated[axis] for axis in order)
    samples = array.shape[order[-1]] if letters.endswith("S") else 1
    colour: Colour = "gray" if samples == 1 else "rgb" if samples in (3, 4) else "channels"
    container: dict[str, Any] = {"swapped": not array.dtype.isnative}
    if order != tuple(range(array.ndim)):
        container["order"] = order
    return ImageInfo(
        format="npy",
        shape=tuple(array.shape[axis] for axis in order),
        axes=letters,
        dtype=array.dtype.newbyteorder("="),
        colour=colour,
        alpha=samples == 4,
        metadata=Metadata(container=MappingProxyType(container)),
        warnings=_doubts(samples, guessed=axes is None),
    )


def _check_array(name: str, array: np.ndarray[Any, Any]) -> None:
    if array.dtype.str[1:] not in _DTYPES:
        raise InputError(
            f"{name}: an array of {array.dtype} is not a picture",
            "make it integers or floats, e.g. array.astype('float32')",
        )
    if array.ndim < 2 or 0 in array.shape:
        raise InputError(
            f"{name}: an array of shape {array.shape} is not a picture",
            "its axes must be rows and columns at least",
        )


def _guess(shape: tuple[int, ...]) -> str:
    """Take the last axis for samples where it is far too short for the columns of a picture."""
    letters = "YX"
    if len(shape) > 2:
        rows, columns, last = shape[-3:]
        if last <= COLOURS or min(rows, columns) >= BANDS * last:
            letters = "YXS"
    return "Q" * (len(shape) - len(letters)) + letters


def _doubts(samples: int, *, guessed: bool) -> tuple[str, ...]:
    if samples == 4:
        return ("4 samples a pixel are taken as RGB and opacity",)
    if guessed and samples not in (1, 3):
        return (f"the last axis is taken for {samples} channels; if not, say what the axes are",)
    return ()


def _stated(name: str, axes: str, shape: tuple[int, ...]) -> str:
    if len(axes) != len(shape) or not axes.isalpha():
        raise UsageError(
            f"{name}: axes {axes!r} do not fit the shape {shape}",
            f"name {len(shape)} axes, one letter each, such as {_guess(shape)}",
        )
    if any(axes.count(letter) != 1 for letter in "YX") or axes.count("S") > 1:
        raise UsageError(
            f"{name}: axes {axes!r} must have one Y, one X, and at most one S for the samples",
            f"for this shape, such as {_guess(shape)}",
        )
    return axes


def as_stored(pixels: Pixels, info: ImageInfo) -> Pixels:
    """Return all planes, (planes, H, W, S), in the shape of the array that was described."""
    shaped = pixels.reshape(info.shape)
    order = info.metadata.container.get("order")
    return shaped if order is None else shaped.transpose(np.argsort(order))


class ArrayReader:
    """An array in memory, read as if it were a file.

    Parameters
    ----------
    array : numpy.ndarray
        Any number type.
    axes : str, optional
        As `describe_array` takes them.
    mask : numpy.ndarray, optional
        Of the array's shape; True: no value.
    info : ImageInfo, optional
        What the array holds, where that is known; its axes are in the array's order.
    """

    def __init__(
        self,
        array: npt.NDArray[Any],
        axes: str | None = None,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        info: ImageInfo | None = None,
    ) -> None:
        self._info = info or describe_array(array, axes, "the array")
        self._planes = self._by_planes(array)
        self._mask = None if mask is None else self._by_planes(mask)

    def _by_planes(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        info = self._info
        order = info.metadata.container.get("order")
        sorted_axes = array if order is None else array.transpose(order)
        return sorted_axes.reshape(info.planes, info.height, info.width, info.samples)

    @property
    def info(self) -> ImageInfo:
        """What the array holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        return self._planes[plane, top:bottom].astype(self._info.dtype, copy=False)

    def read_mask(self, plane: int, top: int, bottom: int) -> npt.NDArray[np.bool_] | None:
        """Return where rows of a plane hold no value; None: nowhere in the array.

        As `read_rows`, of the samples that are denoised: without opacity.
        """
        if self._mask is None:
            return None
        colours = self._info.samples - self._info.alpha
        return self._mask[plane, top:bottom, :, :colours]

    def close(self) -> None:
        """Nothing to let go of: the array is the caller's."""


class NpyReader:
    """Reads rows by position; only arrays whose rows lie apart stay mapped."""

    def __init__(self, path: Path, array: np.memmap[Any, Any], info: ImageInfo) -> None:
        self._info = info
        self._dtype = array.dtype
        self._start = array.offset
        if "order" in info.metadata.container:
            array = array.transpose(info.metadata.container["order"])
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
    """Writes rows one after another, in the byte order of the input.

    Where the input's axes lie in another order, they are kept until all are there.
    """

    def __init__(self, path: Path, info: ImageInfo) -> None:
        swapped = info.metadata.container.get("swapped")
        self._dtype = info.dtype.newbyteorder("S") if swapped else info.dtype
        self._order, self._info = RowOrder(info), info
        self._kept: Pixels | None = None
        self._file = path.open("wb")
        if "order" in info.metadata.container:
            shape = (info.planes, info.height, info.width, info.samples)
            self._kept = np.empty(shape, self._dtype)
            return
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": info.shape,
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Write the next rows; see `denoisekit.image.Writer`."""
        self._order.take(plane, top, rows)
        if self._kept is not None:
            self._kept[plane, top : top + len(rows)] = rows
        else:
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)

    def finish(self) -> None:
        """Complete the file."""
        self._order.complete()
        if self._kept is not None:
            np.save(self._file, np.ascontiguousarray(as_stored(self._kept, self._info)))
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
