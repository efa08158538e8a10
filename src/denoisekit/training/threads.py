"""As many threads as help: on a busy machine operations that are shared wait for the slowest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CALLS = 4
"""Calls whose mean counts: one that had to wait tells what is to come."""

GAIN = 0.8
"""What twice as many threads must take, of the time of half as many, to be worth it: less than
that is chance, and they are what suffers from other programs."""


@contextmanager
def threads_that_help(device: torch.device) -> Iterator[None]:
    """Let torch use as many threads on a CPU as are fastest now, measured in half a second.

    Beside one other program a step of all threads can take ten times as long as of one thread.
    """
    import torch

    load_all()
    before = torch.get_num_threads()
    if device.type == "cpu" and before > 1:
        torch.set_num_threads(_fastest(before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_all() -> None:
    """Take a step of Adam: with the first one torch loads a good part of itself.

    That takes one to ten seconds, which must not come after the time was planned.
    """
    import torch

    number = torch.zeros(1, requires_grad=True)
    number.sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.Adam([number]).step()


def _fastest(most: int) -> int:
    """Return the number of threads, halved until fewer are no faster."""
    best, least = most, _seconds(most)
    while best > 1 and GAIN * (fewer := _seconds(best // 2)) <= least:
        best, least = best // 2, fewer
    return best


def _seconds(threads: int) -> float:
    """Return how long a layer takes there and back, as those of small networks."""
    import torch

    torch.set_num_threads(threads)
    layer = torch.nn.functional.conv2d
    patch, weight = torch.ones(1, 32, 128, 128), torch.ones(32, 32, 3, 3, requires_grad=True)
    taken = []
    for _ in range(1 + CALLS):  # the first is not believed
        began = time.perf_counter()
        layer(patch, weight, padding=1).mean().backward()  # type: ignore[no-untyped-call]
        taken.append(time.perf_counter() - began)
    return sum(taken[1:]) / CALLS
