"""The library in three functions: denoise once, load once and denoise many times, or fit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import torch

from denoisekit.auto import Chooser
from denoisekit.batch.naming import Naming, Source
from denoisekit.batch.plan import plan_files
from denoisekit.batch.run import run_batch, target_info
from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.denoiser import load as load_options
from denoisekit.engine.device import resolve_device
from denoisekit.errors import UsageError
from denoisekit.formats import check_output, create_image, open_image
from denoisekit.interop import Array, denoise_held, hold
from denoisekit.learn.result import Fit, Listen
from denoisekit.options import FileOptions, FitOptions, Options, read_options, takes
from denoisekit.weights import method_of

Name = str | os.PathLike[str]
"""Of a file."""


class LoadKeywords(TypedDict, total=False):
    """Types of the options of `load`, declared in `denoisekit.options`; a test keeps step."""

    weights: str | os.PathLike[str] | None
    strength: float | Literal["auto"] | None
    self_ensemble: bool
    settings: Mapping[str, object] | None
    seed: int
    device: str | torch.device
    precision: str
    tile: int | None
    max_memory: int | str | None
    threads: int | None
    range: str | Sequence[float]
    hot_pixels: Literal["auto", "remove", "keep"]


class DenoiseKeywords(LoadKeywords, total=False):
    """Of `denoise`."""

    method: str | None
    overwrite: bool
    axes: str | None


class FitKeywords(TypedDict, total=False):
    """Of `fit_single`."""

    objective: str
    start: str | os.PathLike[str]
    seconds: float | str | None
    preset: str
    steps: int | None
    width: int | None
    range: str | Sequence[float]
    keep_mean: bool | None
    strength: float | Literal["auto"] | None
    seed: int
    device: str | torch.device
    precision: str
    max_memory: int | str | None


@takes(LoadKeywords, Options)
def load(
    method: str | None = None, *, allow_download: bool = True, **keywords: Unpack[LoadKeywords]
) -> Denoiser:
    """Load a method and its weights, to denoise any number of arrays.

    Parameters
    ----------
    method : str, optional
        Id of the method; ``denoisekit methods`` lists them. Default: that of the weights, or
        aprrd.
    allow_download : bool
        Fetch weights that are not here.
    {options}

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
    weights = keywords.get("weights")
    if weights is not None and method is None and not allow_download:
        method = method_of(os.fspath(weights), allow_download=False)
    options = read_options(Options, {"method": method, **keywords})
    return load_options(options, allow_download=allow_download)


