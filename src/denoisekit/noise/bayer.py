"""The mosaic of a sensor, which sees one colour a pixel, and the way back to three.

The interpolation is that of Malvar, He and Cutler, "High-quality linear interpolation for
demosaicing of Bayer-patterned color images", ICASSP 2004: bilinear, corrected by the second
difference of the colour that was measured. It leaves the noise far less smooth than bilinear
interpolation does, and makes it correlated between colours; real photographs show both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Phase = tuple[int, int]
"""Row and column, 0 or 1, of the first red pixel."""


def mosaic(rgb: Floats, phase: Phase) -> Floats:
    """Keep the one colour that each pixel of a Bayer sensor sees.

    Parameters
    ----------
    rgb : numpy.ndarray
        (3, H, W).
    phase : (int, int)
        Where red is; blue is diagonal to it, everything else green.

    Returns
    -------
    numpy.ndarray
        (H, W), of the same dtype.
    """
    row, column = phase
    raw: Floats = rgb[1].copy()
    raw[row::2, column::2] = rgb[0, row::2, column::2]
    raw[1 - row :: 2, 1 - column :: 2] = rgb[2, 1 - row :: 2, 1 - column :: 2]
    return raw


def demosaic(raw: Floats, phase: Phase) -> Floats:
    """Interpolate the two colours that each pixel lacks.

    Linear in ``raw``, which must be white-balanced: the correction takes it that where one
    colour changes, the others change alike.

    Parameters
    ----------
    raw : numpy.ndarray
        (H, W) float32, any size; mirrored at its borders.
    phase : (int, int)
        As for `mosaic`.

    Returns
    -------
    numpy.ndarray
        (3, H, W) float32.
    """
    height, width = raw.shape
    padded = np.pad(raw, 2, mode="reflect")

    def at(y: int, x: int) -> Floats:
        return padded[2 + y : 2 + y + height, 2 + x : 2 + x + width]

    beside = at(0, -1) + at(0, 1)
    above = at(-1, 0) + at(1, 0)
    beside_far = at(0, -2) + at(0, 2)
    above_far = at(-2, 0) + at(2, 0)
    far = beside_far + above_far
    corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1)

    # At red and blue: green, and the colour diagonal to it.
    green = raw / 2 + (beside + above) / 4 - far / 8
    opposite = raw * 0.75 + corners / 4 - far * np.float32(3 / 16)
    # At green: the colour of this row's neighbours, and that of this column's.
    shared = raw * 0.625 - corners / 8
    of_row = shared + beside / 2 - beside_far / 8 + above_far / 16
    of_column = shared + above / 2 - above_far / 8 + beside_far / 16

    rgb = np.repeat(raw[None], 3, 0)
    row, column = phase
    for own, other, y, x in ((0, 2, row, column), (2, 0, 1 - row, 1 - column)):
        here = np.s_[y::2, x::2]
        right = np.s_[y::2, 1 - x :: 2]
        below = np.s_[1 - y :: 2, x::2]
        rgb[1][here] = green[here]
        rgb[other][here] = opposite[here]
        rgb[own][right] = of_row[right]
        rgb[own][below] = of_column[below]
    return rgb
