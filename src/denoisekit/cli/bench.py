"""``denoisekit bench``: numbers that can be reproduced, and what changed between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from denoisekit.cli import render
from denoisekit.cli.shared import (
    Device,
    JsonTable,
    Lossless,
    Methods,
    Precision,
    Quiet,
    Weights,
    noise_in_full,
    split,
)
from denoisekit.errors import InputError, UsageError
from denoisekit.options import RANGE, parse_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from denoisekit.bench.candidates import Candidate
    from denoisekit.bench.datasets import Dataset
    from denoisekit.bench.images import Images
    from denoisekit.metrics import Protocol

PAGE = "report.html"
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
SPEED_EPILOG = (
    "Examples:\n\n"
    "denoisekit bench speed --methods aprrd\n\n"
    "denoisekit bench speed --methods aprrd,tv --sizes 256,1024 --precision fp32,bf16 --json"
)
SETS_EPILOG = (
    "Examples:\n\ndenoisekit bench sets\n\ndenoisekit bench sets polyu --data ~/sets\n\n"
    "denoisekit bench sets get sidd"
)

Data = Annotated[
    Path | None,
    typer.Option(help="Folder of all sets; default: $DENOISEKIT_DATA, or else in the cache."),
]


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
    range: Annotated[str | None, typer.Option(help=f"{RANGE}; default: the set's.")] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of the methods that have it; repeatable.")
    ] = None,
    data: Data = None,
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
    lossless: Lossless = False,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    as_json: JsonTable = False,
) -> None:
    """Measure; a run that was stopped goes on where it was. ``run`` may be left out."""
    from denoisekit.bench import page, submission
    from denoisekit.bench.candidates import gather
    from denoisekit.bench.datasets import find_dataset
    from denoisekit.bench.images import KeptImages
    from denoisekit.bench.run import RESULTS, ROWS, run
    from denoisekit.metrics import SRGB, find_protocol
    from denoisekit.options import DEFAULT_METHOD

    noise = None if noise is None else noise_in_full(noise)
    info = None if name is None else _set_here(find_dataset(name), data)
    measure = find_protocol(protocol or (info.protocol if info else SRGB.id))
    span = range or (info.range if info else "auto")
    images = _images(info, noisy, clean, noise, data, span, seed, apart=measure.affine)
    sample = info is not None and info.sample_of and not weights
    named = split(methods) or ([DEFAULT_METHOD] if sample else [])
    chosen = gather(
        named,
        weights or [],
        measure,
        settings=parse_settings(set or [], "--set"),
        device=device,
        precision=precision,
    )
    folder = out or Path(f"bench_{images.facts['id']}")
    path = folder / PAGE
    there = path.exists() and (folder / RESULTS).exists() and not (overwrite or lossless)
    shown = images.known and not no_html and not there
    if not shown:
        kept, floats = KeptImages(folder / "denoised"), name == "dnd"
        keep = None if images.known else submission.keeper(kept, measure, floats=floats)
    else:
        kept = KeptImages(folder / "pictures", page.MOST_BYTES)
        if overwrite or not (folder / ROWS).exists():
            kept.clear()
        keep = page.keeper(kept, images)
    silent = quiet or as_json
    title, total = images.facts["id"], len(chosen) * len(images.items)
    try:
        with render.progress(title, total, "rows", quiet=silent) as bar:
            results = run(
                images,
                chosen,
                measure,
                folder,
                overwrite=overwrite,
                workers=workers,
                on_progress=bar.update,
                keep=keep,
            )
        if shown:
            count = min(page.SHOWN, len(images.items))
            with render.progress(PAGE, count, "pictures", silent) as bar:
                page.write_page(
                    path,
                    images,
                    kept,
                    results,
                    chosen,
                    measure,
                    lossless=lossless,
                    on_progress=bar.update,
                )
    finally:
        images.close()
    if as_json:
        render.json_line(results)
    else:
        _show(results, chosen, measure, folder)
    if name in ("sidd-benchmark", "dnd"):
        for candidate in chosen[1:]:
            place = folder / "submit" / _file_name(candidate.id)
            speed = results["means"][candidate.id]["seconds_per_megapixel"]
            for written in submission.pack(images, kept, candidate.id, place, speed):
                render.err(f"to submit: {written}")


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _set_here(info: Dataset, data: Path | None) -> Dataset:
    """Return the set, or the sample of it that ships where the set is not here."""
    from denoisekit.bench.datasets import DATASETS, data_folder

    sample = next((own for own in DATASETS if own.sample_of == info.id), None)
    # Who names a folder means what lies there, and hears that nothing does.
    if sample is None or data is not None or all(info.find(info.folder(data_folder(data)))):
        return info
    render.err(
        f"note: '{info.id}' is not here; measured on {sample.title} ({sample.id}): its figures are "
        f"not those of the whole, for which see denoisekit bench sets get {info.id}"
    )
    return sample


def _images(
    info: Dataset | None,
    noisy: list[str] | None,
    clean: list[str] | None,
    noise: str | None,
    data: Path | None,
    range: str,
    seed: int,
    *,
    apart: bool,
) -> Images:
    from denoisekit.bench.datasets import (
        SAME,
        check_files,
        check_words,
        data_folder,
        files_of,
        find_dataset,
    )
    from denoisekit.bench.images import dnd_crops, paired_images
    from denoisekit.pairs import find_files

    if (info is None) == (noisy is None and clean is None):
        raise UsageError(
            "either a set or pictures of your own are measured on",
            "denoisekit bench sidd, or denoisekit bench --noisy DIR --clean DIR",
        )
    name, sample_of = "pictures", ""
    if info is None:
        ones, others = find_files(noisy or []), find_files(clean or [])
    else:
        if noise and info.noisy:
            raise UsageError(f"the pictures of '{info.id}' are noisy already", "leave --noise out")
        name, noise = info.id, noise or info.noise
        ones, others = files_of(info, data_folder(data))
        states = check_files(info.id, [file.path for file in (*ones, *others)])
        if any(state != SAME for state in states.values()):
            words = f"of the files of '{info.id}', {check_words(states)}"
            render.err(f"note: {words}; see bench sets {info.id}")
        if info.id == "dnd":
            return dnd_crops(ones[0].path.parent.parent)
        if info.sample_of:
            sample_of = f"the {find_dataset(info.sample_of).pictures} of {info.sample_of}"
    return paired_images(
        name,
        ones,
        others,
        noise=noise or "",
        range=range,
        apart=apart,
        seed=seed,
        sample_of=sample_of,
    )


def _show(
    results: dict[str, Any], chosen: Sequence[Candidate], measure: Protocol, folder: Path
) -> None:
    """Show the means; without clean images there is nothing to show but the time."""
    rows = []
    for candidate in chosen:
        mean = results["means"][candidate.id]
        cells = [
            "-" if name not in mean else "inf" if mean[name] is None else f"{mean[name]:.{digits}f}"
            for name, digits in (("psnr", 2), (f"ssim_{measure.ssim}", 4))
        ]
        speed = f"{mean['seconds_per_megapixel']:.2f}"
        rows.append((candidate.id, *cells, speed, str(candidate.facts.get("precision", ""))))
    facts = results["set"]
    noise = f", {facts['noise']} noise (seed {facts['noise_seed']})" if facts["noise"] else ""
    columns = ("", "PSNR dB", f"SSIM {measure.ssim}", "s/megapixel", "precision")
    sample = f", a sample of {facts['sample_of']}" if facts.get("sample_of") else ""
    render.table(columns, rows, f"{facts['id']}, {facts['pictures']} pictures{sample}{noise}")
    render.out(str(measure))
    render.err(f"rows of every picture: {folder / 'results.json'}")
    if (folder / PAGE).exists():
        render.err(f"pictures: {folder / PAGE}")


@app.command("diff", epilog="Examples:\n\ndenoisekit bench diff before/ after/")
def show_difference(
    before: Annotated[Path, typer.Argument(help="results.json, or its folder.")],
    after: Annotated[Path, typer.Argument(help="Another.")],
    as_json: JsonTable = False,
) -> None:
    """Show what changed between two runs, and whether chance could have done it."""
    from dataclasses import asdict

    from denoisekit.bench.run import changes, read_results

    found, notes = changes(read_results(before), read_results(after))
    if as_json:
        for change in found:
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
            c.words,
        )
        for c in found
    ]
    columns = ("", "number", "before", "after", "change", "larger on", "p", "")
    render.table(columns, rows)
    for note in notes:
        render.out(f"note: {note}")


@app.command("speed", epilog=SPEED_EPILOG)
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
    as_json: JsonTable = False,
) -> None:
    """Measure speed, memory and energy on random pictures, against the machine's matrix rate."""
    from denoisekit.bench.candidates import gather
    from denoisekit.bench.speed import describe_machine, measure_speed
    from denoisekit.engine.device import resolve_device
    from denoisekit.metrics import SRGB

    where = resolve_device(device)
    sides = []
    for text in split([sizes]):
        if not text.isdecimal():
            raise UsageError(f"'{text}' is not a size", "write for instance 256,512")
        sides.append(int(text))
    names = split(methods)
    if not names and not weights:
        raise UsageError("nothing is named to measure", "denoisekit bench speed --methods aprrd")
    found: list[dict[str, Any]] = []
    rates: dict[str, float] = {}
    for index, kind in enumerate(split([precision])):
        # What has no network has no precision either: once is enough.
        chosen = gather(names, weights or [], SRGB, device=device, precision=kind)
        chosen = [c for c in chosen if not index or "precision" in c.facts]
        total = (len(chosen) - (not index)) * len(sides)
        with render.progress(f"speed {kind}", total, "rows", quiet=quiet or as_json) as bar:
            found += measure_speed(
                chosen, where, sides, repeats=repeats, rates=rates, on_progress=bar.update
            )
    machine = describe_machine(where)
    if as_json:
        render.json_line({"machine": machine, "matrix_rates": rates, "rows": found})
        return
    rows = []
    for row in found:
        joules, share, flop = (
            row[name] for name in ("joules_per_megapixel", "share_of_matrix_rate", "flop")
        )
        rows.append(
            (
                row["candidate"],
                row["precision"] or "-",
                f"{row['size']}x{row['size']}",
                f"{row['megapixels_per_second']:.3g}",
                f"{row['median_seconds']:.3g}",
                f"{min(row['seconds']):.3g}-{max(row['seconds']):.3g}",
                f"{row['memory'] / 2**20:.0f}",
                "-" if joules is None else f"{joules:.3g}",
                f"{flop / row['size'] ** 2 / 1e3:.4g}" if flop else "-",
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
    render.out(f"energy: {machine['energy'] or 'not known, this machine does not tell'}")


@app.command("sets", epilog=SETS_EPILOG)
def list_sets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[get] [SET]", help="Show its files and their sha256; with get: fetch it."
        ),
    ] = None,
    wanted: Annotated[str | None, typer.Argument(hidden=True)] = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: JsonTable = False,
) -> None:
    """List the sets of pictures: what is here, where to get them, their licences; fetch one.

    ``bench sets get SET`` fetches the whole of a set whose owner lets a program do so, goes on
    where it was stopped, checks it, and says the steps for the others.
    """
    from denoisekit.bench.datasets import DATASETS, data_folder, find_dataset

    folder = data_folder(data)
    if name == "get":
        if wanted is None:
            raise UsageError("which set is to be fetched?", "denoisekit bench sets get sidd")
        _get(find_dataset(wanted), folder, quiet=quiet or as_json)
        if not as_json:
            return
        name = wanted
    elif wanted is not None:
        raise UsageError(f"'{name}' and '{wanted}' are two; one set is shown at a time")
    infos = DATASETS if name is None else (find_dataset(name),)
    if as_json:
        for info in infos:
            render.json_line(_facts(info, folder))
    elif name is not None:
        _show_files(infos[0], folder)
    else:
        rows = []
        for info in DATASETS:
            facts = _facts(info, folder)
            here = f"{facts['files']} files" if facts["files"] else "-"
            if facts["files"] and facts["check"]:
                here += f", {facts['check']}"
            how = "bench sets get" if info.sources else "ships" if info.sample_of else "by hand"
            patterns = f"{info.noisy} {info.clean}".strip()
            rows.append((info.id, here, info.title, patterns, info.licence, how, info.home))
        columns = ("id", "here", "what", "files in DATA/id", "licence", "how", "from")
        render.table(columns, rows)
        render.err(f"DATA is {folder}")


