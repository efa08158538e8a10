"""One noisy image as data: parts to train on, pixels to validate by, and its noise measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from denoisekit.engine.signal import find_signal
from denoisekit.engine.view import View
from denoisekit.image import ImageInfo, Reader
from denoisekit.metrics import decibels
from denoisekit.noise.estimate import estimate_noise
from denoisekit.ranges import Floats, Range, parse_range

PIXELS = 2**22
"""Most pixels that are kept of an image or stack."""

PART = 256
"""Side of a part of an image that is not kept whole, and of a box to validate by."""

LEAST = 64
"""Shortest side of a part: smaller images are mirrored."""

BOXES = 4
"""Most boxes to validate by."""

SPACING = 8
"""Distance between pixels that are held out, of independent noise."""

UNLIKE = 8.0
"""How many times as much as half of the pixels do one may differ from its surroundings, to be
held out of a mostly empty image: of noise alone none does."""

SPARSE = 8.0
"""Range of the values, by that of the middle nine tenths of them, above which an image is mostly
empty: 25 in a star field, below 5 in photographs and most micrographs."""

MIDDLE = 4.0
"""What of such an image is taken for the distance from black to white, by that of its middle: else
its noise would be a hundredth of what networks are made for."""

CORRELATED = 0.1
"""Correlation at a distance below which pixels count as independent."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What matters of an image's noise.

    Attributes
    ----------
    correlated : bool
        Whether neighbouring pixels share noise.
    reach : int
        Distance up to which they do; 0: not at all.
    sigma : float
        Its standard deviation, mean of the channels, on 0..1.
    sparse : bool
        Whether the image is mostly empty, with few values that are far from the others.
    """

    correlated: bool
    reach: int
    sigma: float
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of an image, to cut crops from.

    Attributes
    ----------
    noisy : numpy.ndarray
        (N, C, h, w) float32 on 0..1.
    denoised : numpy.ndarray or None
        The same, denoised: what crops have for their clean pixels.
    """

    noisy: Floats
    denoised: Floats | None = None
    simulate: None = None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every part."""
        return [self.noisy.shape[2:]] * len(self.noisy)

    def crop(
        self,
        index: int,
        box: tuple[int, int, int, int],
        channel: int = 0,  # noqa: ARG002 - whole
    ) -> tuple[Floats, Floats | None]:
        """Return noisy and denoised pixels (h, w, C) of a part."""
        top, left, height, width = box
        window = np.s_[index, :, top : top + height, left : left + width]
        noisy = self.noisy[window].transpose(1, 2, 0)
        return noisy, None if self.denoised is None else self.denoised[window].transpose(1, 2, 0)


@dataclass(frozen=True, slots=True)
class Validation:
    """Boxes to denoise, and what tells how well: noisy values that the network has not seen.

    Attributes
    ----------
    boxes, targets : numpy.ndarray
        (B, C, h, w): what is denoised, and what the result is compared with.
    mask : numpy.ndarray or None
        (B, h, w) bool, where it is; None: everywhere.
    level : float
        Added to the score, so that it means the same as with the boxes before.
    """

    boxes: Floats
    targets: Floats
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None = None
    level: float = 0.0

    def score(self, denoised: Floats) -> float:
        """Return the PSNR of denoised boxes in dB, of white, against the targets."""
        wrong = denoised.astype(np.float64) - self.targets
        if self.mask is not None:
            wrong = wrong.transpose(0, 2, 3, 1)[self.mask]
        return self.level + decibels(max(float(np.square(wrong).mean()), 1e-12))

    def anchored(self, denoised: Floats, score: float) -> Validation:
        """Return the same, on a scale on which this result has this score."""
        return replace(self, level=self.level + score - self.score(denoised))

    def score_of_mean(self, reach: int) -> float:
        """Return the score of means over squares that reach so far to each side."""
        side = 2 * reach + 1
        padded = np.pad(self.boxes, ((0, 0), (0, 0), (reach, reach), (reach, reach)), "symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (2, 3))
        return self.score(windows.mean((4, 5)))


@dataclass(frozen=True, slots=True)
class ImageSample:
    """An image, as far as a fit knows it.

    Attributes
    ----------
    info : ImageInfo
        Of the file.
    scale : Range
        File values of 0 and 1.
    parts : Parts
        Parts of the image.
    seen : Parts
        The same without the pixels of ``held_out``.
    held_out : Validation
        What networks are validated by that know nothing else.
    noise : Noise
        Of the image.
    """

    info: ImageInfo
    scale: Range
    parts: Parts
    seen: Parts
    held_out: Validation
    noise: Noise

    @property
    def channels(self) -> int:
        """Channels of a network for the image."""
        return channels_of(self.info)


def channels_of(info: ImageInfo) -> int:
    """Return the channels of a network for an image: three of a colour image, or each apart."""
    return 3 if info.colour == "rgb" else 1


def sample_image(reader: Reader, range: str, seed: int) -> ImageSample:
    """Read parts of an image, measure its noise, and hold pixels out to validate by.

    Parameters
    ----------
    reader : Reader
        The image.
    range : str
        Which values are 0 and 1, as `denoisekit.ranges.parse_range` takes it.
    seed : int
        Of where pixels are held out.
    """
    signal = find_signal(parse_range(range), reader, own_range=True)
    parts, scale = read_parts(View(reader, signal)), signal.scale
    if range == "percentile":
        low, high = np.percentile(parts.noisy, (5, 95))
        middle = MIDDLE * float(high - low)
        if 0 < middle < MIDDLE / SPARSE:  # white is where most of a mostly empty image ends
            scale = Range(scale.low, scale.low + middle * scale.span)
            parts = Parts(parts.noisy / np.float32(middle))
    noise = measure_noise(parts, sparse=scale != signal.scale)
    seen, held_out = hold_out(parts, noise.reach, BOXES, seed, sparse=noise.sparse)
    return ImageSample(reader.info, scale, parts, seen, held_out, noise)


def read_parts(view: View) -> Parts:
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

    def spread(place: int, count: int, room: int) -> int:
        """Reach the borders too, where the image is no multiple of the side."""
        return place * room // (count - 1) if count > 1 else room // 2

    parts = []
    for index in np.linspace(0, total - 1, kept).round().astype(int):
        plane, down, across, sample = (int(i) for i in np.unravel_index(index, counts))
        top = spread(down, counts[1], info.height - side[0])
        left = spread(across, counts[2], info.width - side[1])
        rows = view.unit(plane, top, top + side[0])
        pixels = rows[:, left : left + side[1], sample * channels : (sample + 1) * channels]
        short = [(0, max(0, LEAST - length)) for length in side]
        parts.append(np.pad(pixels, (*short, (0, 0)), "symmetric").transpose(2, 0, 1))
    return Parts(np.ascontiguousarray(np.stack(parts)))


def measure_noise(parts: Parts, *, sparse: bool = False) -> Noise:
    """Measure the noise in the middle part of an image."""
    found = estimate_noise(parts.noisy[len(parts.noisy) // 2].transpose(1, 2, 0))
    assert found is not None, "parts have at least 64 pixels along a side"
    reach = 0
    if found.correlated:
        near = [correlation < CORRELATED for correlation in found.correlation]
        reach = min(2, near.index(True) - 1 if True in near else 2)
    return Noise(found.correlated, reach, sum(found.sigma) / len(found.sigma), sparse)


def validation_boxes(parts: Floats, count: int) -> list[tuple[int, slice, slice, slice]]:
    """Return where so many boxes are in parts (N, C, h, w), spread over all of them."""
    number, _, height, width = parts.shape
    high, wide = min(PART, height), min(PART, width)
    boxes = [
        (part, slice(None), slice(down * high, (down + 1) * high), slice(x * wide, (x + 1) * wide))
        for part in range(number)
        for down in range(height // high)
        for x in range(width // wide)
    ]
    count = min(count, len(boxes))
    return [boxes[i * len(boxes) // count] for i in range(count)]


def hold_out(
    parts: Parts, reach: int, boxes: int, seed: int, *, sparse: bool = False
) -> tuple[Parts, Validation]:
    """Take single pixels out of an image, with what their noise is correlated with.

    Around each a window is overwritten with the window beside it, so neither training nor
    the input by which a network is validated tells the pixel's own noise.

    Parameters
    ----------
    parts : Parts
        Left as they are.
    reach : int
        Pixels around that go too: how far noise is correlated.
    boxes : int
        Most boxes to validate by.
    seed : int
        Of where the pixels are.
    sparse : bool
        Whether the image is mostly empty: then no pixels that differ far more from their
        surroundings than the others. A few would outweigh all of them.

    Returns
    -------
    (Parts, Validation)
        To train on, and to validate by.
    """
    draw, noisy = np.random.default_rng([seed, 7]), parts.noisy.copy()
    step, window = SPACING * (1 + reach), 2 * reach + 1
    places = validation_boxes(noisy, boxes)
    masks = []
    for place in places:
        box = noisy[place]
        # One in every cell; its window and the one beside it lie inside.
        cells = np.indices([length // step for length in box.shape[1:]]).reshape(2, -1) * step
        room = np.array([step - window + 1, step - 2 * window + 1])
        rows, columns = cells + reach + draw.integers(room, size=cells.T.shape).T
        if sparse:
            wrong = np.abs(box[:, rows, columns] - box[:, rows, columns + window]).max(0)
            alike = wrong <= UNLIKE * np.median(wrong)
            rows, columns = rows[alike], columns[alike]
        mask = np.zeros(box.shape[1:], bool)
        mask[rows, columns] = True
        masks.append(mask)
        for row, column in zip(rows, columns, strict=True):
            high = slice(row - reach, row + reach + 1)
            beside = box[:, high, column + reach + 1 : column + 3 * reach + 2]
            box[:, high, column - reach : column + reach + 1] = beside.copy()
    shown, targets = (np.stack([one[place] for place in places]) for one in (noisy, parts.noisy))
    return Parts(noisy), Validation(shown, targets, np.stack(masks))


# The noise by brightness, measured against a denoised version of the image.

Curve = tuple[tuple[float, float], ...]
"""Brightness and variance, the darkest first: on straight lines between, constant beyond."""

LEVELS = 8
"""Ranges of brightness, as many pixels in each, in which independent noise is measured."""

FINE_LEVELS = 16
"""The same, where the image may count as noise too: its mean and deviation."""

FAR = 10.0
"""Brightness beyond all that there is."""

KURTOSIS = 3.08
"""Fourth moment of noise, by the square of the second, above which it is not Gaussian: 3.1 and
more in micrographs, 3.0 in Gaussian noise."""

GROWTH = 3.0
"""Variance of noise where the image is brightest, by that where it is darkest, above which
photons were counted: 10 to 40 in micrographs, up to 2.4 where black cuts Gaussian noise off."""


def noise_curve(parts: Parts) -> Floats:
    """Return mean and standard deviation of noise, correlated or not, at every brightness.

    Parameters
    ----------
    parts : Parts
        The image, noisy and denoised.

    Returns
    -------
    numpy.ndarray
        (C, 3, 16) float32: brightness, the darkest first, mean and standard deviation.
    """
    assert parts.denoised is not None
    curves = []
    for noisy, denoised in zip(
        *(np.moveaxis(p, 1, 0) for p in (parts.noisy, parts.denoised)), strict=True
    ):
        bright, residual = denoised.ravel(), (noisy - denoised).ravel()
        ranges = np.array_split(np.argsort(bright, kind="stable"), FINE_LEVELS)
        found = [(bright[one].mean(), residual[one].mean(), residual[one].std()) for one in ranges]
        curves.append(np.array(found, np.float32).T)
    return np.stack(curves)


def noise_variance(parts: Parts) -> list[Curve]:
    """Return the variance of independent noise at every brightness, a curve a channel.

    Counted photons have as much as their number, but where noise is cut off at black or white,
    or a camera has changed its tones, it lies on no line. Beyond the brightest range few pixels
    lie, over a wide one; their noise follows the line through all ranges, unless that falls.

    Parameters
    ----------
    parts : Parts
        The image on 0..1, noisy and denoised.
    """
    curves: list[Curve] = []
    for ranges in _finest_details(parts):
        middles = [middle for middle, _ in ranges]
        variances = [float(squares.mean()) for _, squares in ranges]
        if np.ptp(middles) < 1e-6:
            curves.append(((middles[0], float(np.mean(variances))),))
            continue
        slope = max(0.0, float(np.polyfit(middles, variances, 1)[0]))
        beyond = middles[-1] + FAR, variances[-1] + FAR * slope
        curves.append((*zip(middles, variances, strict=True), beyond))
    return curves


def is_gaussian(parts: Parts) -> bool:
    """Tell whether independent noise is Gaussian: as noise that is put on for a test.

    By its fourth moment at each brightness. That of counted photons is not, nor what a camera's
    electronics add now and then. The moment is measured on what a first network has
    taken away, which hides some of it; so noise that grows with brightness is not either.
    """
    channels = _finest_details(parts)
    grows = any(ranges[-1][1].mean() > GROWTH * ranges[0][1].mean() for ranges in channels)
    kurtoses = [
        float(np.square(squares).mean() / max(squares.mean() ** 2, 1e-24))
        for ranges in channels
        for _, squares in ranges
    ]
    return not grows and float(np.median(kurtoses)) < KURTOSIS


def _finest_details(parts: Parts) -> list[list[tuple[float, Any]]]:
    """Return brightness and squares of the finest details of noise, for channels and ranges of it.

    What is left of the image in a residual is smooth: in the differences of its neighbours
    (``(a - b - c + d) / 2`` of four) little of it counts, and least where the image is flat:
    in the flatter half of each range.
    There their mean square is right whatever the noise: with few photons most pixels differ
    little and some a lot, and a median would take it for weaker than it is.
    """
    assert parts.denoised is not None
    residual = parts.noisy - parts.denoised
    height, width = (size // 2 * 2 for size in residual.shape[2:])
    a, b = residual[:, :, :height:2, :width:2], residual[:, :, :height:2, 1:width:2]
    c, d = residual[:, :, 1:height:2, :width:2], residual[:, :, 1:height:2, 1:width:2]
    squares = np.square(a - b - c + d) / 4
    bright = parts.denoised[:, :, :height:2, :width:2]
    steep = np.hypot(*np.gradient(bright, axis=(2, 3)))
    channels = []
    for channel in range(residual.shape[1]):
        flat, square, steepness = (x[:, channel].ravel() for x in (bright, squares, steep))
        ranges = np.array_split(np.argsort(flat, kind="stable"), LEVELS)
        halves = [one[steepness[one] <= np.median(steepness[one])] for one in ranges]
        channels.append([(float(flat[one].mean()), square[one]) for one in halves])
    return channels
