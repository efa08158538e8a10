"""What a user can ask of a run: one field for each option of ``denoisekit denoise``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from denoisekit.errors import UsageError
from denoisekit.methods import get_method
from denoisekit.ranges import parse_range

HotPixels = Literal["auto", "remove", "keep"]
HOT_PIXELS = ("auto", "remove", "keep")

Strength = float | Literal["auto"]
"""A blend with the input, or one that follows from the picture."""

DEFAULT_METHOD = "aprrd"
"""Where neither a method nor weights say which."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to denoise. Every field is an option of ``denoisekit denoise``.

    Attributes
    ----------
    method : str
        Id of the method.
    weights : str or None
        Id or file of the weights; None: the method's own.
    strength : float, 'auto' or None
        Blend with the input: 1 is the method's result, 0 exactly the input. ``auto``: the
        method's result, with what it took away and was not noise; see
        `denoisekit.engine.restoration`. None: as suits the weights.
    self_ensemble : bool
        Average the results of the eight flips and rotations: eight times the work.
    settings : mapping of str to object
        The method's own knobs, by name; see `denoisekit.methods.MethodInfo.settings`.
    seed : int
        Of methods that draw at random.
    device, precision : str
        As `denoisekit.engine.device.resolve_device` and `choose_precision` take them.
    tile : int or None
        Side of a tile in pixels: what is kept of it where tiles are exact, what the network
        sees where they are not. 0: the whole image; None: as memory allows.
    max_memory : int or None
        Most bytes to hold; None: a part of what is free.
    range : str
        How file values become the method's 0..1; see `denoisekit.ranges.parse_range`.
    hot_pixels : {'auto', 'remove', 'keep'}
        What becomes of hot and dead pixels; ``auto``: removed from photographs, kept in
        measured data.
    """

    method: str = DEFAULT_METHOD
    weights: str | None = None
    strength: Strength | None = 1.0
    self_ensemble: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    max_memory: int | None = None
    range: str = "auto"
    hot_pixels: HotPixels = "auto"

    def __post_init__(self) -> None:
        if self.strength is not None:
            check_strength(self.strength)
        if self.tile is not None and self.tile < 0:
            raise UsageError(
                f"a tile of {self.tile} pixels makes no sense", "0 means the whole image"
            )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"a seed of {self.seed} makes no sense", "it is 0 or a whole number")
        get_method(self.method).choose(self.settings)
        parse_range(self.range)
        if self.hot_pixels not in HOT_PIXELS:
            raise UsageError(
                f"hot pixels '{self.hot_pixels}' makes no sense", "write auto, remove or keep"
            )


def check_strength(strength: Strength) -> None:
    """Refuse what is no strength.

    Raises
    ------
    UsageError
        It is neither ``auto`` nor on 0..1.
    """
    if isinstance(strength, str):
        if strength != "auto":
            raise UsageError(f"strength '{strength}' is not a number", "or write auto")
    elif not 0 <= strength <= 1:
        raise UsageError(f"strength {strength} is not between 0 and 1")


def parse_time(text: str) -> float:
    """Return the seconds of ``90m``, ``12h``, ``1h30m``, ``2d`` or a number of seconds.

    Raises
    ------
    UsageError
        It is no time.
    """
    match = re.fullmatch(
        r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", text.strip().lower()
    )
    try:
        parts = [float(part or 0) for part in match.groups()] if match else []
    except ValueError:
        parts = []
    seconds = sum(part * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds > 0:
        raise UsageError(f"'{text}' is not a time", "write for instance 90m, 12h or 2d")
    return seconds
