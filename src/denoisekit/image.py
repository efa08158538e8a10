"""What a file holds beside its pixels, and what a stack of planes is.

Nothing here touches a file or a network: numpy only. Readers describe a file
with an `ImageInfo`; the pipeline turns its planes into denoised planes; writers
take the same `ImageInfo` and make the same kind of file again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
"""Pixels of some rows of one plane, (rows, W, S), in the file's own dtype."""

Colour = Literal["gray", "rgb", "channels"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What travels with the pixels; carried, never interpreted.

    Attributes
    ----------
    icc : bytes or None
        ICC colour profile.
    exif : bytes or None
        EXIF block: a TIFF structure beginning with ``II`` or ``MM``.
    xmp : bytes or None
        XMP packet (UTF-8 XML).
    dpi : (float, float) or None
        Dots per inch along x and y.
    container : mapping
        What only the format that read the file understands (compression, JPEG
        quality, TIFF tags, OME-XML …). A writer of the same format uses it; a
        writer of another format ignores it.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    container: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The description of a file: enough to read it by planes and to write its like.

    Attributes
    ----------
    format : str
        Id of the format in `denoisekit.formats.FORMATS` (``"png"``, ``"tiff"`` …).
    shape : tuple of int
        Length of every axis.
    axes : str
        One letter an axis, ending in ``YX`` or ``YXS``: ``T`` time, ``Z`` depth,
        ``C`` channel, ``Y``, ``X``, ``S`` samples of a pixel. All axes before
        ``Y`` are iterated: together they number the planes, in C order.
    dtype : numpy.dtype
        Type of the stored numbers.
    colour : {'gray', 'rgb', 'channels'}
        What the samples of a pixel mean, alpha excepted. ``gray`` has one, ``rgb``
        three, ``channels`` any number (CMYK, multispectral …).
    alpha : bool
        Whether the last sample is alpha, which is never denoised.
    bits : int or None
        Significant bits of an integer sample, where the file says so (12 bits
        kept in uint16); None: all bits of the dtype.
    nodata : float or None
        Value that says "nothing was measured here", where the file names one.
    metadata : Metadata
        What travels with the pixels.
    warnings : tuple of str
        What a user should be told about how this file was understood.
    """

    format: str
    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    colour: Colour = "gray"
    alpha: bool = False
    bits: int | None = None
    nodata: float | None = None
    metadata: Metadata = Metadata()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes) or not self.axes.removesuffix("S").endswith("YX"):
            raise ValueError(f"axes {self.axes!r} do not describe shape {self.shape}")
        colours = self.samples - self.alpha
        if colours < 1 or (
            self.colour != "channels" and colours != {"gray": 1, "rgb": 3}[self.colour]
        ):
            raise ValueError(f"{self.samples} samples are not {self.colour}, alpha={self.alpha}")

    @property
    def samples(self) -> int:
        """Samples of a pixel, alpha included (1 where there is no ``S`` axis)."""
        return self.shape[-1] if self.axes.endswith("S") else 1

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return self.shape[self.axes.index("Y")]

    @property
    def width(self) -> int:
        """Columns of a plane."""
        return self.shape[self.axes.index("X")]

    @property
    def planes(self) -> int:
        """Number of planes: the product of all axes before ``Y``."""
        return math.prod(self.shape[: self.axes.index("Y")])

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane in the file's own dtype."""
        return self.height * self.width * self.samples * self.dtype.itemsize

    @property
    def peak(self) -> float:
        """Value of white: the largest integer of dtype or significant bits; 1.0 for floats."""
        if self.dtype.kind == "f":
            return 1.0
        if self.bits is not None:
            return float(2**self.bits - 1)
        return float(np.iinfo(self.dtype).max)


class Reader(Protocol):
    """An open file, read by planes and row bands."""

    @property
    def info(self) -> ImageInfo:
        """What the file holds."""
        ...

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows ``top`` to ``bottom`` (exclusive) of a plane.

        Parameters
        ----------
        plane : int
            0 … ``info.planes`` - 1, in C order of the axes before ``Y``.
        top, bottom : int
            Row range inside 0 … ``info.height``.

        Returns
        -------
        numpy.ndarray
            (bottom - top, W, S), ``info.dtype`` in native byte order. Not to be
            written to: it may be a view of the reader's buffer.

        Raises
        ------
        InputError
            The data are damaged or end early.
        """
        ...

    def close(self) -> None:
        """Let go of the file and of any buffer."""
        ...


class Writer(Protocol):
    """A file in the making. Rows arrive in order: plane by plane, top to bottom."""

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Take the next rows, (n, W, S) in the dtype of the `ImageInfo` given at creation."""
        ...

    def finish(self) -> None:
        """Complete the file; called once, after the last row."""
        ...

    def close(self) -> None:
        """Release everything; without `finish` before it, the file is abandoned."""
        ...
