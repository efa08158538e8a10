"""``denoisekit bench sets`` and ``bench protocols``: what can be measured on, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.errors import InputError

if TYPE_CHECKING:
    from denoisekit.bench.sets import SetInfo

SETS_EPILOG = (
    "Examples:\n\ndenoisekit bench sets --data ~/sets\n\ndenoisekit bench sets polyu --data ~/sets"
)
PROTOCOLS_EPILOG = "Examples:\n\ndenoisekit bench protocols"

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, in place of a table.")]
Data = Annotated[Path | None, typer.Option(help="Folder of all sets; default: $DENOISEKIT_DATA.")]


def list_sets(
    name: Annotated[
        str | None, typer.Argument(metavar="[SET]", help="Show its files and their sha256.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the sets of pictures: what is here, where to get them, their licences."""
    from denoisekit.bench.sets import SETS, data_folder, find_set

    folder = data_folder(data)
    if name is not None:
        _show_files(find_set(name), folder, as_json)
        return
    rows = []
    for info in SETS:
        wanted = [pattern for pattern in (info.noisy, info.clean) if pattern]
        facts = _facts(info, folder)
        if as_json:
            render.json_line(facts)
            continue
        here = f"{facts['files']} files" if facts["files"] else "-"
        if facts["files"] and facts["check"]:
            here += f", {facts['check']}"
        rows.append((info.id, here, info.title, " ".join(wanted), info.licence, info.home))
    if not as_json:
        render.table(("id", "here", "what", "files in DATA/id", "licence", "from"), rows)
        if folder is None:
            render.err("note: no folder of data is named; give --data or set DENOISEKIT_DATA")


def _facts(info: SetInfo, folder: Path | None) -> dict[str, Any]:
    from dataclasses import asdict

    from denoisekit.bench.checksums import check, published

    noisy, clean = info.find(folder / info.id) if folder else ([], [])
    checked = check(info.id, [*noisy, *clean])
    return {
        **asdict(info),
        "files": len(noisy) + len(clean),
        "sha256": published(info.id),
        "check": str(checked) if checked else None,
    }


def _show_files(info: SetInfo, folder: Path | None, as_json: bool) -> None:
    from denoisekit.bench.checksums import check, published

    if as_json:
        render.json_line(_facts(info, folder))
        return
    hashes = published(info.id)
    noisy, clean = info.find(folder / info.id) if folder else ([], [])
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
    from denoisekit.bench.protocols import PROTOCOLS

    if as_json:
        for protocol in PROTOCOLS:
            render.json_line(protocol.facts())
        return
    render.table(
        ("id", "whose", "what"),
        [(p.id, p.title, str(p).partition(": ")[2]) for p in PROTOCOLS],
    )
