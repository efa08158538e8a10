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

from denoisekit.engine.geometry import Plan, choose_tile, plan_tiles
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

CPUINFO = Path("/proc/cpuinfo")


_threads_lost = False
"""Whether this process was forked off one that had torch, whose threads it does not have."""


def _note_fork() -> None:
    global _threads_lost
    _threads_lost = "torch" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def settle_after_fork(device: torch.device | None = None) -> None:
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

    settle_after_fork()
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


def choose_plan(height: int, width: int, traits: Traits, precision: str, memory: int) -> Plan:
    """Plan the tiles of an image that cost least within a memory limit.

    Parameters
    ----------
    height, width : int
        Size of the image.
    traits : Traits
        Of the network: its limits and bytes per pixel.
    precision : str
        Of the network.
    memory : int
        Bytes for the tile and the bands of rows.

    Raises
    ------
    OutOfMemory
        Not even the smallest tile fits.
    """
    per_pixel, limits = traits.bytes_per_pixel[precision], traits.limits
    if limits.native is not None:
        return _native_plan(height, width, limits, per_pixel, memory)
    plans = []
    error: OutOfMemory | None = None
    # A tall tile needs tall bands: how to share the memory between the two is tried out.
    for share in (0.1, 0.2, 0.3, 0.45, 0.6, 0.75):
        tile_pixels = int(memory * (1 - share) / per_pixel)
        band_pixels = int(memory * share / BAND_BYTES)
        try:
            tile = choose_tile(height, width, limits, tile_pixels, band_pixels)
        except OutOfMemory as failed:
            error = failed
            continue
        plans.append(plan_tiles(height, width, limits, tile))
    if not plans:
        raise error or OutOfMemory("no tile fits in the memory allowed")
    return min(plans, key=lambda plan: (plan.read_pixels, plan.count))


def _native_plan(height: int, width: int, limits: Limits, per_pixel: float, memory: int) -> Plan:
    """Plan boxes of the network's own size, or the largest smaller ones that fit."""
    assert limits.native is not None
    side, smallest = limits.native, 0
    while True:
        plan = plan_tiles(height, width, limits, (side, side))
        read = plan.largest_read
        need = read[0] * read[1] * per_pixel + read[0] * plan.padded[1] * BAND_BYTES
        if need <= memory:
            return plan
        if read[0] * read[1] == smallest:
            raise OutOfMemory(
                f"not even a tile of {read[1]}x{read[0]} pixels fits in the memory allowed",
                "raise --max-memory, or use a method that needs less",
            )
        side, smallest = side // 2, read[0] * read[1]


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
