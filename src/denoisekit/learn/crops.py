"""What a network is trained on: crops of images, drawn by seed, stage, step and place in the batch.

So a run that is resumed sees what an unbroken one would have seen, however many threads
prepare it, and the processes of a group share a batch without talking.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from einops import rearrange, repeat

from denoisekit.engine.device import available_memory
from denoisekit.errors import InputError, UsageError
from denoisekit.image import Pixels, Reader
from denoisekit.learn.config import Config
from denoisekit.noise import Simulate, find_model, noise_of
from denoisekit.options import TrainData
from denoisekit.pairs import File, Plane, check_pairs, find_files, list_planes, pair
from denoisekit.ranges import Floats, fill_nonfinite, to_unit

Pair = tuple[Floats, Floats | None]
"""Noisy and clean, the latter where there is one."""

Box = tuple[int, int, int, int]
"""Top, left, height, width."""

CACHE_SHARE = 0.25
"""Part of the free memory that decoded images may take."""


class Source(Protocol):
    """Images that crops are cut from."""

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """Height and width of every image."""
        ...

    @property
    def simulate(self) -> Simulate | None:
        """Makes noisy crops of clean ones, where there are only these."""
        ...

    def crop(self, index: int, box: Box, channel: int) -> Pair:
        """Return (h, w, C) float32 of an image; ``channel``: which one, where all look alike."""
        ...


class ImageFiles:
    """Images in files, read as ``denoisekit denoise`` reads them. Threads may share it.

    Parameters
    ----------
    images : sequence of Plane
        Noisy ones; with ``simulate``, clean ones.
    channels : int
        Of the network. An image of another kind gives one of its channels, repeated.
    cache : int
        Most bytes of decoded planes to keep. What does not fit is read by rows, from the
        file, each time.
    clean : sequence of Plane or None
        The same without noise, one for one.
    simulate : callable or None
        Makes noisy images of clean ones.
    """

    def __init__(
        self,
        images: Sequence[Plane],
        channels: int,
        cache: int,
        clean: Sequence[Plane] | None = None,
        simulate: Simulate | None = None,
    ) -> None:
        self.images, self.clean, self.simulate = images, clean, simulate
        self.channels, self.cache = channels, cache
        self._left = cache
        self._planes: dict[tuple[File, int], Pixels] = {}
        self._open: dict[File, Reader] = {}
        self._lock = threading.Lock()

    def for_worker(self, count: int) -> ImageFiles:
        """Return an empty one for one of so many processes, with its part of the cache."""
        part = self.cache // count
        return ImageFiles(self.images, self.channels, part, self.clean, self.simulate)

    def __reduce__(self) -> tuple[Any, ...]:
        # To another process goes an empty one.
        return ImageFiles, (self.images, self.channels, self.cache, self.clean, self.simulate)

    @property
    def paired(self) -> bool:
        """Whether crops come with clean ones."""
        return self.clean is not None or self.simulate is not None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every image."""
        return [(image.info.height, image.info.width) for image in self.images]

    def crop(self, index: int, box: Box, channel: int = 0) -> Pair:
        """Return noisy and clean pixels (h, w, C) float32 on 0..1, finite, not clamped."""
        noisy = self._pixels(self.images[index], box, channel)
        return noisy, None if self.clean is None else self._pixels(self.clean[index], box, channel)

    def _pixels(self, image: Plane, box: Box, channel: int) -> Floats:
        top, left, height, width = box
        rows = self._rows(image, top, top + height)[:, left : left + width, : image.colours]
        unit = to_unit(fill_nonfinite(rows), image.scale)
        if image.colours == self.channels and image.info.colour in ("gray", "rgb"):
            return unit
        return repeat(unit[..., channel % image.colours], "h w -> h w c", c=self.channels)

    def _rows(self, image: Plane, top: int, bottom: int) -> Pixels:
        key = image.file, image.plane
        plane = self._planes.get(key)
        if plane is not None:
            return plane[top:bottom]
        with self._lock:
            if image.file.holds_arrays:  # costly to open, cheap to read
                if image.file not in self._open:
                    self._open[image.file] = image.file.open()
                return self._open[image.file].read_rows(image.plane, top, bottom)
            if key in self._planes:
                return self._planes[key][top:bottom]
            reader = image.file.open()
            try:
                info = reader.info
                if (info.shape, info.dtype) != (image.info.shape, image.info.dtype):
                    raise InputError(f"{image.file.path} has changed", "start a new run")
                if info.plane_bytes > self._left:
                    return np.array(reader.read_rows(image.plane, top, bottom))
                self._left -= info.plane_bytes
                self._planes[key] = np.array(reader.read_rows(image.plane, 0, info.height))
                return self._planes[key][top:bottom]
            finally:
                reader.close()


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The images of a run.

    Attributes
    ----------
    train, validation : ImageFiles
        To train on, and to validate on: the same where no others are given.
    facts : dict
        What weights may tell of them; no folders.
    """

    train: ImageFiles
    validation: ImageFiles
    facts: dict[str, Any]

    def warnings(self, config: Config) -> list[str]:
        """Return what the user should know, a line each."""
        told, images, cache = [], self.train.images, self.train.cache
        for sizes in config.stages:
            small = sum(min(image.info.height, image.info.width) < sizes.patch for image in images)
            if 0 < small < len(images):
                told.append(f"{small} pictures are smaller than a patch of {sizes.patch}: left out")
        every = [*images, *(self.train.clean or ())]
        need = sum(image.info.plane_bytes for image in every if not image.file.holds_arrays)
        if need > cache:
            told.append(
                f"the pictures take {need / 2**30:.1f} GiB decoded, {cache / 2**30:.1f} are "
                "kept in memory: the others are decoded for every patch, which is slow"
            )
        return told


def open_images(
    data: TrainData, out: Path | None = None, channels: int | None = None
) -> TrainingData:
    """Find and open the images of a run.

    Parameters
    ----------
    data : TrainData
        Which.
    out : Path, optional
        Folder of the run: its previews are no images to train on.
    channels : int, optional
        Of the network; default: 1 if all images are gray, otherwise 3.

    Raises
    ------
    DenoisekitError
        They are not there, cannot be read, or are no pairs.
    """

    def opened(
        names: Sequence[str], clean_names: Sequence[str]
    ) -> tuple[list[Plane], list[Plane] | None]:
        files = find_files(names, out)
        images = list_planes(files, data.range)
        if not clean_names:
            return images, None
        clean = list_planes(pair(files, find_files(clean_names, out)), data.range)
        check_pairs(images, clean)
        return images, clean

    images, clean = opened(data.pictures, data.clean)
    val, val_clean = opened(data.val_noisy, data.val_clean)
    if channels is None:
        channels = 1 if all(image.colours == 1 for image in images) else 3
    for text in filter(None, data.simulate.split(",")):
        model = find_model(text.strip().partition(":")[0])
        if model.channels not in (None, channels):
            raise UsageError(
                f"{model.id} noise needs {model.channels} channels, and the pictures are gray",
                f"add --config channels={model.channels}, or choose another noise",
            )
    simulate = noise_of(data.simulate) if data.simulate else None
    cache = int(available_memory() * CACHE_SHARE)
    # Few images are validated on, and only their middles: a small part of the cache is enough.
    train = ImageFiles(images, channels, cache - cache // 8 if val else cache, clean, simulate)
    facts = {
        "pictures": len(images),
        "megapixels": round(sum(i.info.height * i.info.width for i in images) / 1e6, 2),
        "names": [Path(name).name for name in data.pictures],
        "pairs": clean is not None,
        "simulate": data.simulate,
    }
    validation = ImageFiles(val, channels, cache // 8, val_clean) if val else train
    return TrainingData(train, validation, facts)


class Sampler:
    """Square crops out of a source; every place of every image is equally likely.

    Parameters
    ----------
    source : Source
        Its images; those smaller than a patch are left out.
    side : int
        Of a crop: the patch.
    seed : sequence of int
        Of all draws: the run's and the stage's.

    Raises
    ------
    UsageError
        No image is as large as a patch.
    """

    def __init__(self, source: Source, side: int, seed: Sequence[int]) -> None:
        self.source, self.side, self.seed = source, side, tuple(seed)
        self._sizes = source.sizes
        places = [max(0, h - side + 1) * max(0, w - side + 1) for h, w in self._sizes]
        if not any(places):
            raise UsageError(
                f"no picture is as large as a patch of {side} pixels",
                "give a smaller --patch, or larger pictures",
            )
        total = np.cumsum(places, dtype=np.float64)
        self._shares = total / total[-1]

    def batch(self, step: int, samples: Iterable[int]) -> Pair:
        """Return some samples of a step's batch.

        Parameters
        ----------
        step : int
            From 0.
        samples : iterable of int
            Which of the batch.

        Returns
        -------
        noisy, clean : numpy.ndarray
            (N, C, side, side) float32 on 0..1; clean is None where there is none.
        """
        pairs = [self._sample(step, sample) for sample in samples]
        noisy, clean = (
            [np.ascontiguousarray(rearrange(one, "h w c -> c h w"), np.float32) for one in images]
            for images in ([one for one, _ in pairs], [two for _, two in pairs if two is not None])
        )
        return np.stack(noisy), np.stack(clean) if clean else None

    def _sample(self, step: int, sample: int) -> Pair:
        source, side = self.source, self.side
        draw = np.random.default_rng([*self.seed, step, sample])
        index = int(np.searchsorted(self._shares, draw.random(), "right"))
        height, width = self._sizes[index]
        top, left = int(draw.integers(height - side + 1)), int(draw.integers(width - side + 1))
        turn, channel = int(draw.integers(8)), int(draw.integers(2**16))
        noisy, clean = source.crop(index, (top, left, side, side), channel)
        noisy = _turned(noisy, turn)
        if source.simulate is not None:  # on the turned crop: a camera's mosaic is never turned
            return source.simulate(noisy, draw), noisy
        return noisy, None if clean is None else _turned(clean, turn)


def _turned(image: Floats, turn: int) -> Floats:
    """Return one of the eight flips and rotations of (H, W, C)."""
    image = np.rot90(image, turn % 4)
    return image[:, ::-1] if turn >= 4 else image


@contextmanager
def prefetched(
    sampler: Sampler,
    steps: Iterable[int],
    samples: Sequence[int],
    workers: int,
    *,
    processes: bool = False,
) -> Iterator[Iterator[Pair]]:
    """Give the batches of some steps, in order, prepared while others are learned from.

    Parameters
    ----------
    sampler : Sampler
        Their source.
    steps : iterable of int
        Which steps.
    samples : sequence of int
        The part of each batch that this process works on.
    workers : int
        Threads; each prepares two batches ahead. 0: each batch is made when it is asked for,
        as for images in memory.
    processes : bool
        Processes instead of threads, each with a source of its own: for simulated noise,
        which is much work in Python.
    """
    if not workers:
        yield (sampler.batch(step, samples) for step in steps)
        return
    executor: Executor
    if processes:
        # Spawned: a fork would copy the locks of whatever threads the libraries have.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, context, _keep_in_worker, (sampler,))
    else:
        executor = ThreadPoolExecutor(workers, "batches")
    pending: deque[Future[Pair]] = deque()

    def batches() -> Iterator[Pair]:
        for step in steps:
            job = _batch_in_worker if processes else sampler.batch
            pending.append(executor.submit(job, step, samples))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    with executor:
        try:
            yield batches()
        finally:
            for future in pending:
                future.cancel()


_IN_WORKER: list[Sampler] = []
"""In a process of its own: what it prepares batches of. Empty everywhere else."""


def _keep_in_worker(sampler: Sampler) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the loop alone
    _IN_WORKER.append(sampler)


def _batch_in_worker(step: int, samples: Sequence[int]) -> Pair:
    return _IN_WORKER[0].batch(step, samples)
