"""Pages to judge results by: one HTML file each, that needs nothing but a browser.

`Page` says what is shown: versions of images under a slider, and sections of tables below them,
made by `table`, `facts` and `quality_against_time`. `render` fills it into the template.
"""

from __future__ import annotations

import io
import json
import math
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit._version import __version__
from denoisekit.errors import printable

Bytes = npt.NDArray[np.uint8]

MOST_LETTERS = 4_900_000
"""Of a page, unless its images are kept without loss."""
QUALITIES = (90, 80, 70, 60, 50, 40, 30, 20)
"""What is tried, from the best."""
PROBE = 256
"""Side of the middle part that tells about how large a whole image becomes."""

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 16, 48
"""Of the plot, and of its margins."""
LINE = 16
"""Height of a label."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One image in all its versions.

    Attributes
    ----------
    name : str
        What the chooser calls it.
    images : sequence of numpy.ndarray
        A version for each layer of the page: (H, W, 3) or (H, W), uint8, of one size.
    notes : sequence of str
        Said after the name of each layer, such as its PSNR; may be empty.
    note : str
        What should be known of the image, in a line.
    """

    name: str
    images: Sequence[Bytes]
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
        Names of the versions of every image; the first is the noisy one.
    exhibits : sequence of Exhibit
        At least one.
    start : (int, int)
        Layers that are compared at first.
    clean : int or None
        The layer that differences are taken from.
    chooser : str
        What the exhibits are: pictures or planes.
    sections : sequence of str
        HTML below the images, from `section`.
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
        Keep all images without loss; otherwise as well as fits into `MOST_LETTERS`.
    """
    html, css, js = (
        files("denoisekit.report").joinpath(f"page.{kind}").read_text(encoding="utf-8")
        for kind in ("html", "css", "js")
    )
    sections = "\n".join(page.sections)
    left = float(MOST_LETTERS - len(sections) - len(css) - len(js) - 20_000)
    total = sum(exhibit.images[0].size for exhibit in page.exhibits)
    pictures = []
    for exhibit in page.exhibits:
        size = exhibit.images[0].size
        # What one image did not need the next ones may have.
        sources, how = encode_alike(exhibit.images, left * size / total, lossless=lossless)
        total -= size
        left -= sum(map(len, sources))
        pictures.append(
            {
                "name": exhibit.name,
                "notes": list(exhibit.notes),
                "note": f"{exhibit.note} Kept here {how}.".strip(),
                "width": exhibit.images[0].shape[1],
                "height": exhibit.images[0].shape[0],
                "sources": sources,
            }
        )
    # How often what was removed must be taken to be seen well, and not be cut off.
    one, other = (page.exhibits[0].images[layer].astype(np.float32) for layer in page.start)
    gain = round(min(20.0, max(1.0, 48 / max(float((one - other).std()), 1e-6))))
    data = {
        "layers": list(page.layers),
        "start": page.start,
        "noisy": 0,
        "clean": page.clean,
        "pictures": pictures,
    }
    filled = {
        "title": escaped(page.title),
        "summary": escaped(page.summary),
        "version": escaped(__version__),
        "css": css.strip(),
        "js": js.strip(),
        "chooser": escaped(page.chooser),
        "chooser_small": escaped(page.chooser.lower()),
        "gain": str(gain),
        "sections": sections,
        # Within a script nothing but "</" ends it; names of files may hold anything.
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    }
    return re.sub(r"{{(\w+)}}", lambda found: filled[found[1]], html)


def eight_bits(image: npt.NDArray[Any], scale: tuple[float, float] = (0.0, 1.0)) -> Bytes:
    """Return an image as screens show it.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C), floats. Other than three channels are shown as their mean.
    scale : (float, float)
        Values of black and white.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) or (H, W), uint8.
    """
    values = np.asarray(image, np.float32)
    if values.shape[2] != 3:
        values = values.mean(2)
    low, high = scale
    values = (values - low) * np.float32(255 / (high - low))
    shown: Bytes = np.rint(values.clip(0, 255)).astype(np.uint8)
    return shown


def scale_of(reference: npt.NDArray[Any]) -> tuple[tuple[float, float], str]:
    """Return which values to show as black and white, and say so in words unless 0 and 1.

    They are 0 and 1, unless all would be dark.

    Parameters
    ----------
    reference : numpy.ndarray
        (H, W, C) on 0..1: the clean image, or the noisy one.
    """
    low, high = (float(value) for value in np.quantile(reference, (0.001, 0.999)))
    if high > 0.25 and low > -0.25 and high < 1.25:
        return (0.0, 1.0), ""
    high = high if high > low else low + 1
    return (low, high), f" Shown from {low:.3g} to {high:.3g} of the range."


def encode_alike(
    images: Sequence[Bytes], most: float, *, lossless: bool = False
) -> tuple[list[str], str]:
    """Encode versions of one image in one way, so that coding favours none.

    Parameters
    ----------
    images : sequence of numpy.ndarray
        (H, W, 3) or (H, W), uint8, of one size.
    most : float
        Letters that all together may take; kept to, unless the lowest quality is too large.
    lossless : bool
        Keep every value, whatever that takes.

    Returns
    -------
    addresses : list of str
        ``data:`` addresses.
    how : str
        What was done, in words.
    """
    from PIL import Image, features

    # AVIF keeps the colours of noise; lossy WebP has half of their resolution only.
    avif = features.check("avif") and not lossless

    def encode(image: Bytes, quality: int) -> str:
        kind: str = "webp"
        options: dict[str, Any] = {"quality": quality, "method": 4}
        if lossless:
            options = {"lossless": True, "exact": True, "method": 1, "quality": quality}
        elif avif:
            colours = "4:0:0" if image.ndim == 2 else "4:4:4"
            kind, options = "avif", {"quality": quality, "subsampling": colours, "speed": 8}
        target = io.BytesIO()
        Image.fromarray(image).save(target, kind, **options)
        return f"data:image/{kind};base64,{b64encode(target.getvalue()).decode()}"

    def probe(quality: int) -> float:
        """Return about how many letters the images take, from their middles."""
        total = 0.0
        for image in images:
            top, left = (max(0, (side - PROBE) // 2) for side in image.shape[:2])
            middle = image[top : top + PROBE, left : left + PROBE]
            total += len(encode(middle, quality)) * image.size / middle.size
        return total * 0.9  # a whole image takes less: a guess too high would cost quality

    if lossless:
        return [encode(image, 30) for image in images], "without loss"
    steps = list(QUALITIES)
    while len(steps) > 1 and probe(steps[0]) > most:
        del steps[0]
    for quality in steps:
        coded = [encode(image, quality) for image in images]
        if sum(map(len, coded)) <= most:
            break
    return coded, f"as {'AVIF 4:4:4' if avif else 'WebP'}, quality {quality}"


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
    exhibit : int or None
        For the first cell of a row: the exhibit that it opens.
    """

    text: str
    value: float | None = None
    best: bool = False
    kind: str = ""
    exhibit: int | None = None


