"""Grey pictures as a microscope shows them, and the noise of its detectors, to train with.

Clean pictures come from three sources: fluorescence images of nuclei, made smaller until little
of their own noise is left; photographs in grey; and drawn ones, of fibres, spots and cells.
All are darkened and softened at random, for most of a micrograph is dark and its optics are
softer than its pixels. Noise has any gain and any offset, and values come as a network sees
them: from the quantile 0.001 to 0.999 of the image, white moved up where noise is strong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, uniform_filter

from denoisekit.noise.sensor import expose, expose_clipped

Floats = npt.NDArray[np.float32]

STRONGEST = 0.1
"""Deviation of noise up to which black and white are those of the image, as in the engine."""
KINDS = ("photographs", "nuclei", "drawn")
SHARES = (0.5, 0.25, 0.25)
"""Of the patches, by kind."""


def stretched(picture: Floats, low: float = 0.001, high: float = 0.999) -> Floats:
    """Return a picture between two of its quantiles, on 0..1."""
    black, white = np.quantile(picture, (low, high))
    unit: Floats = ((picture - black) / max(white - black, 1e-6)).clip(0, 1).astype(np.float32)
    return unit


def nuclei(path: Path) -> list[Floats]:
    """Return an image of nuclei in two sizes; none where it has few levels."""
    with Image.open(path) as opened:
        picture = opened.convert("F")
    small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    values = np.asarray(small)
    if np.quantile(values, 0.999) - np.quantile(values, 0.001) < 40:
        return []
    sizes = [(int(small.width * k), int(small.height * k)) for k in (1.3, 2.2)]
    return [stretched(np.asarray(small.resize(s, Image.Resampling.BICUBIC))) for s in sizes]


def photograph(path: Path) -> Floats:
    """Return a photograph in grey on 0..1, float16."""
    with Image.open(path) as opened:
        values: Floats = (np.asarray(opened.convert("L"), np.float32) / 255).astype(np.float16)
    return values


def drawn(rng: np.random.Generator, side: int = 384) -> Floats:
    """Draw fibres, spots and cells, twice as large and made smaller."""
    large = Image.new("F", (2 * side, 2 * side))
    pen = ImageDraw.Draw(large)
    what = rng.integers(4)
    if what in (0, 3):  # fibres, many of them nearly parallel
        lean = rng.uniform(0, np.pi)
        for _ in range(int(rng.integers(20, 220))):
            angle = lean + rng.normal(0, 0.5) if what == 0 else rng.uniform(0, 2 * np.pi)
            turns = np.cumsum(rng.normal(0, rng.uniform(0.005, 0.15), 80)) + angle
            steps = rng.uniform(4, 16) * np.stack((np.cos(turns), np.sin(turns)), 1)
            points = np.cumsum(steps, 0) + rng.uniform(-0.2, 1, 2) * 2 * side
            bright = float(rng.uniform(0.15, 1))
            pen.line([tuple(p) for p in points], fill=bright, width=int(rng.integers(1, 6)))
    if what in (1, 3):  # spots
        for _ in range(int(rng.integers(30, 900))):
            x, y = rng.uniform(0, 2 * side, 2)
            r = float(rng.exponential(2.0)) + 0.7
            pen.ellipse((x - r, y - r, x + r, y + r), fill=float(rng.uniform(0.1, 1)))
    values = np.asarray(large, np.float32).copy()
    if what in (2, 3):  # cells with texture
        for _ in range(int(rng.integers(3, 30))):
            cell = Image.new("F", large.size)
            x, y = rng.uniform(0, 2 * side, 2)
            a, b = rng.uniform(15, 130, 2)
            box = (x - a, y - b, x + a, y + b)
            ImageDraw.Draw(cell).ellipse(box, fill=float(rng.uniform(0.1, 0.7)))
            texture = gaussian_filter(
                rng.standard_normal(values.shape, np.float32), float(rng.uniform(1.5, 8))
            )
            texture = 1 + rng.uniform(0, 0.6) * texture / texture.std()
            values += np.asarray(cell, np.float32) * texture.clip(0)
    haze = gaussian_filter(values, 2 * rng.uniform(6, 40)) * rng.uniform(0, 1.5)
    sharp = gaussian_filter(values, 2 * rng.uniform(0.5, 2.2)) + haze
    small = Image.fromarray(sharp.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    return stretched(np.asarray(small))


TRIES, FLAT = 4, 0.05
"""How often another patch is looked for where one varies by less."""


class Sources:
    """Clean pictures of all kinds, and patches of them.

    Parameters
    ----------
    photographs, cells : sequence of Path
        Files of either kind.
    seed : int
        Of the drawn ones.
    count : int
        How many are drawn.
    """

    def __init__(
        self, photographs: Sequence[Path], cells: Sequence[Path], seed: int, count: int
    ) -> None:
        rng = np.random.default_rng(seed)
        self.pictures = (
            [photograph(path) for path in photographs],
            [picture for path in cells for picture in nuclei(path)],
            [drawn(rng) for _ in range(count)],
        )

    def patch(self, rng: np.random.Generator, side: int) -> Floats:
        """Return a clean patch on 0..1, softened and darkened at random."""
        kind = int(rng.choice(len(KINDS), p=SHARES))
        fitting = [p for p in self.pictures[kind] if min(p.shape) >= side]
        for _ in range(TRIES):
            picture = fitting[int(rng.integers(len(fitting)))]
            top, left = (int(rng.integers(n - side + 1)) for n in picture.shape)
            patch = picture[top : top + side, left : left + side].astype(np.float32)
            if float(patch.std()) > FLAT:
                break
        patch = np.rot90(patch, int(rng.integers(4)))
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        if rng.random() < 0.6:
            patch = gaussian_filter(patch, float(rng.uniform(0.4, 2.0)), mode="nearest")
        if kind == 0:
            patch = patch ** np.float32(np.exp(rng.uniform(-0.1, 0.9)))
            if rng.random() < 0.15:
                patch = 1 - patch
        else:
            patch = patch ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
        return np.ascontiguousarray(patch, np.float32)


def detected(clean: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Put a detector's noise on a patch; return noisy and clean as a network sees them."""
    bright = float(np.exp(rng.uniform(np.log(0.5), 0)))  # the image has brighter parts
    clean = clean * np.float32(bright)
    level = max(float(clean.mean()), 0.1)
    sigma = float(np.exp(rng.uniform(np.log(0.008), np.log(0.2))))  # at the mean level
    shot = float(rng.choice((0.0, 1.0, rng.random())))  # part of the variance
    gain, read = max(sigma**2 * shot / level, 1e-6), sigma * (1 - shot) ** 0.5
    clips = rng.random() < 0.35
    # As far above black as the background of such an image lies.
    black = 0.0 if clips else 3 * (gain * float(clean.min()) + read**2) ** 0.5 * rng.uniform(0.4, 1)
    noisy = (expose_clipped if clips else expose)(clean, gain, read + 1e-6, rng)
    if rng.random() < 0.25:
        noise = noisy - clean
        share = np.float32(rng.uniform(0.1, 0.7))
        noisy = clean + noise - share * (noise - uniform_filter(noise, 3))
    if clips:
        noisy = noisy.clip(0, 1)
    spread = float(np.std(noisy - clean))
    # White is what few noisy values exceed; and it is moved up where noise is strong.
    white = max(1.0, float(np.quantile(noisy, 0.999))) if not clips else 1.0
    span = max(white + black, spread / STRONGEST * rng.uniform(0.75, 1))
    noisy, clean = ((v + np.float32(black)) / np.float32(span) for v in (noisy, clean))
    if rng.random() < 0.3:
        noisy = np.round(noisy * 255) / np.float32(255)
    return noisy.clip(-0.5, 1.5).astype(np.float32), clean.astype(np.float32)
