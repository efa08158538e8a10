"""What a fit learns from and is judged by: parts of the image, and pixels held out of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denoisekit.engine.view import View
from denoisekit.image import ImageInfo
from denoisekit.ranges import Floats, Range

PIXELS = 2**22
"""Most pixels that are kept of an image or stack."""

PART = 256
"""Side of a part of an image that is not kept whole."""

LEAST = 64
"""Shortest side of a part: smaller images are mirrored."""

BOX = 256
"""Side of what is denoised to judge a network."""

UNLIKE = 8.0
"""How many times as much as half of the pixels do one may differ from its surroundings, to be
held out of a mostly empty image: of noise alone none does."""

SPACING = 8
"""Distance between pixels that are held out, of independent noise."""


@dataclass(frozen=True, slots=True)
class Material:
    """Parts of an image.

    Attributes
    ----------
    noisy : numpy.ndarray
        (N, C, h, w) float32 on 0..1.
    denoised : numpy.ndarray or None
        The same, as another network sees them.
    """

    noisy: Floats
    denoised: Floats | None = None

    def draw(
        self, draw: np.random.Generator, batch: int, patch: int
    ) -> tuple[Floats, Floats | None]:
        """Return patches from anywhere, flipped and turned: (batch, C, patch, patch) of each."""
        number, _, height, width = self.noisy.shape
        both = [self.noisy] if self.denoised is None else [self.noisy, self.denoised]
        out = []
        for _ in range(batch):
            index = draw.integers(number)
            top, left = draw.integers(height - patch + 1), draw.integers(width - patch + 1)
            turns, flip = int(draw.integers(4)), bool(draw.integers(2))
            for parts in both:
                piece = parts[index, :, top : top + patch, left : left + patch]
                turned = np.rot90(piece, turns, (1, 2))
                out.append(turned[:, :, ::-1] if flip else turned)
        noisy = np.stack(out[:: len(both)])
        return noisy, None if self.denoised is None else np.stack(out[1::2])


@dataclass(frozen=True, slots=True)
class Held:
    """Pixels that a network is judged by and has never seen.

    Attributes
    ----------
    boxes : numpy.ndarray
        (B, C, h, w), what is denoised; the pixels show their neighbours' values.
    places : numpy.ndarray
        (B, h, w) bool, where they are.
    values : numpy.ndarray
        (K, C), their own values, in the order of ``places``.
    """

    boxes: Floats
    places: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    values: Floats

    def score(self, denoised: Floats) -> float:
        """Return the PSNR in dB of denoised boxes at the pixels, against their noisy values."""
        wrong = denoised.transpose(0, 2, 3, 1)[self.places].astype(np.float64) - self.values
        return float(-10 * np.log10(max(float(np.square(wrong).mean()), 1e-12)))

    def averaged(self, reach: int) -> float:
        """Return the score of averages over squares that reach so far to each side."""
        side = 2 * reach + 1
        padded = np.pad(self.boxes, ((0, 0), (0, 0), (reach, reach), (reach, reach)), "symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3))
        return self.score(windows.mean((4, 5)))


@dataclass(frozen=True, slots=True)
class Renoised:
    """Boxes with some more noise on them, and what their results are compared with.

    Attributes
    ----------
    boxes, targets : numpy.ndarray
        (B, C, h, w); their noise is not correlated with each other's.
    level : float
        Added to the score.
    """

    boxes: Floats
    targets: Floats
    level: float = 0.0

    def score(self, denoised: Floats) -> float:
        """Return the PSNR in dB of denoised boxes against their targets, and the level."""
        wrong = denoised.astype(np.float64) - self.targets
        return self.level + float(-10 * np.log10(max(float(np.square(wrong).mean()), 1e-12)))


def channels_of(info: ImageInfo) -> int:
    """Return the channels of a network for an image: three of a colour image, or each apart."""
    return 3 if info.colour == "rgb" else 1


SPARSE = 8.0
"""Range of the values, by that of the middle nine tenths of them, above which an image is mostly
empty: 25 in a star field, below 5 in photographs and most micrographs."""

MIDDLE = 4.0
"""What of such an image is taken for the distance from black to white, by that of its middle: else
its noise would be a hundredth of what networks are made for."""


def without_peaks(material: Material, scale: Range) -> tuple[Material, Range]:
    """Return an image that is mostly empty with white where most of it ends; others as they are.

    Parameters
    ----------
    material : Material
        On 0..1.
    scale : Range
        File values of 0 and 1.
    """
    low, high = np.percentile(material.noisy, (5, 95))
    middle = MIDDLE * float(high - low)
    if not 0 < middle < MIDDLE / SPARSE:
        return material, scale
    noisy = material.noisy / np.float32(middle)
    return Material(noisy), Range(scale.low, scale.low + middle * scale.span)


def gather(view: View) -> Material:
    """Take parts of an image, spread evenly over all planes; small images as a whole.

    Parameters
    ----------
    view : View
        The noisy image; asked for the rows of a part at a time, in order.
    """
    info = view.info
    channels, colours = channels_of(info), info.samples - info.alpha
    whole = info.planes == 1 and info.height * info.width * colours <= PIXELS
    side = (info.height, info.width) if whole else (min(PART, info.height), min(PART, info.width))
    counts = info.planes, info.height // side[0], info.width // side[1], colours // channels
    total = int(np.prod(counts))
    kept = min(total, max(1, PIXELS // (side[0] * side[1] * channels)))
    parts = []
    for index in np.linspace(0, total - 1, kept).round().astype(int):
        plane, down, across, sample = (int(i) for i in np.unravel_index(index, counts))
        # Spread over the borders too, where the image is no multiple of the side.
        top = _spread(down, counts[1], info.height - side[0])
        left = _spread(across, counts[2], info.width - side[1])
        rows = view.unit(plane, top, top + side[0])
        pixels = rows[:, left : left + side[1], sample * channels : (sample + 1) * channels]
        parts.append(_at_least(pixels.transpose(2, 0, 1), LEAST))
    return Material(np.ascontiguousarray(np.stack(parts)))


def _spread(index: int, count: int, room: int) -> int:
    return index * room // max(1, count - 1) if count > 1 else room // 2


def _at_least(part: Floats, side: int) -> Floats:
    """Mirror a part that is too small."""
    short = [max(0, side - size) for size in part.shape[1:]]
    return np.pad(part, ((0, 0), (0, short[0]), (0, short[1])), "symmetric")


def hold_out(
    material: Material, reach: int, boxes: int, seed: int, *, sparse: bool = False
) -> tuple[Material, Held]:
    """Take single pixels out of a material, with what their noise is correlated with.

    Around each a window is overwritten with the window beside it, so neither training nor
    the input by which a network is judged tells the pixel's own noise.

    Parameters
    ----------
    material : Material
        Left as it is.
    reach : int
        Pixels around that go too: how far noise is correlated.
    boxes : int
        Most boxes to judge by.
    seed : int
        Of where they are.
    sparse : bool
        Whether the image is mostly empty: then no pixels that differ far more from their
        surroundings than the others. A few would outweigh all of them.

    Returns
    -------
    (Material, Held)
        To learn from, and to judge by.
    """
    draw = np.random.default_rng([seed, 7])
    noisy = material.noisy.copy()
    shown, places, values = [], [], []
    for place in choose_boxes(noisy, boxes):
        box = noisy[place]
        mask = _scattered(box.shape[1:], reach, draw)
        if sparse:
            mask = _alike(box, mask, reach)
        values.append(box.transpose(1, 2, 0)[mask])
        _overwrite(box, mask, reach)
        shown.append(box.copy())
        places.append(mask)
    held = Held(np.stack(shown), np.stack(places), np.concatenate(values))
    return Material(noisy), held


def choose_boxes(parts: Floats, boxes: int) -> list[tuple[int, slice, slice, slice]]:
    """Return where so many boxes are in parts (N, C, h, w), spread over all of them."""
    number, _, height, width = parts.shape
    size = [min(BOX, length) for length in (height, width)]
    spaces = [(part, *at) for part in range(number) for at in _corners((height, width), size)]
    count = min(boxes, len(spaces))
    chosen = [spaces[i * len(spaces) // count] for i in range(count)]
    return [
        (part, slice(None), slice(top, top + size[0]), slice(left, left + size[1]))
        for part, top, left in chosen
    ]


def _corners(length: tuple[int, int], size: list[int]) -> list[tuple[int, int]]:
    downs, across = ([k * s for k in range(n // s)] for n, s in zip(length, size, strict=True))
    return [(top, left) for top in downs for left in across]


def _scattered(shape: tuple[int, ...], reach: int, draw: np.random.Generator) -> np.ndarray:
    """Return a mask of pixels, one in every cell, whose windows do not meet."""
    step, window = SPACING * (1 + reach), 2 * reach + 1
    mask = np.zeros(shape, bool)
    # The window and the one beside it, from which it is overwritten, lie inside.
    for top in range(0, shape[0] - step + 1, step):
        for left in range(0, shape[1] - step + 1, step):
            row = top + reach + draw.integers(step - window + 1)
            column = left + reach + draw.integers(step - 2 * window + 1)
            mask[row, column] = True
    return mask


def _alike(box: Floats, mask: np.ndarray, reach: int) -> np.ndarray:
    """Leave out pixels that differ far more from their surroundings than the others do."""
    rows, columns = np.nonzero(mask)
    beside = columns + 2 * reach + 1  # what it will be overwritten with
    wrong = np.abs(box[:, rows, columns] - box[:, rows, beside]).max(0)
    kept = wrong <= UNLIKE * np.median(wrong)
    out = np.zeros_like(mask)
    out[rows[kept], columns[kept]] = True
    return out


def _overwrite(box: Floats, mask: np.ndarray, reach: int) -> None:
    for row, column in zip(*np.nonzero(mask), strict=True):
        rows = slice(row - reach, row + reach + 1)
        beside = box[:, rows, column + reach + 1 : column + 3 * reach + 2]
        box[:, rows, column - reach : column + reach + 1] = beside.copy()