def number(value: float, digits: int, *, best: bool = False) -> Cell:
    """Return a cell that holds a number."""
    return Cell(f"{value:.{digits}f}", value, best)


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell | str]]) -> str:
    """Return a table that can be sorted by any column.

    Parameters
    ----------
    caption : str
        What it shows, in a line.
    columns : sequence of str
        Headings.
    rows : sequence of sequence of Cell or str
        As many cells a row as there are headings; the first names the row.
    """
    lines = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    right = {i for line in lines for i, cell in enumerate(line) if cell.value is not None}

    def kinds(*names: str) -> str:
        found = " ".join(filter(None, names))
        return f' class="{found}"' if found else ""

    def drawn(cell: Cell, index: int) -> str:
        text = escaped(cell.text)
        if index == 0:
            opens = "" if cell.exhibit is None else f' data-picture="{cell.exhibit}"'
            return f'<th scope="row"{opens}>{text}</th>'
        if cell.kind == "command":
            return f'<td><span class="command"><code class="copied">{text}</code></span></td>'
        value = repr(cell.value).replace("inf", "Infinity")  # as JavaScript reads it
        sorted_by = "" if cell.value is None else f' data-value="{value}"'
        names = kinds("n" * (index in right), "best" * cell.best, cell.kind)
        return f"<td{names}{sorted_by}>{text}</td>"

    heads = "".join(
        f'<th scope="col"{kinds("n" * (i in right))}>{escaped(name)}</th>'
        for i, name in enumerate(columns)
    )
    body = "\n".join(
        f"<tr>{''.join(drawn(cell, i) for i, cell in enumerate(line))}</tr>" for line in lines
    )
    return (
        '<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escaped(caption)}"><table class="sortable"><caption>{escaped(caption)}'
        f"</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


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


def quality_against_time(
    points: Sequence[tuple[str, float, float]], level: tuple[str, float] | None, unit: str
) -> str:
    """Return a plot of what every candidate reaches, and in what time, as SVG.

    Parameters
    ----------
    points : sequence of (str, float, float)
        Name, seconds a megapixel (above 0; drawn by their logarithm), quality.
    level : (str, float) or None
        A name and a quality that takes no time, drawn as a line.
    unit : str
        Of the quality.
    """
    heights = [quality for _, _, quality in points] + ([level[1]] if level else [])
    room = max(0.08 * (max(heights) - min(heights)), 0.5)
    low, high = min(heights) - room, max(heights) + room
    times = [math.log10(max(seconds, 1e-4)) for _, seconds, _ in points]
    first = math.floor(min(times))
    last = max(math.ceil(max(times) + 1e-9), first + 1)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(time: float) -> float:
        return LEFT + (time - first) / (last - first) * (right - LEFT)

    def y(quality: float) -> float:
        return bottom - (quality - low) / (high - low) * (bottom - TOP)

    def text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
        named = f' class="{kind}"' if kind else ""
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}'
        return f"<text {place}>{escaped(words)}</text>"

    def across(height: float, kind: str = "") -> str:
        return f'<line{kind} x1="{LEFT}" x2="{right}" y1="{height:.1f}" y2="{height:.1f}"/>'

    parts = []
    for power in range(first, last + 1):
        parts.append(f'<line x1="{x(power):.1f}" x2="{x(power):.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(text(x(power), bottom + 18, f"{10.0**power:g}", "middle", "soft"))
    # A round distance that gives four to ten marks.
    ten = 10.0 ** math.floor(math.log10(high - low))
    step = next(s * ten for s in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (s * ten) <= 8)
    for mark in range(math.ceil(low / step), math.floor(high / step) + 1):
        parts.append(across(y(mark * step)))
        parts.append(text(LEFT - 8, y(mark * step) + 4, f"{mark * step:g}", "end", "soft"))
    parts.append(text((LEFT + right) / 2, HEIGHT - 8, "seconds a megapixel", "middle"))
    parts.append(
        f'<text transform="translate(16 {(TOP + bottom) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{escaped(unit)}</text>'
    )
    if level:
        parts.append(across(y(level[1]), ' class="noisy"'))
        parts.append(text(right, y(level[1]) - 5, level[0], "end", "soft"))
    placed: list[tuple[float, float]] = []
    for (name, _, quality), time in sorted(zip(points, times, strict=True), key=lambda p: -p[0][2]):
        at = x(time)
        parts.append(f'<circle cx="{at:.1f}" cy="{y(quality):.1f}" r="5"/>')
        # A label moves down until it covers none before it.
        label = y(quality) + 4
        while any(abs(label - other) < LINE and abs(at - a) < 190 for a, other in placed):
            label += 2
        placed.append((at, label))
        end = at > WIDTH * 0.65
        parts.append(text(at + (-10 if end else 10), label, name, "end" if end else "start"))
    told = "; ".join(f"{n}: {q:.2f} {unit} in {s:.3g} s a megapixel" for n, s, q in points)
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escaped(f"Quality against time. {told}")}">{"".join(parts)}</svg></figure>'
    )
