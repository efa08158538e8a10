"""The page of a run of ``bench``: pictures beside their numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.report.encoding import eight_bits, scale_of
from denoisekit.report.page import (
    Cell,
    Exhibit,
    Page,
    facts,
    number,
    paragraph,
    render,
    section,
    table,
)
from denoisekit.report.plot import quality_against_time
from denoisekit.report.published import published_on

Floats = npt.NDArray[np.floating[Any]]
Rows = dict[tuple[str, str], dict[str, Any]]
"""Rows of a file of results by candidate and picture."""

NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of a set, or a part of it, and what the candidates made of it.

    Attributes
    ----------
    name : str
        As in the rows.
    noisy, clean : numpy.ndarray
        (H, W, C) on 0..1.
    denoised : mapping of str to numpy.ndarray
        The same, by the ids of candidates.
    note : str
        Which part of the picture this is, in a line.
    """

    name: str
    noisy: Floats
    clean: Floats
    denoised: Mapping[str, Floats]
    note: str = ""


def bench_page(
    results: dict[str, Any], shown: Sequence[Shown], protocol: str, *, lossless: bool = False
) -> str:
    """Return the page of a run whose clean pictures are known.

    Parameters
    ----------
    results : dict
        What ``results.json`` holds.
    shown : sequence of Shown
        Pictures to look at; at least one.
    protocol : str
        How was measured, in words.
    lossless : bool
        Keep the pictures without loss, whatever that takes.

    Returns
    -------
    str
        HTML that loads nothing.
    """
    rows: Rows = {(row["candidate"], row["picture"]): row for row in results["rows"]}
    names = [candidate["id"] for candidate in results["candidates"]]
    others = [name for name in names if name != NOISY]
    ssim = f"ssim_{results['protocol']['ssim']}"
    means = {name: results["means"][name] for name in names}
    best = max(others or names, key=lambda name: _value(means[name], "psnr"))
    layers = [NOISY, "clean", *others]
    told = results["set"]
    noise = f", {told['noise']} noise of seed {told['noise_seed']}" if told["noise"] else ""
    page = Page(
        title=f"denoisekit bench: {told['id']}",
        summary=f"{_count(told['pictures'], 'picture')}{_sample(told)}{noise}; "
        f"protocol {_named(results)}",
        layers=layers,
        exhibits=[_exhibit(picture, layers, rows) for picture in shown],
        start=(0, layers.index(best)),
        clean=1,
        sections=[
            section(
                "Means",
                _means(names, rows, means, ssim),
                paragraph(protocol),
                _plot(others, means),
            ),
            section("Pictures", _pictures(names, rows, ssim, [item.name for item in shown])),
            *_published(results, ssim),
            section("How this was measured", _how(results, protocol)),
        ],
    )
    return render(page, lossless=lossless)


def _exhibit(shown: Shown, layers: Sequence[str], rows: Rows) -> Exhibit:
    scale = scale_of(shown.clean)
    versions = {NOISY: shown.noisy, "clean": shown.clean, **shown.denoised}
    notes = [
        f"{_value(rows[layer, shown.name], 'psnr'):.2f} dB" if layer != "clean" else ""
        for layer in layers
    ]
    stretched = scale != (0, 1)
    words = f" Shown from {scale[0]:.3g} to {scale[1]:.3g} of the range." if stretched else ""
    return Exhibit(
        shown.name,
        [eight_bits(versions[layer], scale) for layer in layers],
        notes,
        f"{shown.note}{words}".strip(),
    )


def _means(
    names: Sequence[str], rows: Rows, means: Mapping[str, Mapping[str, Any]], ssim: str
) -> str:
    pictures = [picture for name, picture in rows if name == names[0]]
    lines = []
    top = {key: max(_value(means[name], key) for name in names) for key in ("psnr", ssim)}
    for name in names:
        mean = means[name]
        below = sum(
            _value(rows[name, picture], "psnr") < _value(rows[NOISY, picture], "psnr")
            for picture in pictures
            if (NOISY, picture) in rows
        )
        quality = [
            number(_value(mean, key), digits, best=_value(mean, key) == top[key])
            for key, digits in (("psnr", 2), (ssim, 4))
        ]
        took = mean["seconds_per_megapixel"]
        speed = [number(took, 2), number(below, 0)] if name != NOISY else [Cell("-"), Cell("-")]
        lines.append([Cell(name), *quality, *speed])
    columns = ("candidate", "PSNR dB", _ssim_words(ssim), "s/megapixel", "worse than noisy on")
    return table("Means over all pictures", columns, lines)


