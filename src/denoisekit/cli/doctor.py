"""``denoisekit doctor``: what this computer offers, and what `denoise` would use of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from denoisekit.cli import render

EPILOG = "Examples:\n\ndenoisekit doctor\n\ndenoisekit doctor --json > report.json"

PACKAGES = (
    "denoisekit",
    "torch",
    "numpy",
    "pillow",
    "imagecodecs",
    "tifffile",
    "safetensors",
    "huggingface-hub",
    "typer",
    "rich",
)

Facts = dict[str, Any]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show versions, devices, memory, formats and weights, and what would be used and why."""
    facts: Facts = {
        "versions": _versions(),
        "system": _system(),
        "devices": _devices(),
        "weights": _weights(),
        "known weights": _known_weights(),
        "formats": _formats(),
    }
    if as_json:
        render.json_line(facts)
        return
    for section, entries in facts.items():
        _show(section, entries)


def _show(section: str, entries: Facts | list[Facts]) -> None:
    if isinstance(entries, dict):
        columns: tuple[str, ...] = (section, "")
        rows: list[tuple[str, ...]] = [(name, _text(value)) for name, value in entries.items()]
    else:
        columns = tuple(entries[0]) if entries else (section,)
        rows = [tuple(_text(value) for value in entry.values()) for entry in entries]
    render.table(columns, rows)
    render.out("")


def _versions() -> Facts:
    found: Facts = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _system() -> Facts:
    import psutil
    import torch

    memory = psutil.virtual_memory()
    return {
        "os": platform.platform(),
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=False),
        "hardware threads": psutil.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "memory GiB": round(memory.total / 2**30, 1),
        "memory available GiB": round(memory.available / 2**30, 1),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return platform.processor() or platform.machine()


def _devices() -> list[Facts]:
    import torch

    found: list[Facts] = [{"device": "cpu", "name": _cpu_model(), "memory GiB": None}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "device": f"cuda:{index}",
                "name": properties.name,
                "memory GiB": round(properties.total_memory / 2**30, 1),
            }
        )
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": platform.machine(), "memory GiB": None})
    return found


def _weights() -> Facts:
    from denoisekit.weights import cache_folder
    from denoisekit.weights.fetch import offline

    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return {
        "folder": str(folder),
        "writable": os.access(existing, os.W_OK | os.X_OK),
        "network allowed": not offline(),
    }


def _known_weights() -> list[Facts]:
    from denoisekit.weights import find, load_manifest

    found = []
    for entry in load_manifest():
        stored = find(entry)
        state = "missing" if stored is None else stored.damage or "present"
        found.append({"weights": entry.id, "method": entry.method, "state": state})
    return found


def _formats() -> list[Facts]:
    from denoisekit.formats import FORMATS

    return [{"format": f.id, "title": f.title, "suffixes": " ".join(f.suffixes)} for f in FORMATS]


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
