"""The library in two functions: denoise once, or load once and denoise many times."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import overload

from denoisekit.batch import Job, run_batch, survey
from denoisekit.image import Pixels
from denoisekit.options import Options
from denoisekit.outputs import Naming, Source, check_free, name_outputs
from denoisekit.pipeline import Denoiser
from denoisekit.pipeline import load as load_options


def load(
    method: str = "aprrd",
    *,
    weights: str | None = None,
    strength: float = 1.0,
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
    method : str
        Id of the method; ``denoisekit methods`` lists them.
    weights : str, optional
        Id or file of the weights; default: the method's own.
    strength : float
        Blend with the input: 1 is the method's result, 0 exactly the input.
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
    options = Options(
        method=method,
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
    method: str = ...,
    weights: str | None = ...,
    strength: float = ...,
    device: str = ...,
    precision: str = ...,
    range: str = ...,
) -> Path: ...


@overload
def denoise(
    noisy: Pixels,
    *,
    axes: str | None = ...,
    method: str = ...,
    weights: str | None = ...,
    strength: float = ...,
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
    method: str = "aprrd",
    weights: str | None = None,
    strength: float = 1.0,
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
    method, weights, strength, device, precision, range
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
    denoiser = load(
        method,
        weights=weights,
        strength=strength,
        device=device,
        precision=precision,
        range=range,
    )
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
