"""``denoisekit methods``: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from denoisekit.cli import render
from denoisekit.methods import METHODS
from denoisekit.methods.base import MethodInfo

EPILOG = "Examples:\n\ndenoisekit methods\n\ndenoisekit methods --json"


def methods(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per method.")] = False,
) -> None:
    """List the denoising methods, what each is best for and what it costs."""
    if as_json:
        for info in METHODS:
            render.json_line(_facts(info))
        return
    render.table(
        (
            "id",
            "title",
            "best for",
            "GFLOP per megapixel",
            "GB per megapixel of a tile",
            "exact tiles",
            "default weights",
        ),
        [
            (
                info.id,
                info.title,
                info.best_for,
                f"{info.flop_per_pixel / 1e3:.3g}",
                ", ".join(f"{b / 1e3:.2g} {name}" for name, b in info.bytes_per_pixel.items()),
                f"yes, halo {info.limits.halo} px",
                info.default_weights,
            )
            for info in METHODS
        ],
    )


def _facts(info: MethodInfo) -> dict[str, object]:
    return {
        "id": info.id,
        "title": info.title,
        "summary": info.summary,
        "best_for": info.best_for,
        "citation": info.citation,
        "gflop_per_megapixel": info.flop_per_pixel / 1e3,
        "bytes_per_pixel": dict(info.bytes_per_pixel),
        "halo": info.limits.halo,
        "align": info.limits.align,
        "default_weights": info.default_weights,
    }
