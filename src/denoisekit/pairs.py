"""Files of noisy and clean images: found, looked into, paired by name."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from denoisekit.arrays import SUFFIXES, open_arrays
from denoisekit.batch.naming import find_sources
from denoisekit.engine.signal import nominal_scale
from denoisekit.errors import UsageError
from denoisekit.formats import open_image
from denoisekit.image import ImageInfo, Metadata, Reader
from denoisekit.ranges import Range, parse_range


@dataclass(frozen=True, slots=True)
class File:
    """A file of images; ``variable`` names the array where it holds several."""

    path: Path
    variable: str | None = None

    @property
    def holds_arrays(self) -> bool:
        """Whether this is a MATLAB or HDF5 file."""
        return self.path.suffix.lower() in SUFFIXES

    def open(self) -> Reader:
        """Open it."""
        if self.holds_arrays:
            return open_arrays(self.path, self.variable)
        return open_image(self.path)


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane of a file.

    Attributes
    ----------
    file : File
        Where it is.
    plane : int
        Which of the file's planes.
    info : ImageInfo
        What the file holds.
    scale : Range
        File values of black and white.
    """

    file: File
    plane: int
    info: ImageInfo
    scale: Range

    @property
    def colours(self) -> int:
        """Samples of a pixel without alpha."""
        return self.info.samples - self.info.alpha


def find_files(names: Sequence[str], out: Path | None = None) -> list[File]:
    """Find the files that the user named: files, folders with theirs, patterns, FILE.mat:NAME.

    Parameters
    ----------
    names : sequence of str
        As named.
    out : Path, optional
        A folder whose files do not count, though it lies in a folder named.

    Raises
    ------
    InputError
        Nothing is there.
    """
    files = []
    for name in names:
        stem, colon, variable = name.rpartition(":")
        if colon and stem.lower().endswith(SUFFIXES):
            files.append(File(Path(stem), variable))
            continue
        for source in find_sources([name], recursive=True, output=out):
            if source.error:
                raise source.error
            files.append(File(source.path))
    return files


def list_planes(files: Sequence[File], range: str = "auto") -> list[Plane]:
    """Open every file and return its planes.

    Parameters
    ----------
    files : sequence of File
        Which.
    range : str
        As `denoisekit.ranges.parse_range` takes it.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    spec = parse_range(range)
    planes = []
    for file in files:
        reader = file.open()
        try:
            scale = nominal_scale(spec, reader)
            # What only a writer needs stays out: there may be very many images.
            info = replace(reader.info, metadata=Metadata(container={}))
        finally:
            reader.close()
        planes += [Plane(file, index, info, scale) for index in builtins.range(info.planes)]
    return planes


def pair(noisy: Sequence[File], clean: Sequence[File]) -> list[File]:
    """Return the clean file of each noisy one, by their names.

    Names are compared without their endings; where that does not do, also without what
    all names of a side begin and end with (``12_noisy`` and ``12_clean``). Order never
    counts: two folders are too easily sorted differently.

    Raises
    ------
    UsageError
        A noisy file has no clean one, or several.
    """

    def common(texts: Sequence[str]) -> int:
        """Return how many letters all begin with."""
        columns = zip(*texts, strict=False)
        return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, columns))

    def middles(stems: list[str]) -> list[str]:
        head = common(stems)
        rests = [stem[head:] for stem in stems]
        tail = common([rest[::-1] for rest in rests])
        return [rest[: len(rest) - tail] for rest in rests]

    wanted, keys = ([file.path.stem for file in side] for side in (noisy, clean))
    odd = next((file for file in noisy if file.path.stem not in keys), noisy[0])
    for shorten in (list[str], middles):
        by_name = dict(zip(shorten(keys), clean, strict=True))
        if len(by_name) == len(clean) and by_name.keys() >= set(shorten(wanted)):
            return [by_name[key] for key in shorten(wanted)]
    raise UsageError(
        f"no clean picture belongs to {odd.path}",
        "name both alike in two folders, or alike but for an ending: 12_noisy.png, 12_clean.png",
    )


def check_pairs(noisy: Sequence[Plane], clean: Sequence[Plane]) -> None:
    """Refuse pairs that do not show the same.

    Raises
    ------
    UsageError
        Planes, size or colours differ.
    """
    if len(noisy) != len(clean):
        raise UsageError(
            f"{len(noisy)} noisy planes and {len(clean)} clean ones",
            "each noisy picture needs a clean one with as many planes",
        )
    for one, other in zip(noisy, clean, strict=True):
        sizes = [(plane.info.height, plane.info.width, plane.colours) for plane in (one, other)]
        if sizes[0] != sizes[1]:
            raise UsageError(
                f"{one.file.path} and {other.file.path} are not of one size: "
                f"{sizes[0]}, {sizes[1]}",
                "pairs must show the same pixels",
            )