def _plot(names: Sequence[str], means: Mapping[str, Mapping[str, Any]]) -> str:
    points = [
        (name, means[name]["seconds_per_megapixel"], _value(means[name], "psnr")) for name in names
    ]
    drawn = [point for point in points if math.isfinite(point[2])]
    noisy = _value(means[NOISY], "psnr") if NOISY in means else math.inf
    level = (NOISY, noisy) if math.isfinite(noisy) else None
    return quality_against_time(drawn, level, "dB") if drawn else ""


def _pictures(names: Sequence[str], rows: Rows, ssim: str, shown: Sequence[str]) -> str:
    pictures = [picture for name, picture in rows if name == names[0]]
    lines = []
    for picture in pictures:
        of = {name: rows[name, picture] for name in names}
        line = [Cell(picture, picture=shown.index(picture) if picture in shown else None)]
        for key, digits in (("psnr", 2), (ssim, 4)):
            values = [_value(of[name], key) for name in names]
            line += [number(value, digits, best=value == max(values)) for value in values]
        lines.append(line)
    columns = ["picture"]
    columns += [f"{name} {unit}" for unit in ("dB", "SSIM") for name in names]
    return table(f"Every picture; SSIM: {ssim.removeprefix('ssim_')}", columns, lines) + paragraph(
        f"{_count(len(shown), 'picture')} of {len(pictures)} can be looked at above; "
        "their names open them."
    )


def _published(results: dict[str, Any], ssim: str) -> list[str]:
    known = published_on(results["set"]["id"], results["set"]["noise"])
    if not known:
        return []
    ids = {candidate["id"]: candidate for candidate in results["candidates"]}
    lines = []
    for entry in known:
        same = [name for name, own in ids.items() if entry.ours in (name, own.get("method"))]
        here = results["means"][same[0]] if same else None
        alike = entry.ssim is not None and f"ssim_{entry.kind}" == ssim
        lines.append(
            [
                Cell(entry.method),
                number(entry.psnr, 2),
                number(entry.ssim or 0, 3) if alike else Cell("-"),
                Cell(same[0] if same else "-"),
                number(_value(here, "psnr"), 2) if here else Cell("-"),
                number(_value(here, ssim), 3) if here else Cell("-"),
                Cell(entry.source, kind="wrap"),
            ]
        )
    kind = _ssim_words(ssim)
    columns = ("published as", "PSNR dB", kind, "here", "PSNR dB here", f"{kind} here", "source")
    return [
        section(
            "Published numbers",
            table("What papers say of this set, beside what was measured here", columns, lines),
            paragraph(
                "Papers differ in how they round and compare; SSIM is left out where its kind is "
                "another or not known. Weights here need not be those of the paper."
            ),
        )
    ]


def _sample(told: dict[str, Any]) -> str:
    return f", a sample of {told['sample_of']}" if told.get("sample_of") else ""


def _how(results: dict[str, Any], protocol: str) -> str:
    told, versions = results["set"], results["versions"]
    pairs = [
        ("protocol", protocol),
        (
            "set",
            f"{told['id']}, {_count(told['pictures'], 'picture')}{_sample(told)}, "
            f"range {told['range']}",
        ),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    if told["noise"]:
        pairs.insert(2, ("noise", f"{told['noise']}, seed {told['noise_seed']}"))
    for candidate in results["candidates"]:
        if candidate["id"] == NOISY:
            continue
        rest = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in candidate.items()
            if name not in ("id", "method", "weights") and value not in (None, {})
        }
        words = (f"{name.replace('_', ' ')} {value}" for name, value in rest.items())
        pairs.append((candidate["id"], "; ".join(words)))
    return facts(pairs)


def _value(numbers: Mapping[str, Any], key: str) -> float:
    """Return a number of a row; a file of results writes infinity as null."""
    value = numbers[key]
    return math.inf if value is None else float(value)


def _ssim_words(ssim: str) -> str:
    return ssim.replace("ssim_", "SSIM ")


def _named(results: dict[str, Any]) -> str:
    return f"{results['protocol']['id']} v{results['protocol']['version']}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
