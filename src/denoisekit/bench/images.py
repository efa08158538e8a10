"""The images of a run: noisy, and clean where they are known, one pair after another."""

from __future__ import annotations

import hashlib
import math
import shutil
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.atomic import replacing
from denoisekit.errors import InputError, UsageError, pip_install
from denoisekit.formats.guard import reading
from denoisekit.image import Reader
from denoisekit.noise import noise_of
from denoisekit.pairs import File, Plane, check_pairs, list_planes, pair
from denoisekit.ranges import Floats, Range, fill_nonfinite, to_unit

Box = tuple[int, int, int, int]
"""Top, left, bottom, right; the last two exclusive."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image is: a plane of a file, or a box of one."""

    file: File
    plane: int
    scale: Range
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An image to denoise.

    Attributes
    ----------
    name : str
        Its own within the set: of the file, and of the plane where that has several.
    noisy : Place or None
        None: it is made of the clean one.
    clean : Place or None
        None: it is not known.
    """

    name: str
    noisy: Place | None
    clean: Place | None


class Images:
    """Images that are read when they are needed. Safe to use from threads.

    See `paired_images` and `dnd_crops`.

    Parameters
    ----------
    items : list of Item
        By their names.
    facts : dict
        ``id`` and what else the set is, for a file of results.

    Attributes
    ----------
    items, facts
        As given.
    known : bool
        Whether there are clean images.
    """

    def __init__(self, items: list[Item], facts: dict[str, Any]) -> None:
        self.items, self.facts = items, facts
        self.known = items[0].clean is not None
        self._simulate = noise_of(facts["noise"]) if facts["noise"] else None
        self._lock = threading.Lock()
        self._open: dict[File, Reader] = {}

    def read(self, item: Item) -> tuple[Floats, Floats | None]:
        """Return the noisy image and the clean one, (H, W, C) float32 on 0..1, not clipped.

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
        # By the name: no other image's presence, and no order, changes it.
        name = zlib.crc32(item.name.encode("utf-8", "surrogateescape"))
        draw = np.random.default_rng([self.facts["noise_seed"], name])
        return self._simulate(clean, draw).astype(np.float32), clean

    def _pixels(self, place: Place) -> Floats:
        with self._lock:
            reader = self._open.get(place.file) or place.file.open()
            try:
                info = reader.info
                top, left, bottom, right = place.box or (0, 0, info.height, info.width)
                if bottom > info.height or right > info.width:
                    raise InputError(f"{place.file.path} is smaller than its box {place.box}")
                rows = reader.read_rows(place.plane, top, bottom)
                rows = np.array(rows[:, left:right, : info.samples - info.alpha])
            finally:
                if not place.file.holds_arrays:
                    reader.close()
                elif place.file not in self._open:  # costly to open, cheap to read
                    while len(self._open) > 1:  # one of noisy images, one of clean ones
                        self._open.pop(next(iter(self._open))).close()
                    self._open[place.file] = reader
        return to_unit(fill_nonfinite(rows), place.scale)

    def close(self) -> None:
        """Close what is open."""
        for reader in self._open.values():
            reader.close()
        self._open.clear()


def paired_images(
    name: str,
    noisy: Sequence[File],
    clean: Sequence[File],
    *,
    noise: str = "",
    range: str = "auto",
    apart: bool = False,
    seed: int = 0,
    sample_of: str = "",
) -> Images:
    """Return images of files.

    Parameters
    ----------
    name : str
        Of the set.
    noisy, clean : sequence of File
        Either may be empty. They belong together by their names; see `denoisekit.pairs.pair`.
    noise : str
        What is put on clean images where there are no noisy ones, such as
        ``gaussian:25/255``; see `denoisekit.noise.noise_of`.
    range : str
        What is black and white; see `denoisekit.ranges.parse_range`. Where there are clean
        images, their range is that of the noisy ones too.
    apart : bool
        Not so: noisy images have a range of their own. For protocols that take differences
        of offset and gain out.
    seed : int
        Of the noise.
    sample_of : str
        Of what it is a part only, so that its figures are not taken for those of the whole.

    Raises
    ------
    UsageError
        Images do not belong together, the noise is not known, or they have noise already.
    InputError
        A file cannot be read, or there are none.
    """
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
    # One file each: two arrays of the same images, or two images.
    if noisy and clean and not len(noisy) == len(clean) == 1:
        clean = pair(noisy, clean)
    ones, others = list_planes(noisy, range), list_planes(clean, range)
    if noisy and clean:
        check_pairs(ones, others)
        if not apart:
            both = zip(ones, others, strict=True)
            ones = [replace(one, scale=other.scale) for one, other in both]

    def named(plane: Plane) -> str:
        stem = plane.file.path.stem
        return f"{stem}:{plane.plane:04d}" if plane.info.planes > 1 else stem

    names = [named(plane) for plane in ones or others]
    if len(set(names)) < len(names):  # of several folders
        names = [f"{index:04d} {name}" for index, name in enumerate(names)]

    def place(plane: Plane | None) -> Place | None:
        return None if plane is None else Place(plane.file, plane.plane, plane.scale)

    rows = zip_longest(names, ones, others)
    items = [Item(own, place(one), place(other)) for own, one, other in rows]
    items.sort(key=lambda item: item.name)
    facts = {"id": name, "pictures": len(items), "noise": noise, "noise_seed": seed}
    facts |= {"range": range} | ({"sample_of": sample_of} if sample_of else {})
    return Images(items, facts)


