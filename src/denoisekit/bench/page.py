"""The page of a run: images under a slider, beside their numbers and those of papers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from denoisekit import report
from denoisekit.atomic import write_whole
from denoisekit.bench.candidates import NOISY, Candidate
from denoisekit.bench.datasets import DATASETS
from denoisekit.bench.images import Images, Item, KeptImages
from denoisekit.bench.run import Keep, Row, rows_of
from denoisekit.errors import OutputError
from denoisekit.metrics import Floats, Protocol, fit_levels

SHOWN = 10
"""Most images that a page shows."""
SIDE = 1024
"""Longest side of what is shown of an image."""
MOST_BYTES = 2**30
"""Of what is kept for the page; what is not is denoised again."""
BLOCK = 32
"""Side of the squares whose detail is compared."""

Crop = tuple[slice, slice]


def keeper(kept: KeptImages, images: Images) -> Keep:
    """Return what `denoisekit.bench.run.run` calls with every denoised image, for the page."""

    def keep(candidate: Candidate, item: Item, denoised: Floats) -> None:
        crop = _shown_crop(images, item, denoised.shape)
        kept.put(candidate.id, item.name, denoised[crop].astype(np.float16))

    return keep


def _shown_crop(images: Images, item: Item, shape: tuple[int, ...]) -> Crop:
    """Return what is shown of an image: all, or of a large one what has the most detail.

    The clean one says where that is, so that it does not depend on what any candidate did.
    """
    if shape[0] * shape[1] <= SIDE * SIDE:
        return slice(0, shape[0]), slice(0, shape[1])
    noisy, clean = images.read(item)
    return most_detail(noisy if clean is None else clean, SIDE)


def most_detail(image: Floats, side: int) -> Crop:
    """Return rows and columns of the crop in which neighbours differ most.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C).
    side : int
        Of the crop; less where the image is smaller. It starts at multiples of `BLOCK`.
    """
    grey = image.mean(2)
    height, width = grey.shape
    detail = np.zeros((height, width), np.float64)
    detail[:-1] += np.abs(np.diff(grey, axis=0))
    detail[:, :-1] += np.abs(np.diff(grey, axis=1))
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = detail.cumsum(0).cumsum(1)
    tall, wide = min(side, height), min(side, width)
    tops = np.arange(0, height - tall + 1, BLOCK)[:, None]
    lefts = np.arange(0, width - wide + 1, BLOCK)[None]
    upper, lower = (total[rows, lefts + wide] - total[rows, lefts] for rows in (tops, tops + tall))
    best = int((lower - upper).argmax())
    top, left = (int(index) * BLOCK for index in np.unravel_index(best, (tops.size, lefts.size)))
    return slice(top, top + tall), slice(left, left + wide)


def choose_images(rows: Sequence[Row], most: int) -> list[str]:
    """Return the names of the images worth looking at, in the order of the rows.

    Parameters
    ----------
    rows : sequence of Row
        Of a whole run with ``psnr``.
    most : int
        How many.

    Returns
    -------
    list of str
        All, where they are few. Otherwise the first, those on which the candidates differ
        most, and as many that gained least over the noisy image.
    """
    reached: dict[str, dict[str, float]] = {}
    for row in rows:
        reached.setdefault(row.picture, {})[row.candidate] = row.numbers["psnr"]
    spread: dict[str, float] = {}
    gain: dict[str, float] = {}
    for name, psnr in reached.items():
        noisy = psnr.pop(NOISY, 0.0)
        best, worst = max(psnr.values(), default=0.0), min(psnr.values(), default=0.0)
        differences = (best - worst, best - noisy)
        spread[name], gain[name] = (d if math.isfinite(d) else 0.0 for d in differences)
    names = list(gain)
    if len(names) <= most:
        return names
    chosen = {names[0]}
    for order, count in (
        (sorted(names, key=lambda name: -spread[name]), (most + 1) // 2),
        (sorted(names, key=lambda name: gain[name]), most),
    ):
        rest = [name for name in order if name not in chosen]
        chosen.update(rest[: max(0, count - len(chosen))])
    return [name for name in names if name in chosen]


def write_page(
    path: Path,
    images: Images,
    kept: KeptImages,
    results: dict[str, Any],
    candidates: Sequence[Candidate],
    protocol: Protocol,
    *,
    lossless: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the page of a run whose clean images are known.

    Parameters
    ----------
    path : pathlib.Path
        Of the page.
    images, candidates, protocol
        Of the run.
    kept : KeptImages
        Of `keeper`; cleared at the end.
    results : dict
        What ``results.json`` holds.
    lossless : bool
        Keep the images without loss, whatever that takes.
    on_progress : callable
        Called with how many images are done.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    names = choose_images(rows_of(results), SHOWN)
    exhibits = []
    for item in images.items:
        if item.name not in names:
            continue
        noisy, clean = images.read(item)
        assert clean is not None
        if protocol.affine:  # as the noisy one would look
            gain, offset = fit_levels(clean, noisy)
            clean = (gain * clean + offset).astype(clean.dtype)
        crop = rows, columns = _shown_crop(images, item, noisy.shape)
        height, width = noisy.shape[:2]
        size = f"{columns.stop - columns.start}x{rows.stop - rows.start}"
        note = ""
        if size != f"{width}x{height}":
            note = f"{size} pixels from x {columns.start}, y {rows.start} of {width}x{height}: "
            note += "the most detail."
        versions, notes = [noisy[crop], clean[crop]], [_decibels(results, NOISY, item.name), ""]
        for candidate in candidates:
            if candidate.id != NOISY:
                found = kept.get(candidate.id, item.name)
                versions.append(candidate.run(noisy)[crop] if found is None else found)
                notes.append(_decibels(results, candidate.id, item.name))
        scale, words = report.scale_of(clean[crop])
        pixels = [report.eight_bits(version, scale) for version in versions]
        exhibits.append(report.Exhibit(item.name, pixels, notes, f"{note}{words}".strip()))
        on_progress(len(exhibits))
    page = bench_page(results, exhibits, str(protocol), lossless=lossless)
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    kept.clear()


def _decibels(results: dict[str, Any], candidate: str, picture: str) -> str:
    rows = (row for row in results["rows"] if row["picture"] == picture)
    return next(f"{_value(row, 'psnr'):.2f} dB" for row in rows if row["candidate"] == candidate)


def bench_page(
    results: dict[str, Any],
    exhibits: Sequence[report.Exhibit],
    protocol: str,
    *,
    lossless: bool = False,
) -> str:
    """Return the page of a run whose clean images are known.

    Parameters
    ----------
    results : dict
        What ``results.json`` holds.
    exhibits : sequence of Exhibit
        Images to look at, at least one: noisy, clean, and of every other candidate.
    protocol : str
        How was measured, in words.
    lossless : bool
        Keep the images without loss, whatever that takes.

    Returns
    -------
    str
        HTML that loads nothing.
    """
    numbers = {(row["candidate"], row["picture"]): row for row in results["rows"]}
    names = [candidate["id"] for candidate in results["candidates"]]
    others = [name for name in names if name != NOISY]
    means = {name: results["means"][name] for name in names}
    best = max(others or names, key=lambda name: _value(means[name], "psnr"))
    layers = [NOISY, "clean", *others]
    told = results["set"]
    size = f"{told['pictures']} picture{'s' * (told['pictures'] != 1)}"
    size += f", a sample of {told['sample_of']}" if told.get("sample_of") else ""
    noise = f", {told['noise']} noise of seed {told['noise_seed']}" if told["noise"] else ""
    pairs = [
        ("protocol", protocol),
        ("set", f"{told['id']}, {size}, range {told['range']}"),
        ("versions", ", ".join(f"{name} {one}" for name, one in results["versions"].items())),
    ]
    if told["noise"]:
        pairs.insert(2, ("noise", f"{told['noise']}, seed {told['noise_seed']}"))
    for candidate in results["candidates"]:
        words = "; ".join(
            f"{name.replace('_', ' ')} {value if isinstance(value, str) else json.dumps(value)}"
            for name, value in candidate.items()
            if name not in ("id", "method", "weights") and value not in (None, {})
        )
        pairs += [(candidate["id"], words)] * (candidate["id"] != NOISY)
    page = report.Page(
        title=f"denoisekit bench: {told['id']}",
        summary=f"{size}{noise}; protocol {results['protocol']['id']} "
        f"v{results['protocol']['version']}",
        layers=layers,
        exhibits=exhibits,
        start=(0, layers.index(best)),
        clean=1,
        sections=[
            *_tables(results, numbers, names, [one.name for one in exhibits], protocol),
            *_published(results),
            report.section("How this was measured", report.facts(pairs)),
        ],
    )
    return report.render(page, lossless=lossless)


def _tables(
    results: dict[str, Any],
    numbers: Mapping[tuple[str, str], Mapping[str, Any]],
    names: Sequence[str],
    shown: Sequence[str],
    protocol: str,
) -> list[str]:
    """Return the means, with quality against time, and the numbers of every image."""
    means, ssim = results["means"], f"ssim_{results['protocol']['ssim']}"
    pictures = [picture for name, picture in numbers if name == names[0]]
    kinds = (("psnr", 2), (ssim, 4))
    top = {key: max(_value(means[name], key) for name in names) for key, _ in kinds}
    lines, points = [], []
    for name in names:
        line: list[report.Cell | str] = [name]
        for key, digits in kinds:
            value = _value(means[name], key)
            line.append(report.number(value, digits, best=value == top[key]))
        if name == NOISY:
            lines.append([*line, "-", "-"])
            continue
        psnr = [
            [_value(numbers[one, picture], "psnr") for one in (name, NOISY)]
            for picture in pictures
            if (NOISY, picture) in numbers
        ]
        took = means[name]["seconds_per_megapixel"]
        below = report.number(sum(own < noisy for own, noisy in psnr), 0)
        lines.append([*line, report.number(took, 2), below])
        points.append((name, took, _value(means[name], "psnr")))
    points = [point for point in points if math.isfinite(point[2])]
    noisy = _value(means[NOISY], "psnr") if NOISY in means else math.inf
    level = (NOISY, noisy) if math.isfinite(noisy) else None
    plot = report.quality_against_time(points, level, "dB") if points else ""
    kind = ssim.replace("ssim_", "SSIM ")
    columns = ("candidate", "PSNR dB", kind, "s/megapixel", "worse than noisy on")
    over_all = report.table("Means over all pictures", columns, lines)

    lines = []
    for picture in pictures:
        line = [report.Cell(picture, exhibit=shown.index(picture) if picture in shown else None)]
        for key, digits in kinds:
            values = [_value(numbers[name, picture], key) for name in names]
            line += [report.number(value, digits, best=value == max(values)) for value in values]
        lines.append(line)
    heads = ["picture", *(f"{name} {unit}" for unit in ("dB", "SSIM") for name in names)]
    every = report.table(f"Every picture; SSIM: {ssim.removeprefix('ssim_')}", heads, lines)
    count = f"{len(shown)} picture{'s' * (len(shown) != 1)}"
    hint = f"{count} of {len(pictures)} can be looked at above; their names open them."
    return [
        report.section("Means", over_all, report.paragraph(protocol), plot),
        report.section("Pictures", every + report.paragraph(hint)),
    ]


def _published(results: dict[str, Any]) -> list[str]:
    """Return what papers say of the set, beside what was measured here."""
    told, kind = results["set"], results["protocol"]["ssim"]
    known = [entry for info in DATASETS if info.id == told["id"] for entry in info.published]
    lines = []
    for entry in known:
        if entry.noise != told["noise"]:
            continue
        same = [
            candidate["id"]
            for candidate in results["candidates"]
            if entry.ours in (candidate["id"], candidate.get("method"))
        ]
        here: list[report.Cell | str] = ["-"] * 3
        if same:
            mean = results["means"][same[0]]
            psnr, ssim = _value(mean, "psnr"), _value(mean, f"ssim_{kind}")
            here = [same[0], report.number(psnr, 2), report.number(ssim, 3)]
        of_paper = report.number(entry.ssim, 3) if entry.ssim and entry.kind == kind else "-"
        source = report.Cell(entry.source, kind="wrap")
        lines.append([entry.method, report.number(entry.psnr, 2), of_paper, *here, source])
    if not lines:
        return []
    columns = ["published as", "PSNR dB", f"SSIM {kind}"]
    columns += ["here", "PSNR dB here", f"SSIM {kind} here", "source"]
    return [
        report.section(
            "Published numbers",
            report.table(
                "What papers say of this set, beside what was measured here", columns, lines
            ),
            report.paragraph(
                "Papers differ in how they round and compare; SSIM is left out where its kind is "
                "another or not known. Weights here need not be those of the paper."
            ),
        )
    ]


def _value(numbers: Mapping[str, Any], key: str) -> float:
    """Return a number of a row; a file of results writes infinity as null."""
    return math.inf if numbers[key] is None else float(numbers[key])
