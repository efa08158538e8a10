"""Pictures as Python programs hold them: read as arrays, and given back as they came.

The types are known by name, so that no package is imported here that the caller did not use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError, UsageError
from denoisekit.formats.raw_array import ArrayReader, as_stored, describe_array
from denoisekit.image import Colour, ImageInfo, Metadata, Pixels, Reader

Array = TypeVar("Array")
"""An array of any kind that `hold` knows."""

_ROWS = {"y", "row", "rows", "h", "height", "lat", "latitude", "northing"}
_COLUMNS = {"x", "col", "cols", "column", "columns", "w", "width", "lon", "longitude", "easting"}
_SAMPLES = {"s", "sample", "samples", "rgb", "rgba", "color", "colour", "colors", "colours"}
_CHANNELS = {"c", "ch", "channel", "channels", "band", "bands"}

_PIL_MODES: Mapping[str, tuple[Colour, bool]] = MappingProxyType(
    {
        "L": ("gray", False),
        "LA": ("gray", True),
        "La": ("gray", True),
        "I": ("gray", False),
        "F": ("gray", False),
        "I;16": ("gray", False),
        "I;16L": ("gray", False),
        "I;16B": ("gray", False),
        "I;16N": ("gray", False),
        "RGB": ("rgb", False),
        "RGBA": ("rgb", True),
        "RGBa": ("rgb", True),
        "RGBX": ("rgb", True),
        "CMYK": ("channels", False),
        "YCbCr": ("channels", False),
        "LAB": ("channels", False),
    }
)
"""What the bands of PIL's modes mean, and whether the last one is not to be denoised."""


@dataclass(frozen=True, slots=True)
class Held:
    """A picture of any kind, as an array, and the way back.

    Attributes
    ----------
    array : numpy.ndarray
        Its values.
    axes : str or None
        As `describe_array` takes them.
    mask : numpy.ndarray or None
        True where it holds no value, of the array's shape.
    info : ImageInfo or None
        What it holds, where its type says that.
    back : callable
        Makes an array of the same shape and dtype what the picture was.
    """

    array: npt.NDArray[Any]
    axes: str | None = None
    mask: npt.NDArray[np.bool_] | None = None
    info: ImageInfo | None = None
    back: Callable[[npt.NDArray[Any]], Any] = field(default=lambda array: array)

    def reader(self) -> ArrayReader:
        """Return what reads it.

        Raises
        ------
        InputError
            Not a picture: bool, complex, objects, empty, too few axes.
        UsageError
            The axes do not fit.
        """
        return ArrayReader(self.array, self.axes, mask=self.mask, info=self.info)


Run = Callable[[Reader], Iterable[tuple[int, int, Pixels]]]
"""What denoises an open image: yields plane, top row, and rows."""


def denoise_array(run: Run, noisy: Array, axes: str | None) -> Array:
    """Denoise an array of any kind with what denoises open images.

    Parameters
    ----------
    run : callable
        As `denoisekit.engine.denoiser.Denoiser.run`.
    noisy : array
        Of any kind that `hold` knows.
    axes : str or None
        As `describe_array` takes them.

    Returns
    -------
    array
        Of the same kind, shape and dtype.
    """
    held = hold(noisy, axes)
    result: Array = held.back(denoise_held(run, held))
    return result


def denoise_held(run: Run, held: Held) -> npt.NDArray[Any]:
    """Denoise what `hold` returned; return its array anew."""
    reader = held.reader()
    info = reader.info
    denoised = np.empty((info.planes, info.height, info.width, info.samples), info.dtype)
    for plane, top, rows in run(reader):
        denoised[plane, top : top + len(rows)] = rows
    # Another byte order than the machine's is kept too.
    stored = np.ascontiguousarray(as_stored(denoised, info), held.array.dtype)
    if held.mask is not None:
        np.copyto(stored, held.array, where=held.mask)
    return stored


