"""``denoisekit weights``: which there are, which are here, and how they get here."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.cli.shared import Settings, check_writable
from denoisekit.errors import OutputError, UsageError
from denoisekit.options import parse_settings

if TYPE_CHECKING:
    from denoisekit.weights import Stored, WeightEntry

EPILOG = (
    "Examples:\n\ndenoisekit weights list\n\ndenoisekit weights pull aprrd.sidd\n\n"
    "denoisekit weights import ~/Downloads/NBSN_SIDD_Medium.pth"
)

app = typer.Typer(
    help="List, fetch, import, check, export and remove weights.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the weights.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of the weights.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per set of weights.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@app.command(
    "list", epilog="Examples:\n\ndenoisekit weights list\n\ndenoisekit weights list --json"
)
def list_weights(as_json: Json = False) -> None:
    """List the weights that denoisekit knows, and which of them are here."""
    from denoisekit.methods import all_methods
    from denoisekit.weights import find, load_manifest, unpublished

    entries = [(entry, find(entry)) for entry in load_manifest()]
    if as_json:
        for entry, stored in entries:
            render.json_line(_facts(entry, stored))
        return
    rows = []
    for entry, stored in entries:
        size = f"{entry.bytes / 1e6:.1f} MB" if entry.bytes else "?"
        rows.append((entry.id, _state(entry, stored), size, entry.trained_on, entry.licence))
    render.table(("id", "here", "size", "trained on", "licence"), rows)
    for method in all_methods():
        if not method.default_weights:
            render.out(f"note: {unpublished(method).message}: {method.without_weights}")


@app.command(epilog="Examples:\n\ndenoisekit weights info aprrd.sidd")
def info(name: Id, as_json: Json = False) -> None:
    """Show where weights come from, their licence, hash and published results."""
    from denoisekit.weights import find

    entry = _entry(name)
    stored = find(entry)
    facts = _facts(entry, stored)
    if as_json:
        render.json_line(facts)
        return
    title = facts.pop("title")
    del facts["results"]  # a table of their own
    facts["how to get it"] = facts.pop("how_to_get") or None
    if facts["verified"] is False:
        facts["verified"] = "no, unverified source"
    rows = []
    for key, value in facts.items():
        # Some weights have several sources; each gets a line.
        values = value if isinstance(value, list) else [value]
        rows += [(key if i == 0 else "", _words(v)) for i, v in enumerate(values)]
    render.table(("", title), rows)
    if entry.results:
        render.out("")
        results = []
        for one in entry.results:
            ssim = "-" if one.ssim is None else f"{one.ssim:.3f}"
            results.append((one.dataset, f"{one.psnr:.2f}", ssim, one.origin, one.protocol))
        render.table(("dataset", "PSNR dB", "SSIM", "origin", "protocol"), results)


@app.command(epilog="Examples:\n\ndenoisekit weights pull aprrd.sidd")
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...", help="Ids of the weights, or hf://USER/REPO[@REVISION]/FILE."
        ),
    ],
    renew: Annotated[
        bool,
        typer.Option(
            "--renew",
            help="Where no hash is published: take the file that is there now, not the first one.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fetch weights, check their hash and store them; those that are here stay."""
    from denoisekit.methods import get_method
    from denoisekit.weights import is_hub
    from denoisekit.weights import pull as fetch

    report = render.Reporter(as_json=as_json)
    # All ids are checked before any work.
    for entry in [name if is_hub(name) else _entry(name) for name in names]:
        if isinstance(entry, str):
            _pull_hub(entry, renew, quiet, report)
            continue
        method, total = get_method(entry.method), (entry.bytes or 0) / 1e6
        with render.progress(entry.id, total, "MB", quiet) as bar:
            stored, fetched = fetch(
                entry, method, lambda done, _: bar.update(done / 1e6), renew=renew
            )
        if fetched and not entry.pinned:
            render.err(
                f"note: no hash of {entry.id} is published; this file's is kept, and what is "
                "fetched later must have it"
            )
        if fetched and "none stated" in entry.licence:
            render.err(f"note: {entry.id} has no stated licence: use it, but do not pass it on")
        what = "fetched" if fetched else "already here, nothing to do"
        facts = {**_facts(entry, stored), "fetched": fetched}
        report.result(f"{entry.id}: {what} ({stored.path})", facts)


