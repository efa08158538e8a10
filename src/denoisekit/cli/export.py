"""``denoisekit weights export``: a network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denoisekit.cli import render
from denoisekit.cli.shared import check_writable
from denoisekit.options import parse_settings

EPILOG = (
    "Examples:\n\ndenoisekit weights export aprrd.sidd --to onnx student.onnx\n\n"
    "denoisekit weights export sdap.sidd --to torchscript sdap.pt --set enhance=off"
)


def export_weights(
    name: Annotated[str, typer.Argument(metavar="ID|FILE", help="Id of the weights, or a file.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="onnx or torchscript.")],
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method; repeatable."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write a local network as one file for other programs, and compare it with the original."""
    from denoisekit.export.exporting import check, export, look_up
    from denoisekit.weights import load_weights

    settings = parse_settings(set or [], "--set")
    source = look_up(name)
    method = source.method
    # Before anything is fetched; the network of these weights is asked again later.
    published = method.traits(method.config, method.choose(settings))
    check(method, published, output, kind=to, overwrite=overwrite)
    check_writable(output, overwrite=overwrite)
    with render.progress(name, source.bytes / 1e6, "MB", quiet=quiet) as bar:
        weights = load_weights(name, method, progress=lambda done, _: bar.update(done / 1e6))
    for warning in weights.warnings:
        render.err(f"warning: {warning}")
    done = export(
        weights,
        method,
        output,
        kind=to,
        settings=settings,
        licence=source.licence,
        overwrite=overwrite,
    )
    if as_json:
        render.json_line(
            {
                "path": str(done.path),
                "difference": done.difference,
                "sizes": [list(size) for size in done.sizes],
                **done.facts,
            }
        )
        return
    sizes = ", ".join(f"{height}x{width}" for height, width in done.sizes)
    opset = f", opset {done.facts['opset']}" if "opset" in done.facts else ""
    render.out(f"{output}: written ({to}{opset})")
    render.out(f"largest difference from the original: {done.difference:.1g} of its range")
    render.out(f"compared at: {sizes}")
    if source.licence == "none stated":
        render.err(f"note: {name} has no stated licence: use the file, but do not pass it on")
