"""The library in three functions: denoise once, load once and denoise many times, or fit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from denoisekit.auto import Chooser
from denoisekit.batch.naming import Naming, Source, check_count, name_outputs
from denoisekit.batch.run import Job, run_batch, survey, target_info
from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.denoiser import load as load_options
from denoisekit.engine.device import resolve_device
from denoisekit.errors import DenoisekitError, UsageError
from denoisekit.fitting import Fit, FitOptions, fit
from denoisekit.fitting.result import Listen
from denoisekit.formats import check_output, create_image, open_image
from denoisekit.interop import Array, denoise_held, hold
from denoisekit.options import (
    DEFAULT_METHOD,
    PRESETS,
    HotPixels,
    Options,
    Strength,
    parse_memory,
    parse_time,
)
from denoisekit.training.threads import threads_that_help
from denoisekit.weights import method_of

if TYPE_CHECKING:
    import torch

Name = str | os.PathLike[str]
"""Of a file."""


def load(
    method: str | None = None,
    *,
    weights: Name | None = None,
    strength: Strength | None = 1.0,
    self_ensemble: bool = False,
    settings: Mapping[str, object] | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: str = "auto",
    tile: int | None = None,
    max_memory: int | str | None = None,
    range: str | Sequence[float] = "auto",
    hot_pixels: HotPixels = "auto",
    allow_download: bool = True,
) -> Denoiser:
    """Load a method and its weights, to denoise any number of arrays.

    Parameters
    ----------
    method : str, optional
        Id of the method; ``denoisekit methods`` lists them. Default: that of the weights, or
        aprrd.
    weights : str or path, optional
        Id or file of the weights, or ``hf://USER/REPO[@REVISION]/FILE`` of the Hugging Face hub;
        default: the method's own.
    strength : float, 'auto' or None
        Blend with the input: 1 is the method's result, 0 exactly the input; ``auto`` gives
        back what the method took away and was no noise. None: as suits the weights; ``auto``,
        but 1 for files of weights.
    self_ensemble : bool
        Average the eight flips and rotations: eight times the work.
    settings : mapping of str to object, optional
        The method's own knobs, by name; ``denoisekit methods NAME`` lists them.
    seed : int
        Of methods that draw at random.
    device : {'auto', 'cpu', 'cuda', 'cuda:N', 'mps'} or torch.device
        Where to run.
    precision : {'auto', 'fp32', 'bf16', 'fp16'}
        Of the network.
    tile : int, optional
        Side of a tile in pixels, 0 for the whole image; default: as memory allows.
    max_memory : int or str, optional
        Most bytes to hold; or a text such as ``4GiB``.
    range : str or (float, float)
        What is black and white: ``auto``, ``dtype``, ``minmax``, ``percentile``, or the two
        values.
    hot_pixels : {'auto', 'remove', 'keep'}
        Single wrong pixels; auto: removed from photographs, kept in measured data.
    allow_download : bool
        Fetch weights that are not here.

    Returns
    -------
    Denoiser
        ``denoiser(array)`` returns the denoised array: of the same kind, shape and dtype. It can
        be copied, pickled and used in other processes.

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
    weights = None if weights is None else os.fspath(weights)
    options = Options(
        method=method
        or (method_of(weights, allow_download=allow_download) if weights else None)
        or DEFAULT_METHOD,
        weights=weights,
        strength=strength,
        self_ensemble=self_ensemble,
        settings=dict(settings or {}),
        seed=seed,
        device=str(device),
        precision=precision,
        tile=tile,
        max_memory=_bytes(max_memory),
        range=_range(range),
        hot_pixels=hot_pixels,
    )
    return load_options(options, allow_download=allow_download)


# Of the signatures that fit, the first counts: a name is not a list of letters.
@overload
def denoise(  # type: ignore[overload-overlap]
    noisy: Name,
    *,
    output: Name | None = ...,
    overwrite: bool = ...,
    axes: str | None = ...,
    method: str | None = ...,
    weights: Name | None = ...,
    strength: Strength | None = ...,
    device: str | torch.device = ...,
    precision: str = ...,
    range: str | Sequence[float] = ...,
) -> Path: ...


