"""``denoisekit compare``: several methods on one's own image, ranked, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoisekit.atomic import write_synced
from denoisekit.cli import render
from denoisekit.cli.shared import (
    Axes,
    Device,
    JsonTable,
    Lossless,
    Methods,
    Overwrite,
    Precision,
    Quiet,
    Range,
    Weights,
    end_batch,
    split,
)
from denoisekit.errors import DenoisekitError, OutputError, UsageError

if TYPE_CHECKING:
    from denoisekit.compare import Comparison

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
    lossless: Lossless = False,
    overwrite: Overwrite = False,
    range: Range = "auto",
    axes: Axes = None,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    as_json: JsonTable = False,
) -> None:
    """Denoise a part of an image in several ways, rank them, and show all on one page."""
    from denoisekit.compare import (
        Comparison,
        Part,
        Result,
        choices_here,
        choices_named,
        middle_crop,
        parse_crop,
        spread_planes,
    )
    from denoisekit.engine.signal import find_signal
    from denoisekit.formats import check_output, claim_output, open_image
    from denoisekit.options import parse_time
    from denoisekit.ranges import parse_range

    page = output or image.with_name(f"{image.stem}_compare.html")
    report = render.Reporter(quiet or as_json)
    if page.suffix.lower() not in {"", ".html", ".htm"}:
        raise UsageError(
            f"{page}: compare writes a page (HTML), not a picture",
            f"-o {page.with_suffix('.html')}; for a picture: denoisekit denoise {image} -o {page}",
        )
    check_output(page, overwrite=overwrite)
    named = choices_named(split(methods), weights or [])
    seconds = parse_time(max_time)
    choices = named or choices_here()
    if not choices:
        raise UsageError("no weights are here to compare", "see denoisekit weights list")
    reader = open_image(image, axes)
    claim = claim_output(page, overwrite=overwrite)
    try:
        info = reader.info
        for one in plane or []:
            if not 0 <= one < info.planes:
                raise UsageError(
                    f"the image has no plane {one}", f"it has {info.planes}, from 0 on"
                )
        size = info.width, info.height
        where = parse_crop(crop, *size) if crop else middle_crop(*size)
        planes = tuple(dict.fromkeys(plane)) if plane else spread_planes(info.planes)
        part = Part(reader, where, planes)
        scale = find_signal(parse_range(range), reader).scale
        comparison = Comparison(
            image,
            part,
            scale,
            seconds=None if named else seconds,
            device=device,
            precision=precision,
            range=range,
            axes=axes,
        )
        if str(part):
            report.note(f"comparing {part}; see --crop" + " and --plane" * (info.planes > 1))
        with report.progress(image.name, len(choices), "results"):
            for done, found in enumerate(comparison.run(choices), 1):
                if not isinstance(found, Result):
                    report.note(f"left out {found.choice.id}: {found.reason}")
                report.update(done)
        bugs = [one.bug for one in comparison.skipped if one.bug]
        for bug in bugs:
            report.failure(image, bug)
        if not comparison.results:
            if bugs:
                raise bugs[0]
            hint = "name what to run with --methods or --weights"
            raise DenoisekitError("nothing could be run: " + comparison.skipped[0].reason, hint)
        comparison.rank()
        if comparison.noisy_score > comparison.results[0].score:
            report.note("note: by the score the noisy image itself is better than any result")
        try:
            write_synced(claim.part, comparison.page(lossless=lossless).encode())
            claim.put()
        except OSError as error:
            raise OutputError(f"cannot write {page}: {error.strerror or error}") from error
    finally:
        claim.close()
        reader.close()
    if as_json:
        render.json_line({"input": image, "page": page, **comparison.facts()})
    else:
        _show(comparison, page, report)
    if open_page:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            render.err(f"note: no browser could be opened; open {page} yourself")
    end_batch([bug.exit_code for bug in bugs])


def _show(comparison: Comparison, page: Path, report: render.Reporter) -> None:
    """Show the ranks."""
    rows = [
        (
            str(rank),
            result.choice.id,
            f"{result.score:.2f}",
            f"{result.seconds:.1f} s",
            f"{result.memory / 2**20:.0f} MiB",
        )
        for rank, result in enumerate(comparison.results, 1)
    ]
    rows.append(("", "noisy", f"{comparison.noisy_score:.2f}", "", ""))
    columns = ("rank", "result", "score", "time", "memory")
    render.table(columns, rows, comparison.image.name)
    render.out(f"page: {page}")
    command = comparison.command(comparison.results[0].choice)
    if command:
        report.note(f"for the first: {command}")
