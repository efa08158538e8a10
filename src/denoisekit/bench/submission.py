"""Results packed as the servers want them that alone have the clean images.

SIDD's benchmark is 40 images of 32 blocks, of 8 bits: ``SubmitSrgb.mat`` with a cell of
40x32 blocks, and ``SubmitSrgb.csv`` with a line a block. DND is 50 images of 20 boxes,
floats of 0 to 1: ``0001.mat`` … with a cell of 20 crops each.
"""

from __future__ import annotations

import base64
import csv
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.atomic import replacing
from denoisekit.bench.candidates import Candidate
from denoisekit.bench.images import Images, Item, KeptImages
from denoisekit.bench.run import Keep
from denoisekit.errors import InputError, OutputError, UsageError, pip_install
from denoisekit.metrics import Protocol

BLOCKS = (40, 32)
"""Images of SIDD's benchmark, and blocks of each."""


def keeper(kept: KeptImages, protocol: Protocol, *, floats: bool) -> Keep:
    """Return what `denoisekit.bench.run.run` calls with every denoised image, to be packed later.

    Parameters
    ----------
    kept : KeptImages
        Where they are kept.
    protocol : Protocol
        Says how they are rounded to 8 bits.
    floats : bool
        Keep floats as they are, instead.
    """

    def keep(candidate: Candidate, item: Item, denoised: npt.NDArray[Any]) -> None:
        if not floats:
            denoised = np.rint(protocol.seen(denoised).clip(0, 1) * 255).astype(np.uint8)
        kept.put(candidate.id, item.name, denoised)

    return keep


def pack(
    images: Images, kept: KeptImages, candidate: str, folder: Path, seconds_per_megapixel: float
) -> list[Path]:
    """Pack what a candidate made of a set.

    Parameters
    ----------
    images : Images
        SIDD's benchmark, or DND.
    kept : KeptImages
        Where the denoised images are.
    candidate : str
        Whose: told to SIDD's server.
    folder : pathlib.Path
        Where to.
    seconds_per_megapixel : float
        It took; told too.

    Returns
    -------
    list of pathlib.Path
        What is to be submitted.

    Raises
    ------
    DenoisekitError
        Denoised images are gone, not as many as there must be, or not of their size; SciPy is
        missing; the files cannot be written.
    """

    def read(item: Item) -> npt.NDArray[Any]:
        found = kept.get(candidate, item.name)
        if found is None:
            raise InputError(
                f"what {candidate} made of {item.name} is gone or damaged",
                "run again with --overwrite",
            )
        return found

    files = []
    if images.facts["id"] == "dnd":
        for name, items in groupby(images.items, key=lambda item: item.name.partition("_")[0]):
            crops = [np.asarray(read(item), np.float32).clip(0, 1) for item in items]
            files.append(folder / f"{name}.mat")
            told = {"Idenoised": _cell(crops, (1, len(crops))), "israw": False}
            _save_matlab(files[-1], {**told, "eval_version": "1.0"})
        return files
    blocks = [read(item) for item in images.items]
    if len(blocks) != BLOCKS[0] * BLOCKS[1]:
        raise InputError(f"{len(blocks)} blocks; the benchmark has {BLOCKS[0] * BLOCKS[1]}")
    if len({block.shape for block in blocks}) != 1 or blocks[0].shape[2:] != (3,):
        raise InputError("blocks must be of one size and colour")
    files += [folder / "SubmitSrgb.mat", folder / "SubmitSrgb.csv"]
    _save_matlab(
        files[0],
        {
            "DenoisedBlocksSrgb": _cell(blocks, BLOCKS),
            "TimeMPSrgb": float(seconds_per_megapixel),
            "OptionalData": {"MethodName": candidate},
        },
    )
    with (
        replacing(files[1]) as temporary,
        temporary.open("w", newline="", encoding="ascii") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("ID", "BLOCK"))
        for index, block in enumerate(blocks):
            writer.writerow((index, base64.b64encode(block.tobytes()).decode("ascii")))
    return files


def _cell(arrays: list[npt.NDArray[Any]], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return arrays as MATLAB's cell, row after row."""
    cell = np.empty(shape, dtype=object)
    for index, array in enumerate(arrays):
        cell[np.unravel_index(index, shape)] = array
    return cell


def _save_matlab(path: Path, content: dict[str, Any]) -> None:
    try:
        from scipy.io import savemat
    except ImportError as error:
        raise UsageError(
            "the package scipy is needed to pack results", pip_install("bench")
        ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            savemat(file, content, do_compression=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
