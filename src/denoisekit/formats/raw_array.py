"""NumPy's .npy: arrays of any size, read and written piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.formats.base import RECOPY, Format, Source, carried
from denoisekit.image import Colour, ImageInfo, Metadata, Pixels, Reader

_DTYPES = {"u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"}

COLOURS = 4
"""Axes as short as this, where they come last, are never the columns of an image."""
BANDS = 8
"""How many times as long as the bands of a spectral image its sides must be, for the last axis
to be taken for bands: 31 and 512 are, and a stack of planes is seldom so narrow."""


def _open(source: Source, axes: str | None) -> Reader:
    file = source.file
    file.seek(0)
    major, _ = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0
    shape, fortran, dtype = (header if major == 1 else np.lib.format.read_array_header_2_0)(file)
    # A stand-in of the same shape: a pickle inside the file could run code, and is never read.
    info = describe_array(np.broadcast_to(np.zeros((), dtype), shape), axes, str(source.path))
    start = file.tell()
    if start + info.planes * info.plane_bytes > source.size:
        raise InputError(f"{source.path}: the file ends early", RECOPY)
    order = info.metadata.container.get("order")
    if not fortran and order is None:
        return NpyReader(source, info, dtype, start)
    # Mapped pages count as this process's memory; plain reads do not.
    mapped = np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")
    return ArrayReader(np.asarray(mapped), info=info)


def describe_array(array: npt.NDArray[Any], axes: str | None, name: str) -> ImageInfo:
    """Return what an array holds, as an image.

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
        Not an image: bool, complex, objects, empty, fewer than two axes.
    UsageError
        ``axes`` do not fit the shape.
    """
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
    stated = _guess(array.shape) if axes is None else _stated(name, axes.upper(), array.shape)
    order = tuple(sorted(range(array.ndim), key=lambda axis: "YXS".find(stated[axis])))
    letters = "".join(stated[axis] for axis in order)
    samples = array.shape[order[-1]] if letters.endswith("S") else 1
    colour: Colour = "gray" if samples == 1 else "rgb" if samples in (3, 4) else "channels"
    container: dict[str, Any] = {"swapped": not array.dtype.isnative}
    if order != tuple(range(array.ndim)):
        container["order"] = order
    doubts: tuple[str, ...] = ()
    if samples == 4:
        doubts = ("4 samples a pixel are taken as RGB and alpha",)
    elif axes is None and samples not in (1, 3):
        doubts = (f"the last axis is taken for {samples} channels; if not, say what the axes are",)
    return ImageInfo(
        format="npy",
        shape=tuple(array.shape[axis] for axis in order),
        axes=letters,
        dtype=array.dtype.newbyteorder("="),
        colour=colour,
        alpha=samples == 4,
        metadata=Metadata(container=container),
        warnings=doubts,
    )


def _guess(shape: tuple[int, ...]) -> str:
    """Take the last axis for samples where it is far too short for the columns of an image."""
    letters = "YX"
    if len(shape) > 2:
        rows, columns, last = shape[-3:]
        if last <= COLOURS or min(rows, columns) >= BANDS * last:
            letters = "YXS"
    return "Q" * (len(shape) - len(letters)) + letters


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
        Any number type; or what is indexed like one.
    axes : str, optional
        As `describe_array` takes them.
    mask : numpy.ndarray, optional
        Of the array's shape; True: no value.
    info : ImageInfo, optional
        What the array holds, where that is known; with ``metadata.container["order"]`` where
        the array's axes lie in another order.
    close : callable, optional
        Called when the reader is closed.
    """

    def __init__(
        self,
        array: Any,
        axes: str | None = None,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        info: ImageInfo | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.info = info or describe_array(array, axes, "the array")
        order = self.info.metadata.container.get("order")
        self._array = array if order is None else array.transpose(order)
        self._mask = mask if order is None or mask is None else mask.transpose(order)
        self.close = close

    def _rows(self, array: Any, plane: int, top: int, bottom: int) -> npt.NDArray[Any]:
        # Never a reshape of the whole array, which may be larger than memory.
        leading = self.info.shape[: self.info.axes.index("Y")]
        place = map(int, np.unravel_index(plane, leading)) if leading else ()
        rows = np.asarray(array[(*place, slice(top, bottom))])
        return rows.reshape(len(rows), self.info.width, self.info.samples)

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        return self._rows(self._array, plane, top, bottom).astype(self.info.dtype, copy=False)

    def read_mask(self, plane: int, top: int, bottom: int) -> npt.NDArray[np.bool_] | None:
        """Return where rows of a plane hold no value; None: nowhere in the array.

        As `read_rows`, of the samples that are denoised: without alpha.
        """
        if self._mask is None:
            return None
        colours = self.info.samples - self.info.alpha
        return self._rows(self._mask, plane, top, bottom)[..., :colours]


class NpyReader:
    """Reads the rows of an array that lie one behind the other."""

    def __init__(self, source: Source, info: ImageInfo, dtype: np.dtype[Any], start: int) -> None:
        self.info, self._file, self._dtype, self._start = info, source.file, dtype, start

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        info = self.info
        rows = np.empty((bottom - top, info.width, info.samples), self._dtype)
        row = info.plane_bytes // info.height
        self._file.seek(self._start + plane * info.plane_bytes + top * row)
        if self._file.readinto(rows.reshape(-1).view(np.uint8).data) != rows.nbytes:
            raise ValueError("the file ends early")
        return rows.astype(info.dtype, copy=False)

    def close(self) -> None:
        """Nothing to let go of: the file is the caller's."""


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
        self._info = info
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
        if self._kept is not None:
            self._kept[plane, top : top + len(rows)] = rows
        else:
            self._file.write(np.ascontiguousarray(rows, self._dtype).data)

    def finish(self) -> None:
        """Complete the file."""
        if self._kept is not None:
            np.save(self._file, np.ascontiguousarray(as_stored(self._kept, self._info)))
        self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


NPY = Format(
    "npy",
    "NumPy .npy",
    (".npy",),
    (b"\x93NUMPY\1", b"\x93NUMPY\2", b"\x93NUMPY\3"),
    _open,
    NpyWriter,
    _check,
    streams=True,
)
