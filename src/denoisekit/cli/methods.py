"""``denoisekit methods``: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.methods import METHODS, MethodInfo, all_methods, get_method
from denoisekit.methods.plugins import load_plugins

EPILOG = "Examples:\n\ndenoisekit methods\n\ndenoisekit methods ssbsn\n\ndenoisekit methods --json"


def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="Tell all about this one.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per method.")] = False,
) -> None:
    """List the denoisers to choose from: what each is best for, and how long it takes."""
    infos = all_methods() if name is None else (get_method(name),)
    if as_json:
        for info in infos:
            render.json_line(_facts(info))
    elif name is None:
        columns = ("id", "title", "best for", "time", "large images", "default weights")
        render.table(columns, [_row(info) for info in infos])
        render.out(
            f"time: as a multiple of {METHODS[0].id}'s, on the same image; "
            "denoisekit methods ID tells more"
        )
    else:
        _tell(infos[0])
    if name is None:
        for failure in load_plugins()[1]:
            about = f"'{failure.name}' of {failure.package} {failure.version}"
            render.err(f"warning: the plugin {about} is left out: {failure.reason}")


def _row(info: MethodInfo) -> tuple[str, ...]:
    facts = _facts(info)
    return (
        info.id,
        info.title,
        info.best_for,
        _times(facts["tflop_per_megapixel"] / _facts(METHODS[0])["tflop_per_megapixel"]),
        facts["tiling"],
        ", ".join(info.default_weights) or "none published",
    )


def _times(factor: float) -> str:
    return f"{factor:.0f}x" if factor >= 10 else f"{factor:.2g}x"


def _tell(info: MethodInfo) -> None:
    facts = _facts(info)
    memory = ", ".join(f"{b:.0f} ({name})" for name, b in facts["bytes_per_pixel"].items())
    rows = [
        ("title", info.title),
        ("what it is", info.summary),
        ("best for", info.best_for),
        ("source", info.citation),
        (
            "default weights",
            ", or else ".join(info.default_weights) or f"none published: {info.without_weights}",
        ),
        ("cost", f"{facts['tflop_per_megapixel']:.3g} TFLOP a megapixel"),
        ("memory", f"{memory} bytes a pixel of a tile"),
        ("tiles", facts["tiles"]),
    ]
    rows += [
        (f"--set {setting.name}={_shown(setting.default)}", setting.help)
        for setting in info.settings
    ]
    render.table((info.id, ""), rows)


def _shown(value: float) -> str:
    words = {True: "on", False: "off"}
    return words[value] if isinstance(value, bool) else f"{value:g}"


def _facts(info: MethodInfo) -> dict[str, Any]:
    traits = info.traits(info.config, info.choose())
    limits = traits.limits
    if limits.native is not None:
        tiling = "blended"
        tiles = f"of {limits.native} pixels, blended: the network sees a tile as a whole"
    elif traits.studies:
        tiling = "after a study"
        tiles = f"exact, halo {limits.halo} pixels, once the image has been studied as a whole"
    else:
        tiling = "exact"
        tiles = f"equal to the whole image, halo {limits.halo} pixels"
    return {
        "id": info.id,
        "title": info.title,
        "summary": info.summary,
        "best_for": info.best_for,
        "citation": info.citation,
        "tflop_per_megapixel": traits.flop((limits.native or 0) ** 2) / 1e6,
        "bytes_per_pixel": dict(traits.bytes_per_pixel),
        "tiling": tiling,
        "tiles": tiles,
        "halo": limits.halo,
        "align": limits.align,
        "default_weights": info.default_weights,
        "settings": {
            setting.name: {
                "default": setting.default,
                "minimum": setting.minimum,
                "maximum": setting.maximum,
                "help": setting.help,
            }
            for setting in info.settings
        },
    }
