"""Random numbers that depend on where a pixel is, not on when it is computed.

A draw is a function of the seed, the step, the channel and the pixel's position in the
whole image. So it does not matter in which tiles, in which order or on which device an
image is denoised: every pixel gets the numbers it would have got anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_WORD = 2**64


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of one box of an image.

    Attributes
    ----------
    seed : int
        Of the whole image.
    row, column : int
        Where in the image the box's first pixel lies: along the rows and the columns of
        the box as the network sees it.
    row_step, column_step : int
        -1 where the box was flipped along that axis.
    transposed : bool
        Whether the box's rows are the image's columns.
    """

    seed: int = 0
    row: int = 0
    column: int = 0
    row_step: int = 1
    column_step: int = 1
    transposed: bool = False

    def part(self, top: int, left: int) -> Draws:
        """Return the draws of a box cut out of this one."""
        row = self.row + self.row_step * top
        return replace(self, row=row, column=self.column + self.column_step * left)

    def transpose(self) -> Draws:
        """Return the draws of this box with rows and columns exchanged."""
        return Draws(
            self.seed,
            self.column,
            self.row,
            self.column_step,
            self.row_step,
            not self.transposed,
        )

    def flip(self, height: int | None = None, width: int | None = None) -> Draws:
        """Return the draws of this box flipped along each axis whose length is given."""
        last = self.part((height or 1) - 1, (width or 1) - 1)
        return replace(
            last,
            row_step=-self.row_step if height else self.row_step,
            column_step=-self.column_step if width else self.column_step,
        )

    def uniform(self, step: int, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
        """Return numbers evenly spread over 0 <= x < 1.

        Parameters
        ----------
        step : int
            Which of several sets of numbers; different steps are independent.
        shape : (int, int, int)
            Channels, height and width of the box as the network sees it.

        Returns
        -------
        numpy.ndarray
            ``shape``, float32.
        """
        channels, height, width = shape
        y = _words(self.row, self.row_step, height)[:, None]
        x = _words(self.column, self.column_step, width)[None, :]
        if self.transposed:
            y, x = x, y
        out = np.empty(shape, np.float32)
        for channel in range(channels):
            start = _mix(_word(self.seed + int(_mix(_word(step * 2**16 + channel))[0])))
            # The two coordinates are mixed one after the other: a sum would repeat
            # itself along diagonals.
            word = _mix(_mix(start + y * _STEP) + x * _STEP)
            out[channel] = (word >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        return out


def _words(start: int, step: int, count: int) -> npt.NDArray[np.uint64]:
    # Counted from 1, so that the origin too is mixed with something.
    return (start + 1 + step * np.arange(count, dtype=np.int64)).astype(np.uint64)


def _mix(word: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """Scatter every bit over all others (SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    for shift, factor in _ROUNDS:
        word = (word ^ (word >> shift)) * factor
    return word ^ (word >> np.uint64(31))


def _word(value: int) -> npt.NDArray[np.uint64]:
    # An array of one, because numpy warns of scalars that wrap around.
    return np.array([value * int(_STEP) % _WORD], np.uint64)
