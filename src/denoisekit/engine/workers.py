"""As many workers as processors that may be used, each with a tile and one thread of its own.

Operations that split their own work wait for the slowest of their threads, and beside another
busy program that takes 10 to 40 times as long; a worker waits for nobody.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from denoisekit.errors import UsageError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLE = "DENOISEKIT_THREADS"

_CGROUPS = Path("/sys/fs/cgroup")
_GROUPS_OF_THIS = Path("/proc/self/cgroup")
_own = threading.local()
"""``device``: of the worker that this thread is; absent in other threads."""


def count_processors() -> int:
    """Return how many processors this process may use.

    The least of those it is bound to, the CPU quota of its container, and the threads that
    torch is set to use (``OMP_NUM_THREADS``, `torch.set_num_threads`; by itself one a core).
    ``DENOISEKIT_THREADS`` overrides all.

    Raises
    ------
    UsageError
        ``DENOISEKIT_THREADS`` is no number of threads.
    """
    import torch

    if asked := os.environ.get(VARIABLE):
        if not asked.isdecimal() or not 1 <= int(asked) <= 4096:
            raise UsageError(f"{VARIABLE}={asked} is no number of threads", "set it to 1 or more")
        return int(asked)
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, int(min(bound or 1, cpu_quota(), torch.get_num_threads())))


def cpu_quota() -> float:
    """Return the processors' worth of time that the control groups of this process allow."""
    least = math.inf
    try:
        lines = _GROUPS_OF_THIS.read_text().splitlines()
    except OSError:  # not Linux
        return least
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUPS / "cpu" if controllers else _CGROUPS
        group = root / path.strip("/")
        # In a container its own group is mounted as the root, whatever its name outside.
        for folder in {root, group, *group.parents} - set(_CGROUPS.parents):
            least = min(least, _quota_in(folder))
    return least


def _quota_in(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf


class Workers:
    """Threads that compute, each on a device. Serve several images at once.

    Parameters
    ----------
    devices : sequence of torch.device
        Of one kind. Processors: `count` workers share them. GPUs: two workers each, with a
        stream of their own, so that one copies while the other computes.
    count : int, optional
        Of workers for processors; default: `count_processors`.

    Attributes
    ----------
    count : int
        Of workers.
    devices : list of torch.device
        One a worker.
    """

    def __init__(self, devices: Sequence[torch.device], count: int | None = None) -> None:
        if devices[0].type == "cpu":
            self.count = max(len(devices), count or count_processors())
        else:
            self.count = 2 * len(devices)
        self.devices = list(islice(cycle(devices), self.count))
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._making = threading.Lock()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        at_once: int | None = None,
    ) -> Iterator[Result]:
        """Yield a function's results, in order; items are taken as there is room for them.

        Called by a worker, it computes there and then: a worker never waits for another one.

        Parameters
        ----------
        function : callable
            Computes with one thread; `device` says where.
        items : iterable
            Asked for by the thread that asks for the results.
        at_once : int, optional
            Most items that are computed at once; default: all workers.
        """
        if hasattr(_own, "device"):
            yield from map(function, items)
            return
        pool = self._started()
        room = self.room(self.count if at_once is None else at_once)
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= room:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def room(self, at_once: int) -> int:
        """Return how many items are under way where so many may be computed at once.

        One more for each worker, so that none waits for the thread that asks; where memory lets
        fewer work, no more than that.
        """
        return 2 * self.count if at_once >= self.count else at_once

    def run(self, function: Callable[[], Result]) -> Result:
        """Return a function's result, computed by a worker."""
        (result,) = self.map(lambda _: function(), [None])
        return result

    def _started(self) -> ThreadPoolExecutor:
        with self._making:
            # A process that was forked off has none of the threads.
            if self._pool is None or self._process != os.getpid():
                self._pool, self._process = self._start(), os.getpid()
            return self._pool

    def _start(self) -> ThreadPoolExecutor:
        devices = iter(self.devices)
        return _pool(self.count, "denoise", lambda: next(devices))


def device() -> torch.device | None:
    """Return the device of the worker that this thread is; None: it is none."""
    return getattr(_own, "device", None)


def in_one_thread(items: Generator[Item, None, None]) -> Iterator[Item]:
    """Yield what a generator yields, computed in a thread of its own where torch has one thread.

    What is computed beside the workers must not split its work either.
    """
    if device() is not None:
        yield from items
        return
    end: Any = object()
    pool = _pool(1, "rows", lambda: None)
    wait = True
    try:
        while (item := pool.submit(next, items, end).result()) is not end:
            yield item
    except KeyboardInterrupt:
        wait = False  # a tile may take long, and nobody wants it any more
        raise
    finally:
        pool.submit(items.close)
        pool.shutdown(wait)


def _pool(
    count: int, name: str, next_device: Callable[[], torch.device | None]
) -> ThreadPoolExecutor:
    """Start threads in each of which torch has one thread."""
    import torch

    together = threading.Barrier(count)

    def begin() -> None:
        together.wait()  # so that each of the threads gets one
        torch.get_num_threads()  # at its first use a thread takes the program's number
        torch.set_num_threads(1)
        place = next_device()
        if place is not None:
            _own.device = place
        if place is not None and place.type == "cuda":
            stream = torch.cuda.Stream(place)  # type: ignore[no-untyped-call]
            torch.cuda.set_stream(stream)

    pool = ThreadPoolExecutor(count, name)
    before = torch.get_num_threads()
    for started in [pool.submit(begin) for _ in range(count)]:
        started.result()
    # What a thread is set to, later threads of the program would begin with.
    torch.set_num_threads(before)
    return pool
