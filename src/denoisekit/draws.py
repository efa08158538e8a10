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
    top, left : int
        Where the box begins, in pixels from the image's origin.
    transposed, down, across : bool
        How the box was turned before the network saw it: transposed first, then flipped
        upside down, then left to right. Its numbers are turned with it.
    """

    seed: int = 0
    top: int = 0
    left: int = 0
    transposed: bool = False
    down: bool = False
    across: bool = False

    def at(self, top: int, left: int) -> Draws:
        """Return the draws of a box that begins elsewhere in the image."""
        return replace(self, top=top, left=left)

    def turned(self, *, transposed: bool, down: bool, across: bool) -> Draws:
        """Return the draws of the same box seen turned."""
        return replace(self, transposed=transposed, down=down, across=across)

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
            ``shape``, float32, contiguous.
        """
        channels, height, width = shape
        if self.transposed:
            height, width = width, height
        rows = _words(self.top, height)[:, None]
        columns = _words(self.left, width)[None, :]
        out = np.empty((channels, height, width), np.float32)
        for channel in range(channels):
            start = _mix(_word(self.seed + int(_mix(_word(step * 2**16 + channel))[0])))
            # The two coordinates are mixed one after the other: a sum would repeat
            # itself along diagonals.
            word = _mix(_mix(start + rows * _STEP) + columns * _STEP)
            out[channel] = (word >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        turned = out.transpose(0, 2, 1) if self.transposed else out
        flipped = turned[:, :: -1 if self.down else 1, :: -1 if self.across else 1]
        return np.ascontiguousarray(flipped)


def _words(start: int, count: int) -> npt.NDArray[np.uint64]:
    # Counted from 1, so that the origin too is mixed with something.
    return np.arange(start + 1, start + count + 1, dtype=np.int64).astype(np.uint64)


def _mix(word: npt.NDArray[np.uint64]) -> npt.NDArray[Any]:
    """Scatter every bit over all others (SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    for shift, factor in _ROUNDS:
        word = (word ^ (word >> shift)) * factor
    return word ^ (word >> np.uint64(31))


def _word(value: int) -> npt.NDArray[np.uint64]:
    # An array of one, because numpy warns of scalars that wrap around.
    return np.array([value * int(_STEP) % _WORD], np.uint64)
