"""What a fit leaves: a network for the image and its like, and how it came about."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoisekit.engine.denoiser import Denoiser
from denoisekit.errors import OutputError
from denoisekit.options import FitOptions
from denoisekit.training.state import write_weights


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
        Weights that it began with; empty: none.
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
