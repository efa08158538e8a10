"""Noise as a user writes it in one word: ``phone``, ``gaussian:25/255``, or several of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from denoisekit.errors import UsageError
from denoisekit.noise.models import NoiseModel, choose_strength, find_model, simulate
from denoisekit.ranges import Floats

Simulate = Callable[[Floats, np.random.Generator], Floats]
"""``simulate(clean, rng)``: (H, W, C) on 0..1 with noise added."""


def noise_of(cameras: str) -> Simulate:
    """Return what adds the noise of cameras, one of them drawn for each patch.

    Parameters
    ----------
    cameras : str
        Ids of `denoisekit.noise.CAMERAS`, each maybe with a strength: ``phone,dslr``,
        ``gaussian:0.1``, ``gaussian:25/255``.

    Raises
    ------
    UsageError
        None is called so, or its strength makes no sense.
    """
    kinds = []
    for text in cameras.split(","):
        name, colon, strength = text.strip().partition(":")
        model = find_model(name)
        try:
            number, _, divisor = strength.partition("/")
            given = {model.strength: float(number) / float(divisor or 1) if colon else None}
        except (ValueError, ZeroDivisionError):
            raise UsageError(f"noise {text!r}: {strength} is not a number") from None
        kind = _Kind(model, given.get("gain"), given.get("sigma"), given.get("peak"))
        choose_strength(
            model, np.random.default_rng(0), gain=kind.gain, sigma=kind.sigma, peak=kind.peak
        )
        kinds.append(kind)
    return partial(_simulated, tuple(kinds))


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of noise, and its strength where that is not drawn."""

    model: NoiseModel
    gain: float | None
    sigma: float | None
    peak: float | None


def _simulated(kinds: Sequence[_Kind], clean: Floats, draw: np.random.Generator) -> Floats:
    kind = kinds[int(draw.integers(len(kinds)))]
    return simulate(clean, kind.model, draw, gain=kind.gain, sigma=kind.sigma, peak=kind.peak)
