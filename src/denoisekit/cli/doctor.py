"""``denoisekit doctor``: what this computer offers, and what `denoise` would use of it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from importlib import metadata
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
    """Show versions, devices, memory, weights, plugins and formats, and what would be used."""
    facts: Facts = {
        "versions": _versions(),
        "system": _system(),
        "devices": _devices(),
        "weights_cache": _cache(),
        "weights": _weights(),
        "plugins": _plugins(),
        "formats": _formats(),
    }
    facts["would_use"] = _choice(facts)
    facts["notes"] = _notes()
    if as_json:
        render.json_line(facts)
        return
    for section in ("versions", "system", "devices", "weights_cache", "weights", "plugins"):
        _show(section, facts[section])
    _show("formats", facts["formats"])
    choice = facts["would_use"]
    render.out(
        f"denoise would use {choice['device']} ({choice['device_why']}), "
        f"{choice['precision']} ({choice['precision_why']}), the method {choice['method']} "
        f"and the weights {choice['weights']} ({choice['weights_why']})."
    )
    for note in facts["notes"]:
        render.out(f"note: {note}")


def _show(section: str, entries: Facts | list[Facts]) -> None:
    if isinstance(entries, dict):
        columns = [section, ""]
        rows = [[_words(name), _text(value)] for name, value in entries.items()]
    elif not entries:
        columns, rows = [section, ""], [["none", ""]]
    else:
        columns = [_words(name) for name in entries[0]]
        rows = [[_text(value) for value in entry.values()] for entry in entries]
    columns[0] = _words(columns[0])
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

    from denoisekit.engine.device import cpu_model

    memory = psutil.virtual_memory()
    return {
        "os": platform.platform(),
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(logical=False),
        "hardware_threads": psutil.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_GiB": round(memory.total / 2**30, 1),
        "memory_available_GiB": round(memory.available / 2**30, 1),
    }


def _devices() -> list[Facts]:
    import torch

    from denoisekit.engine.device import cpu_model, native_bf16

    def device(name: str, model: str, memory: int | None, bf16: str, fp16: str) -> Facts:
        gibibytes = memory and round(memory / 2**30, 1)
        precisions = {"fp32": "yes", "bf16": bf16, "fp16": fp16}
        return {"device": name, "name": model, "memory_GiB": gibibytes, **precisions}

    found = [device("cpu", cpu_model(), None, "native" if native_bf16() else "slow", "no")]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(index)
        # NVIDIA's compute capability 8 (Ampere) brought bf16.
        bf16 = "native" if gpu.major >= 8 else "slow"
        found.append(device(f"cuda:{index}", gpu.name, gpu.total_memory, bf16, "native"))
    if torch.backends.mps.is_available():
        found.append(device("mps", "Apple GPU", None, "yes", "native"))
    return found


def _cache() -> Facts:
    from denoisekit.weights import cache_folder
    from denoisekit.weights.download import offline

    folder = cache_folder()
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110
    return {
        "folder": str(folder),
        "writable": os.access(existing, os.W_OK | os.X_OK),
        "network_allowed": not offline(),
    }


def _weights() -> list[Facts]:
    from denoisekit.weights import find, load_manifest

    found = []
    for entry in load_manifest():
        stored = find(entry)
        state = "missing" if stored is None else stored.damage or "present"
        found.append({"weights": entry.id, "method": entry.method, "state": state})
    return found


def _plugins() -> list[Facts]:
    from denoisekit.methods.plugins import installed_plugins

    plugins, failures = installed_plugins()
    found = [(p.info.id, p.package, p.version, "works") for p in plugins]
    found += [(f.name, f.package, f.version, f"left out: {f.reason}") for f in failures]
    columns = ("plugin", "package", "version", "state")
    return [dict(zip(columns, row, strict=True)) for row in found]


def _formats() -> list[Facts]:
    from denoisekit.formats import FORMATS

    return [{"format": f.id, "title": f.title, "suffixes": " ".join(f.suffixes)} for f in FORMATS]


def _choice(facts: Facts) -> Facts:
    """Return what `denoise` would take if nothing were said, and the reasons."""
    from denoisekit.engine.device import choose_precision, native_bf16, resolve_device
    from denoisekit.methods import METHODS

    device = resolve_device("auto")
    precision = choose_precision(device, "auto")
    faster = "; --precision bf16 is faster here" if device.type == "cuda" or native_bf16() else ""
    method = METHODS[0]
    weights, state = _weights_chosen(method.default_weights, facts)
    return {
        "device": str(device),
        "device_why": "torch can use it" if device.type == "cuda" else "torch sees no CUDA device",
        "precision": precision,
        "precision_why": f"the precision of the published figures{faster}",
        "method": method.id,
        "weights": weights,
        "weights_why": state,
    }


def _weights_chosen(names: Sequence[str], facts: Facts) -> tuple[str, str]:
    """Return the first weights that can be had, and what is to be known of them."""
    states = {entry["weights"]: entry["state"] for entry in facts["weights"]}
    cache = facts["weights_cache"]
    usable = cache["network_allowed"] and cache["writable"]
    for name in names:
        if states[name] != "missing":
            better = names[0]
            fix = f"better: denoisekit weights pull {better}, or weights import FILE"
            return name, states[name] if name == better else f"{states[name]}; {fix}"
        if usable:
            return name, "missing, the first run downloads them"
    raise AssertionError("no weights ship with denoisekit")


def _notes() -> list[str]:
    import torch

    notes = []
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        if torch.version.cuda is None:
            notes.append(
                "an NVIDIA driver is installed, but this torch was built without CUDA: "
                "install a CUDA build from https://pytorch.org/get-started/locally/"
            )
        else:
            notes.append(
                f"this torch is built for CUDA {torch.version.cuda} but reaches no GPU: "
                "see whether nvidia-smi works, and update the driver"
            )
    if torch.backends.mps.is_available():
        notes.append("--device mps would use the Apple GPU")
    return notes


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
