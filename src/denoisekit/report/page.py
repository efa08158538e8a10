"""The template filled in: pictures to look at, and whatever tables belong below them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

import numpy as np

from denoisekit._version import __version__
from denoisekit.errors import printable
from denoisekit.report.encoding import Bytes, encode_alike

MOST_LETTERS = 4_900_000
"""Of a page, unless its pictures are kept without loss."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One picture in all its versions.

    Attributes
    ----------
    name : str
        What the chooser calls it.
    pictures : sequence of numpy.ndarray
        A version for each layer of the page: (H, W, 3) or (H, W), uint8, of one size.
    notes : sequence of str
        Said after the name of each layer, such as its PSNR; may be empty.
    note : str
        What should be known of the picture, in a line.
    """

    name: str
    pictures: Sequence[Bytes]
    notes: Sequence[str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows.

    Attributes
    ----------
    title, summary : str
        At the top; plain text.
    layers : sequence of str
        Names of the versions of every picture; the first is the noisy one.
    exhibits : sequence of Exhibit
        At least one.
    start : (int, int)
        Layers that are compared at first.
    clean : int or None
        The layer that differences are taken from.
    chooser : str
        What the exhibits are: pictures or planes.
    sections : sequence of str
        HTML below the pictures, from `section`.
    """

    title: str
    summary: str
    layers: Sequence[str]
    exhibits: Sequence[Exhibit]
    start: tuple[int, int]
    clean: int | None = None
    chooser: str = "Picture"
    sections: Sequence[str] = field(default=())


def render(page: Page, *, lossless: bool = False) -> str:
    """Return the page as HTML that loads nothing.

    Parameters
    ----------
    page : Page
        What it shows.
    lossless : bool
        Keep all pictures without loss; otherwise as well as fits into `MOST_LETTERS`.
    """
    parts = {name: _part(name) for name in ("page.css", "page.js")}
    sections = "\n".join(page.sections)
    fixed = len(sections) + sum(map(len, parts.values()))
    data = {
        "layers": list(page.layers),
        "start": page.start,
        "noisy": 0,
        "clean": page.clean,
        "pictures": _coded(page.exhibits, MOST_LETTERS - fixed - 20_000, lossless),
    }
    filled = {
        "title": escaped(page.title),
        "summary": escaped(page.summary),
        "version": escaped(__version__),
        "css": parts["page.css"].strip(),
        "js": parts["page.js"].strip(),
        "chooser": escaped(page.chooser),
        "chooser_small": escaped(page.chooser.lower()),
        "gain": str(_gain(page.exhibits[0], page.start)),
        "sections": sections,
        # Within a script nothing but "</" ends it; names of files may hold anything.
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    }
    return re.sub(r"{{(\w+)}}", lambda found: filled[found[1]], _part("page.html"))


def _gain(exhibit: Exhibit, start: tuple[int, int]) -> int:
    """Return how often what was removed must be taken to be seen well, and not be cut off."""
    left, right = (exhibit.pictures[layer].astype(np.float32) for layer in start)
    return round(min(20.0, max(1.0, 48 / max(float((left - right).std()), 1e-6))))


def _part(name: str) -> str:
    return files("denoisekit.report").joinpath(name).read_text(encoding="utf-8")


def _coded(exhibits: Sequence[Exhibit], most: float, lossless: bool) -> list[dict[str, object]]:
    total = sum(exhibit.pictures[0].size for exhibit in exhibits)
    coded: list[dict[str, object]] = []
    left = float(most)
    for exhibit in exhibits:
        size = exhibit.pictures[0].size
        # What one picture did not need the next ones may have.
        sources, how = encode_alike(exhibit.pictures, left * size / total, lossless=lossless)
        total -= size
        left -= sum(map(len, sources))
        height, width = exhibit.pictures[0].shape[:2]
        coded.append(
            {
                "name": exhibit.name,
                "notes": list(exhibit.notes),
                "note": f"{exhibit.note} Kept here {how}.".strip(),
                "width": width,
                "height": height,
                "sources": sources,
            }
        )
    return coded


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    text : str
        Shown; plain text.
    value : float or None
        What a number is sorted by; None: it is text.
    best : bool
        Whether it stands out.
    kind : {'', 'wrap', 'command'}
        Long text that is broken into lines, or a command to copy.
    picture : int or None
        For the first cell of a row: the exhibit that it opens.
    """

    text: str
    value: float | None = None
    best: bool = False
    kind: str = ""
    picture: int | None = None


def number(value: float, digits: int, *, best: bool = False) -> Cell:
    """Return a cell that holds a number."""
    return Cell(f"{value:.{digits}f}", value, best)


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table that can be sorted by any column.

    Parameters
    ----------
    caption : str
        What it shows, in a line.
    columns : sequence of str
        Headings.
    rows : sequence of sequence of Cell
        As many cells a row as there are headings; the first names the row.
    """
    right = {i for row in rows for i, cell in enumerate(row) if cell.value is not None}
    heads = "".join(
        f'<th scope="col"{_classes("n" * (i in right))}>{escaped(name)}</th>'
        for i, name in enumerate(columns)
    )
    lines = "\n".join(
        f"<tr>{''.join(_cell(cell, i, i in right) for i, cell in enumerate(row))}</tr>"
        for row in rows
    )
    return (
        '<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escaped(caption)}"><table class="sortable"><caption>{escaped(caption)}'
        f"</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>"
    )


def _cell(cell: Cell, index: int, right: bool) -> str:
    text = escaped(cell.text)
    if index == 0:
        opens = "" if cell.picture is None else f' data-picture="{cell.picture}"'
        return f'<th scope="row"{opens}>{text}</th>'
    if cell.kind == "command":
        return f'<td><span class="command"><code class="copied">{text}</code></span></td>'
    sorted_by = "" if cell.value is None else f' data-value="{_sorted_by(cell.value)}"'
    names = ["n"] * right + ["best"] * cell.best + [cell.kind] * bool(cell.kind)
    return f"<td{_classes(' '.join(names))}{sorted_by}>{text}</td>"


def _sorted_by(value: float) -> str:
    # As JavaScript reads it.
    return repr(value).replace("inf", "Infinity")


def _classes(names: str) -> str:
    return f' class="{names}"' if names else ""


def section(title: str, *contents: str) -> str:
    """Return a part of a page: a heading, and HTML below."""
    return f"<section><h2>{escaped(title)}</h2>\n" + "\n".join(contents) + "\n</section>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a list of names and what they stand for."""
    lines = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>" for name, text in pairs)
    return f"<dl>{lines}</dl>"


def escaped(text: str) -> str:
    """Return a text as HTML; what is not text in it is written out."""
    return escape(printable(text))


def paragraph(text: str) -> str:
    """Return a paragraph of small print."""
    return f'<p class="small">{escaped(text)}</p>'