def hold(noisy: Any, axes: str | None = None) -> Held:
    """Take a picture as an array.

    Parameters
    ----------
    noisy : array
        A numpy array, masked or not, a `torch.Tensor`, `xarray.DataArray`, dask array or PIL
        image; or what numpy makes an array of.
    axes : str, optional
        As `describe_array` takes them; default: what the type says, or a guess from the shape.

    Returns
    -------
    Held
        With the way back.

    Raises
    ------
    InputError
        It cannot be taken as an array.
    UsageError
        It is the name of a file, or a file.
    """
    if isinstance(noisy, np.ma.MaskedArray):
        return _masked(noisy, axes)
    if isinstance(noisy, np.ndarray):
        return Held(np.asarray(noisy), axes)
    if _is(noisy, "torch", "Tensor"):
        return _tensor(noisy, axes)
    if _is(noisy, "xarray", "DataArray"):
        return _named(noisy, axes)
    if _is(noisy, "dask", "Array"):
        return _chunked(noisy, axes)
    if _is(noisy, "PIL", "Image"):
        return _image(noisy, axes)
    _refuse(noisy)
    try:
        return Held(np.asarray(noisy), axes)
    except (ValueError, TypeError, RuntimeError) as fault:
        raise InputError(
            f"a {type(noisy).__name__} does not become an array: {_one_line(fault)}",
            "make it a numpy array first; pictures of several sizes go in one after another",
        ) from fault


def _is(noisy: Any, package: str, name: str) -> bool:
    """Tell whether it is of a class of a package, which need not be imported for that."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == package
        for kind in type(noisy).__mro__
    )


def _refuse(noisy: Any) -> None:
    """Say of what looks like a picture, and is none, what would be one."""
    if isinstance(noisy, str | os.PathLike):
        raise UsageError(
            f"{os.fspath(noisy)!r} is the name of a file, not an array",
            "denoisekit.denoise(path) denoises files",
        )
    if isinstance(noisy, bytes | bytearray | memoryview) or hasattr(noisy, "read"):
        raise UsageError(
            f"a {type(noisy).__name__} is not an array",
            "give the name of the file, or what PIL.Image.open or tifffile.imread makes of it",
        )
    if _is(noisy, "xarray", "Dataset"):
        names = ", ".join(map(repr, noisy.data_vars))
        raise UsageError(f"a Dataset holds several arrays: {names}", "give one of them")


def _masked(noisy: np.ma.MaskedArray[Any, Any], axes: str | None) -> Held:
    mask = None if noisy.mask is np.ma.nomask else np.ma.getmaskarray(noisy)

    def back(denoised: npt.NDArray[Any]) -> Any:
        kept = np.ma.nomask if mask is None else mask.copy()
        return np.ma.MaskedArray(denoised, mask=kept, fill_value=noisy.fill_value)

    return Held(np.ma.getdata(noisy), axes, mask, back=back)


def _tensor(noisy: Any, axes: str | None) -> Held:
    import torch

    try:
        values = noisy.detach().cpu()
        # numpy has no bfloat16.
        array = (values.float() if noisy.dtype == torch.bfloat16 else values).numpy()
    except (TypeError, RuntimeError) as fault:
        raise InputError(
            f"a tensor of {noisy.dtype}, {noisy.layout} does not become an array",
            "make it a dense one of integers or floats",
        ) from fault

    def back(denoised: npt.NDArray[Any]) -> Any:
        result = torch.empty_like(noisy, requires_grad=False)
        return result.copy_(torch.from_numpy(np.ascontiguousarray(denoised)))

    return Held(array, axes or _channels_first(array.shape), back=back)


def _channels_first(shape: tuple[int, ...]) -> str | None:
    """Find torch's layout, (C, H, W) and (N, C, H, W), with one channel, colours or alpha."""
    if len(shape) > 2 and shape[-3] in (1, 3, 4) and shape[-1] not in (3, 4):
        return "Q" * (len(shape) - 3) + "SYX"
    return None


