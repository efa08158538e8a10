"""The pictures of a run, opened: what is trained on, and what is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoisekit.engine.device import available_memory
from denoisekit.errors import UsageError
from denoisekit.noise import Simulate, find_model, noise_of
from denoisekit.options import TrainData
from denoisekit.pairs import Plane, check_pairs, find_files, list_planes, pair
from denoisekit.training.config import Config
from denoisekit.training.data import Pool
from denoisekit.training.pictures import Store

CACHE_SHARE = 0.25
"""Part of the free memory that decoded pictures may take."""


@dataclass(frozen=True, slots=True)
class Material:
    """Pictures of a run.

    Attributes
    ----------
    pool, held : Pool
        To train, and to judge by: the same where no other pictures are given.
    channels : int
        Of the pictures as the network gets them.
    cache : int
        Bytes of decoded planes that are kept.
    facts : dict
        What weights may tell of them; no folders.
    """

    pool: Pool
    held: Pool
    channels: int
    cache: int
    facts: dict[str, Any]

    def warnings(self, config: Config) -> list[str]:
        """Return what the user should know, a line each."""
        told = []
        pictures = self.pool.pictures
        for sizes in config.stages:
            small = sum(min(p.info.height, p.info.width) < sizes.patch for p in pictures)
            if 0 < small < len(pictures):
                told.append(f"{small} pictures are smaller than a patch of {sizes.patch}: left out")
        every = [*pictures, *(self.pool.clean or ())]
        need = sum(p.info.plane_bytes for p in every if not p.file.holds_arrays)
        if need > self.cache:
            told.append(
                f"the pictures take {need / 2**30:.1f} GiB decoded, {self.cache / 2**30:.1f} are "
                "kept in memory: the others are decoded for every patch, which is slow"
            )
        return told


def gather(data: TrainData, out: Path | None = None, channels: int | None = None) -> Material:
    """Find and open the pictures of a run.

    Parameters
    ----------
    data : TrainData
        Which.
    out : Path, optional
        Folder of the run: its previews are no pictures to train on.
    channels : int, optional
        Of the network; default: 1 if all pictures are gray, otherwise 3.

    Raises
    ------
    DenoisekitError
        They are not there, cannot be read, or are no pairs.
    """
    pictures, clean = _open(data.pictures, data.clean, data.range, out)
    val, val_clean = _open(data.val_noisy, data.val_clean, data.range, out)
    if channels is None:
        channels = 1 if all(picture.colours == 1 for picture in pictures) else 3
    cache = int(available_memory() * CACHE_SHARE)
    store = Store(channels, cache)
    pool = Pool(pictures, store, clean, _noise(data.simulate, channels))
    held = Pool(val, store, val_clean) if val else pool
    facts = {
        "pictures": len(pictures),
        "megapixels": round(sum(p.info.height * p.info.width for p in pictures) / 1e6, 2),
        "names": [Path(name).name for name in data.pictures],
        "pairs": clean is not None,
        "simulate": data.simulate,
    }
    return Material(pool, held, channels, cache, facts)


def _open(
    names: tuple[str, ...], clean: tuple[str, ...], range: str, out: Path | None
) -> tuple[list[Plane], list[Plane] | None]:
    files = find_files(names, out)
    pictures = list_planes(files, range)
    if not clean:
        return pictures, None
    others = list_planes(pair(files, find_files(clean, out)), range)
    check_pairs(pictures, others)
    return pictures, others


def _noise(cameras: str, channels: int) -> Simulate | None:
    if not cameras:
        return None
    adds = noise_of(cameras)
    for text in cameras.split(","):
        model = find_model(text.strip().partition(":")[0])
        if model.channels not in (None, channels):
            raise UsageError(
                f"{model.id} noise needs {model.channels} channels, and the pictures are gray",
                f"add --config channels={model.channels}, or choose another noise",
            )
    return adds
