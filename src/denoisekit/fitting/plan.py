"""How large a network, how many of them, and until when they learn: measured, then chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from denoisekit.fitting.material import Material
from denoisekit.image import ImageInfo
from denoisekit.methods import Stage

WANTED_STEPS = 800
"""Steps after which a network has learned most of what it will: with time for more, a larger
one is taken, then several."""

LEAST_STEPS = 200
"""Steps without which a network has hardly learned anything."""

GROWTH = 1.6
"""A network of twice the width takes 2 to this power the time of a step."""

MEMBERS = 3
"""Most networks whose mean is the result."""

SPARE = 1.3
"""What applying a network may take of what was measured with small images."""

WRITING = 1.0
"""Seconds kept for writing the file, and for what cannot be planned."""

TURNS = 8
"""Flips and rotations."""

ENSEMBLE_SHARE = 0.15
"""Part of the time that averaging flips and rotations may take."""

DRAWS = 8
"""Times that noise is drawn to decide between the networks of a fit from scratch; with one
draw their scores differ by more than they themselves do."""

DECIDING_SHARE = 0.1
"""Part of the time that this may take."""

LARGEST_SHARE = 0.5
"""Most of the time that is kept for applying the network to a single image."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was chosen.

    Attributes
    ----------
    width : int
        Of the network.
    members : int
        Networks.
    least : float
        Seconds without which one learns hardly anything.
    """

    width: int
    members: int
    least: float


def choose_sizes(widths: Sequence[int], measured: int, seconds: float, time: float) -> Sizes:
    """Choose the size of a network by what a step of one of them takes.

    Parameters
    ----------
    widths : sequence of int
        To choose from, the smallest first.
    measured : int
        The width that was measured.
    seconds : float
        What a step of it takes.
    time : float
        Seconds to learn in.
    """
    each = {width: seconds * math.pow(width / measured, GROWTH) for width in widths}
    fitting = [width for width in widths if time / each[width] >= WANTED_STEPS]
    width = max(fitting, default=min(widths))
    members = int(time / each[width] / WANTED_STEPS) if width == max(widths) else 1
    return Sizes(width, max(1, min(MEMBERS, members)), LEAST_STEPS * each[width])


def fitted_patch(stage: Stage, material: Material) -> Stage:
    """Return the stage with a patch that the parts of the image hold."""
    side = min(stage.patch, *material.noisy.shape[2:])
    return replace(stage, patch=side // stage.multiple * stage.multiple)


@dataclass(frozen=True, slots=True)
class Applying:
    """How the network is applied in the end.

    Attributes
    ----------
    seconds : float
        Kept for it, as fast as the machine was when that was measured.
    ensemble : bool
        Whether the eight flips and rotations are averaged.
    draws : int
        Of noise, by which it is chosen; 0: there is no time for that.
    draw : float
        Seconds that each of them takes.
    """

    seconds: float
    ensemble: bool
    draws: int = DRAWS
    draw: float = 0.0

    def drawn(self, left: float, late: float) -> int:
        """Return how many draws of noise there is time for.

        Parameters
        ----------
        left : float
            Seconds until the result must be there; infinite: the clock does not count.
        late : float
            How many times as long as planned the machine takes now.
        """
        if not self.draws or math.isinf(left):
            return self.draws
        ending = self.seconds - self.draws * self.draw
        return max(0, min(self.draws, int((left - ending * late) / (self.draw * late))))


def with_deciding(applying: Applying, draw: float, total: float) -> Applying:
    """Keep time for choosing the network too, ``draw`` seconds for each draw of noise."""
    draws = min(DRAWS, int(DECIDING_SHARE * total / draw))
    return replace(applying, seconds=applying.seconds + draws * draw, draws=draws, draw=draw)


def plan_applying(
    once: float, info: ImageInfo, total: float, *, before: float = 0.0, offset: float = 1.0
) -> Applying:
    """Return how to apply the network to an image in a part of the time.

    Parameters
    ----------
    once : float
        Seconds for all pixels of a plane, measured with small images.
    info : ImageInfo
        Of the image. Applying a network to a stack is not part of the time of a fit.
    total : float
        Seconds of the fit.
    before : float
        Planes that are denoised to decide what is applied.
    offset : float
        Part of a plane by which the mean of the image is kept.
    """
    # Of a stack the result itself is not part of the time.
    planes = offset + (info.planes == 1)
    single = SPARE * (before + planes) * once
    all_turns = SPARE * (before + planes * TURNS) * once
    if info.planes == 1 and all_turns <= ENSEMBLE_SHARE * total:
        return Applying(WRITING + all_turns, ensemble=True)
    return Applying(WRITING + min(single, LARGEST_SHARE * total), ensemble=False)


def has_turns(once: float, left: float, offset: float) -> bool:
    """Tell whether the eight flips and rotations can still be averaged in the time left."""
    return SPARE * (1 + offset) * TURNS * once + WRITING <= left
