"""A part of an image, read as if it were a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from denoisekit.errors import UsageError
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.ranges import Floats, Range, fill_nonfinite, to_unit

SIDE = 1024
"""Longest side of what is compared, unless asked for otherwise."""

PLANES = 3
"""Planes of a stack, as well."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"


def parse_crop(text: str, width: int, height: int) -> Crop:
    """Return the part of an image that a user names as ``X,Y,W,H``.

    Raises
    ------
    UsageError
        It is not four whole numbers, or not within the image.
    """
    try:
        crop = Crop(*(int(part) for part in text.split(",")))
    except (TypeError, ValueError):
        raise UsageError(
            f"'{text}' is no part of an image",
            "write x, y, width and height: --crop 100,50,512,512",
        ) from None
    if min(crop.left, crop.top) < 0 or min(crop.width, crop.height) < 1:
        raise UsageError(f"the part {crop} of an image makes no sense", "begin at 0,0 or later")
    if crop.left + crop.width > width or crop.top + crop.height > height:
        raise UsageError(
            f"the part {crop} is not within the image of {width}x{height} pixels",
            "x and y are of its upper left corner",
        )
    return crop


def middle_crop(width: int, height: int, side: int = SIDE) -> Crop:
    """Return all of an image, or its middle where it is large."""
    wide, tall = min(width, side), min(height, side)
    if width * height <= side * side:
        wide, tall = width, height
    # On a coarse grid, so that blocks of a camera or of JPEG lie as they did.
    return Crop((width - wide) // 32 * 16, (height - tall) // 32 * 16, wide, tall)


def spread_planes(count: int, most: int = PLANES) -> tuple[int, ...]:
    """Return some of the planes of a stack, from the first to the last."""
    if count <= most:
        return tuple(range(count))
    return tuple(round(i * (count - 1) / (most - 1)) for i in range(most))


class Part:
    """A part of some planes of an open image, read as if it were a file of its own.

    Parameters
    ----------
    reader : Reader
        The image.
    crop : Crop
        Within it.
    planes : sequence of int
        Which of its planes.
    """

    def __init__(self, reader: Reader, crop: Crop, planes: Sequence[int]) -> None:
        self._reader, self.crop, self.planes = reader, crop, tuple(planes)
        info = reader.info
        samples = (info.samples,) if info.axes.endswith("S") else ()
        stack = (len(planes),) if info.planes > 1 else ()
        self._info = replace(
            info,
            shape=(*stack, crop.height, crop.width, *samples),
            axes="Z" * len(stack) + "YX" + "S" * len(samples),
        )

    @property
    def info(self) -> ImageInfo:
        """What it holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        crop = self.crop
        rows = self._reader.read_rows(self.planes[plane], crop.top + top, crop.top + bottom)
        return rows[:, crop.left : crop.left + crop.width]

    def close(self) -> None:
        """Nothing to let go of: the image is the caller's."""

    def pixels(self) -> list[Pixels]:
        """Return all of it, (H, W, S) a plane, in the file's dtype."""
        return [
            np.array(self.read_rows(plane, 0, self.crop.height))
            for plane in range(len(self.planes))
        ]


def as_unit(pixels: Sequence[Pixels], info: ImageInfo, scale: Range) -> list[Floats]:
    """Return planes as methods see them: (H, W, C) float32, black 0 and white 1, no alpha."""
    colours = info.samples - info.alpha
    return [to_unit(fill_nonfinite(plane[..., :colours]), scale) for plane in pixels]
