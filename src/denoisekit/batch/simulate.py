"""Clean files in, the same kind of files out, with noise."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from denoisekit.batch.run import Job, target_info
from denoisekit.engine.signal import nominal_scale
from denoisekit.errors import InputError, OutOfMemory
from denoisekit.formats import create_image, find_format, open_image
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.noise.models import Noise, NoiseModel, Rng, choose_strength, prepare
from denoisekit.ranges import (
    Range,
    fill_nonfinite,
    from_unit,
    parse_range,
    to_unit,
)

BYTES_PER_SAMPLE = 70
"""Peak of a camera's simulation, measured: a plane is simulated as a whole."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How strong the noise shall be; at most one is given, none: drawn for each file.

    Attributes
    ----------
    gain, sigma, peak : float or None
        See `denoisekit.noise.NoiseModel`.
    """

    gain: float | None = None
    sigma: float | None = None
    peak: float | None = None


@dataclass(frozen=True, slots=True)
class Simulated:
    """What was done to one file.

    Attributes
    ----------
    strength : float
        In the unit of the kind of noise.
    range : (float, float)
        File values taken for black and white.
    megapixels : float
        Pixels of all planes, in millions.
    warnings : tuple of str
        What the user should know.
    """

    strength: float
    range: tuple[float, float]
    megapixels: float
    warnings: tuple[str, ...]


def file_rng(seed: int, path: Path, nth: int) -> Rng:
    """Return the generator of a file: the same for the same seed and name, in any folder.

    Parameters
    ----------
    seed : int
        Of the run, 0 or more.
    path : pathlib.Path
        The file; only its name counts.
    nth : int
        How many files of this name came before.
    """
    name = zlib.crc32(path.name.encode("utf-8", "surrogateescape"))
    return np.random.default_rng([seed, name, nth])


def simulate_file(
    job: Job,
    model: NoiseModel,
    rng: Rng,
    strength: Strength,
    range_: str = "auto",
    on_progress: Callable[[float], None] | None = None,
) -> Simulated:
    """Write a file like another one, with noise.

    The planes of a stack share what is drawn for an image (strength, colours, smoothing);
    each has noise of its own.

    Parameters
    ----------
    job : Job
        What to read and write.
    model : NoiseModel
        The kind of noise.
    rng : numpy.random.Generator
        Source of everything drawn.
    strength : Strength
        How strong.
    range_ : str
        Which file values are black and white, see `denoisekit.ranges.parse_range`.
    on_progress : callable, optional
        Called with the pixels done so far.

    Returns
    -------
    Simulated
        What was done.

    Raises
    ------
    InputError
        The file cannot be read, or the kind of noise does not fit it.
    OutputError
        The result cannot be written.
    OutOfMemory
        A plane is larger than memory allows.
    UsageError
        The strength makes no sense.
    """
    reader = open_image(job.source, job.axes)
    try:
        return _simulate(reader, job, model, rng, strength, range_, on_progress)
    except MemoryError:
        raise _too_large(job.source) from None
    finally:
        reader.close()


def _simulate(
    reader: Reader,
    job: Job,
    model: NoiseModel,
    rng: Rng,
    strength: Strength,
    range_: str,
    on_progress: Callable[[float], None] | None,
) -> Simulated:
    image = reader.info
    colours = image.samples - image.alpha
    _check(image, colours, model, job.source)
    target = target_info(image, job.format)
    scale = nominal_scale(parse_range(range_), reader)
    value = choose_strength(
        model, rng, gain=strength.gain, sigma=strength.sigma, peak=strength.peak
    )
    given = replace(Strength(), **{model.strength: value})
    noise = prepare(
        model,
        colours,
        rng,
        gain=given.gain,
        sigma=given.sigma,
        peak=given.peak,
        bits=8 if image.peak == 255 else None,
    )
    pixels = image.height * image.width
    with create_image(job.target, target, overwrite=job.overwrite) as writer:
        for plane in range(image.planes):
            rows = reader.read_rows(plane, 0, image.height)
            writer.write_rows(plane, 0, _noisy(rows, colours, noise, rng, scale, image))
            if on_progress:
                on_progress((plane + 1) * pixels)
    warnings = (*image.warnings, *target.warnings)
    return Simulated(
        value,
        (scale.low, scale.high),
        image.planes * pixels / 1e6,
        tuple(dict.fromkeys(warnings)),
    )


def _noisy(
    rows: Pixels, colours: int, noise: Noise, rng: Rng, scale: Range, image: ImageInfo
) -> Pixels:
    """Return a plane with noise; alpha and values that are no numbers stay."""
    clean = rows[..., :colours]
    values = from_unit(noise(to_unit(fill_nonfinite(clean), scale), rng), scale, image)
    noisy = np.array(rows)
    noisy[..., :colours] = np.where(np.isfinite(clean), values, clean)
    return noisy


def _check(image: ImageInfo, colours: int, model: NoiseModel, source: Path) -> None:
    import psutil

    if model.channels is not None and image.colour != "rgb":
        raise InputError(
            f"{source}: {model.id} noise needs a colour image",
            "for gray and other images there are fluorescence, gaussian and poisson",
        )
    held = 1 if find_format(image.format).streams else 2
    needed = image.height * image.width * colours * BYTES_PER_SAMPLE + held * image.plane_bytes
    if needed > psutil.virtual_memory().available:
        raise _too_large(source, f" ({needed / 2**30:.1f} GiB a plane)")


def _too_large(source: Path, how: str = "") -> OutOfMemory:
    return OutOfMemory(
        f"{source}: too large to simulate noise on{how}",
        "cut it into parts, or use a machine with more memory",
    )
