"""What candidates made of pictures, kept for the page of a run.

Parts of denoised pictures lie in files while a run goes on, so that a killed run loses
none. What was not kept, because there was too much of it, is denoised again.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from denoisekit.atomic import replacing
from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.bench.material import Item
from denoisekit.bench.results import Row
from denoisekit.bench.run import ROWS, Pictures, Place
from denoisekit.ranges import Floats

FOLDER = "pictures"

SIDE = 1024
"""Longest side of what is kept of a picture."""

MOST_BYTES = 2**30
"""Of all files; beyond that nothing more is kept."""

BLOCK = 32
"""Side of the squares whose detail is compared."""


class Shelf:
    """Parts of pictures, and of what candidates made of them. Safe to use from threads.

    Parameters
    ----------
    place : Place
        Of the run; files lie in a folder there.
    pictures : Pictures
        What is denoised.
    """

    def __init__(self, place: Place, pictures: Pictures) -> None:
        self.folder, self.pictures = place.folder / FOLDER, pictures
        if place.overwrite or not (place.folder / ROWS).exists():
            self.clear()
        known = self.folder.glob("*.npy") if self.folder.is_dir() else ()
        self._bytes = sum(path.stat().st_size for path in known)

    def keep(self, candidate: Candidate, item: Item, denoised: Floats) -> None:
        """Keep the part of a picture that the page may show."""
        part = denoised[self._slices(self.box(item, denoised.shape))].astype(np.float16)
        if self._bytes + part.nbytes > MOST_BYTES:
            return
        self._bytes += part.nbytes
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(candidate, item)) as temporary, temporary.open("wb") as file:
            np.save(file, part)

    def take(self, candidate: Candidate, item: Item, noisy: Floats) -> Floats:
        """Return that part; denoised again where it was not kept.

        Parameters
        ----------
        candidate : Candidate
            Whose.
        item : Item
            Which picture.
        noisy : numpy.ndarray
            All of it, (H, W, C) on 0..1.
        """
        try:
            kept: Floats = np.load(self._path(candidate, item)).astype(np.float32)
        except (OSError, ValueError, EOFError):  # not kept, or cut short
            return candidate.run(noisy)[self._slices(self.box(item, noisy.shape))]
        return kept

    def box(self, item: Item, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return top, left, height and width of what is shown of a picture.

        Of a large one it is where the clean one has the most detail, so that it does not
        depend on what any candidate did.
        """
        height, width = shape[:2]
        if height * width <= SIDE * SIDE:
            return 0, 0, height, width
        noisy, clean = self.pictures.read(item)
        return most_detail(noisy if clean is None else clean, SIDE)

    def part(self, picture: Floats, box: tuple[int, int, int, int]) -> Floats:
        """Return a box of a picture."""
        return picture[self._slices(box)]

    def clear(self) -> None:
        """Delete all files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, candidate: Candidate, item: Item) -> Path:
        # Names of pictures may hold what names of files may not.
        name = hashlib.sha256(f"{candidate.id}\0{item.name}".encode()).hexdigest()[:24]
        return self.folder / f"{name}.npy"

    @staticmethod
    def _slices(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
        top, left, height, width = box
        return slice(top, top + height), slice(left, left + width)


def most_detail(picture: Floats, side: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the box in which neighbours differ most.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, C).
    side : int
        Of the box; less where the picture is smaller. It begins at multiples of `BLOCK`.
    """
    grey = picture.mean(2)
    height, width = grey.shape
    detail = np.zeros((height, width), np.float64)
    detail[:-1] += np.abs(np.diff(grey, axis=0))
    detail[:, :-1] += np.abs(np.diff(grey, axis=1))
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = detail.cumsum(0).cumsum(1)
    tall, wide = min(side, height), min(side, width)
    tops = np.arange(0, height - tall + 1, BLOCK)[:, None]
    lefts = np.arange(0, width - wide + 1, BLOCK)[None]
    sums = (
        total[tops + tall, lefts + wide]
        - total[tops, lefts + wide]
        - total[tops + tall, lefts]
        + total[tops, lefts]
    )
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(row) * BLOCK, int(column) * BLOCK, tall, wide


def choose_pictures(rows: Sequence[Row], most: int) -> list[str]:
    """Return the names of the pictures worth looking at, in the order of the rows.

    Parameters
    ----------
    rows : sequence of Row
        Of a whole run with ``psnr``.
    most : int
        How many.

    Returns
    -------
    list of str
        All, where they are few. Otherwise the first, those on which the candidates differ
        most, and as many that gained least over the noisy picture.
    """
    psnr: dict[str, dict[str, float]] = {}
    for row in rows:
        psnr.setdefault(row.picture, {})[row.candidate] = row.numbers["psnr"]
    names = list(psnr)
    if len(names) <= most:
        return names

    def spread(name: str) -> float:
        own = [value for candidate, value in psnr[name].items() if candidate != NOISY]
        return _or_nothing(max(own, default=0) - min(own, default=0))

    def gain(name: str) -> float:
        own = [value for candidate, value in psnr[name].items() if candidate != NOISY]
        return _or_nothing(max(own, default=0) - psnr[name].get(NOISY, 0))

    chosen = {names[0]}
    for order, count in (
        (sorted(names, key=spread, reverse=True), (most + 1) // 2),
        (sorted(names, key=gain), most),
    ):
        for name in order:
            if len(chosen) < count:
                chosen.add(name)
    return [name for name in names if name in chosen]


def _or_nothing(value: float) -> float:
    return value if math.isfinite(value) else 0.0
