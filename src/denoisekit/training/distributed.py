"""Several processes that train one network: what ``torchrun`` says, and what they share.

Alone, everything here is the obvious thing and costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from denoisekit.engine.device import resolve_device
from denoisekit.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes of a run, seen from one of them.

    Attributes
    ----------
    rank : int
        Which one this is; the first speaks, validates and writes.
    size : int
        How many there are.
    device : torch.device
        Of this one.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Return the samples of a batch that are this process's.

        Raises
        ------
        UsageError
            The batch cannot be shared evenly.
        """
        if batch % self.size:
            raise UsageError(
                f"a batch of {batch} cannot be shared evenly by {self.size} processes",
                f"give --batch {-(-batch // self.size) * self.size}",
            )
        part = batch // self.size
        return range(self.rank * part, (self.rank + 1) * part)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are averaged over the processes."""
        if self.size == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        # A loss may leave parameters out; it always leaves out the same.
        return DistributedDataParallel(module, static_graph=True)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes; not a number if it is not one anywhere."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
            values /= self.size
        return values

    def agree(self, value: float) -> float:
        """Return the first process's value to all."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(told, 0)
        return float(told.item())

    def wait(self) -> None:
        """Wait until all are here: what the first has written can be read."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


@contextmanager
def crew(device: str) -> Iterator[Crew]:
    """Join the processes that ``torchrun`` started, or work alone.

    Parameters
    ----------
    device : str
        As `denoisekit.engine.device.resolve_device` takes it; with several processes on GPUs
        each takes its own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Crew(0, 1, resolve_device(device))
        return
    import torch
    import torch.distributed as dist

    place = resolve_device(device)
    if place.type == "cuda":
        place = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Crew(dist.get_rank(), size, place)
    finally:
        dist.destroy_process_group()
