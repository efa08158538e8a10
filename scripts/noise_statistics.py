"""Compare the noise of real pairs with simulated noise on their clean pictures: figure, table.

For every pair the gain is sought at which the simulated noise is as strong as the real one;
everything else is drawn as always, several times. Curves are medians over pictures, and
shades hold the middle four fifths.

    python scripts/noise_statistics.py -o docs/images/noise_statistics.png \\
        --set 'SIDD, 32 blocks' phone 'sidd_val32/noisy/*.png' /noisy/=/clean/,_N.=_CL. \\
        --set 'SIDD, 5 blocks' phone 'sidd_val5/noisy/*.png' /noisy/=/clean/ \\
        --set 'PolyU, 50 crops' dslr 'polyu50/*_real.JPG' _real=_mean \\
        --flat-set 'the same, flat parts' dslr 'polyu50/*_real.JPG' _real=_mean
"""

from __future__ import annotations

import argparse
import glob
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pair_noise import LAGS, LEVELS, NoiseStatistics, measure_noise
from PIL import Image, ImageDraw, ImageFont

from denoisekit.noise import CAMERAS, simulate

Floats = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

BLOCK = 32
FINE = 3  # drawn so many times larger, then reduced: smooth lines
PANEL = (330, 210)
COLOURS = {"G": (40, 140, 60), "luma": (70, 70, 70), "R-G": (200, 50, 60)}
REAL, SIMULATED = (30, 30, 30), (40, 110, 200)
HEADINGS = (
    "deviation (0..255) against intensity",
    "autocorrelation along rows",
    "correlation between colours",
)


@dataclass(frozen=True)
class Measured:
    """Statistics of many pictures: each (pictures, ...)."""

    deviation: Values
    by_level: Values
    along_rows: Values
    between_colours: Values
    coarse: Values


def collect(found: list[NoiseStatistics]) -> Measured:
    return Measured(
        np.array([one.deviation for one in found]) * 255,
        np.array([one.by_level for one in found]) * 255,
        np.array([one.along_rows for one in found]),
        np.array([one.between_colours for one in found]),
        np.array([one.coarse for one in found]),
    )


def load(path: str) -> Floats:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float32) / np.float32(255)


