"""``denoisekit inspect``: what a file holds, how noisy it is, what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.cli.pipes import piped
from denoisekit.cli.shared import Axes, Range

if TYPE_CHECKING:
    from denoisekit.image import ImageInfo, Reader
    from denoisekit.noise.estimate import NoiseEstimate

EPILOG = (
    "Examples:\n\ndenoisekit inspect photo.jpg\n\ndenoisekit inspect stack.tif --axes TYX --json"
)


def inspect(
    file: Annotated[Path, typer.Argument(help="An image; - is stdin.", show_default=False)],
    axes: Axes = None,
    range: Range = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a file holds, its noise, the method that suits it, and how long that takes."""
    from denoisekit.formats import open_image

    with piped([str(file)], Path()) as ((name,), _):
        reader = open_image(Path(name), axes)
        try:
            facts = {"file": str(file), **_content(reader.info), **_noise(reader, range)}
            facts.update(_advice(reader.info, facts))
        finally:
            reader.close()
    if as_json:
        render.json_line(facts)
        return
    render.table(
        ("", ""), [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    )


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _content(info: ImageInfo) -> dict[str, Any]:
    from denoisekit.formats import find_format

    meta = info.metadata
    found = {
        "ICC profile": meta.icc,
        "EXIF": meta.exif,
        "XMP": meta.xmp,
        "resolution": meta.dpi,
    }
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

    def rows(top: int, bottom: int) -> Any:
        return view.unit(plane, top, bottom)

    estimate: NoiseEstimate | None = estimate_noise_rows(rows, info.height, info.width)
    hot, dead, masked = count_wrong(reader, signal)
    facts: dict[str, Any] = {
        "range": [signal.scale.low, signal.scale.high],
        "no_data": list(signal.absent),
        "no_measurement": masked,
        "hot_pixels": hot,
        "dead_pixels": dead,
    }
    if estimate is None:
        return {**facts, "noise_sigma": None, "noise_correlation": None}
    return {
        **facts,
        "noise_sigma": list(estimate.sigma),
        "noise_correlation": list(estimate.correlation),
        "noise": "correlated between neighbours (processed by a camera)"
        if estimate.correlated
        else "independent from pixel to pixel",
    }


def _advice(info: ImageInfo, facts: dict[str, Any]) -> dict[str, Any]:
    from denoisekit.engine.timing import estimate_seconds, measure_work, untrained
    from denoisekit.methods import METHODS

    method = METHODS[0]
    denoiser = untrained(method)
    seconds = estimate_seconds(denoiser, measure_work(denoiser, [info]))
    time = "a few seconds" if seconds is None else render.duration(seconds)
    sigma = facts["noise_sigma"]
    advice = f"denoisekit denoise --method {method.id}"
    if sigma and max(sigma) < 0.004:
        advice += " --strength 0.5 (there is little noise: look at the result closely)"
    return {"suggested": advice, "estimated_time": time}
