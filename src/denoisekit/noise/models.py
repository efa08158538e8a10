"""The kinds of noise, as data: `CAMERAS`, `prepare` and `simulate`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np

from denoisekit.errors import InputError, UsageError, did_you_mean
from denoisekit.noise.camera import DSLR, PHONE, Camera, draw_settings, photograph
from denoisekit.noise.sensor import Floats
from denoisekit.noise.sources import Detector, add_gaussian, count_photons, draw_detector

Rng = np.random.Generator
Noise = Callable[[Floats, Rng], Floats]
"""``noise(clean, rng)``: the noise of one image, called with each of its planes."""

Start = Callable[[float, int, int | None, Rng], Noise]


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """A kind of noise.

    Attributes
    ----------
    id : str
        What it is called: ``phone``.
    summary : str
        What it is, in a line.
    strength : {'gain', 'sigma', 'peak'}
        What says how strong it is. ``gain``: signal of one photon, in units of white;
        ``sigma``: standard deviation, on 0..1; ``peak``: photons of white, so less is
        noisier.
    drawn : (float, float)
        Range that the strength is drawn from, log-uniformly, where it is not given.
    allowed : (float, float)
        Least and largest strength that makes sense.
    channels : int or None
        How many it needs; None: any number.
    start : callable
        ``start(strength, channels, bits, rng)``: the noise of one image.
    """

    id: str
    summary: str
    strength: Literal["gain", "sigma", "peak"]
    drawn: tuple[float, float]
    allowed: tuple[float, float]
    channels: int | None
    start: Start


def _start_camera(
    camera: Camera, strength: float, _channels: int, bits: int | None, rng: Rng
) -> Noise:
    settings = draw_settings(camera, strength, rng, jpeg=bits == 8)
    return partial(photograph, settings, bits)


def _start_detector(
    detector: Detector, strength: float, channels: int, _bits: int | None, rng: Rng
) -> Noise:
    return draw_detector(detector, strength, channels, rng)


def _start_gaussian(strength: float, _channels: int, _bits: int | None, _rng: Rng) -> Noise:
    return partial(add_gaussian, strength)


def _start_poisson(strength: float, _channels: int, _bits: int | None, _rng: Rng) -> Noise:
    return partial(count_photons, strength)


_MODELS = (
    NoiseModel(
        "phone",
        "a small sensor, its noise developed and mostly left as it is",
        "gain",
        (3e-6, 4e-2),
        (1e-8, 1.0),
        3,
        partial(_start_camera, PHONE),
    ),
    NoiseModel(
        "dslr",
        "a large sensor, its noise developed, smoothed and coded as JPEG",
        "gain",
        (3e-6, 8e-3),
        (1e-8, 1.0),
        3,
        partial(_start_camera, DSLR),
    ),
    NoiseModel(
        "fluorescence",
        "a microscope's detector: shot and read noise, channel by channel",
        "gain",
        (1e-3, 0.25),
        (1e-8, 1.0),
        None,
        partial(_start_detector, Detector()),
    ),
    NoiseModel(
        "gaussian",
        "normal noise of one deviation, independent everywhere",
        "sigma",
        (1 / 255, 75 / 255),
        (0.0, 100.0),
        None,
        _start_gaussian,
    ),
    NoiseModel(
        "poisson",
        "photon counts, independent everywhere",
        "peak",
        (2.0, 2000.0),
        (1e-3, 1e9),
        None,
        _start_poisson,
    ),
)

CAMERAS: Mapping[str, NoiseModel] = MappingProxyType({model.id: model for model in _MODELS})
"""Every kind of noise by its id."""


def find_model(camera: str) -> NoiseModel:
    """Return the kind of noise with this id.

    Raises
    ------
    UsageError
        None is called so.
    """
    if camera not in CAMERAS:
        raise UsageError(f"no camera is called {camera!r}", did_you_mean(camera, list(CAMERAS)))
    return CAMERAS[camera]


def choose_strength(
    model: NoiseModel,
    rng: Rng,
    *,
    gain: float | None = None,
    sigma: float | None = None,
    peak: float | None = None,
) -> float:
    """Return the strength that was given, or draw one.

    Parameters
    ----------
    model : NoiseModel
        The kind of noise.
    rng : numpy.random.Generator
        Source of the draw.
    gain, sigma, peak : float, optional
        At most the one that ``model.strength`` names.

    Raises
    ------
    UsageError
        It is another one, or a value that makes no sense.
    """
    given = {"gain": gain, "sigma": sigma, "peak": peak}
    for name, value in given.items():
        if value is not None and name != model.strength:
            raise UsageError(
                f"{model.id} noise has no {name}", f"its strength is its {model.strength}"
            )
    value = given[model.strength]
    if value is None:
        low, high = model.drawn
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))
    low, high = model.allowed
    if not low <= value <= high:
        raise UsageError(
            f"{model.strength} {value:g} makes no sense", f"it goes from {low:g} to {high:g}"
        )
    return float(value)


def prepare(
    camera: str | NoiseModel,
    channels: int,
    rng: Rng,
    *,
    gain: float | None = None,
    sigma: float | None = None,
    peak: float | None = None,
    bits: int | None = 8,
) -> Noise:
    """Draw all that is the same in every plane of an image: strength, colours, smoothing.

    Parameters
    ----------
    camera : str or NoiseModel
        One of `CAMERAS`, or its id.
    channels : int
        Channels of the image.
    rng : numpy.random.Generator
        Source of the draws.
    gain, sigma, peak : float, optional
        How strong the noise is, in the unit of that kind; drawn where it is not given.
    bits : int or None
        What a camera rounds to; only with 8 may it code a JPEG. None: no rounding. Other
        kinds of noise never round.

    Returns
    -------
    callable
        ``noise(clean, rng)``, (H, W, C) float32 in and out.

    Raises
    ------
    UsageError
        An unknown kind, or a strength that is not its own or makes no sense.
    InputError
        A camera was asked for other than three channels.
    """
    model = find_model(camera) if isinstance(camera, str) else camera
    if model.channels not in (None, channels):
        raise InputError(
            f"{model.id} noise needs {model.channels} channels, not {channels}",
            "for gray and other images there are fluorescence, gaussian and poisson",
        )
    strength = choose_strength(model, rng, gain=gain, sigma=sigma, peak=peak)
    return model.start(strength, channels, bits, rng)


def simulate(
    clean: Floats,
    camera: str | NoiseModel,
    rng: Rng,
    *,
    gain: float | None = None,
    sigma: float | None = None,
    peak: float | None = None,
    bits: int | None = 8,
) -> Floats:
    """Return a clean image with noise.

    Parameters
    ----------
    clean : numpy.ndarray
        (H, W, C) float32 on 0..1, sRGB for cameras, any size; left as it is.
    camera : str or NoiseModel
        One of `CAMERAS`, or its id. Cameras need C = 3.
    rng : numpy.random.Generator
        Source of everything drawn: the same state gives the same image.
    gain, sigma, peak, bits
        As for `prepare`.

    Returns
    -------
    numpy.ndarray
        Same shape, float32. Cameras and fluorescence clip to 0..1, as their sensors do;
        gaussian and poisson do not clip.

    Raises
    ------
    UsageError
        An unknown kind, or a strength that is not its own or makes no sense.
    InputError
        Not an image of that kind: its axes, its channels, values that are not finite.
    """
    if clean.ndim != 3 or 0 in clean.shape:
        raise InputError(
            f"an array of shape {clean.shape} is not an image", "give (rows, columns, channels)"
        )
    values = np.asarray(clean, np.float32)
    if not np.isfinite(values).all():
        raise InputError("some values are not finite", "replace them first")
    noise = prepare(camera, clean.shape[2], rng, gain=gain, sigma=sigma, peak=peak, bits=bits)
    return noise(values, rng)