# Of the signatures that fit, the first counts: a name is not a list of letters.
@overload
def denoise(  # type: ignore[overload-overlap]
    noisy: Name, *, output: Name | None = ..., **keywords: Unpack[DenoiseKeywords]
) -> Path: ...
@overload
def denoise(  # type: ignore[overload-overlap]
    noisy: Sequence[Name] | Iterator[Name],
    *,
    output: Name | None = ...,
    **keywords: Unpack[DenoiseKeywords],
) -> list[Path]: ...
@overload
def denoise(noisy: Array, *, output: None = ..., **keywords: Unpack[DenoiseKeywords]) -> Array: ...
@overload
def denoise(noisy: Array, *, output: Name, **keywords: Unpack[DenoiseKeywords]) -> Path: ...
@takes(DenoiseKeywords, Options, FileOptions, strength=None)
def denoise(noisy: Any, *, output: Name | None = None, **keywords: Unpack[DenoiseKeywords]) -> Any:
    """Denoise an array, a file, or several files.

    Parameters
    ----------
    noisy : array, str, path, or list of these names
        An array of numpy (masked or not), torch, xarray or dask, or a PIL image, of any number
        type; or files of any known format. Arrays are understood so:

        - (H, W), (..., H, W): rows and columns, and stacks of such planes.
        - (..., H, W, 1 to 4): the samples of a pixel come last: gray, two channels, RGB, RGB and
          alpha. So are more of them, where rows and columns are at least eight times as many.
        - `torch.Tensor`: as torch has them, (..., 1, H, W), (..., 3, H, W) and (..., 4, H, W) are
          gray, RGB, RGB and alpha; all else as above.
        - `xarray.DataArray`: dimensions named y or row, lat …, and x or column, lon …, are rows and
          columns in whatever order; one named rgb or sample, and a last one of three or four
          channels, holds colours. Values of the attribute ``_FillValue`` are none.
        - dask arrays are computed at once.
        - Masked values are left as they are, and no other value depends on them.
    output : str or path, optional
        A file to write; for files also a folder; default: ``NAME_denoised`` beside a file, and
        nothing is written for an array.
    {options}

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

    Notes
    -----
    ``axes`` has a letter an axis, in any order: ``Y`` and ``X``, ``S`` for the samples of a
    pixel, any other for axes whose planes are denoised apart. ``SYX`` is colour with the channels
    first, ``CYX`` are channels that have nothing in common. Without it, what the file or array
    says holds, or the guess above.

    Examples
    --------
    >>> denoised = denoisekit.denoise(noisy)  # doctest: +SKIP
    >>> denoisekit.denoise(noisy, output="clean.tif", range=(0, 4095))  # doctest: +SKIP
    >>> denoisekit.denoise(["a.png", "b.png"], output="clean")  # doctest: +SKIP
    """
    files = FileOptions(
        output=None if output is None else Path(output),
        overwrite=keywords.pop("overwrite", False),
        axes=keywords.pop("axes", None),
    )
    options = read_options(Options, {"strength": None, **keywords})
    loaded = load_options(options)
    denoiser = Chooser(loaded) if options.choose else loaded
    if isinstance(noisy, str | os.PathLike):
        return _denoise_files([noisy], files, denoiser)[0]
    if isinstance(noisy, Iterator) and not hasattr(noisy, "read"):  # a file is one too
        noisy = list(noisy)
    if isinstance(noisy, list | tuple) and all(isinstance(n, str | os.PathLike) for n in noisy):
        return _denoise_files(noisy, files, denoiser)
    if output is None:
        return denoiser(noisy, axes=files.axes)
    return _denoise_to_file(noisy, files, denoiser)


def _denoise_files(
    names: Sequence[Name], files: FileOptions, denoiser: Denoiser | Chooser
) -> list[Path]:
    if not names:
        raise UsageError("an empty list names no file", "name one file or more")
    plan = plan_files([Source(Path(name)) for name in names], Naming(files.output), files)
    errors = [error for _, error in plan.failures]
    errors += [outcome.error for outcome in run_batch(plan.jobs, denoiser) if outcome.error]
    if errors:
        raise errors[0]
    return [job.target for job in plan.jobs]


def _denoise_to_file(noisy: Any, files: FileOptions, denoiser: Denoiser | Chooser) -> Path:
    naming = Naming(files.output)
    path = naming.file
    if path is None:
        raise UsageError(
            f"{files.output} does not name the file to write an array to",
            "give a name with an ending, such as denoised.tif",
        )
    held = hold(noisy, files.axes)
    target = target_info(held.reader().info, naming.format_for("npy"))
    check_output(path, overwrite=files.overwrite)
    denoised = replace(held, array=denoise_held(denoiser.run, held)).reader()
    with create_image(path, target, overwrite=files.overwrite) as writer:
        for plane in range(target.planes):
            writer.write_rows(plane, 0, denoised.read_rows(plane, 0, target.height))
    return path


@takes(FitKeywords, FitOptions)
def fit_single(
    noisy: Any,
    *,
    axes: str | None = None,
    on_look: Listen | None = None,
    **keywords: Unpack[FitKeywords],
) -> Fit:
    """Fit a network to one noisy image, from which alone it learns.

    Parameters
    ----------
    noisy : array, str or path
        An array of any kind that `denoise` takes, or a file; of a large one parts are read.
    axes : str, optional
        As in `denoise`.
    on_look : callable, optional
        Told a `denoisekit.learn.result.Look` after every step; True asks to stop.
    {options}

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
    options = read_options(FitOptions, keywords)
    began = time.monotonic()
    from denoisekit.learn.fit import fit
    from denoisekit.learn.planning import fastest_threads

    named = isinstance(noisy, str | os.PathLike)
    opened = open_image(Path(noisy), axes) if named else hold(noisy, axes).reader()
    with closing(opened) as reader, fastest_threads(resolve_device(options.device)):
        return fit(reader, options, on_look, began)
