"""Noise as a user writes it in one word: ``phone``, ``gaussian:25/255``, or several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from denoisekit.errors import UsageError
from denoisekit.noise.models import NoiseModel, choose_strength, find_model, simulate
from denoisekit.ranges import Floats

WHITE = 255
"""Of 8 bits."""

Simulate = Callable[[Floats, np.random.Generator], Floats]
"""``simulate(clean, rng)``: (H, W, C) on 0..1 with noise added."""


def noise_of(cameras: str) -> Simulate:
    """Return what adds the noise of cameras, one of them drawn for each patch.

    Parameters
    ----------
    cameras : str
        Ids of `denoisekit.noise.CAMERAS`, each maybe with a strength: ``phone,dslr``,
        ``gaussian:0.1``, ``gaussian:25/255``; see `read_strength`.

    Raises
    ------
    UsageError
        None is called so, or its strength makes no sense.
    """
    kinds = []
    for model, strength in _named(cameras):
        given = {model.strength: None if strength is None else read_strength(model, strength)[0]}
        kind = _Kind(model, given.get("gain"), given.get("sigma"), given.get("peak"))
        choose_strength(
            model, np.random.default_rng(0), gain=kind.gain, sigma=kind.sigma, peak=kind.peak
        )
        kinds.append(kind)
    return partial(_simulated, tuple(kinds))


def read_strength(model: NoiseModel, text: str, name: str = "") -> tuple[float, str]:
    """Return a strength as a user writes it, and how it is written in full.

    Parameters
    ----------
    model : NoiseModel
        Whose.
    text : str
        A number, or a fraction such as ``25/255``. A sigma above 1 is one of 8 bits: no noise
        is wider than from black to white, and papers write ``25`` for ``25/255``.
    name : str, optional
        What it is called in an error.

    Raises
    ------
    UsageError
        It is no number, or a sigma above 255.
    """
    name = name or f"{model.id}: the {model.strength}"
    number, slash, divisor = text.strip().partition("/")
    try:
        value = float(number) / float(divisor) if slash else float(number)
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"{name} {text} is not a number",
            "write it like 0.1 or 25/255",
        ) from None
    if model.strength != "sigma" or slash or not value > 1:  # a NaN is refused later
        return value, text
    if value > WHITE:
        raise UsageError(
            f"{name} {text} is wider than from black to white",
            "write it on 0..1, such as 0.1 or 25/255",
        )
    return value / WHITE, f"{number}/{WHITE}"


def in_full(cameras: str) -> str:
    """Return noise as `noise_of` takes it, with every strength written in full.

    Raises
    ------
    UsageError
        None is called so, or its strength is no number.
    """
    told = []
    for model, strength in _named(cameras):
        full = "" if strength is None else ":" + read_strength(model, strength)[1]
        told.append(model.id + full)
    return ",".join(told)


def _named(cameras: str) -> Iterator[tuple[NoiseModel, str | None]]:
    """Yield each kind of noise that is named, and its strength as written, where there is one."""
    for text in cameras.split(","):
        name, colon, strength = text.strip().partition(":")
        yield find_model(name), strength if colon else None


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
