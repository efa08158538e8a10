"""Where the network runs, how precisely, and how large a tile may be.

A device that was asked for and is not there is an error, never a silent fallback.
On a CPU running out of memory ends the process, so the tile is chosen beforehand
from a measured bytes-per-pixel model; on a GPU it is an exception, and smaller
tiles are tried.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from denoisekit.engine.tiling import Plan, grid_of, plan_tiles
from denoisekit.errors import OutOfMemory, UsageError, did_you_mean

if TYPE_CHECKING:
    import torch

    from denoisekit.limits import Limits
    from denoisekit.methods.base import Traits

PRECISIONS = ("auto", "fp32", "bf16", "fp16")

SHARE_OF_FREE = 0.6
"""Part of the memory now free that is used where no limit is given."""

BAND_BYTES = 28
"""Bytes a pixel of a band of rows takes: three float32 channels in, three out, and slack."""

CALL_BYTES = 160 * 2**20
"""Memory a network call takes whatever its size: work space of the libraries."""

WORKER_BYTES = 16 * 2**20
"""What a further worker takes beside its tile."""

CPUINFO = Path("/proc/cpuinfo")


_threads_lost = False
"""Whether this process was forked off one that had torch, whose threads it does not have."""


def _note_fork() -> None:
    global _threads_lost
    _threads_lost = "torch" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def forget_lost_threads(device: torch.device | None = None) -> None:
    """Go on with one thread in a process that was forked off.

    A fork copies the thread that calls it and no other, and GNU OpenMP then waits for the
    others without end. Several such processes keep all processors busy anyhow.

    Parameters
    ----------
    device : torch.device, optional
        Where a network lies that was loaded before, perhaps in the process forked from.

    Raises
    ------
    UsageError
        The network lies on a GPU, which a process forked off cannot reach.
    """
    global _threads_lost
    if not _threads_lost:
        return
    import torch

    if device is not None and device.type != "cpu":
        raise UsageError(
            f"a process that was forked off cannot use {device}",
            "start it by spawn: multiprocessing.get_context('spawn')",
        )
    torch.set_num_threads(1)
    _threads_lost = False


def resolve_device(name: str | torch.device) -> torch.device:
    """Return the torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    UsageError
        No such device here, or no such name.
    """
    import torch

    forget_lost_threads()
    name = str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    match = re.fullmatch(r"cpu(?::0)?|mps(?::0)?|cuda(?::([0-9]+))?", name)
    if match is None:
        raise UsageError(
            f"there is no device '{name}'", did_you_mean(name, ("auto", "cpu", "cuda", "mps"))
        )
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(match[1] or 0) >= count:
            raise UsageError(
                f"{name} was asked for, but torch sees {count} CUDA devices",
                "use --device cpu, or install a CUDA build of torch; see denoisekit doctor",
            )
    device = torch.device(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            "mps was asked for, but torch sees no Apple GPU",
            "use --device cpu; see denoisekit doctor",
        )
    return device


def all_devices(device: torch.device) -> list[torch.device]:
    """Return the devices that share an image's tiles: all GPUs where no number was said."""
    import torch

    if device.type != "cuda" or device.index is not None:
        return [device]
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def describe_device(device: torch.device) -> str:
    """Return the device's name for people: ``CPU, 8 threads`` or the GPU's model."""
    import torch

    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "mps, Apple GPU"
    return f"CPU, {torch.get_num_threads()} threads"


def cpu_model() -> str:
    """Return the processor's name as its maker writes it, or its kind."""
    if CPUINFO.exists():
        for line in CPUINFO.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return platform.processor() or platform.machine()


def native_bf16() -> bool:
    """Return whether this CPU multiplies bf16 in hardware; without it bf16 is slower than fp32."""
    import torch

    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, check, lambda: False)()) for check in checks)


