"""``denoisekit doctor``: what this computer offers, and what `denoise` would use of it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Annotated, Any

import typer

from denoisekit.cli import render

EPILOG = "Examples:\n\ndenoisekit doctor\n\ndenoisekit doctor --json > report.json"

PACKAGES = (
    "denoisekit torch numpy pillow imagecodecs tifffile safetensors huggingface-hub typer rich"
)

Facts = dict[str, Any]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show versions, devices, memory, weights, plugins and formats, and what would be used."""
    facts = _facts()
    facts["would_use"] = choice = _choice(facts)
    facts["notes"] = list(_notes())
    if as_json:
        render.json_line(facts)
        return
    for section in list(facts)[:-2]:
        title, entries = section.replace("_", " "), facts[section]
        if isinstance(entries, Mapping):
            rows = [
                (name.replace("_", " "), render.words(value)) for name, value in entries.items()
            ]
            render.table((title, ""), rows)
        elif entries:
            columns = [name.replace("_", " ") for name in entries[0]]
            render.table(columns, [[*map(render.words, entry.values())] for entry in entries])
        else:
            render.table((title, ""), [("none", "")])
        render.out("")
    render.out(
        f"denoise would use {choice['device']} ({choice['device_why']}), "
        f"{choice['precision']} ({choice['precision_why']}), the method {choice['method']} "
        f"and the weights {choice['weights']} ({choice['weights_why']})."
    )
    for note in facts["notes"]:
        render.out(f"note: {note}")


def _facts() -> Facts:
    """Return what there is, by sections."""
    import psutil
    import torch

    from denoisekit.engine.device import cpu_model
    from denoisekit.formats import FORMATS
    from denoisekit.methods.plugins import installed_plugins
    from denoisekit.weights import cache_folder, find, load_manifest
    from denoisekit.weights.download import offline

    versions: Facts = {"python": platform.python_version()}
    for package in PACKAGES.split():
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    memory, folder = psutil.virtual_memory(), cache_folder()
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110
    plugins, failures = installed_plugins()
    found = [(p.info.id, p.package, p.version, "works") for p in plugins]
    found += [(f.name, f.package, f.version, f"left out: {f.reason}") for f in failures]
    weights = []
    for entry in load_manifest():
        stored = find(entry)
        state = "missing" if stored is None else stored.damage or "present"
        weights.append({"weights": entry.id, "method": entry.method, "state": state})
    return {
        "versions": versions,
        "system": {
            "os": platform.platform(),
            "cpu": cpu_model(),
            "cores": psutil.cpu_count(logical=False),
            "hardware_threads": psutil.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "memory_GiB": round(memory.total / 2**30, 1),
            "memory_available_GiB": round(memory.available / 2**30, 1),
        },
        "devices": list(_devices()),
        "weights_cache": {
            "folder": str(folder),
            "writable": os.access(existing, os.W_OK | os.X_OK),
            "network_allowed": not offline(),
        },
        "weights": weights,
        "plugins": [
            dict(zip(("plugin", "package", "version", "state"), row, strict=True)) for row in found
        ],
        "formats": [
            {"format": f.id, "title": f.title, "suffixes": " ".join(f.suffixes)} for f in FORMATS
        ],
    }


def _devices() -> Iterator[Facts]:
    import torch

    from denoisekit.engine import device

    native = "native" if device.native_bf16() else "slow"
    rows: list[tuple[str, str, float | None, str, str]]
    rows = [("cpu", device.cpu_model(), None, native, "no")]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(index)
        # NVIDIA's compute capability 8 (Ampere) brought bf16.
        bf16 = "native" if gpu.major >= 8 else "slow"
        gibibytes = round(gpu.total_memory / 2**30, 1)
        rows.append((f"cuda:{index}", gpu.name, gibibytes, bf16, "native"))
    if torch.backends.mps.is_available():
        rows.append(("mps", "Apple GPU", None, "yes", "native"))
    for name, model, memory, bf16, fp16 in rows:
        precisions = {"fp32": "yes", "bf16": bf16, "fp16": fp16}
        yield {"device": name, "name": model, "memory_GiB": memory, **precisions}


def _choice(facts: Facts) -> Facts:
    """Return what `denoise` would take if nothing were said, and the reasons."""
    from denoisekit.engine.device import choose_precision, native_bf16, resolve_device
    from denoisekit.methods import METHODS

    device, method = resolve_device("auto"), METHODS[0]
    cuda = device.type == "cuda"
    faster = "; --precision bf16 is faster here" if cuda or native_bf16() else ""
    states = {entry["weights"]: entry["state"] for entry in facts["weights"]}
    fetched = facts["weights_cache"]["network_allowed"] and facts["weights_cache"]["writable"]
    better = method.default_weights[0]
    weights = next(each for each in method.default_weights if fetched or states[each] != "missing")
    why = states[weights]
    if why == "missing":
        why = "missing, the first run downloads them"
    elif weights != better:
        why += f"; better: denoisekit weights pull {better}, or weights import FILE"
    return {
        "device": str(device),
        "device_why": "torch can use it" if cuda else "torch sees no CUDA device",
        "precision": choose_precision(device, "auto"),
        "precision_why": f"the precision of the published figures{faster}",
        "method": method.id,
        "weights": weights,
        "weights_why": why,
    }


def _notes() -> Iterator[str]:
    import torch

    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        if torch.version.cuda is None:
            yield (
                "an NVIDIA driver is installed, but this torch was built without CUDA: "
                "install a CUDA build from https://pytorch.org/get-started/locally/"
            )
        else:
            yield (
                f"this torch is built for CUDA {torch.version.cuda} but reaches no GPU: "
                "see whether nvidia-smi works, and update the driver"
            )
    if torch.backends.mps.is_available():
        yield "--device mps would use the Apple GPU"
