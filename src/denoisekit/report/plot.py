"""Quality against time, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from denoisekit.report.page import escaped

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 16, 48
LINE = 16
"""Height of a label."""

Place = Callable[[float], float]


def quality_against_time(
    points: Sequence[tuple[str, float, float]], level: tuple[str, float] | None, unit: str
) -> str:
    """Return a plot of what every candidate reaches, and in what time.

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
    low, high = _padded(min(heights), max(heights), 0.5)
    times = [math.log10(max(seconds, 1e-4)) for _, seconds, _ in points]
    first, last = math.floor(min(times)), math.ceil(max(times) + 1e-9)
    last = max(last, first + 1)

    def x(time: float) -> float:
        return LEFT + (time - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(quality: float) -> float:
        return HEIGHT - BOTTOM - (quality - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(x, y, (first, last), (low, high)), _axes(unit)]
    if level:
        at = y(level[1])
        parts.append(f'<line class="noisy" x1="{LEFT}" x2="{WIDTH - RIGHT}" {_both("y", at)}/>')
        parts.append(_text(WIDTH - RIGHT, at - 5, level[0], "end", "soft"))
    placed: list[tuple[float, float]] = []
    for (name, _, quality), time in sorted(zip(points, times, strict=True), key=lambda p: -p[0][2]):
        across, down = x(time), y(quality)
        parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="5"/>')
        # A label moves down until it covers none before it.
        label = down + 4
        while any(abs(label - other) < LINE and abs(across - a) < 190 for a, other in placed):
            label += 2
        placed.append((across, label))
        end = across > WIDTH * 0.65
        parts.append(_text(across + (-10 if end else 10), label, name, "end" if end else "start"))
    told = "; ".join(f"{n}: {q:.2f} {unit} in {s:.3g} s a megapixel" for n, s, q in points)
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escaped(f"Quality against time. {told}")}">{"".join(parts)}</svg></figure>'
    )


def _padded(low: float, high: float, least: float) -> tuple[float, float]:
    room = max(0.08 * (high - low), least)
    return low - room, high + room


def _grid(x: Place, y: Place, times: tuple[int, int], heights: tuple[float, float]) -> str:
    parts = []
    for power in range(times[0], times[1] + 1):
        parts.append(f'<line {_both("x", x(power))} y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x(power), HEIGHT - BOTTOM + 18, f"{10.0**power:g}", "middle", "soft"))
    step = _step(heights[1] - heights[0])
    mark = math.ceil(heights[0] / step)
    while mark * step <= heights[1]:
        value = mark * step
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" {_both("y", y(value))}/>')
        parts.append(_text(LEFT - 8, y(value) + 4, f"{value:g}", "end", "soft"))
        mark += 1
    return "".join(parts)


def _step(span: float) -> float:
    """Return a round distance that gives four to ten marks."""
    power = 10.0 ** math.floor(math.log10(span))
    return next(s * power for s in (0.1, 0.2, 0.5, 1, 2) if span / (s * power) <= 8)


def _axes(unit: str) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "seconds a megapixel", "middle") + (
        f'<text transform="translate(16 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escaped(unit)}</text>"
    )


def _both(axis: str, value: float) -> str:
    return f'{axis}1="{value:.1f}" {axis}2="{value:.1f}"'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escaped(text)}</text>'
