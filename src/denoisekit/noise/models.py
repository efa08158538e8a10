"""The kinds of noise, as data: `CAMERAS`, `prepare` and `simulate`; noise as a user writes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np

from denoisekit.errors import InputError, UsageError, did_you_mean
from denoisekit.noise.camera import DSLR, PHONE, Camera, box_mean, draw_settings, photograph
from denoisekit.noise.sensor import Floats, expose, expose_clipped

Rng = np.random.Generator

Noise = Callable[[Floats, Rng], Floats]
"""``noise(clean, rng)``: the noise of one image, called with each of its planes."""

Simulate = Callable[[Floats, Rng], Floats]
"""``simulate(clean, rng)``: (H, W, C) on 0..1 with noise added."""

EIGHT_BITS = 255
"""White of 8 bits."""


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
    start : callable
        ``start(strength, channels, bits, rng)``: the noise of one image.
    allowed : (float, float)
        Least and largest strength that makes sense.
    channels : int or None
        How many it needs; None: any number.
    """

    id: str
    summary: str
    strength: Literal["gain", "sigma", "peak"]
    drawn: tuple[float, float]
    start: Callable[[float, int, int | None, Rng], Noise]
    allowed: tuple[float, float] = (1e-8, 1.0)
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Detector:
    """What the detectors of microscopes do, as ranges that each image draws from.

    Attributes
    ----------
    read : (float, float)
        Read noise in photons; drawn log-uniformly.
    channels : float
        How much the gains of the channels differ: deviation of their logarithm.
    smooth : float
        Probability that the noise is correlated between neighbours, as after resampling.
    smooth_shares : (float, float)
        How much of the noise is then replaced by the average of nine pixels.
    """

    read: tuple[float, float] = (0.05, 2.0)
    channels: float = 0.3
    smooth: float = 0.25
    smooth_shares: tuple[float, float] = (0.1, 0.6)


def start_camera(camera: Camera, gain: float, _channels: int, bits: int | None, rng: Rng) -> Noise:
    """Draw what a camera does to one image."""
    return partial(photograph, draw_settings(camera, gain, rng, jpeg=bits == 8), bits)


def start_detector(
    detector: Detector, gain: float, channels: int, _bits: int | None, rng: Rng
) -> Noise:
    """Draw the detector of one image; with several channels, the gain is that in their middle."""
    differ = rng.normal(0, detector.channels, channels)
    gains = gain * np.exp(differ - np.median(differ))
    least, largest = np.log(detector.read)
    reads = gains * np.exp(rng.uniform(least, largest, channels))
    share = rng.uniform(*detector.smooth_shares) if rng.random() < detector.smooth else 0.0

    def detect(clean: Floats, rng: Rng) -> Floats:
        """Expose every channel on a detector of its own, which clips at black and white."""
        noisy = np.empty_like(clean)
        for index in range(channels):
            light = clean[..., index].clip(0, 1)
            noise = expose_clipped(light, gains[index], reads[index], rng) - light
            if share:
                noise -= np.float32(share) * (noise - box_mean(noise, 3))
            noisy[..., index] = (light + noise).clip(0, 1)
        return noisy

    return detect


def start_gaussian(sigma: float, _channels: int, _bits: int | None, _rng: Rng) -> Noise:
    """Return what adds normal noise of one deviation; nothing is clipped."""
    return lambda clean, rng: (
        clean + np.float32(sigma) * rng.standard_normal(clean.shape, np.float32)
    )


def start_poisson(peak: float, _channels: int, _bits: int | None, _rng: Rng) -> Noise:
    """Return what counts photons, as parts of what white counts on average; no clip at white."""
    return lambda clean, rng: expose(np.maximum(clean, 0), 1 / peak, 0.0, rng)