def _get(info: Dataset, folder: Path, *, quiet: bool) -> None:
    from denoisekit.bench.datasets import get

    names = [source.name for source in info.sources]
    with render.progress(info.id, len(names), "files", quiet) as bar:

        def tell(name: str, done: int, total: int) -> None:
            whole = f" of {total / 1e6:.1f}" if total else ""
            bar.describe(f"{info.id}: {name}, {done / 1e6:.1f}{whole} MB")
            bar.update(names.index(name) + (done / total if total else 0))

        fetched = get(info, folder, tell)
    if not quiet:
        what = f"{len(fetched)} files fetched" if fetched else "all files were here"
        render.out(f"{info.id}: {what}, in {info.folder(folder)}; licence: {info.licence}")


def _facts(info: Dataset, folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from denoisekit.bench.datasets import check_files, check_words, checksums

    noisy, clean = info.find(info.folder(folder))
    states = check_files(info.id, [*noisy, *clean])
    facts = asdict(info)
    del facts["published"]
    return {
        **facts,
        "sources": [source.urls for source in info.sources],
        "files": len(noisy) + len(clean),
        "sha256": checksums(info.id),
        "check": check_words(states) if states else None,
    }


def _show_files(info: Dataset, folder: Path) -> None:
    from denoisekit.bench.datasets import OTHER, check_files, check_words, checksums

    noisy, clean = info.find(info.folder(folder))
    states = check_files(info.id, [*noisy, *clean])
    if not states:
        rows = [(path.name, "here", "not known") for path in (*noisy, *clean)]
        rows = rows or [(one, "-", "not known") for one in (info.noisy, info.clean) if one]
        render.table(("file", "here", "sha256"), rows, info.title)
        return
    rows = [(file, states[file], digest) for file, digest in checksums(info.id).items()]
    render.table(("file", "here", "sha256"), rows, info.title)
    render.out(f"from {info.home}")
    if OTHER in states.values():
        raise InputError(f"'{info.id}': {check_words(states)}", f"get them again from {info.home}")


@app.command("protocols", epilog="Examples:\n\ndenoisekit bench protocols")
def list_protocols(as_json: JsonTable = False) -> None:
    """List the protocols: how pictures are rounded and compared."""
    from denoisekit.metrics import PROTOCOLS

    if as_json:
        for protocol in PROTOCOLS:
            render.json_line(protocol.facts())
        return
    rows = [(p.id, p.title, str(p).partition(": ")[2]) for p in PROTOCOLS]
    render.table(("id", "whose", "what"), rows)
