"""``denoisekit bench speed``: how fast methods are here, and how near that is to the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.cli.bench_sets import Json
from denoisekit.cli.shared import Device, Methods, Quiet, Weights, split
from denoisekit.errors import UsageError

if TYPE_CHECKING:
    from denoisekit.bench.speed import Speed

EPILOG = (
    "Examples:\n\n"
    "denoisekit bench speed --methods aprrd\n\n"
    "denoisekit bench speed --methods aprrd,tv --sizes 256,1024 --precision fp32,bf16 --json"
)


def speed(
    methods: Methods = None,
    weights: Weights = None,
    sizes: Annotated[str, typer.Option(help="Sides of the pictures, in pixels.")] = "256,512,1024",
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, fp32, bf16, fp16; several with commas between.")
    ] = "auto",
    repeats: Annotated[
        int,
        typer.Option(help="How often each is timed; more for a second, fewer after half a minute."),
    ] = 5,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure speed, memory and energy on random pictures, against the machine's matrix rate."""
    from denoisekit.bench.candidates import gather
    from denoisekit.bench.probe import Energy, describe_machine
    from denoisekit.bench.speed import measure_speed
    from denoisekit.engine.device import resolve_device
    from denoisekit.metrics import SRGB

    where = resolve_device(device)
    sides = [_side(text) for text in split([sizes])]
    names = split(methods or [])
    if not names and not weights:
        raise UsageError("nothing is named to measure", "denoisekit bench speed --methods aprrd")
    found: list[Speed] = []
    rates: dict[str, float] = {}
    for index, kind in enumerate(split([precision])):
        # What has no network has no precision either: once is enough.
        chosen = gather(names, weights or [], SRGB, device=device, precision=kind)
        chosen = [c for c in chosen if not index or "precision" in c.facts]
        total = (len(chosen) - (not index)) * len(sides)
        with render.progress(f"speed {kind}", total, "rows", quiet=quiet or as_json) as bar:
            rows = measure_speed(
                chosen,
                where,
                sides,
                repeats=repeats,
                rates=rates,
                tell=bar.update,
            )
        found += rows
    machine = {**describe_machine(where), "energy": Energy(where).source or None}
    if as_json:
        rows_told = [row.facts() for row in found]
        render.json_line({"machine": machine, "matrix_rates": rates, "rows": rows_told})
    else:
        _show(found, machine, rates)


def _side(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a size", "write for instance 256,512") from None


def _show(found: list[Speed], machine: dict[str, Any], rates: dict[str, float]) -> None:
    rows = []
    for row in found:
        facts = row.facts()
        joules, share = facts["joules_per_megapixel"], row.share
        rows.append(
            (
                row.candidate,
                row.precision or "-",
                f"{row.size}x{row.size}",
                f"{row.megapixels:.3g}",
                f"{row.median:.3g}",
                f"{min(row.seconds):.3g}-{max(row.seconds):.3g}",
                f"{row.memory / 2**20:.0f}",
                "-" if joules is None else f"{joules:.3g}",
                f"{row.flop / row.size**2 / 1e3:.4g}" if row.flop else "-",
                "-" if share is None else f"{share:.0%}",
            )
        )
    columns = ("", "precision", "size", "MP/s", "s", "of", "MiB", "J/MP", "kFLOP/pixel", "of limit")
    render.table(columns, rows, f"{machine['device']}, {machine['date']}")
    for kind, rate in rates.items():
        render.out(f"limit: matrix products of {kind} at {rate / 1e9:.4g} GFLOP/s, measured now")
    render.out(
        f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, {machine['os']}"
    )
    energy = machine["energy"]
    render.out(f"energy: {energy}" if energy else "energy: not known, this machine does not tell")
