"""The pictures of a run: noisy, and clean where they are known, one pair after another."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from denoisekit.errors import InputError, UsageError
from denoisekit.image import Reader
from denoisekit.noise import noise_of
from denoisekit.pairs import File, Plane, check_pairs, list_planes, pair
from denoisekit.ranges import Floats, fill_nonfinite, to_unit


@dataclass(frozen=True, slots=True)
class Item:
    """A picture to denoise.

    Attributes
    ----------
    name : str
        Its own within the set: of the file, and of the plane where that has several.
    noisy : Plane or None
        None: it is made of the clean one.
    clean : Plane or None
        None: it is not known.
    """

    name: str
    noisy: Plane | None
    clean: Plane | None


class Material:
    """Pictures that are read when they are needed. Safe to use from threads.

    Parameters
    ----------
    name : str
        Of the set.
    noisy, clean : sequence of File
        Either may be empty. They belong together by their names; see `denoisekit.pictures.pair`.
    noise : str
        What is put on clean pictures where there are no noisy ones, such as
        ``gaussian:25/255``; see `denoisekit.noise.noise_of`.
    range : str
        What is black and white; see `denoisekit.ranges.parse_range`. Where there are clean
        pictures, their range is that of the noisy ones too.
    apart : bool
        Not so: noisy pictures have a range of their own. For protocols that take differences
        of offset and gain out.
    seed : int
        Of the noise.
    sample_of : str
        Of what it is a part only, so that its figures are not taken for those of the whole.

    Attributes
    ----------
    items : list of Item
        By their names.

    Raises
    ------
    UsageError
        Pictures do not belong together, the noise is not known, or they have noise already.
    InputError
        A file cannot be read, or there are none.
    """

    def __init__(
        self,
        name: str,
        noisy: Sequence[File],
        clean: Sequence[File],
        *,
        noise: str = "",
        range: str = "auto",
        apart: bool = False,
        seed: int = 0,
        sample_of: str = "",
    ) -> None:
        self.name, self.noise, self.range, self.seed = name, noise, range, seed
        self.sample_of = sample_of
        self._simulate = noise_of(noise) if noise else None
        if not noisy and not (clean and noise):
            raise InputError(
                f"there is nothing to denoise in '{name}'",
                "name noisy pictures, or the noise to put on clean ones",
            )
        if noisy and noise:
            raise UsageError(f"the pictures of '{name}' are noisy already", "name no noise")
        for file in (*noisy, *clean):
            if not file.path.exists():
                raise InputError(f"{file.path}: no such file")
        self.items = _items(list(noisy), list(clean), range, apart)
        self._lock = threading.Lock()
        self._open: dict[File, Reader] = {}

    @property
    def known(self) -> bool:
        """Whether there are clean pictures."""
        return self.items[0].clean is not None

    def facts(self) -> dict[str, object]:
        """Return what it is, for a file of results."""
        return {
            "id": self.name,
            "pictures": len(self.items),
            "noise": self.noise,
            "noise_seed": self.seed,
            "range": self.range,
            **({"sample_of": self.sample_of} if self.sample_of else {}),
        }

    def read(self, item: Item) -> tuple[Floats, Floats | None]:
        """Return the noisy picture and the clean one, (H, W, C) float32 on 0..1, not clipped.

        Raises
        ------
        InputError
            A file cannot be read.
        """
        clean = None if item.clean is None else self._pixels(item.clean)
        if item.noisy is not None:
            return self._pixels(item.noisy), clean
        assert self._simulate is not None
        assert clean is not None
        # By the name: no other picture's presence, and no order, changes it.
        draw = np.random.default_rng(
            [self.seed, zlib.crc32(item.name.encode("utf-8", "surrogateescape"))]
        )
        return self._simulate(clean, draw).astype(np.float32), clean

    def _pixels(self, picture: Plane) -> Floats:
        with self._lock:
            reader = self._reader(picture.file)
            try:
                rows = reader.read_rows(picture.plane, 0, picture.info.height)
                rows = np.array(rows[..., : picture.colours])
            finally:
                if picture.file not in self._open:
                    reader.close()
        return to_unit(fill_nonfinite(rows), picture.scale)

    def _reader(self, file: File) -> Reader:
        if not file.holds_arrays:
            return file.open()
        if file not in self._open:  # costly to open, cheap to read
            self._open[file] = file.open()
        return self._open[file]

    def close(self) -> None:
        """Close what is open."""
        for reader in self._open.values():
            reader.close()
        self._open.clear()


def _items(noisy: list[File], clean: list[File], range: str, apart: bool) -> list[Item]:
    if noisy and clean:
        # One file each: two arrays of the same pictures, or two pictures.
        clean = clean if len(noisy) == len(clean) == 1 else pair(noisy, clean)
    ones, others = list_planes(noisy, range), list_planes(clean, range)
    if noisy and clean:
        check_pairs(ones, others)
    if noisy and clean and not apart:
        ones = [replace(one, scale=other.scale) for one, other in zip(ones, others, strict=True)]
    named = [_name(picture) for picture in ones or others]
    if len(set(named)) < len(named):  # of several folders
        named = [f"{index:04d} {name}" for index, name in enumerate(named)]
    nothing: list[None] = [None] * len(named)
    items = zip(named, ones or nothing, others or nothing, strict=True)
    return sorted((Item(*item) for item in items), key=lambda item: item.name)


def _name(picture: Plane) -> str:
    several = picture.info.planes > 1
    return f"{picture.file.path.stem}:{picture.plane:04d}" if several else picture.file.path.stem


def as_files(paths: Sequence[Path]) -> list[File]:
    """Return files as `Material` takes them."""
    return [File(path) for path in paths]