def flattest(clean: Floats, noisy: Floats) -> tuple[Floats, Floats]:
    """Return the flattest twelfth of a pair's blocks, one below the other.

    Where there are edges, what differs between two photographs is not noise alone: the
    camera has moved a little.
    """
    high, wide = (side // BLOCK for side in clean.shape[:2])
    blocks = [
        image[: high * BLOCK, : wide * BLOCK].reshape(high, BLOCK, wide, BLOCK, 3)
        for image in (clean, noisy)
    ]
    ours, theirs = (b.transpose(0, 2, 1, 3, 4).reshape(-1, BLOCK, BLOCK, 3) for b in blocks)
    level = ours.mean((1, 2, 3))
    seen = np.flatnonzero((level > 0.06) & (level < 0.92))
    rough = np.abs(np.diff(ours[seen], axis=1)).mean((1, 2, 3))
    rough += np.abs(np.diff(ours[seen], axis=2)).mean((1, 2, 3))
    chosen = seen[np.argsort(rough)[: max(4, len(seen) // 12)]]
    return ours[chosen].reshape(-1, BLOCK, 3), theirs[chosen].reshape(-1, BLOCK, 3)


def compare(
    camera: str, pattern: str, pairing: str, draws: int, *, flat: bool
) -> tuple[Measured, Measured]:
    """Measure real and simulated noise of all pairs of a pattern."""
    real, simulated = [], []
    for index, name in enumerate(sorted(glob.glob(pattern))):  # noqa: PTH207 - absolute too
        partner = name
        for change in pairing.split(","):
            ours, _, theirs = change.partition("=")
            partner = partner.replace(ours, theirs)
        clean, noisy = load(partner), load(name)
        if flat:
            clean, noisy = flattest(clean, noisy)
        real.append(measure_noise(clean, noisy))
        wanted = float((noisy - clean).std())
        for draw in range(draws):
            simulated.append(measure_noise(clean, as_strong(clean, camera, wanted, [index, draw])))
    if not real:
        sys.exit(f"no pictures: {pattern}")
    return collect(real), collect(simulated)


def as_strong(clean: Floats, camera: str, wanted: float, seed: list[int]) -> Floats:
    """Simulate noise of a given deviation: the draws stay, the gain is corrected."""
    low, high = CAMERAS[camera].allowed
    gain, noisy = 3e-3, clean
    for _ in range(4):
        noisy = simulate(clean, camera, np.random.default_rng(seed), gain=gain)
        gain = float(np.clip(gain * (wanted / max((noisy - clean).std(), 1e-4)) ** 2, low, high))
    return noisy


def middle(values: Values) -> Values:
    """Return the tenth, fiftieth and ninetieth percentile over pictures; NaN of too few."""
    few = np.isfinite(values).sum(0) < 3
    filled = np.where(few, 0.0, values)
    return np.where(few, np.nan, np.nanquantile(filled, [0.1, 0.5, 0.9], axis=0))


class Panel:
    """A diagram: data coordinates on a drawing."""

    def __init__(
        self, canvas: Any, box: tuple[int, int], x: tuple[float, float], y: tuple[float, float]
    ) -> None:
        self.draw, self.x, self.y = canvas, x, y
        left, top = box
        self.left, self.top = (left + 40) * FINE, (top + 26) * FINE
        self.right, self.bottom = (left + PANEL[0] - 12) * FINE, (top + PANEL[1] - 24) * FINE
        self.draw.rectangle((self.left, self.top, self.right, self.bottom), outline=(160, 160, 160))

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        up = min(max(up, 0.0), 1.0)
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )

    def ticks(self, x: dict[float, str], y: dict[float, str]) -> None:
        for value, text in x.items():
            across, _ = self.at(value, self.y[0])
            write(self.draw, (across, self.bottom + 4 * FINE), text, "ma")
        for value, text in y.items():
            _, up = self.at(self.x[0], value)
            self.draw.line((self.left, up, self.right, up), fill=(228, 228, 228), width=FINE)
            write(self.draw, (self.left - 4 * FINE, up), text, "rm")

    def band(self, x: Values, low: Values, high: Values, colour: tuple[int, int, int]) -> None:
        here = np.isfinite(low)
        edge = [self.at(*point) for point in zip(x[here], high[here], strict=True)]
        edge += [self.at(*point) for point in zip(x[here][::-1], low[here][::-1], strict=True)]
        if len(edge) > 2:
            self.draw.polygon(edge, fill=(*colour, 45))

    def line(self, x: Values, y: Values, colour: tuple[int, int, int], *, dashed: bool) -> None:
        here = np.isfinite(y)
        points = [self.at(*point) for point in zip(x[here], y[here], strict=True)]
        for start, end in pairwise(points):
            if not dashed:
                self.draw.line((*start, *end), fill=colour, width=2 * FINE)
                continue
            count = max(2, round(np.hypot(end[0] - start[0], end[1] - start[1]) / (5 * FINE)))
            steps = np.linspace(start, end, count + 1)
            for a, b in zip(steps[::2], steps[1::2], strict=False):
                self.draw.line((*a, *b), fill=colour, width=2 * FINE)

    def bar(self, x: float, spread: Values, colour: tuple[int, int, int]) -> None:
        across, low = self.at(x, spread[0])
        _, centre = self.at(x, spread[1])
        _, high = self.at(x, spread[2])
        self.draw.line((across, low, across, high), fill=colour, width=2 * FINE)
        radius = 4 * FINE
        self.draw.ellipse(
            (across - radius, centre - radius, across + radius, centre + radius), fill=colour
        )


def write(canvas: Any, place: tuple[float, float], text: str, anchor: str, size: int = 11) -> None:
    font = ImageFont.load_default(size * FINE)
    canvas.text(place, text, fill=(40, 40, 40), font=font, anchor=anchor)


def row(canvas: Any, top: int, label: str, real: Measured, simulated: Measured) -> None:
    """Draw the three panels of a set of pairs."""
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    ours, theirs = middle(simulated.by_level), middle(real.by_level)
    highest = 1.1 * float(np.nanmax([ours[2], theirs[2]]))
    panel = Panel(canvas, (0, top), (0, 1), (0, highest))
    step = 2 if highest < 14 else 10
    marks = {float(v): str(v) for v in range(0, int(highest) + 1, step)}
    panel.ticks({0.0: "0", 0.5: "0.5", 1.0: "1"}, marks)
    for values, colour in ((theirs, REAL), (ours, SIMULATED)):
        panel.band(levels, values[0], values[2], colour)
        panel.line(levels, values[1], colour, dashed=values is ours)

    panel = Panel(canvas, (PANEL[0], top), (0, LAGS), (-0.2, 1.0))
    panel.ticks({float(lag): str(lag) for lag in range(LAGS + 1)}, {0.0: "0", 0.5: "0.5", 1.0: "1"})
    lags = np.arange(LAGS + 1.0)
    for index, colour in enumerate(COLOURS.values()):
        for source in (real, simulated):
            values = middle(source.along_rows[:, index])
            values = np.concatenate([np.ones((3, 1)), values], axis=1)
            if source is simulated:
                panel.band(lags, values[0], values[2], colour)
            panel.line(lags, values[1], colour, dashed=source is simulated)

    panel = Panel(canvas, (2 * PANEL[0], top), (0, 3), (-0.2, 1.0))
    panel.ticks({0.5: "R, G", 1.5: "R, B", 2.5: "G, B"}, {0.0: "0", 0.5: "0.5", 1.0: "1"})
    for index in range(3):
        panel.bar(index + 0.4, middle(real.between_colours[:, index]), REAL)
        panel.bar(index + 0.6, middle(simulated.between_colours[:, index]), SIMULATED)
    write(canvas, (40 * FINE, (top + 6) * FINE), label, "la", 13)


def legend(canvas: Any) -> None:
    for index, heading in enumerate(HEADINGS):
        write(canvas, ((index * PANEL[0] + 40) * FINE, 10 * FINE), heading, "la", 13)
    keys = [("real", REAL, False), ("simulated", SIMULATED, True)]
    keys += [(name, colour, False) for name, colour in COLOURS.items()]
    places = [40, 110, PANEL[0] + 40, PANEL[0] + 90, PANEL[0] + 150]
    for (name, colour, dashed), left in zip(keys, places, strict=True):
        for part in range(0, 20, 7 if dashed else 20):
            span = (left + part, left + min(20, part + (4 if dashed else 20)))
            canvas.line(
                (span[0] * FINE, 38 * FINE, span[1] * FINE, 38 * FINE), fill=colour, width=2 * FINE
            )
        write(canvas, ((left + 24) * FINE, 38 * FINE), name, "lm")
    write(canvas, ((PANEL[0] + 205) * FINE, 38 * FINE), "dashed: simulated", "lm")


def table(label: str, real: Measured, simulated: Measured) -> list[str]:
    """Return the rows of a Markdown table: medians, and the middle four fifths."""
    lines = []
    for name, source in (("real", real), ("simulated", simulated)):
        cells = [label, name]
        cells.append(" / ".join(f"{v:.1f}" for v in np.median(source.deviation, 0)))
        for index in range(3):
            cells.append(" ".join(f"{v:.2f}" for v in np.median(source.along_rows[:, index], 0)))
        for index in (1, 2):
            cells.append(" ".join(f"{v:.1f}" for v in np.nanmedian(source.coarse[:, index], 0)))
        spread = middle(source.between_colours)
        cells.append(", ".join(f"{m:.2f} ({lo:.2f}…{hi:.2f})" for lo, m, hi in spread.T.tolist()))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--set",
        nargs=4,
        action="append",
        required=True,
        metavar=("LABEL", "CAMERA", "NOISY", "PAIRING"),
        help="pictures, and what to replace in their names: A=B,C=D",
    )
    parser.add_argument(
        "--flat-set",
        nargs=4,
        action="append",
        default=[],
        metavar=("LABEL", "CAMERA", "NOISY", "PAIRING"),
        help="the same, of the flattest blocks of pictures alone",
    )
    parser.add_argument("--draws", type=int, default=4, help="simulations of each picture")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    sets = [*((one, False) for one in options.set), *((one, True) for one in options.flat_set)]
    size = (3 * PANEL[0], 52 + len(sets) * PANEL[1])
    image = Image.new("RGB", (size[0] * FINE, size[1] * FINE), "white")
    canvas = ImageDraw.Draw(image, "RGBA")
    legend(canvas)
    print("| pairs | noise | std G / luma / R-G | G | luma | R-G", end=" | ")
    print("luma, squares | R-G, squares | R,G; R,B; G,B |")
    print("|---|---|---|---|---|---|---|---|---|")
    for index, ((label, camera, pattern, pairing), flat) in enumerate(sets):
        real, simulated = compare(camera, pattern, pairing, options.draws, flat=flat)
        row(canvas, 52 + index * PANEL[1], label, real, simulated)
        print("\n".join(table(label, real, simulated)))
    reduced = image.resize(size, Image.Resampling.LANCZOS)
    reduced.quantize(128).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