def _named(noisy: Any, axes: str | None) -> Held:
    inner = hold(noisy.data, axes or _letters([str(name) for name in noisy.dims], noisy.shape))

    def back(denoised: npt.NDArray[Any]) -> Any:
        return noisy.copy(data=inner.back(denoised))

    # How files of climate and earth data say that there is no value.
    missing = [noisy.attrs[key] for key in ("_FillValue", "missing_value") if key in noisy.attrs]
    mask = inner.mask
    if missing and mask is None:
        values = np.ravel(missing)
        # A number written in Python is not rounded as those of the array are.
        floats = inner.array.dtype.kind == "f"
        mask = np.isin(inner.array, values.astype(inner.array.dtype) if floats else values)
    return replace(inner, mask=mask, back=back)


def _letters(names: list[str], shape: tuple[int, ...]) -> str | None:
    """Return axes for named dimensions; None where the names do not say rows and columns."""
    lower = [name.lower() for name in names]
    if sum(name in _ROWS for name in lower) != 1 or sum(name in _COLUMNS for name in lower) != 1:
        return None
    letters = ""
    for axis, name in enumerate(lower):
        if name in _ROWS:
            letters += "Y"
        elif name in _COLUMNS:
            letters += "X"
        elif name in _CHANNELS:
            # As for arrays without names: three or four channels that come last are colours.
            last = axis == len(shape) - 1 and shape[axis] in (1, 3, 4) and "S" not in letters
            letters += "S" if last else "C"
        else:
            letters += "S" if name in _SAMPLES and "S" not in letters else "Q"
    return letters


def _chunked(noisy: Any, axes: str | None) -> Held:
    inner = hold(noisy.compute(), axes)
    dask_array = sys.modules["dask.array"]

    def back(denoised: npt.NDArray[Any]) -> Any:
        return dask_array.from_array(inner.back(denoised), chunks=noisy.chunks)

    return replace(inner, back=back)


def _image(noisy: Any, axes: str | None) -> Held:
    from PIL import Image

    if axes is not None:
        raise UsageError(
            f"axes {axes!r} for a PIL image, which says itself what it holds", "leave them out"
        )
    try:
        noisy.load()
    except (OSError, ValueError, SyntaxError) as fault:
        raise InputError(
            f"the PIL image cannot be read: {_one_line(fault)}", "open it anew"
        ) from fault
    if noisy.mode in {"P", "PA"} or "transparency" in noisy.info:
        # More colours than a palette holds, and no longer the one that was transparent.
        noisy = _without_palette(noisy)
    if noisy.mode not in _PIL_MODES:
        raise InputError(
            f"a PIL image of mode {noisy.mode} is not denoised", "convert it: image.convert('RGB')"
        )
    colour, alpha = _PIL_MODES[noisy.mode]
    array = np.asarray(noisy)
    info = replace(
        describe_array(array, "YXS" if array.ndim == 3 else "YX", "the image"),
        colour=colour,
        alpha=alpha,
        metadata=_metadata(noisy.info, array.dtype),
        warnings=(),
    )

    def back(denoised: npt.NDArray[Any]) -> Any:
        result = Image.frombytes(noisy.mode, noisy.size, denoised.tobytes())
        result.info = dict(noisy.info)
        return result

    return Held(array, info=info, back=back)


def _without_palette(noisy: Any) -> Any:
    info = {key: value for key, value in noisy.info.items() if key != "transparency"}
    clear = noisy.mode == "PA" or "transparency" in noisy.info
    colours = "L" if noisy.mode == "L" else "RGB"
    plain = noisy.convert({"L": "LA", "RGB": "RGBA"}[colours] if clear else colours)
    plain.info = info
    return plain


def _metadata(info: Mapping[str, Any], dtype: np.dtype[Any]) -> Metadata:
    """Return what PIL read beside the pixels, for a file that they are written to."""
    exif = info.get("exif")
    dpi = info.get("dpi")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        xmp=info.get("xmp") or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        container=MappingProxyType({"swapped": not dtype.isnative}),
    )


def _one_line(fault: BaseException) -> str:
    return " ".join(str(fault).split()).partition(". ")[0][:200]