def dnd_crops(folder: Path) -> Images:
    """Return the boxes of DND's 50 photographs, of which only a server has clean ones.

    Parameters
    ----------
    folder : pathlib.Path
        With ``info.mat`` and ``images_srgb``.

    Raises
    ------
    InputError
        Files are absent or damaged.
    UsageError
        A package that reads them is missing.
    """
    items = []
    for index, boxes in enumerate(read_boxes(folder / "info.mat"), 1):
        file = File(folder / "images_srgb" / f"{index:04d}.mat", "InoisySRGB")
        if not file.path.exists():
            raise InputError(f"{file.path}: no such file", "info.mat tells of it")
        for number, box in enumerate(boxes, 1):
            place = Place(file, 0, Range(0.0, 1.0), box)
            items.append(Item(f"{index:04d}_{number:02d}", place, None))
    return Images(items, {"id": "dnd", "pictures": len(items), "noise": "", "range": "0,1"})


def read_boxes(path: Path) -> list[list[Box]]:
    """Return the boxes of every image, from DND's ``info.mat``.

    Parameters
    ----------
    path : pathlib.Path
        MATLAB of any version.

    Raises
    ------
    InputError
        It cannot be read, or tells of no boxes.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file", "it comes with the pictures of DND")
    tables: list[npt.NDArray[Any]]
    with reading(path), path.open("rb") as head:
        try:
            if b"\x89HDF" in head.read(520):
                import h5py

                with h5py.File(path, "r") as opened:
                    cells = np.ravel(opened["info"]["boundingboxes"][()])
                    tables = [np.array(opened[cell]).T for cell in cells]
            else:
                from scipy.io import loadmat

                tables = [*map(np.asarray, np.ravel(loadmat(path)["info"]["boundingboxes"]))]
        except ImportError as error:
            raise UsageError(f"{path}: {error}", pip_install("bench")) from error
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(f"{path} tells of no boxes") from error
    for table in tables:
        if table.ndim != 2 or table.shape[1] != 4 or (table[:, :2] < 1).any():
            raise InputError(f"{path}: its boxes are not four numbers each")
    # MATLAB counts from 1 and includes the last.
    return [
        [(int(a) - 1, int(b) - 1, int(c), int(d)) for a, b, c, d in table.tolist()]
        for table in tables
    ]


class KeptImages:
    """Denoised images, or crops of them, on disk while a run goes on. Safe to use from threads.

    So a killed run loses none of them.

    Parameters
    ----------
    folder : pathlib.Path
        Made with the first image.
    most : float
        Bytes of all files, beyond which nothing more is kept.
    """

    def __init__(self, folder: Path, most: float = math.inf) -> None:
        self.folder, self._most = folder, most
        self._bytes = sum(path.stat().st_size for path in folder.glob("*.npy"))

    def put(self, candidate: str, item: str, pixels: npt.NDArray[Any]) -> None:
        """Keep what a candidate made of an image; whole or not at all."""
        if self._bytes + pixels.nbytes > self._most:
            return
        self._bytes += pixels.nbytes
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._path(candidate, item)) as temporary, temporary.open("wb") as file:
            np.save(file, pixels)

    def get(self, candidate: str, item: str) -> npt.NDArray[Any] | None:
        """Return it; None: it was not kept, or is damaged."""
        with suppress(OSError, ValueError, EOFError):
            found: npt.NDArray[Any] = np.load(self._path(candidate, item))
            return found
        return None

    def clear(self) -> None:
        """Delete all files."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._bytes = 0

    def _path(self, candidate: str, item: str) -> Path:
        # Names of images may hold what names of files may not.
        name = hashlib.sha256(f"{candidate}\0{item}".encode()).hexdigest()[:24]
        return self.folder / f"{name}.npy"