def _pull_hub(name: str, renew: bool, quiet: bool, report: render.Reporter) -> None:
    from denoisekit.weights import pull_hub

    with render.progress(name, 0, "MB", quiet=quiet) as bar:
        here = pull_hub(
            name, progress=lambda done, _: bar.update(done / 1e6), look=True, renew=renew
        )
    for warning in here.warnings:
        render.err(f"warning: {warning}")
    facts = {"path": str(here.path), "sha256": here.sha256, "fetched": here.new}
    what = "fetched" if here.new else "already here, nothing to do"
    report.result(
        f"{name}: {what} (commit {here.commit[:10]}, sha256 {here.sha256[:8]}; {here.path})",
        {"id": name, "commit": here.commit, **facts},
    )


@app.command(
    "import",
    epilog="Examples:\n\ndenoisekit weights import NBSN_SIDD_Medium.pth\n\n"
    "denoisekit weights import SSBSN_SIDD.pth\n\n"
    "denoisekit weights import student.pth --as aprrd.sidd",
)
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth or .safetensors file.")],
    name: Annotated[
        str | None,
        typer.Option("--as", metavar="ID", help="What it is, if its hash is not known."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a file that you have: identified by its hash, or checked by its keys and shapes."""
    from denoisekit.methods import get_method
    from denoisekit.weights import choose_entry, import_file, load_manifest

    entry = choose_entry(file, load_manifest(), name)
    stored = import_file(file, entry, get_method(entry.method))
    if not name and not stored.verified:
        render.err(
            f"note: taken for {entry.id}, whose keys and shapes it has; no hash is published "
            "that could confirm it"
        )
    how = "the published file, by its hash" if stored.verified else "unverified source"
    text = f"{entry.id}: imported ({how}; {stored.path})"
    render.Reporter(as_json=as_json).result(text, _facts(entry, stored))


@app.command(
    epilog="Examples:\n\ndenoisekit weights verify\n\ndenoisekit weights verify aprrd.sidd"
)
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the weights; all that are here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hash stored weights and compare; exit code 3 if any are damaged."""
    from denoisekit.weights import find, load_manifest
    from denoisekit.weights.manifest import absent
    from denoisekit.weights.store import damaged

    report, problems = render.Reporter(as_json=as_json), []
    entries = [_entry(name)] if name else load_manifest()
    for entry in entries:
        stored = find(entry, thorough=True)
        if stored is None:
            if name:
                raise absent(entry, "they are not in the cache folder")
            continue
        report.result(f"{entry.id}: {stored.damage or 'sound'}", _facts(entry, stored))
        if stored.damage:
            problems.append(damaged(entry, stored))
    for problem in problems[:-1]:
        render.err(f"error: {problem.message}")
        render.err(f"hint: {problem.hint}")
    if problems:
        raise problems[-1]


@app.command(epilog="Examples:\n\ndenoisekit weights path\n\ndenoisekit weights path aprrd.sidd")
def path(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the weights; the cache folder.")
    ] = None,
) -> None:
    """Print where weights lie, or the folder of all of them."""
    from denoisekit.weights import cache_folder, file_of, is_hub, locate
    from denoisekit.weights.manifest import absent

    if name is None:
        render.out(str(cache_folder()))
        return
    if is_hub(name):
        render.out(str(file_of(name, allow_download=False)))
        return
    entry = _entry(name)
    found = locate(entry)
    if found is None:
        raise absent(entry, "they are not in the cache folder")
    render.out(str(found))


@app.command(epilog="Examples:\n\ndenoisekit weights remove aprrd.sidd")
def remove(names: Ids, as_json: Json = False) -> None:
    """Delete weights from the cache folder."""
    from denoisekit.weights import remove as delete

    for entry in [_entry(name) for name in names]:
        facts = {"id": entry.id, "removed": [str(path) for path in delete(entry)]}
        render.Reporter(as_json=as_json).result(f"{entry.id}: removed", facts)


@app.command(
    "export",
    epilog="Examples:\n\ndenoisekit weights export aprrd.sidd --to onnx student.onnx\n\n"
    "denoisekit weights export sdap.sidd --to torchscript sdap.pt --set enhance=off",
)
def export_weights(
    name: Annotated[str, typer.Argument(metavar="ID|FILE", help="Id of the weights, or a file.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    to: Annotated[str, typer.Option("--to", metavar="FORM", help="onnx or torchscript.")],
    set: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Write a local network as one file for other programs, and compare it with the original."""
    from denoisekit.export.network import check, export, look_up
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


@app.command(
    epilog="Examples:\n\ndenoisekit weights card run\n\n"
    "denoisekit weights card run -o README.md --licence mit --repo USER/REPO"
)
def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: stdout.")
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Of the weights, as the hub names it: mit, cc-by-4.0 …")
    ] = "",
    repo: Annotated[
        str, typer.Option(metavar="USER/REPO", help="Where they will be, for the examples.")
    ] = "",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Id of a data set on the hub; repeatable.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """Write the model card with which the hub shows the weights of a training run."""
    from denoisekit.atomic import write_whole
    from denoisekit.export.card import model_card

    text = model_card(run, licence=licence, repo=repo, datasets=dataset or [])
    if output is None:
        for line in text.splitlines():
            render.out(line)
        return
    check_writable(output, overwrite=overwrite)
    try:
        write_whole(output, text.encode())
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror}") from error
    render.out(f"{output}: written")


def _entry(name: str) -> WeightEntry:
    from denoisekit.weights import find_entry, is_hub, load_manifest

    if is_hub(name):
        raise UsageError(
            f"{name} lies in the cache of the Hugging Face hub, which is not ours to look after",
            f"denoisekit weights path {name} tells where; hf cache shows and removes it",
        )
    return find_entry(name, load_manifest())


def _facts(entry: WeightEntry, stored: Stored | None) -> dict[str, Any]:
    from denoisekit.weights.manifest import ways

    # Of a damaged file nothing is believed.
    header = stored.header() if stored and not stored.damage else {}
    return {
        "id": entry.id,
        "method": entry.method,
        "title": entry.title,
        "trained_on": entry.trained_on,
        "licence": entry.licence,
        "citation": entry.citation,
        "config": dict(entry.config),
        "bytes": entry.bytes,
        "sha256": entry.sha256,
        "git_blob": entry.git_blob,
        "sources": [str(source) for source in entry.sources],
        "page": entry.page,
        "present": stored is not None and stored.damage is None,
        "how_to_get": [] if stored and not stored.damage else ways(entry),
        "verified": stored.verified if stored else None,
        "damage": stored.damage if stored else None,
        "path": str(stored.path) if stored else None,
        "origin": header.get("source"),
        "origin_sha256": header.get("source_sha256"),
        "results": [asdict(result) for result in entry.results],
    }


def _state(entry: WeightEntry, stored: Stored | None) -> str:
    if entry.embedded and stored and not stored.damage:
        return "yes, ships with denoisekit"
    if stored is None:
        return "no" if entry.sources else "no, only by hand: see info"
    if stored.damage:
        return f"damaged: {stored.damage}"
    if stored.verified:
        return "yes" if entry.pinned else "yes, held to the first download"
    return "yes, unverified source"


def _words(value: object) -> str:
    if isinstance(value, list):
        runs = [(name, len(list(run))) for name, run in groupby(map(str, value))]
        return " / ".join(name if count == 1 else f"{count} x {name}" for name, count in runs)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return render.words(value)
