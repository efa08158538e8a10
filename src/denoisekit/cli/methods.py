"""``denoisekit methods``: what there is to choose from."""

from __future__ import annotations

from dataclasses import asdict
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
    every = [_facts(info) for info in infos]
    if as_json:
        for facts in every:
            render.json_line(facts)
    elif name is not None:
        _show_one(infos[0], every[0])
    else:
        unit = _facts(METHODS[0])["tflop_per_megapixel"]
        rows = []
        for facts in every:
            times = facts["tflop_per_megapixel"] / unit
            known = [facts[key] for key in ("id", "title", "best_for")]
            known.append(f"{times:.0f}x" if times >= 10 else f"{times:.2g}x")
            rows.append([*known, facts["tiling"], ", ".join(facts["default_weights"])])
        columns = ("id", "title", "best for", "time", "large images", "default weights")
        render.table(columns, [[*row[:-1], row[-1] or "none published"] for row in rows])
        render.out(
            f"time: as a multiple of {METHODS[0].id}'s, on the same image; "
            "denoisekit methods ID tells more"
        )
    for failure in load_plugins()[1] if name is None else ():
        about = f"'{failure.name}' of {failure.package} {failure.version}"
        render.err(f"warning: the plugin {about} is left out: {failure.reason}")


def _show_one(info: MethodInfo, facts: dict[str, Any]) -> None:
    memory = ", ".join(f"{b:.0f} ({name})" for name, b in facts["bytes_per_pixel"].items())
    weights = ", or else ".join(info.default_weights)
    rows = [
        ("title", info.title),
        ("what it is", info.summary),
        ("best for", info.best_for),
        ("source", info.citation),
        ("default weights", weights or f"none published: {info.without_weights}"),
        ("cost", f"{facts['tflop_per_megapixel']:.3g} TFLOP a megapixel"),
        ("memory", f"{memory} bytes a pixel of a tile"),
        ("tiles", facts["tiles"]),
    ]
    for setting in info.settings:
        value = setting.default
        shown = ("off", "on")[value] if isinstance(value, bool) else f"{value:g}"
        rows.append((f"--set {setting.name}={shown}", setting.help))
    render.table((info.id, ""), rows)


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
    settings = {setting.name: asdict(setting) for setting in info.settings}
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
            name: {key: facts[key] for key in ("default", "minimum", "maximum", "help")}
            for name, facts in settings.items()
        },
    }
