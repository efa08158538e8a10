"""The page of a run of ``denoisekit bench``: which pictures it shows, and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoisekit.cli import render
from denoisekit.errors import OutputError

if TYPE_CHECKING:
    from denoisekit.bench.candidates import Candidate
    from denoisekit.bench.material import Item
    from denoisekit.bench.run import Pictures, Place
    from denoisekit.bench.shelf import Shelf
    from denoisekit.metrics import Protocol
    from denoisekit.report.bench_page import Shown

PAGE = "report.html"
PICTURES = 10
"""Most pictures that a page shows."""


def shelf_for(
    place: Place, pictures: Pictures, *, wanted: bool = True, lossless: bool = False
) -> Shelf | None:
    """Return what keeps pictures for the page of a run; None where none will be made.

    Parameters
    ----------
    place : Place
        Of the run.
    pictures : Pictures
        What is measured on; without clean ones there is no page.
    wanted : bool
        Whether the user wants one.
    lossless : bool
        Asked for without loss: then one that is there is made again.
    """
    from denoisekit.bench.results import RESULTS
    from denoisekit.bench.shelf import Shelf

    there = (place.folder / PAGE).exists() and (place.folder / RESULTS).exists()
    if not wanted or not pictures.known or (there and not place.overwrite and not lossless):
        return None
    return Shelf(place, pictures)


def write_page(
    shelf: Shelf,
    results: dict[str, Any],
    chosen: Sequence[Candidate],
    measure: Protocol,
    path: Path,
    *,
    lossless: bool = False,
    quiet: bool = False,
) -> None:
    """Write the page of a run, and let go of the pictures that were kept for it.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    from denoisekit.atomic import write_whole
    from denoisekit.bench.results import rows_of
    from denoisekit.bench.shelf import choose_pictures
    from denoisekit.report.bench_page import bench_page

    names = choose_pictures(rows_of(results), PICTURES)
    items = [item for item in shelf.pictures.items if item.name in names]
    shown = []
    with render.progress(PAGE, len(items), "pictures", quiet) as bar:
        for item in items:
            shown.append(_shown(shelf, item, chosen, measure))
            bar.update(len(shown))
    page = bench_page(results, shown, str(measure), lossless=lossless)
    try:
        write_whole(path, page.encode())
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from error
    shelf.clear()


def _shown(shelf: Shelf, item: Item, chosen: Sequence[Candidate], measure: Protocol) -> Shown:
    from denoisekit.bench.candidates import NOISY
    from denoisekit.metrics import fit_levels
    from denoisekit.report.bench_page import Shown

    noisy, clean = shelf.pictures.read(item)
    assert clean is not None
    if measure.affine:  # as the noisy one would look
        gain, offset = fit_levels(clean, noisy)
        clean = (gain * clean + offset).astype(clean.dtype)
    box = top, left, height, width = shelf.box(item, noisy.shape)
    note = ""
    if noisy.shape[:2] != (height, width):
        whole = f"{noisy.shape[1]}x{noisy.shape[0]}"
        note = f"{width}x{height} pixels from x {left}, y {top} of {whole}: the most detail."
    return Shown(
        item.name,
        shelf.part(noisy, box),
        shelf.part(clean, box),
        {one.id: shelf.take(one, item, noisy) for one in chosen if one.id != NOISY},
        note,
    )
