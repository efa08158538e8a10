"""``denoisekit weights``: which there are, which are here, and how they get here."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.cli.export import EPILOG as EXPORT_EPILOG
from denoisekit.cli.export import export_weights
from denoisekit.errors import OutputError

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
    render.table(
        ("id", "here", "size", "trained on", "licence"),
        [
            (entry.id, _state(entry, stored), _size(entry), entry.trained_on, entry.licence)
            for entry, stored in entries
        ],
    )
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
        render.table(
            ("dataset", "PSNR dB", "SSIM", "origin", "protocol"),
            [
                (
                    result.dataset,
                    f"{result.psnr:.2f}",
                    "-" if result.ssim is None else f"{result.ssim:.3f}",
                    result.origin,
                    result.protocol,
                )
                for result in entry.results
            ],
        )


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

    # All ids are checked before any work.
    for entry in [name if is_hub(name) else _entry(name) for name in names]:
        if isinstance(entry, str):
            _pull_hub(entry, renew, quiet, as_json)
            continue
        total = (entry.bytes or 0) / 1e6
        with render.progress(entry.id, total, "MB", quiet=quiet) as bar:
            stored, fetched = fetch(
                entry,
                get_method(entry.method),
                lambda done, _: bar.update(done / 1e6),
                renew=renew,
            )
        if fetched and not entry.pinned:
            render.err(
                f"note: no hash of {entry.id} is published; this file's is kept, and what is "
                "fetched later must have it"
            )
        if fetched and "none stated" in entry.licence:
            render.err(f"note: {entry.id} has no stated licence: use it, but do not pass it on")
        if as_json:
            render.json_line({**_facts(entry, stored), "fetched": fetched})
        else:
            what = "fetched" if fetched else "already here, nothing to do"
            render.out(f"{entry.id}: {what} ({stored.path})")


def _pull_hub(name: str, renew: bool, quiet: bool, as_json: bool) -> None:
    from denoisekit.weights import pull_hub

    with render.progress(name, 0, "MB", quiet=quiet) as bar:
        here = pull_hub(
            name, progress=lambda done, _: bar.update(done / 1e6), look=True, renew=renew
        )
    for warning in here.warnings:
        render.err(f"warning: {warning}")
    if as_json:
        facts = {"path": str(here.path), "sha256": here.sha256, "fetched": here.fetched}
        render.json_line({"id": name, "commit": here.source.revision, **facts})
        return
    what = "fetched" if here.fetched else "already here, nothing to do"
    told = f"commit {here.source.revision[:10]}, sha256 {here.sha256[:8]}"
    render.out(f"{name}: {what} ({told}; {here.path})")


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
    """Take a file that you have: recognised by its hash, or checked by its keys and shapes."""
    from denoisekit.methods import get_method
    from denoisekit.weights import choose_entry, import_file, load_manifest

    entry = choose_entry(file, load_manifest(), name)
    stored = import_file(file, entry, get_method(entry.method))
    if not name and not stored.verified:
        render.err(
            f"note: taken for {entry.id}, whose keys and shapes it has; no hash is published "
            "that could confirm it"
        )
    if as_json:
        render.json_line(_facts(entry, stored))
        return
    how = "the published file, by its hash" if stored.verified else "unverified source"
    render.out(f"{entry.id}: imported ({how}; {stored.path})")


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

    entries = [_entry(name)] if name else load_manifest()
    problems = []
    for entry in entries:
        stored = find(entry, thorough=True)
        if stored is None:
            if name:
                raise absent(entry, "they are not in the cache folder")
            continue
        if as_json:
            render.json_line(_facts(entry, stored))
        else:
            render.out(f"{entry.id}: {stored.damage or 'sound'}")
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
        removed = [str(path) for path in delete(entry)]
        if as_json:
            render.json_line({"id": entry.id, "removed": removed})
        else:
            render.out(f"{entry.id}: removed")


app.command("export", epilog=EXPORT_EPILOG)(export_weights)


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
    from denoisekit.cli.shared import check_writable
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
    from denoisekit.weights import find_entry, load_manifest

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


def _size(entry: WeightEntry) -> str:
    return f"{entry.bytes / 1e6:.1f} MB" if entry.bytes else "?"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        runs = [(name, len(list(run))) for name, run in groupby(map(str, value))]
        return " / ".join(name if count == 1 else f"{count} x {name}" for name, count in runs)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
