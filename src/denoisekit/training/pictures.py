"""Pixels to train on, read as `denoisekit denoise` reads them."""

from __future__ import annotations

import threading

import numpy as np
from einops import repeat

from denoisekit.errors import InputError
from denoisekit.image import Pixels, Reader
from denoisekit.pairs import File, Plane
from denoisekit.ranges import Floats, fill_nonfinite, to_unit

Box = tuple[int, int, int, int]
"""Top, left, height, width."""


class Store:
    """Reads boxes of pictures; keeps decoded planes within a bound. Safe to use from threads.

    Parameters
    ----------
    channels : int
        Of the network. A picture of another kind gives one of its channels, repeated.
    cache : int
        Most bytes of decoded planes to keep. What does not fit is read by rows, from the
        file, each time.
    """

    def __init__(self, channels: int, cache: int) -> None:
        self.channels, self._cache = channels, cache
        self._left = cache
        self._planes: dict[tuple[File, int], Pixels] = {}
        self._open: dict[File, Reader] = {}
        self._lock = threading.Lock()

    def part(self, count: int) -> Store:
        """Return an empty one with this part of the bound."""
        return Store(self.channels, self._cache // count)

    def __reduce__(self) -> tuple[type[Store], tuple[int, int]]:
        # To another process goes an empty one.
        return Store, (self.channels, self._cache)

    def box(self, picture: Plane, box: Box, channel: int = 0) -> Floats:
        """Return pixels for the network.

        Parameters
        ----------
        picture : Picture
            Of what.
        box : (int, int, int, int)
            Top, left, height, width.
        channel : int
            Which channel to repeat, where the picture's do not fit the network's.

        Returns
        -------
        numpy.ndarray
            (height, width, channels) float32 on 0..1, finite, not clamped.
        """
        top, left, height, width = box
        rows = self._rows(picture, top, top + height)[:, left : left + width, : picture.colours]
        unit = to_unit(fill_nonfinite(rows), picture.scale)
        if picture.colours == self.channels and picture.info.colour in ("gray", "rgb"):
            return unit
        return repeat(unit[..., channel % picture.colours], "h w -> h w c", c=self.channels)

    def _rows(self, picture: Plane, top: int, bottom: int) -> Pixels:
        key = picture.file, picture.plane
        plane = self._planes.get(key)
        if plane is not None:
            return plane[top:bottom]
        with self._lock:
            if picture.file.holds_arrays:  # costly to open, cheap to read
                if picture.file not in self._open:
                    self._open[picture.file] = picture.file.open()
                return self._open[picture.file].read_rows(picture.plane, top, bottom)
            if key in self._planes:
                return self._planes[key][top:bottom]
            return self._read(picture, key, top, bottom)

    def _read(self, picture: Plane, key: tuple[File, int], top: int, bottom: int) -> Pixels:
        reader = picture.file.open()
        try:
            info = reader.info
            if (info.shape, info.dtype) != (picture.info.shape, picture.info.dtype):
                raise InputError(f"{picture.file.path} has changed", "start a new run")
            if info.plane_bytes > self._left:
                return np.array(reader.read_rows(picture.plane, top, bottom))
            self._left -= info.plane_bytes
            self._planes[key] = np.array(reader.read_rows(picture.plane, 0, info.height))
            return self._planes[key][top:bottom]
        finally:
            reader.close()
