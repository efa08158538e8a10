"""``denoisekit bench``: numbers that can be reproduced, and what changed between two runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from denoisekit.cli import bench_sets, bench_speed, render
from denoisekit.cli.bench_page import PAGE, shelf_for, write_page
from denoisekit.cli.bench_sets import Json
from denoisekit.cli.denoise import parse_settings
from denoisekit.cli.shared import RANGE, Device, Methods, Quiet, Weights, noise_in_full, split
from denoisekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from denoisekit.bench.candidates import Candidate
    from denoisekit.bench.dnd import Crops
    from denoisekit.bench.material import Material
    from denoisekit.bench.packing import Kept
    from denoisekit.bench.sets import SetInfo
    from denoisekit.metrics import Protocol

EPILOG = (
    "Examples:\n\n"
    "denoisekit bench sidd\n\n"
    "denoisekit bench sidd --methods aprrd,sdap --data ~/sets\n\n"
    "denoisekit bench --noisy test/noisy --clean test/clean --methods aprrd\n\n"
    "denoisekit bench sets"
)
RUN_EPILOG = (
    "Examples:\n\n"
    "denoisekit bench run sidd --methods aprrd,sdap --data ~/sets\n\n"
    "denoisekit bench run --noisy test/noisy --clean test/clean --weights mine.safetensors\n\n"
    "denoisekit bench run kodak --noise gaussian:50/255 --methods aprrd,nlm --protocol sdap"
)


class _Group(TyperGroup):
    """Commands of which ``run`` need not be named: ``denoisekit bench SET`` is enough."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` before what is no command."""
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Measure methods on sets of pictures, by named protocols.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("run", epilog=RUN_EPILOG)
def run_set(
    name: Annotated[
        str | None, typer.Argument(metavar="[SET]", help="See denoisekit bench sets.")
    ] = None,
    methods: Methods = None,
    weights: Weights = None,
    noisy: Annotated[list[str] | None, typer.Option(help="Noisy pictures of your own.")] = None,
    clean: Annotated[list[str] | None, typer.Option(help="The same, clean.")] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Noise to put on clean pictures: gaussian:25 (of 255), poisson:30, phone:0.01 …"
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="See denoisekit bench protocols; default: the set's, or srgb."),
    ] = None,
    range: Annotated[
        str | None,
        typer.Option(help=f"{RANGE}; default: the set's."),
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the methods that have it; repeatable.")
    ] = None,
    data: bench_sets.Data = None,
    out: Annotated[Path | None, typer.Option(help="Folder of results; default: bench_SET.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away another run's results there.")
    ] = False,
    seed: Annotated[
        int,
        typer.Option(
            help="Start of the random numbers of the noise that is put on: the same seed, the "
            "same noise."
        ),
    ] = 0,
    workers: Annotated[int, typer.Option(help="Pictures read and measured side by side.")] = 2,
    no_html: Annotated[
        bool, typer.Option("--no-html", help="Write no page of pictures (report.html).")
    ] = False,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Keep the page's pictures without loss.")
    ] = False,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure; a run that was stopped goes on where it was. ``run`` may be left out."""
    from denoisekit.bench.candidates import gather
    from denoisekit.bench.material import Material
    from denoisekit.bench.packing import Kept
    from denoisekit.bench.run import Place, run
    from denoisekit.bench.sets import find_set
    from denoisekit.metrics import SRGB, find_protocol
    from denoisekit.options import DEFAULT_METHOD

    noise = None if noise is None else noise_in_full(noise)
    info = None if name is None else _set_here(find_set(name), data)
    measure = find_protocol(protocol or (info.protocol if info else SRGB.id))
    pictures = partial(Material, range=range or (info.range if info else "auto"), seed=seed)
    material = _material(info, noisy, clean, noise, data, partial(pictures, apart=measure.affine))
    sample = info is not None and info.sample_of and not weights
    named = split(methods or []) or ([DEFAULT_METHOD] if sample else [])
    chosen = gather(
        named,
        weights or [],
        measure,
        settings=parse_settings(set or []),
        device=device,
        precision=precision,
    )
    place = Place(out or Path(f"bench_{material.name}"), overwrite)
    kept = Kept(place.folder)
    shelf = shelf_for(place, material, wanted=not no_html, lossless=lossless)
    keep = shelf.keep if shelf else kept.keeper(measure, floats=name == "dnd")
    total = len(chosen) * len(material.items)
    try:
        with render.progress(material.name, total, "rows", quiet=quiet or as_json) as bar:
            results = run(
                material,
                chosen,
                measure,
                place,
                workers=workers,
                tell=lambda done, _: bar.update(done),
                keep=keep if shelf or not material.known else None,
            )
        if shelf:
            path = place.folder / PAGE
            silent = quiet or as_json
            write_page(shelf, results, chosen, measure, path, lossless=lossless, quiet=silent)
    finally:
        material.close()
    if as_json:
        render.json_line(results)
    else:
        _show(results, chosen, measure, place.folder)
    if name in ("sidd-benchmark", "dnd"):
        _pack(results, material, kept)


def _set_here(info: SetInfo, data: Path | None) -> SetInfo:
    """Return the set, or the sample of it that ships where the set is not here."""
    from denoisekit.bench.sets import SETS, data_folder

    sample = next((own for own in SETS if own.sample_of == info.id), None)
    folder = info.folder(data_folder(data))
    # Who names a folder means what lies there, and hears that nothing does.
    if sample is None or data is not None or all(info.find(folder)):
        return info
    render.err(
        f"note: '{info.id}' is not here; measured on {sample.title} ({sample.id}): its figures are "
        f"not those of the whole, for which see denoisekit bench sets get {info.id}"
    )
    return sample


def _pack(results: dict[str, Any], material: Material | Crops, kept: Kept) -> None:
    from denoisekit.bench.packing import pack

    for candidate, mean in results["means"].items():
        if candidate == "noisy":
            continue
        speed = mean["seconds_per_megapixel"]
        for path in pack(material, kept, candidate, speed):
            render.err(f"to submit: {path}")


def _material(
    info: SetInfo | None,
    noisy: list[str] | None,
    clean: list[str] | None,
    noise: str | None,
    data: Path | None,
    pictures: Callable[..., Material],
) -> Material | Crops:
    from denoisekit.bench.checksums import check
    from denoisekit.bench.dnd import Crops
    from denoisekit.bench.material import as_files
    from denoisekit.bench.sets import data_folder, find_set
    from denoisekit.bench.sets import find_files as files_of_set
    from denoisekit.pairs import find_files

    if (info is None) == (noisy is None and clean is None):
        raise UsageError(
            "either a set or pictures of your own are measured on",
            "denoisekit bench sidd, or denoisekit bench --noisy DIR --clean DIR",
        )
    if info is None:
        files = find_files(noisy or []), find_files(clean or [])
        return pictures("pictures", *files, noise=noise or "")
    if noise and info.noisy:
        raise UsageError(f"the pictures of '{info.id}' are noisy already", "leave --noise out")
    ones, others = files_of_set(info, data_folder(data))
    checked = check(info.id, [*ones, *others])
    if checked and (checked.other or checked.absent):
        render.err(f"note: of the files of '{info.id}', {checked}; see bench sets {info.id}")
    if info.id == "dnd":
        return Crops(ones[0].parent.parent)
    sample_of = ""
    if info.sample_of:
        sample_of = f"the {find_set(info.sample_of).pictures} of {info.sample_of}"
    return pictures(
        info.id,
        as_files(ones),
        as_files(others),
        noise=noise or info.noise,
        sample_of=sample_of,
    )


def _show(
    results: dict[str, Any], chosen: Sequence[Candidate], measure: Protocol, folder: Path
) -> None:
    rows = []
    ssim = f"ssim_{measure.ssim}"
    for candidate in chosen:
        mean = results["means"][candidate.id]
        rows.append(
            (
                candidate.id,
                _number(mean, "psnr", 2),
                _number(mean, ssim, 4),
                f"{mean['seconds_per_megapixel']:.2f}",
                str(candidate.facts.get("precision", "")),
            )
        )
    facts = results["set"]
    noise = f", {facts['noise']} noise (seed {facts['noise_seed']})" if facts["noise"] else ""
    columns = ("", "PSNR dB", f"SSIM {measure.ssim}", "s/megapixel", "precision")
    sample = f", a sample of {facts['sample_of']}" if facts.get("sample_of") else ""
    render.table(columns, rows, f"{facts['id']}, {facts['pictures']} pictures{sample}{noise}")
    render.out(str(measure))
    render.err(f"rows of every picture: {folder / 'results.json'}")
    if (folder / PAGE).exists():
        render.err(f"pictures: {folder / PAGE}")


def _number(mean: dict[str, float | None], name: str, digits: int) -> str:
    if name not in mean:
        return "-"
    value = mean[name]
    return "inf" if value is None else f"{value:.{digits}f}"


@app.command("diff", epilog="Examples:\n\ndenoisekit bench diff before/ after/")
def show_difference(
    before: Annotated[Path, typer.Argument(help="results.json, or its folder.")],
    after: Annotated[Path, typer.Argument(help="Another.")],
    as_json: Json = False,
) -> None:
    """Show what changed between two runs, and whether chance could have done it."""
    from dataclasses import asdict

    from denoisekit.bench.diff import compare, words
    from denoisekit.bench.results import read_results

    changes, notes = compare(read_results(before), read_results(after))
    if as_json:
        for change in changes:
            render.json_line({**asdict(change), "change": change.change})
        return
    rows = [
        (
            c.before if c.before == c.after else f"{c.before} -> {c.after}",
            c.number,
            f"{c.means[0]:.4f}",
            f"{c.means[1]:.4f}",
            f"{c.change:+.4f}",
            f"{c.better} of {c.pictures}",
            f"{c.p:.2g}",
            words(c.p),
        )
        for c in changes
    ]
    columns = ("", "number", "before", "after", "change", "larger on", "p", "")
    render.table(columns, rows)
    for note in notes:
        render.out(f"note: {note}")


app.command("speed", epilog=bench_speed.EPILOG)(bench_speed.speed)
app.command("sets", epilog=bench_sets.SETS_EPILOG)(bench_sets.list_sets)
app.command("protocols", epilog=bench_sets.PROTOCOLS_EPILOG)(bench_sets.list_protocols)
