"""Results packed as the servers want them that alone have the clean pictures.

SIDD's benchmark is 40 pictures of 32 blocks, of 8 bits: ``SubmitSrgb.mat`` with a cell of
40x32 blocks, or ``SubmitSrgb.csv`` with a line a block. DND is 50 pictures of 20 boxes,
floats of 0 to 1: ``0001.mat`` … with a cell of 20 crops each.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.atomic import replacing
from denoisekit.bench.candidates import Candidate
from denoisekit.bench.dnd import Box, Crops
from denoisekit.bench.material import Item, Material
from denoisekit.errors import InputError, OutputError, UsageError, pip_install
from denoisekit.metrics import Protocol

BLOCKS = (40, 32)
"""Pictures of SIDD's benchmark, and blocks of each."""


class Kept:
    """Denoised pictures on disk, until they are packed.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, candidate: str, item: str) -> Path:
        """Return where a picture is kept."""
        return self.folder / "denoised" / _safe(candidate) / f"{_safe(item)}.npy"

    def write(self, candidate: str, item: str, denoised: npt.NDArray[Any]) -> None:
        """Keep a picture; whole or not at all."""
        path = self.path(candidate, item)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, denoised)

    def keeper(self, measure: Protocol, *, floats: bool) -> Callable[..., None]:
        """Return what `denoisekit.bench.run.run` calls with every denoised picture.

        Parameters
        ----------
        measure : Protocol
            Says how pictures are rounded.
        floats : bool
            Keep floats as they are, instead.
        """

        def keep(candidate: Candidate, item: Item, denoised: npt.NDArray[Any]) -> None:
            if not floats:
                denoised = np.rint(measure.seen(denoised).clip(0, 1) * 255).astype(np.uint8)
            self.write(candidate.id, item.name, denoised)

        return keep

    def read(self, candidate: str, item: str) -> npt.NDArray[Any]:
        """Return a picture.

        Raises
        ------
        InputError
            It is gone.
        """
        path = self.path(candidate, item)
        try:
            found: npt.NDArray[Any] = np.load(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is gone or damaged", "run again with --overwrite") from error
        return found


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def pack(
    material: Material | Crops, kept: Kept, candidate: str, seconds_per_megapixel: float
) -> list[Path]:
    """Pack what a candidate made of a set, into a folder of its name.

    Parameters
    ----------
    material : Material or Crops
        SIDD's benchmark, or DND.
    kept : Kept
        Where the denoised pictures are.
    candidate : str
        Whose.
    seconds_per_megapixel : float
        It took.

    Returns
    -------
    list of pathlib.Path
        What is to be submitted.

    Raises
    ------
    DenoisekitError
        As `pack_sidd` and `pack_dnd`.
    """
    folder = kept.folder / "submit" / _safe(candidate)
    if isinstance(material, Crops):
        return pack_dnd(lambda name: kept.read(candidate, name), folder, material.boxes)
    blocks = [kept.read(candidate, item.name) for item in material.items]
    return pack_sidd(blocks, folder, BLOCKS, candidate, seconds_per_megapixel)


def pack_sidd(
    blocks: Sequence[npt.NDArray[np.uint8]],
    folder: Path,
    shape: tuple[int, int],
    method: str,
    seconds_per_megapixel: float,
) -> list[Path]:
    """Write ``SubmitSrgb.mat`` and ``SubmitSrgb.csv``.

    Parameters
    ----------
    blocks : sequence of numpy.ndarray
        (H, W, 3) uint8, block after block of picture after picture.
    folder : pathlib.Path
        Where.
    shape : (int, int)
        Pictures, and blocks of each: 40 and 32.
    method : str
        Its name, told to the server.
    seconds_per_megapixel : float
        Told too.

    Returns
    -------
    list of pathlib.Path
        The files.

    Raises
    ------
    InputError
        The blocks are not as many, of one size, or of 8 bits.
    UsageError
        SciPy is missing.
    OutputError
        They cannot be written.
    """
    _check_blocks(blocks, shape)
    cell = np.empty(shape, dtype=object)
    for index, block in enumerate(blocks):
        cell[np.unravel_index(index, shape)] = block
    folder.mkdir(parents=True, exist_ok=True)
    matlab = folder / "SubmitSrgb.mat"
    told = {"MethodName": method}
    save_matlab(
        matlab,
        {
            "DenoisedBlocksSrgb": cell,
            "TimeMPSrgb": float(seconds_per_megapixel),
            "OptionalData": told,
        },
    )
    table = folder / "SubmitSrgb.csv"
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("ID", "BLOCK"))
        for index, block in enumerate(blocks):
            writer.writerow((index, base64.b64encode(block.tobytes()).decode("ascii")))
    return [matlab, table]


def _check_blocks(blocks: Sequence[npt.NDArray[np.uint8]], shape: tuple[int, int]) -> None:
    wanted = shape[0] * shape[1]
    if len(blocks) != wanted:
        raise InputError(f"{len(blocks)} blocks; the benchmark has {wanted}")
    kinds = {(block.shape, block.dtype.str) for block in blocks}
    ((size, dtype),) = kinds if len(kinds) == 1 else ((("several",), ""),)
    if dtype != "|u1" or len(size) != 3 or size[2] != 3:
        raise InputError(f"blocks must be of one size, colour and 8 bits, not {sorted(kinds)[:2]}")


def pack_dnd(
    crop_of: Callable[[str], npt.NDArray[Any]], folder: Path, boxes: Sequence[Sequence[Box]]
) -> list[Path]:
    """Write a file a picture of DND, as its ``bundle_submission_srgb`` does.

    Parameters
    ----------
    crop_of : callable
        Gives a crop, (H, W, 3) on 0..1, for a name such as ``0001_01``; it is clipped.
    folder : pathlib.Path
        Where.
    boxes : sequence of sequence of Box
        Of every picture.

    Returns
    -------
    list of pathlib.Path
        The files.

    Raises
    ------
    InputError
        A crop is not of its box's size.
    UsageError
        SciPy is missing.
    OutputError
        They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, own in enumerate(boxes, 1):
        cell = np.empty((1, len(own)), dtype=object)
        for number, (top, left, bottom, right) in enumerate(own, 1):
            name = f"{index:04d}_{number:02d}"
            crop = crop_of(name)
            if crop.shape != (bottom - top, right - left, 3):
                raise InputError(f"the crop {name} is not of its box's size")
            cell[0, number - 1] = np.asarray(crop, np.float32).clip(0, 1)
        path = folder / f"{index:04d}.mat"
        save_matlab(path, {"Idenoised": cell, "israw": False, "eval_version": "1.0"})
        files.append(path)
    return files


def save_matlab(path: Path, content: dict[str, Any]) -> None:
    """Write a MATLAB file, version 5.

    Raises
    ------
    UsageError
        SciPy is missing.
    OutputError
        It cannot be written.
    """
    try:
        from scipy.io import savemat
    except ImportError as error:
        raise UsageError(
            "the package scipy is needed to pack results", pip_install("bench")
        ) from error
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            savemat(file, content, do_compression=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
