"""Pages of different sizes: read as a stack of the largest, written as they were.

What a smaller page lacks is its own mirror image, so that noise and structure stay like
its own; the writer cuts it off again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from denoisekit.formats.tiff_layout import Layout
from denoisekit.formats.tiff_read import TiffReader
from denoisekit.formats.tiff_write import CLASSIC_LIMIT, TiffWriter
from denoisekit.image import ImageInfo, Pixels

MOST_PAGES = 200
"""Every page is opened by itself; a file of more is refused."""


class RaggedReader:
    """Pages of different sizes (see `denoisekit.image.Reader`).

    Parameters
    ----------
    count : int
        Number of pages.
    open_page : callable
        Opens one of them.
    """

    def __init__(self, count: int, open_page: Callable[[int], TiffReader]) -> None:
        self._open_page = open_page
        self._current: tuple[int, TiffReader] | None = None
        parts = tuple(self._page(number).info for number in range(count))
        self.alike = len({(p.dtype, p.axes, p.samples, p.colour, p.alpha) for p in parts}) == 1
        first = parts[0]
        height, width = (max(getattr(p, side) for p in parts) for side in ("height", "width"))
        notes = dict.fromkeys(note for part in parts for note in part.warnings)
        container = {**first.metadata.container, "parts": parts}
        self.info = replace(
            first,
            shape=(count, height, width, *first.shape[2:]) if self.alike else first.shape,
            axes="Q" + first.axes if self.alike else first.axes,
            metadata=replace(first.metadata, container=MappingProxyType(container)),
            warnings=(*notes, f"{count} pages of different sizes or kinds, each written as it was"),
        )
        self._parts = parts

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a page, mirrored where it ends before the largest one."""
        part = self._parts[plane]
        rows = _mirrored(top, bottom, part.height)
        columns = _mirrored(0, self.info.width, part.width)
        first = int(rows.min())
        found = self._page(plane).read_rows(0, first, int(rows.max()) + 1)
        if np.array_equal(rows, np.arange(top, bottom)) and part.width == self.info.width:
            return found
        return found[rows - first][:, columns]

    def close(self) -> None:
        """Let go of the file."""
        if self._current is not None:
            self._current[1].close()
            self._current = None

    def _page(self, number: int) -> TiffReader:
        if self._current is None or self._current[0] != number:
            self.close()
            self._current = number, self._open_page(number)
        return self._current[1]


def _mirrored(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Return positions inside 0 … ``length``, going back and forth beyond its end."""
    there = np.arange(start, stop) % (2 * length)
    return np.minimum(there, 2 * length - 1 - there)


class RaggedWriter:
    """A TIFF of pages of different sizes in the making (see `denoisekit.image.Writer`)."""

    def __init__(self, path: Path, parts: Sequence[tuple[ImageInfo, Layout]]) -> None:
        big = sum(info.plane_bytes for info, _ in parts) * 8 // 5 > CLASSIC_LIMIT
        big = big or parts[0][1].big
        order = parts[0][1].order
        self._path = path
        self._parts = [(info, replace(layout, big=big, order=order)) for info, layout in parts]
        self._writer: TiffWriter | None = None
        self._done = 0

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Take the next rows; what is beyond the page's own size is left away."""
        info, layout = self._parts[plane]
        if self._writer is None:
            self._writer = TiffWriter(self._path, info, layout)
        elif top == 0:
            self._writer = self._writer.followed_by(info, layout)
        own = rows[: max(0, info.height - top), : info.width]
        if len(own):
            self._writer.write_rows(0, top, own)
        if top + len(own) == info.height and len(own):
            self._writer.finish()
            self._done += 1

    def finish(self) -> None:
        """Complete the file."""
        if self._done != len(self._parts):
            raise ValueError(f"{self._done} of {len(self._parts)} pages were written")

    def close(self) -> None:
        """Release everything."""
        if self._writer is not None:
            self._writer.close()
