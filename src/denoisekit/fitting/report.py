"""The curve of a fit as a picture: score over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from denoisekit.fitting.result import Fit
from denoisekit.formats import create_image
from denoisekit.image import ImageInfo

SIZE = (640, 360)
"""Width and height."""

MARGINS = (70, 20, 50, 40)
"""Left, right, top and bottom of the curve."""

INK, GRID, LINE, MARK = (40, 40, 40), (220, 220, 220), (31, 119, 180), (214, 39, 40)


def write_curve(path: Path, fit: Fit, title: str, *, overwrite: bool = False) -> None:
    """Write a PNG of how the score developed; the best is marked.

    Parameters
    ----------
    path : Path
        Where to.
    fit : Fit
        What to draw.
    title : str
        Written above: the image's name.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        It cannot be written, or exists.
    """
    pixels = _drawn(fit, title)
    info = ImageInfo("png", pixels.shape, "YXS", pixels.dtype, "rgb")
    with create_image(path, info, overwrite=overwrite) as writer:
        writer.write_rows(0, 0, pixels)


def _drawn(fit: Fit, title: str) -> Any:
    from PIL import Image, ImageDraw

    points = [(look.seconds, look.score) for look in fit.looks if look.score is not None]
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGINS[0], 8), _plain(title), fill=INK)
    told = f"{fit.objective}{' from ' + fit.start if fit.start else ''}, {fit.steps} steps"
    if fit.start and fit.objective == fit.start:
        told = f"nothing better was learned: {fit.start} as it is"
    draw.text((MARGINS[0], 26), _plain(f"{told}; PSNR in dB at held-out noisy pixels"), fill=INK)
    if not points:
        return np.asarray(picture)
    times, scores = zip(*points, strict=True)
    low, high = _rounded(min(scores), max(scores))
    end = max(*times, 1e-9)

    def place(seconds: float, score: float) -> tuple[float, float]:
        left, right, top, bottom = MARGINS
        across = left + seconds / end * (SIZE[0] - left - right)
        return across, top + (high - score) / (high - low) * (SIZE[1] - top - bottom)

    for k in range(5):
        score, seconds = low + k * (high - low) / 4, k * end / 4
        draw.line([place(0, score), place(end, score)], fill=GRID)
        draw.text((10, place(0, score)[1] - 6), f"{score:.2f}", fill=INK)
        draw.text((place(seconds, low)[0] - 8, SIZE[1] - 32), f"{seconds:.0f} s", fill=INK)
    draw.line([place(*point) for point in points], fill=LINE, width=2)
    x, y = place(*max(points, key=lambda point: point[1]))
    draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=MARK)
    return np.asarray(picture)


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Return tenths of a dB around both, a fifth apart at least."""
    low, high = np.floor(low * 10) / 10, np.ceil(high * 10) / 10
    return float(low), float(max(high, low + 0.2))


def _plain(text: str) -> str:
    """Return what the built-in font can draw."""
    return text.encode("latin-1", "replace").decode("latin-1")
