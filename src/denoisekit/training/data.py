"""Batches of patches. What a step sees depends on the seed, the stage and the step alone.

So a run that is taken up again sees what an unbroken one would have seen, however many
threads prepare it, and several processes share a batch without talking.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from einops import rearrange

from denoisekit.errors import UsageError
from denoisekit.noise import Simulate
from denoisekit.pairs import Plane
from denoisekit.ranges import Floats
from denoisekit.training.pictures import Store

Pair = tuple[Floats, Floats | None]
"""Noisy and clean, the latter where there is one."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What patches are drawn from.

    Attributes
    ----------
    pictures : sequence of Picture
        Noisy ones; with ``simulate``, clean ones.
    store : Store
        What reads them.
    clean : sequence of Plane or None
        The same without noise, one for one.
    simulate : callable or None
        Makes noisy pictures of clean ones.
    """

    pictures: Sequence[Plane]
    store: Store
    clean: Sequence[Plane] | None = None
    simulate: Simulate | None = None

    @property
    def paired(self) -> bool:
        """Whether patches come with clean ones."""
        return self.clean is not None or self.simulate is not None


class Patches:
    """Square patches out of a pool; every place of every picture is equally likely.

    Parameters
    ----------
    pool : Pool
        Its pictures; those smaller than a patch are left out.
    side : int
        Of a patch.
    seed : sequence of int
        Of all draws: the run's and the stage's.

    Raises
    ------
    UsageError
        No picture is as large as a patch.
    """

    def __init__(self, pool: Pool, side: int, seed: Sequence[int]) -> None:
        self.pool, self.side, self.seed = pool, side, tuple(seed)
        infos = [picture.info for picture in pool.pictures]
        places = [max(0, i.height - side + 1) * max(0, i.width - side + 1) for i in infos]
        self.left_out = places.count(0)
        if self.left_out == len(places):
            raise UsageError(
                f"no picture is as large as a patch of {side} pixels",
                "give a smaller --patch, or larger pictures",
            )
        total = np.cumsum(places, dtype=np.float64)
        self._shares = total / total[-1]

    def batch(self, step: int, samples: Sequence[int]) -> Pair:
        """Return some samples of a step's batch.

        Parameters
        ----------
        step : int
            From 0.
        samples : sequence of int
            Which of the batch.

        Returns
        -------
        noisy, clean : numpy.ndarray
            (N, C, side, side) float32 on 0..1; clean is None where there is none.
        """
        pairs = [self._sample(step, sample) for sample in samples]
        clean = [other for _, other in pairs if other is not None]
        return _stacked([one for one, _ in pairs]), _stacked(clean) if clean else None

    def _sample(self, step: int, sample: int) -> Pair:
        pool, side = self.pool, self.side
        draw = np.random.default_rng([*self.seed, step, sample])
        index = int(np.searchsorted(self._shares, draw.random(), "right"))
        picture = pool.pictures[index]
        top = int(draw.integers(picture.info.height - side + 1))
        left = int(draw.integers(picture.info.width - side + 1))
        turn, channel = int(draw.integers(8)), int(draw.integers(2**16))
        box = (top, left, side, side)
        first = _turned(pool.store.box(picture, box, channel), turn)
        if pool.simulate is not None:  # on the turned picture: a camera's mosaic is never turned
            return pool.simulate(first, draw), first
        if pool.clean is None:
            return first, None
        return first, _turned(pool.store.box(pool.clean[index], box, channel), turn)


def _turned(image: Floats, turn: int) -> Floats:
    """Return one of the eight flips and rotations of (H, W, C)."""
    image = np.rot90(image, turn % 4)
    return image[:, ::-1] if turn >= 4 else image


def _stacked(images: Sequence[Floats]) -> Floats:
    return np.ascontiguousarray(rearrange(list(images), "n h w c -> n c h w"), np.float32)


@contextmanager
def batches(
    patches: Patches, steps: range, samples: Sequence[int], workers: int, *, apart: bool = False
) -> Iterator[Iterator[Pair]]:
    """Give the batches of some steps, in order, prepared ahead.

    Parameters
    ----------
    patches : Patches
        Their source.
    steps : range
        Which steps.
    samples : sequence of int
        The part of each batch that this process works on.
    workers : int
        Threads; each prepares two batches ahead.
    apart : bool
        Processes instead of threads, each with a cache of its own: for simulated noise,
        which is much work in Python.
    """
    prepare: Callable[[int, Sequence[int]], Pair] = _prepare if apart else patches.batch
    with _pool(patches, workers, apart=apart) as pool:
        coming: deque[Future[Pair]] = deque()

        def give() -> Iterator[Pair]:
            ahead = iter(steps)
            for _ in steps:
                while len(coming) < 2 * workers and (step := next(ahead, None)) is not None:
                    coming.append(pool.submit(prepare, step, samples))
                yield coming.popleft().result()

        try:
            yield give()
        finally:
            for future in coming:
                future.cancel()


def _pool(patches: Patches, workers: int, *, apart: bool) -> Executor:
    if not apart:
        return ThreadPoolExecutor(workers, "patches")
    pool = replace(patches.pool, store=patches.pool.store.part(workers))
    own = Patches(pool, patches.side, patches.seed)
    # Spawned: a fork would copy the locks of whatever threads the libraries have.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _begin, (own,))


_OWN: list[Patches] = []
"""In a process of its own: what it prepares batches of. Empty everywhere else."""


def _begin(patches: Patches) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the loop alone
    _OWN.append(patches)


def _prepare(step: int, samples: Sequence[int]) -> Pair:
    return _OWN[0].batch(step, samples)
