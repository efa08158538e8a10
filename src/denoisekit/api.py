"""The library in three functions: denoise once, load once and denoise many times, or fit."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import overload

import numpy as np

from denoisekit.auto import Chooser
from denoisekit.batch import Job, run_batch, survey
from denoisekit.device import resolve_device
from denoisekit.errors import UsageError
from denoisekit.fitting import Fit, FitOptions, fit
from denoisekit.fitting.options import PRESETS, Listen
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.image import Pixels
from denoisekit.options import DEFAULT_METHOD, Options, Strength
from denoisekit.outputs import Naming, Source, check_free, name_outputs
from denoisekit.pipeline import Denoiser
from denoisekit.pipeline import load as load_options
from denoisekit.training.threads import threads_that_help
from denoisekit.weights import method_of


def load(
    method: str | None = None,
    *,
    weights: str | None = None,
    strength: Strength | None = 1.0,
    self_ensemble: bool = False,
    settings: Mapping[str, object] | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    max_memory: int | None = None,
    range: str = "auto",
    allow_download: bool = True,
) -> Denoiser:
    """Load a method and its weights, to denoise any number of arrays.

    Parameters
    ----------
    method : str, optional
        Id of the method; ``denoisekit methods`` lists them. Default: that of the weights, or
        aprrd.
    weights : str, optional
        Id or file of the weights; default: the method's own.
    strength : float, 'auto' or None
        Blend with the input: 1 is the method's result, 0 exactly the input; ``auto`` gives
        back what the method took away and was no noise. None: as suits the weights; ``auto``,
        but 1 for aprrd.camera, which takes little else than noise, and for files.
    self_ensemble : bool
        Average the eight flips and rotations: eight times the work.
    settings : mapping of str to object, optional
        The method's own knobs, by name; ``denoisekit methods NAME`` lists them.
    seed : int
        Of methods that draw at random.
    device : {'auto', 'cpu', 'cuda', 'cuda:N', 'mps'}
        Where to run.
    precision : {'auto', 'fp32', 'bf16', 'fp16'}
        Of the network.
    tile : int, optional
        Side of a tile in pixels, 0 for the whole image; default: as memory allows.
    max_memory : int, optional
        Most bytes to hold.
    range : str
        What is black and white: ``auto``, ``dtype``, ``minmax``, ``percentile``, ``LO,HI``.
    allow_download : bool
        Fetch weights that are not here.

    Returns
    -------
    Denoiser
        ``denoiser(array)`` returns the denoised array, same shape and dtype.

    Raises
    ------
    UsageError
        An unknown name, or a value that makes no sense.
    WeightsError
        The weights are absent and cannot be fetched, or are damaged.

    Examples
    --------
    >>> denoiser = denoisekit.load("aprrd")  # doctest: +SKIP
    >>> denoised = denoiser(noisy)  # doctest: +SKIP
    """
    if method == "auto":
        raise UsageError(
            "the method auto chooses for an image, so that it cannot be loaded before there is one",
            "give the image to denoise, or name a method or weights",
        )
    options = Options(
        method=method or (method_of(weights) if weights else None) or DEFAULT_METHOD,
        weights=weights,
        strength=strength,
        self_ensemble=self_ensemble,
        settings=settings or {},
        seed=seed,
        device=device,
        precision=precision,
        tile=tile,
        max_memory=max_memory,
        range=range,
    )
    return load_options(options, allow_download=allow_download)


@overload
def denoise(
    noisy: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = ...,
    overwrite: bool = ...,
    axes: str | None = ...,
    method: str | None = ...,
    weights: str | None = ...,
    strength: Strength | None = ...,
    device: str = ...,
    precision: str = ...,
    range: str = ...,
) -> Path: ...


@overload
def denoise(
    noisy: Pixels,
    *,
    axes: str | None = ...,
    method: str | None = ...,
    weights: str | None = ...,
    strength: Strength | None = ...,
    device: str = ...,
    precision: str = ...,
    range: str = ...,
) -> Pixels: ...


def denoise(
    noisy: str | os.PathLike[str] | Pixels,
    *,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    axes: str | None = None,
    method: str | None = None,
    weights: str | None = None,
    strength: Strength | None = None,
    device: str = "auto",
    precision: str = "auto",
    range: str = "auto",
) -> Path | Pixels:
    """Denoise one array or one file.

    Parameters
    ----------
    noisy : array, str or path
        An array of any number type, or a file of any known format.
    output : str or path, optional
        For a file: a file or folder to write; default: ``NAME_denoised`` beside it.
    overwrite : bool
        Whether an output that exists may be replaced.
    axes : str, optional
        A letter an axis, ending in ``YX`` or ``YXS``; default: what the file says, or
        a guess from an array's shape.
    method : str, optional
        As in `load`. Default, and ``auto``, without weights: those of aprrd's weights on this
        machine that suit the image; see `denoisekit.auto`.
    strength : float or 'auto', optional
        As in `load`; default: as suits the weights.
    weights, device, precision, range
        As in `load`, which has more options.

    Returns
    -------
    array or Path
        The denoised array, same shape and dtype; or the path of the file written.

    Raises
    ------
    DenoisekitError
        As `load`; and InputError or OutputError for what cannot be read or written.
    """
    named = method if method != "auto" else None
    loaded = load(
        named,
        weights=weights,
        strength=strength,
        device=device,
        precision=precision,
        range=range,
    )
    denoiser = loaded if named or weights else Chooser(loaded)
    if not isinstance(noisy, str | os.PathLike):
        return denoiser(noisy, axes=axes)
    source = Path(noisy)
    naming = Naming(output=None if output is None else Path(output))
    format = naming.format_for(survey(source, axes).format)
    ((_, target),) = name_outputs([Source(source)], naming, lambda _: format)
    check_free(target, overwrite=overwrite)
    (outcome,) = run_batch([Job(source, target, format, axes, overwrite)], denoiser)
    if outcome.error:
        raise outcome.error
    return target


def fit_single(
    noisy: Pixels,
    *,
    axes: str | None = None,
    seconds: float = PRESETS["balanced"],
    objective: str = "auto",
    start: str = "auto",
    steps: int | None = None,
    width: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    max_memory: int | None = None,
    range: str = "auto",
    keep_mean: bool | None = None,
    strength: Strength | None = None,
    on_look: Listen | None = None,
) -> Fit:
    """Fit a network to one noisy array, from which alone it learns.

    Parameters
    ----------
    noisy : array
        Any number type and axes; of a large one parts are read.
    axes : str, optional
        A letter an axis, ending in ``YX`` or ``YXS``; default: a guess from the shape.
    seconds : float
        Until the result is there: applying the network once to a single image included.
    objective : str
        What is learned from; see `denoisekit.fitting.OBJECTIVES`.
    start : str
        Weights to begin with: an id, a file, ``auto`` or ``none``.
    steps : int, optional
        So many steps, whatever time they take: then the seed repeats the result.
    width : int, optional
        Features of the network; default: as the time allows.
    seed : int
        Of all that is drawn.
    device, precision, max_memory
        As in `load`.
    range : str
        What is black and white; ``auto`` from scratch: percentiles.
    keep_mean : bool, optional
        Whether every channel keeps its mean; default: unless the array looks like a
        photograph of 8 bits.
    strength : float or 'auto', optional
        As in `load`, of the result; default: ``auto`` for such a photograph, otherwise 1.
    on_look : callable, optional
        Told a `denoisekit.fitting.Look` after every step; True asks to stop.

    Returns
    -------
    Fit
        ``fit.denoiser(array)`` returns the denoised array, of this image or another of its kind;
        ``fit.save(path)`` keeps the weights.

    Raises
    ------
    DenoisekitError
        As `load`; and InputError for what is not an image.

    Examples
    --------
    >>> fitted = denoisekit.fit_single(noisy, seconds=60)  # doctest: +SKIP
    >>> denoised = fitted.denoiser(noisy)  # doctest: +SKIP
    """
    options = FitOptions(
        objective=objective,
        start=start,
        seconds=seconds,
        steps=steps,
        width=width,
        range=range,
        keep_mean=keep_mean,
        strength=strength,
        seed=seed,
        device=device,
        precision=precision,
        max_memory=max_memory,
    )
    began = time.monotonic()
    with threads_that_help(resolve_device(device)):
        return fit(ArrayReader(np.asarray(noisy), axes), options, on_look, began)