_MODELS = (
    NoiseModel(
        "phone",
        "a small sensor, its noise developed and mostly left as it is",
        "gain",
        drawn=(3e-6, 4e-2),
        start=partial(start_camera, PHONE),
        channels=3,
    ),
    NoiseModel(
        "dslr",
        "a large sensor, its noise developed, smoothed and coded as JPEG",
        "gain",
        drawn=(3e-6, 8e-3),
        start=partial(start_camera, DSLR),
        channels=3,
    ),
    NoiseModel(
        "fluorescence",
        "a microscope's detector: shot and read noise, channel by channel",
        "gain",
        drawn=(1e-3, 0.25),
        start=partial(start_detector, Detector()),
    ),
    NoiseModel(
        "gaussian",
        "normal noise of one deviation, independent everywhere",
        "sigma",
        drawn=(1 / 255, 75 / 255),
        start=start_gaussian,
        allowed=(0.0, 100.0),
    ),
    NoiseModel(
        "poisson",
        "photon counts, independent everywhere",
        "peak",
        drawn=(2.0, 2000.0),
        start=start_poisson,
        allowed=(1e-3, 1e9),
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
    return _strength(model, rng, _given(model, gain, sigma, peak))


def _given(
    model: NoiseModel, gain: float | None, sigma: float | None, peak: float | None
) -> float | None:
    given = {"gain": gain, "sigma": sigma, "peak": peak}
    for name, value in given.items():
        if value is not None and name != model.strength:
            raise UsageError(
                f"{model.id} noise has no {name}", f"its strength is its {model.strength}"
            )
    return given[model.strength]


def _strength(model: NoiseModel, rng: Rng, value: float | None) -> float:
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
    return _prepare(model, channels, rng, _given(model, gain, sigma, peak), bits)


def _prepare(
    model: NoiseModel, channels: int, rng: Rng, value: float | None, bits: int | None
) -> Noise:
    if model.channels not in (None, channels):
        raise InputError(
            f"{model.id} noise needs {model.channels} channels, not {channels}",
            "for gray and other images there are fluorescence, gaussian and poisson",
        )
    return model.start(_strength(model, rng, value), channels, bits, rng)


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
    model = find_model(camera) if isinstance(camera, str) else camera
    return _simulate(clean, model, rng, _given(model, gain, sigma, peak), bits)


def _simulate(
    clean: Floats, model: NoiseModel, rng: Rng, value: float | None, bits: int | None = 8
) -> Floats:
    if clean.ndim != 3 or 0 in clean.shape:
        raise InputError(
            f"an array of shape {clean.shape} is not an image", "give (rows, columns, channels)"
        )
    values = np.asarray(clean, np.float32)
    if not np.isfinite(values).all():
        raise InputError("some values are not finite", "replace them first")
    return _prepare(model, clean.shape[2], rng, value, bits)(values, rng)


def noise_of(cameras: str) -> Simulate:
    """Return what adds the noise of cameras, one of them drawn for each patch.

    Parameters
    ----------
    cameras : str
        Ids of `CAMERAS`, each maybe with a strength: ``phone,dslr``, ``gaussian:0.1``,
        ``gaussian:25/255``; see `read_strength`.

    Raises
    ------
    UsageError
        None is called so, or its strength makes no sense.
    """
    kinds = []
    for model, text in _named(cameras):
        value = None if text is None else read_strength(model, text)[0]
        _strength(model, np.random.default_rng(0), value)
        kinds.append((model, value))
    return partial(_simulate_one, tuple(kinds))


def _simulate_one(
    kinds: tuple[tuple[NoiseModel, float | None], ...], clean: Floats, rng: Rng
) -> Floats:
    model, value = kinds[int(rng.integers(len(kinds)))]
    return _simulate(clean, model, rng, value)


def in_full(cameras: str) -> str:
    """Return noise as `noise_of` takes it, with every strength written in full.

    Raises
    ------
    UsageError
        None is called so, or its strength is no number.
    """
    return ",".join(
        model.id if text is None else f"{model.id}:{read_strength(model, text)[1]}"
        for model, text in _named(cameras)
    )


def _named(cameras: str) -> Iterator[tuple[NoiseModel, str | None]]:
    """Yield each kind of noise that is named, and its strength as written, where there is one."""
    for text in cameras.split(","):
        name, colon, strength = text.strip().partition(":")
        yield find_model(name), strength if colon else None


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
        raise UsageError(f"{name} {text} is not a number", "write it like 0.1 or 25/255") from None
    if model.strength != "sigma" or slash or not value > 1:  # a NaN is refused later
        return value, text
    if value > EIGHT_BITS:
        raise UsageError(
            f"{name} {text} is wider than from black to white",
            "write it on 0..1, such as 0.1 or 25/255",
        )
    return value / EIGHT_BITS, f"{number}/{EIGHT_BITS}"
