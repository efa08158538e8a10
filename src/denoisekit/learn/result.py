"""What a fit leaves: a network for the image and its like, and how it came about."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoisekit.engine.denoiser import Denoiser
from denoisekit.errors import OutputError
from denoisekit.formats import create_image
from denoisekit.image import ImageInfo
from denoisekit.learn.checkpoint import write_weights
from denoisekit.options import FitOptions


@dataclass(frozen=True, slots=True)
class Look:
    """How far a fit is; what `FitOptions` allow is told to a callback.

    Attributes
    ----------
    stage : str
        What is under way, in a word.
    step : int
        Steps so far, of all stages.
    seconds, total : float
        Since the beginning, and what is planned.
    score : float or None
        PSNR of the result in dB against noisy values that it was not made from: it rises as
        the result becomes better, but their noise bounds it. None: not measured yet.
    best : bool
        Whether that is the best so far, which is kept.
    """

    stage: str
    step: int
    seconds: float
    total: float
    score: float | None = None
    best: bool = False


Listen = Callable[[Look], bool | None]
"""Takes a `Look`; True asks the fit to stop soon and keep its best."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A network fitted to an image.

    Attributes
    ----------
    denoiser : Denoiser
        Applies it: ``fit.denoiser(array)``, for this image and others of its kind.
    options : FitOptions
        What was asked for.
    objective : str
        What it learned from.
    start : str
        Weights that it started from; empty: none.
    score : float
        As `Look.score`; of several
        networks the best one's.
    steps : int
        Taken in all.
    looks : tuple of Look
        How the score developed.
    stopped : bool
        Whether it was asked to stop before its time.
    learned : bool
        Whether a network learned the image; otherwise ``objective`` names what did best
        without that.
    """

    denoiser: Denoiser
    options: FitOptions
    objective: str
    start: str
    score: float
    steps: int
    looks: tuple[Look, ...]
    stopped: bool
    learned: bool = True

    @property
    def warning(self) -> str | None:
        """What the user should know; None: nothing."""
        if self.learned:
            return None
        return (
            f"no network learned the image in its time; this is the best there is without: "
            f"{self.objective}. More --time may help"
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the header of saved weights says of the fit."""
        return {
            "objective": self.objective,
            "start": self.start,
            "score": self.score,
            "steps": self.steps,
            "seconds": round(self.looks[-1].seconds, 1) if self.looks else 0.0,
            "seed": self.options.seed,
            "learned": self.learned,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights, for ``denoisekit denoise --weights`` and `denoisekit.load`.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        weights, method = self.denoiser.weights, self.denoiser.info
        try:
            write_weights(Path(path), method, weights.config, dict(weights.state), self.facts)
        except OutputError as error:
            error.hint = "choose another place for the weights"  # not that of a training
            raise


SIZE = (640, 360)
"""Width and height of a curve."""

MARGINS = (70, 20, 50, 40)
"""Left, right, top and bottom of it."""

INK, GRID, LINE, MARK = (40, 40, 40), (220, 220, 220), (31, 119, 180), (214, 39, 40)


def write_curve(path: Path, fit: Fit, title: str, *, overwrite: bool = False) -> None:
    """Write a PNG of how the score developed over time; the best is marked.

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
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(canvas)
    left, right, top, bottom = MARGINS
    told = f"{fit.objective}{' from ' + fit.start if fit.start else ''}, {fit.steps} steps"
    if fit.start and fit.objective == fit.start:
        told = f"nothing better was learned: {fit.start} as it is"
    for height, line in ((8, title), (26, f"{told}; PSNR in dB at held-out noisy pixels")):
        # What the built-in font can draw.
        drawn = line.encode("latin-1", "replace").decode("latin-1")
        draw.text((left, height), drawn, fill=INK)
    points = [(look.seconds, look.score) for look in fit.looks if look.score is not None]
    if points:
        times, scores = zip(*points, strict=True)
        # Tenths of a dB around all, a fifth apart at least.
        low = float(np.floor(min(scores) * 10) / 10)
        high, end = max(float(np.ceil(max(scores) * 10) / 10), low + 0.2), max(*times, 1e-9)

        def place(seconds: float, score: float) -> tuple[float, float]:
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
    pixels = np.asarray(canvas)
    info = ImageInfo("png", pixels.shape, "YXS", pixels.dtype, "rgb")
    with create_image(path, info, overwrite=overwrite) as writer:
        writer.write_rows(0, 0, pixels)
