"""``denoisekit compare``: several methods on one's own image, ranked, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.atomic import Claim, write_synced
from denoisekit.cli import render
from denoisekit.cli.shared import (
    Axes,
    Device,
    Methods,
    Overwrite,
    Quiet,
    Range,
    Weights,
    end_batch,
    split,
)
from denoisekit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from denoisekit.comparing import Part

EPILOG = (
    "Examples:\n\n"
    "denoisekit compare photo.jpg --open\n\n"
    "denoisekit compare photo.jpg --time 5m --crop 1200,800,512,512\n\n"
    "denoisekit compare stack.tif --plane 4 --plane 20 --methods aprrd,nlm"
)


def compare(
    image: Annotated[Path, typer.Argument(help="An image or stack.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page; default: IMAGE_compare.html.")
    ] = None,
    methods: Methods = None,
    weights: Weights = None,
    max_time: Annotated[
        str,
        typer.Option(
            "--time",
            help="Time for all together, such as 60s or 5m; what does not fit is left out. Without "
            "limit where --methods or --weights say what to try.",
        ),
    ] = "60s",
    crop: Annotated[
        str | None, typer.Option(help="X,Y,W,H in pixels; default: all, or the middle.")
    ] = None,
    plane: Annotated[
        list[int] | None,
        typer.Option(help="Of a stack, from 0; several times; default: three of them."),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Keep the page's pictures without loss.")
    ] = False,
    overwrite: Overwrite = False,
    range: Range = "auto",
    axes: Axes = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    quiet: Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on stdout, in place of a table.")
    ] = False,
) -> None:
    """Denoise a part of an image in several ways, rank them, and show all on one page."""
    from denoisekit.cli.compare_view import Speaker
    from denoisekit.comparing import Limits, choices_here, choices_named
    from denoisekit.engine.signal import find_signal
    from denoisekit.formats import check_output, claim_output, open_image
    from denoisekit.options import parse_time
    from denoisekit.ranges import parse_range

    page = output or image.with_name(f"{image.stem}_compare.html")
    if page.suffix.lower() not in {"", ".html", ".htm"}:
        raise UsageError(
            f"{page}: compare writes a page (HTML), not a picture",
            f"-o {page.with_suffix('.html')}; for a picture: denoisekit denoise {image} -o {page}",
        )
    check_output(page, overwrite=overwrite)
    named = choices_named(split(methods or []), weights or [])
    seconds = parse_time(max_time)
    choices = named or choices_here()
    if not choices:
        raise UsageError("no weights are here to compare", "see denoisekit weights list")
    limits = Limits(None if named else seconds, device, precision, range)
    reader = open_image(image, axes)
    claim = claim_output(page, overwrite=overwrite)
    try:
        part = _part(reader, crop, plane)
        scale = find_signal(parse_range(range), reader).scale
        speaker = Speaker(image, reader.info, part, scale, quiet or as_json)
        results, skipped = speaker.run(choices, limits)
        _write(claim, speaker.page(results, skipped, limits, axes, lossless))
    finally:
        claim.close()
        reader.close()
    if as_json:
        render.json_line(speaker.facts(results, skipped, page, limits, axes))
    else:
        speaker.table(results, page, limits, axes)
    if open_page:
        _open(page)
    end_batch([one.bug.exit_code for one in skipped if one.bug])


def _part(reader: Any, crop: str | None, planes: Sequence[int] | None) -> Part:
    from denoisekit.comparing import Part, middle_crop, parse_crop, spread_planes

    info = reader.info
    for plane in planes or []:
        if not 0 <= plane < info.planes:
            raise UsageError(f"the image has no plane {plane}", f"it has {info.planes}, from 0 on")
    where = (
        parse_crop(crop, info.width, info.height) if crop else middle_crop(info.width, info.height)
    )
    chosen = tuple(dict.fromkeys(planes)) if planes else spread_planes(info.planes)
    return Part(reader, where, chosen)


def _write(claim: Claim, html: str) -> None:
    try:
        write_synced(claim.part, html.encode())
        claim.put()
    except OSError as error:
        raise OutputError(f"cannot write {claim.path}: {error.strerror or error}") from error


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        render.err(f"note: no browser could be opened; open {path} yourself")
