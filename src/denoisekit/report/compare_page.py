"""The page of ``compare``: one image, denoised in several ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

Floats = npt.NDArray[np.floating[Any]]

RANKS = (
    "The score estimates, from the noisy image alone, which result is nearest to the clean image: "
    "PSNR in dB on a test made from this image. Higher is better, small differences mean nothing. "
    "Look before you believe it. What "
    "was removed should look like noise and nothing else: lines and shapes in it are detail "
    "that was lost."
)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to denoise, and what it did.

    Attributes
    ----------
    name : str
        What it is called.
    denoised : sequence of numpy.ndarray
        The planes, (H, W, C) on 0..1.
    score : float
        In dB, higher is better.
    seconds, memory : float
        What it took, in all; bytes.
    command : str
        The command line that gives this result; empty: there is none.
    how : str
        Weights, device, precision, in a line.
    """

    name: str
    denoised: Sequence[Floats]
    score: float
    seconds: float
    memory: float
    command: str
    how: str


def compare_page(
    title: str,
    ways: Sequence[Way],
    noisy: Sequence[Floats],
    planes: Sequence[int],
    about: Sequence[tuple[str, str]],
    *,
    noisy_score: float,
    note: str = "",
    lossless: bool = False,
) -> str:
    """Return the page.

    Parameters
    ----------
    title : str
        Name of the image.
    ways : sequence of Way
        The best first; at least one.
    noisy : sequence of numpy.ndarray
        The planes, (H, W, C) on 0..1.
    planes : sequence of int
        Their numbers in the image, from 0.
    about : sequence of (str, str)
        What else should be known: names and texts.
    noisy_score : float
        That of the noisy image itself.
    note : str
        Which part of the image this is, in a line.
    lossless : bool
        Keep the pictures without loss, whatever that takes.

    Returns
    -------
    str
        HTML that loads nothing.
    """
    scale = scale_of(np.stack(noisy))
    if scale != (0, 1):
        note += f" Shown from {scale[0]:.3g} to {scale[1]:.3g} of the range."
    notes = ["", *(f"rank {rank}" for rank in range(1, len(ways) + 1))]
    exhibits = [
        Exhibit(
            f"plane {plane}" if len(planes) > 1 else title,
            [eight_bits(pictures, scale) for pictures in versions],
            notes,
            note.strip(),
        )
        for plane, *versions in zip(planes, noisy, *(way.denoised for way in ways), strict=True)
    ]
    page = Page(
        title=f"denoisekit compare: {title}",
        summary=f"{len(ways)} result{'s' * (len(ways) > 1)}, the one with the best score first",
        layers=["noisy", *(way.name for way in ways)],
        exhibits=exhibits,
        start=(0, 1),
        chooser="Plane",
        sections=[
            section("Ranks", _ranks(ways, noisy, noisy_score), paragraph(RANKS)),
            section("How this was made", facts([*about, *((way.name, way.how) for way in ways)])),
        ],
    )
    return render(page, lossless=lossless)


def _ranks(ways: Sequence[Way], noisy: Sequence[Floats], noisy_score: float) -> str:
    megapixels = sum(plane.shape[0] * plane.shape[1] for plane in noisy) / 1e6
    rows = []
    for rank, way in enumerate(ways, 1):
        squares = [
            float(np.square(one - other).mean())
            for one, other in zip(noisy, way.denoised, strict=True)
        ]
        rows.append(
            [
                Cell(way.name),
                number(rank, 0),
                number(way.score, 2, best=rank == 1 and way.score > noisy_score),
                number(255 * math.sqrt(sum(squares) / len(squares)), 2),
                number(way.seconds, 1),
                number(way.seconds / megapixels, 1),
                number(way.memory / 2**20, 0),
                Cell(way.command, kind="command") if way.command else Cell("-"),
            ]
        )
    own = number(noisy_score, 2, best=all(way.score <= noisy_score for way in ways))
    rows.append([Cell("noisy"), Cell("-"), own, number(0, 2), *[Cell("-")] * 4])
    columns = (
        *("result", "rank", "score, dB", "removed, of 255", "seconds", "s/megapixel"),
        *("memory, MiB", "command"),
    )
    return table("All results", columns, rows)