def choose_precision(device: torch.device, requested: str) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    requested : str
        One of `PRECISIONS`. ``auto`` is fp32: the precision of the published figures.

    Raises
    ------
    UsageError
        An unknown precision, or one that the device cannot compute.
    """
    if requested not in PRECISIONS:
        raise UsageError(
            f"there is no precision '{requested}'", did_you_mean(requested, PRECISIONS)
        )
    if requested == "auto":
        return "fp32"
    if requested == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is for GPUs", "on a CPU use --precision bf16 or fp32")
    return requested


def available_memory() -> int:
    """Return the bytes this process may still take: free, or left by its container or limit."""
    import psutil

    free = int(psutil.virtual_memory().available)
    if (most := address_space()) is not None:
        free = min(free, most - int(psutil.Process().memory_info().vms))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return min(free, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):  # not Linux, no container, or "max"
        return free


def address_space() -> int | None:
    """Return the bytes of address space that ``ulimit -v`` allows; None: no limit is known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def used_memory() -> int:
    """Return the bytes this process holds now (resident set)."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def tile_memory(device: torch.device, max_memory: int | None, reserved: int) -> int:
    """Return the bytes that tiles and the bands they are cut from may take.

    Parameters
    ----------
    device : torch.device
        Where the network runs.
    max_memory : int or None
        Most bytes the whole process (CPU) or the device (GPU) may hold; None: `SHARE_OF_FREE`
        of what is free.
    reserved : int
        Bytes that the image itself will take beside the tiles (CPU only).

    Raises
    ------
    OutOfMemory
        Nothing is left for tiles.
    """
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return min(int(free * 0.9), max_memory or free)
    if max_memory is None:
        left = int(available_memory() * SHARE_OF_FREE) - reserved
    else:
        left = max_memory - used_memory() - reserved
    left -= CALL_BYTES
    if left <= 0:
        need = used_memory() + reserved + CALL_BYTES
        raise OutOfMemory(
            f"the program and this image take {need / 2**30:.1f} GiB before any tile",
            "raise --max-memory, close other programs, or cut the image",
        )
    return left


TILE = 512
"""Side of a tile's core. The same for any memory and any number of workers, so that both leave a
result alone, bit for bit; large enough for halos to cost little, small enough to share."""
HALOS = 24
"""Least side of a core in halos, for as much as a halo costs: its share stays below a sixth."""
LEAST_CORE = 96
"""Side of a core from which small images are cut in two along it, for all workers to share."""


def choose_plan(
    height: int,
    width: int,
    traits: Traits,
    precision: str,
    memory: int,
    workers: int,
    row: int = 0,
) -> tuple[Plan, int]:
    """Plan the tiles of an image, smaller ones only where none would fit in memory.

    Parameters
    ----------
    height, width : int
        Size of the image.
    traits : Traits
        Of the network: its limits and bytes per pixel.
    precision : str
        Of the network.
    memory : int
        Bytes for the tiles under way and the bands of rows.
    workers : int
        Who compute.
    row : int
        Bytes of a row of the image that is held beside the tiles.

    Returns
    -------
    (Plan, int)
        The plan, and how many tiles may be computed at once.

    Raises
    ------
    OutOfMemory
        Not even the smallest tile fits.
    """
    limits = traits.limits
    smallest = grid_of(limits)
    halo = -(-limits.halo // smallest) * smallest
    longest = max(TILE, int(HALOS * halo * traits.halo_cost))
    side = [limits.native or _share(size, longest) for size in (height, width)]
    while True:
        plan = plan_tiles(height, width, limits, (side[0], side[1]))
        at_once = tiles_at_once(plan, traits, precision, memory, workers, row)
        if at_once:
            return plan, at_once
        rows = plan.largest_read[0] * (plan.padded[1] * BAND_BYTES + row)
        taller = side[0] >= side[1] or (2 * rows > memory and side[0] > smallest)
        # A network that is not local keeps to squares, such as it was made for.
        axes = (0, 1) if limits.native else (0,) if taller else (1,)
        if all(side[axis] <= smallest for axis in axes):
            raise OutOfMemory(
                f"not even a tile of {plan.largest_read[1]}x{plan.largest_read[0]} pixels fits "
                "in the memory allowed",
                "raise --max-memory, or use a method that needs less",
            )
        for axis in axes:
            side[axis] //= 2


def _share(size: int, longest: int) -> int:
    """Return the length of even cores along an axis."""
    return -(-size // max(-(-size // longest), 2 if size >= 2 * LEAST_CORE else 1))


def tiles_at_once(
    plan: Plan, traits: Traits, precision: str, memory: int, workers: int, row: int = 0
) -> int:
    """Return how many tiles of a plan may be computed at once; 0: not even one fits."""
    pixels = math.prod(plan.largest_read)
    # Beside what the network takes of it, a tile is there before and after.
    tile = pixels * (traits.bytes_per_pixel[precision] + 16 * traits.channels) + WORKER_BYTES
    band = plan.largest_read[0] * plan.padded[1] * BAND_BYTES
    at_once = min(workers, plan.count)
    # Tiles that wait for a worker lie ahead too where all work.
    while at_once:
        under_way = 2 * workers if at_once >= workers else at_once
        if band + at_once * tile + row * plan.rows_read_ahead(under_way) <= memory:
            break
        at_once -= 1
    return at_once


def smaller_plan(height: int, width: int, limits: Limits) -> Plan | None:
    """Cut a tile that did not fit in memory into tiles of at most half its size.

    Parameters
    ----------
    height, width : int
        Size of the read box that did not fit.
    limits : Limits
        Of the method.

    Returns
    -------
    Plan or None
        None when halos leave nothing to gain.
    """
    parts = 2
    while parts <= max(height, width):
        plan = plan_tiles(height, width, limits, (-(-height // parts), -(-width // parts)))
        if math.prod(plan.largest_read) <= height * width / 2:
            return plan
        parts *= 2
    return None
