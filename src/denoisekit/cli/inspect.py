"""``denoisekit inspect``: what a file holds, how noisy it is, what to do about it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.cli.shared import Axes, Range, piped

if TYPE_CHECKING:
    from denoisekit.image import ImageInfo, Reader

EPILOG = (
    "Examples:\n\ndenoisekit inspect photo.jpg\n\ndenoisekit inspect stack.tif --axes TYX --json"
)

LITTLE_NOISE = 0.004
"""Deviation on 0..1 below which the full strength may take more than noise: a value of 255."""


def inspect(
    file: Annotated[Path, typer.Argument(help="An image; - is stdin.", show_default=False)],
    axes: Axes = None,
    range: Range = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a file holds, its noise, the method that suits it, and how long that takes."""
    from denoisekit.engine.timing import estimate_seconds, measure_work, untrained
    from denoisekit.formats import open_image
    from denoisekit.methods import METHODS

    with (
        piped([str(file)], Path()) as ((name,), _),
        closing(open_image(Path(name), axes)) as reader,
    ):
        facts = {"file": str(file), **_content(reader.info), **_noise(reader, range)}
        denoiser = untrained(METHODS[0])
        seconds = estimate_seconds(denoiser, measure_work(denoiser, [reader.info]))
    facts["suggested"] = f"denoisekit denoise --method {METHODS[0].id}"
    if facts["noise_sigma"] and max(facts["noise_sigma"]) < LITTLE_NOISE:
        facts["suggested"] += " --strength 0.5 (there is little noise: look at the result closely)"
    facts["estimated_time"] = "a few seconds" if seconds is None else render.duration(seconds)
    if as_json:
        render.json_line(facts)
        return
    rows = [(name.replace("_", " "), render.words(value)) for name, value in facts.items()]
    render.table(("", ""), rows)


def _content(info: ImageInfo) -> dict[str, Any]:
    from denoisekit.formats import find_format

    meta = info.metadata
    found = {"ICC profile": meta.icc, "EXIF": meta.exif, "XMP": meta.xmp, "resolution": meta.dpi}
    return {
        "format": find_format(info.format).title,
        "width": info.width,
        "height": info.height,
        "megapixels": info.planes * info.width * info.height / 1e6,
        "axes": info.axes,
        "shape": list(info.shape),
        "planes": info.planes,
        "dtype": str(info.dtype),
        "significant_bits": info.bits,
        "colour": info.colour + (" + alpha" if info.alpha else ""),
        "metadata": [name for name, value in found.items() if value is not None],
        "details": sorted(meta.container),
        "warnings": list(info.warnings),
    }


def _noise(reader: Reader, range_text: str) -> dict[str, Any]:
    """Estimate the noise of the middle plane, on 0..1."""
    from denoisekit.engine.signal import find_signal
    from denoisekit.engine.view import View, count_wrong
    from denoisekit.noise.estimate import estimate_noise_rows
    from denoisekit.ranges import parse_range

    info = reader.info
    signal = find_signal(parse_range(range_text), reader)
    view, plane = View(reader, signal), info.planes // 2
    estimate = estimate_noise_rows(
        lambda top, bottom: view.unit(plane, top, bottom), info.height, info.width
    )
    hot, dead, masked = count_wrong(reader, signal)
    facts: dict[str, Any] = {
        "range": [signal.scale.low, signal.scale.high],
        "no_data": list(signal.absent),
        "no_measurement": masked,
        "hot_pixels": hot,
        "dead_pixels": dead,
        "noise_sigma": None,
        "noise_correlation": None,
    }
    if estimate is not None:
        facts["noise_sigma"] = list(estimate.sigma)
        facts["noise_correlation"] = list(estimate.correlation)
        facts["noise"] = "independent from pixel to pixel"
        if estimate.correlated:
            facts["noise"] = "correlated between neighbours (processed by a camera)"
    return facts