@overload
def denoise(  # type: ignore[overload-overlap]
    noisy: Iterable[Name],
    *,
    output: Name | None = ...,
    overwrite: bool = ...,
    axes: str | None = ...,
    method: str | None = ...,
    weights: Name | None = ...,
    strength: Strength | None = ...,
    device: str | torch.device = ...,
    precision: str = ...,
    range: str | Sequence[float] = ...,
) -> list[Path]: ...


@overload
def denoise(
    noisy: Array,
    *,
    output: None = ...,
    axes: str | None = ...,
    method: str | None = ...,
    weights: Name | None = ...,
    strength: Strength | None = ...,
    device: str | torch.device = ...,
    precision: str = ...,
    range: str | Sequence[float] = ...,
) -> Array: ...


@overload
def denoise(
    noisy: Array,
    *,
    output: Name,
    overwrite: bool = ...,
    axes: str | None = ...,
    method: str | None = ...,
    weights: Name | None = ...,
    strength: Strength | None = ...,
    device: str | torch.device = ...,
    precision: str = ...,
    range: str | Sequence[float] = ...,
) -> Path: ...


def denoise(
    noisy: Any,
    *,
    output: Name | None = None,
    overwrite: bool = False,
    axes: str | None = None,
    method: str | None = None,
    weights: Name | None = None,
    strength: Strength | None = None,
    device: str | torch.device = "auto",
    precision: str = "auto",
    range: str | Sequence[float] = "auto",
) -> Any:
    """Denoise an array, a file, or several files.

    Parameters
    ----------
    noisy : array, str, path, or list of these names
        An array of numpy (masked or not), torch, xarray or dask, or a PIL image, of any number
        type; or files of any known format. Arrays are understood so:

        - (H, W), (..., H, W): rows and columns, and stacks of such planes.
        - (..., H, W, 1 to 4): the samples of a pixel come last: gray, two channels, RGB, RGB and
          opacity. So are more of them, where rows and columns are at least eight times as many.
        - `torch.Tensor`: as torch has them, (..., 1, H, W), (..., 3, H, W) and (..., 4, H, W) are
          gray, RGB, RGB and opacity; all else as above.
        - `xarray.DataArray`: dimensions named y or row, lat …, and x or column, lon …, are rows and
          columns in whatever order; one named rgb or sample, and a last one of three or four
          channels, holds colours. Values of the attribute ``_FillValue`` are none.
        - dask arrays are computed at once.
        - Masked values are left as they are, and no other value depends on them.
    output : str or path, optional
        A file to write; for files also a folder; default: ``NAME_denoised`` beside a file, and
        nothing is written for an array.
    overwrite : bool
        Whether an output that exists may be replaced.
    axes : str, optional
        A letter an axis, in any order: ``Y`` and ``X``, ``S`` for the samples of a pixel, any
        other for axes whose planes are denoised apart. ``SYX`` is colour with the channels
        first, ``CYX`` are channels that have nothing in common. Default: what the file or array
        says, or the guess above.
    method : str, optional
        As in `load`. Default, and ``auto``, without weights: those of aprrd's weights on this
        machine that suit the image; see `denoisekit.auto`.
    strength : float or 'auto', optional
        As in `load`; default: as suits the weights.
    weights, device, precision, range
        As in `load`, which has more options.

    Returns
    -------
    array, Path or list of Path
        For an array: the denoised one, of the same kind (its type, shape, dtype, device,
        coordinates, chunks, mask, mode). For files, and where an output is named: the names of
        the files written.

    Raises
    ------
    DenoisekitError
        As `load`; and InputError or OutputError for what cannot be read or written. Of several
        files the others are written before the first such error is raised.

    Examples
    --------
    >>> denoised = denoisekit.denoise(noisy)  # doctest: +SKIP
    >>> denoisekit.denoise(noisy, output="clean.tif", range=(0, 4095))  # doctest: +SKIP
    >>> denoisekit.denoise(["a.png", "b.png"], output="clean")  # doctest: +SKIP
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
    naming = Naming(output=None if output is None else Path(output))
    if isinstance(noisy, str | os.PathLike):
        return _denoise_files([Path(noisy)], naming, axes, overwrite, denoiser)[0]
    if isinstance(noisy, Iterator) and not hasattr(noisy, "read"):  # a file is one too
        noisy = list(noisy)
    if isinstance(noisy, list | tuple) and all(isinstance(n, str | os.PathLike) for n in noisy):
        return _denoise_files([Path(name) for name in noisy], naming, axes, overwrite, denoiser)
    if output is None:
        return denoiser(noisy, axes=axes)
    return _denoise_to_file(noisy, naming, axes, overwrite, denoiser)


def _denoise_files(
    sources: list[Path],
    naming: Naming,
    axes: str | None,
    overwrite: bool,
    denoiser: Denoiser | Chooser,
) -> list[Path]:
    if not sources:
        raise UsageError("an empty list names no file", "name one file or more")
    check_count(naming, len(sources))
    formats: dict[Path, str] = {}
    errors: list[DenoisekitError] = []
    for path in sources:
        try:
            formats[path] = naming.format_for(survey(path, axes).format)
        except DenoisekitError as error:
            errors.append(error)
    jobs = []
    named = name_outputs(map(Source, formats), naming, lambda source: formats[source.path])
    for source, target in named:
        try:
            check_output(target, overwrite=overwrite)
        except DenoisekitError as error:
            errors.append(error)
        else:
            jobs.append(Job(source.path, target, formats[source.path], axes, overwrite))
    errors += [outcome.error for outcome in run_batch(jobs, denoiser) if outcome.error]
    if errors:
        raise errors[0]
    return [job.target for job in jobs]


def _denoise_to_file(
    noisy: Any,
    naming: Naming,
    axes: str | None,
    overwrite: bool,
    denoiser: Denoiser | Chooser,
) -> Path:
    path = naming.file
    if path is None:
        raise UsageError(
            f"{naming.output} does not name the file to write an array to",
            "give a name with an ending, such as denoised.tif",
        )
    held = hold(noisy, axes)
    target = target_info(held.reader().info, naming.format_for("npy"))
    check_output(path, overwrite=overwrite)
    denoised = replace(held, array=denoise_held(denoiser.run, held)).reader()
    with create_image(path, target, overwrite=overwrite) as writer:
        for plane in range(target.planes):
            writer.write_rows(plane, 0, denoised.read_rows(plane, 0, target.height))
    return path


def fit_single(
    noisy: Any,
    *,
    axes: str | None = None,
    seconds: float | str = PRESETS["balanced"],
    objective: str = "auto",
    start: Name = "auto",
    steps: int | None = None,
    width: int | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    precision: str = "auto",
    max_memory: int | str | None = None,
    range: str | Sequence[float] = "auto",
    keep_mean: bool | None = None,
    strength: Strength | None = None,
    on_look: Listen | None = None,
) -> Fit:
    """Fit a network to one noisy image, from which alone it learns.

    Parameters
    ----------
    noisy : array, str or path
        An array of any kind that `denoise` takes, or a file; of a large one parts are read.
    axes : str, optional
        As in `denoise`.
    seconds : float or str
        Until the result is there: applying the network once to a single image included. Or a
        text such as ``90s`` or ``5m``.
    objective : str
        What is learned from; see `denoisekit.fitting.OBJECTIVES`.
    start : str or path
        Weights to begin with: an id, a file, ``auto`` or ``none``.
    steps : int, optional
        So many steps, whatever time they take: then the seed repeats the result.
    width : int, optional
        Features of the network; default: as the time allows.
    seed : int
        Of all that is drawn.
    device, precision, max_memory
        As in `load`.
    range : str or (float, float)
        As in `load`; ``auto`` from scratch: percentiles.
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
        start=os.fspath(start),
        seconds=parse_time(seconds) if isinstance(seconds, str) else seconds,
        steps=steps,
        width=width,
        range=_range(range),
        keep_mean=keep_mean,
        strength=strength,
        seed=seed,
        device=str(device),
        precision=precision,
        max_memory=_bytes(max_memory),
    )
    began = time.monotonic()
    named = isinstance(noisy, str | os.PathLike)
    opened = open_image(Path(noisy), axes) if named else hold(noisy, axes).reader()
    with closing(opened) as reader, threads_that_help(resolve_device(options.device)):
        return fit(reader, options, on_look, began)


def _range(given: str | Sequence[float]) -> str:
    """Return a range as `parse_range` takes it."""
    if isinstance(given, str):
        return given
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError):
        raise UsageError(
            f"range {given!r} is not two numbers", "write it like range=(0, 4095)"
        ) from None
    return f"{low!r},{high!r}"


def _bytes(given: int | str | None) -> int | None:
    return parse_memory(given) if isinstance(given, str) else given
