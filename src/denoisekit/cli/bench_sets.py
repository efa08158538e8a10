"""``denoisekit bench sets`` and ``bench protocols``: what can be measured on, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.cli.shared import Quiet
from denoisekit.errors import InputError, UsageError

if TYPE_CHECKING:
    from denoisekit.bench.sets import SetInfo

SETS_EPILOG = (
    "Examples:\n\ndenoisekit bench sets\n\ndenoisekit bench sets polyu --data ~/sets\n\n"
    "denoisekit bench sets get sidd"
)
PROTOCOLS_EPILOG = "Examples:\n\ndenoisekit bench protocols"

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, in place of a table.")]
Data = Annotated[
    Path | None,
    typer.Option(help="Folder of all sets; default: $DENOISEKIT_DATA, or else in the cache."),
]


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
    as_json: Json = False,
) -> None:
    """List the sets of pictures: what is here, where to get them, their licences; fetch one.

    ``bench sets get SET`` fetches the whole of a set whose owner lets a program do so, goes on
    where it was stopped, checks it, and says the steps for the others.
    """
    from denoisekit.bench.sets import SETS, data_folder, find_set

    folder = data_folder(data)
    if name == "get":
        if wanted is None:
            raise UsageError("which set is to be fetched?", "denoisekit bench sets get sidd")
        _get(find_set(wanted), folder, quiet=quiet or as_json)
        name = wanted if as_json else None
        if not as_json:
            return
    elif wanted is not None:
        raise UsageError(f"'{name}' and '{wanted}' are two; one set is shown at a time")
    if name is not None:
        _show_files(find_set(name), folder, as_json)
        return
    rows = []
    for info in SETS:
        patterns = [pattern for pattern in (info.noisy, info.clean) if pattern]
        facts = _facts(info, folder)
        if as_json:
            render.json_line(facts)
            continue
        here = f"{facts['files']} files" if facts["files"] else "-"
        if facts["files"] and facts["check"]:
            here += f", {facts['check']}"
        how = "bench sets get" if info.sources else "by hand"
        if info.sample_of:
            how = "ships"
        rows.append((info.id, here, info.title, " ".join(patterns), info.licence, how, info.home))
    if not as_json:
        columns = ("id", "here", "what", "files in DATA/id", "licence", "how", "from")
        render.table(columns, rows)
        render.err(f"DATA is {folder}")


def _get(info: SetInfo, folder: Path, *, quiet: bool) -> None:
    from denoisekit.bench.getting import get

    names = [source.name for source in info.sources]
    with render.progress(info.id, len(names), "files", quiet) as bar:

        def tell(name: str, done: int, total: int) -> None:
            whole = f" of {total / 1e6:.1f}" if total else ""
            bar.describe(f"{info.id}: {name}, {done / 1e6:.1f}{whole} MB")
            bar.update(names.index(name) + (done / total if total else 0))

        fetched = get(info, folder, tell)
    if not quiet:
        here = info.folder(folder)
        what = f"{len(fetched)} files fetched" if fetched else "all files were here"
        render.out(f"{info.id}: {what}, in {here}; licence: {info.licence}")


def _facts(info: SetInfo, folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from denoisekit.bench.checksums import check, published

    noisy, clean = info.find(info.folder(folder))
    checked = check(info.id, [*noisy, *clean])
    return {
        **asdict(info),
        "sources": [source.urls for source in info.sources],
        "files": len(noisy) + len(clean),
        "sha256": published(info.id),
        "check": str(checked) if checked else None,
    }


def _show_files(info: SetInfo, folder: Path, as_json: bool) -> None:
    from denoisekit.bench.checksums import check, published

    if as_json:
        render.json_line(_facts(info, folder))
        return
    hashes = published(info.id)
    noisy, clean = info.find(info.folder(folder))
    checked = check(info.id, [*noisy, *clean])
    if checked is None:
        rows = [(path.name, "here", "not known") for path in (*noisy, *clean)]
        rows = rows or [(pattern, "-", "not known") for pattern in (info.noisy, info.clean)]
        render.table(("file", "here", "sha256"), [row for row in rows if row[0]], info.title)
        return
    words = {"the owner's": checked.same, "NOT the owner's": checked.other, "-": checked.absent}
    state = {file: word for word, files in words.items() for file in files}
    rows = [(file, state[file], digest) for file, digest in hashes.items()]
    render.table(("file", "here", "sha256"), rows, info.title)
    render.out(f"from {info.home}")
    if checked.other:
        raise InputError(f"'{info.id}': {checked}", f"get them again from {info.home}")


def list_protocols(as_json: Json = False) -> None:
    """List the protocols: how pictures are rounded and compared."""
    from denoisekit.metrics import PROTOCOLS

    if as_json:
        for protocol in PROTOCOLS:
            render.json_line(protocol.facts())
        return
    render.table(
        ("id", "whose", "what"),
        [(p.id, p.title, str(p).partition(": ")[2]) for p in PROTOCOLS],
    )
