"""What of an image's values is signal: black and white, and the pixels that are no measurement.

Photographs of 8 bits, and of 16 bits that use their range, mean black by 0 and white by the
largest number. Everything else is measured data, in any unit and with any offset: black and
white are percentiles that neither noise-free padding nor single wrong pixels can move. So a
network sees the same picture whatever the unit, and ``denoise(a x + b) = a denoise(x) + b``.

`find_signal` looks at a sample of the image once; a `denoisekit.engine.view.View` then
reads its rows for the network. Numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from denoisekit.engine.masks import (
    CONTRAST,
    LIKELY,
    MANY,
    RARE,
    SPIKE,
    SPIKE_OF_PHOTOGRAPH,
    SURE,
    Mask,
    flat_windows,
    spikes,
    typical_spike,
)
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.noise.estimate import estimate_noise_boxes
from denoisekit.options import HotPixels
from denoisekit.ranges import (
    SHARES,
    Range,
    RangeSpec,
    fill_absent,
    from_unit,
    minmax,
    resolve_range,
    to_unit,
)

Floats = npt.NDArray[np.float32]

USED = 0.5
"""Part of its range up to which a 16-bit photograph must reach."""

BEYOND = 0.5
"""How far outside 0..1 a network is shown measured values; what lies further off is noise-free
beside it, and is put back unchanged."""

STRONGEST = 0.1
"""Largest standard deviation of noise, on 0..1, that a network is shown: white is moved up
where there is more. Networks for photographs know little stronger noise. (Tuned on simulated
micrographs and grey photographs: Gaussian noise of 50/255 gains 0.1 to 0.5 dB, a micrograph
with twice that 2 dB.)"""

SENTINEL = 5e-4
"""Part of all pixels that share one extreme value, far from all others, from which on that
value says "no data"."""

GREY = 0.9
"""Part of the pixels without colour from which on an image is grey: these pixels stay so."""

WHOLE = 2**20
"""Pixels up to which a plane is looked at as a whole."""
BOX = 64
"""Side of the boxes that a larger one is sampled in, and"""
ACROSS = 16
"""most of them along either side."""
PLANES = 8
"""Most planes of a channel that are looked at."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What was found about one channel, or about all that have one range.

    Attributes
    ----------
    scale : Range
        File values of black and white.
    middle : float
        The median, in file values: stands in where a row has no value at all.
    white : float
        The largest integer, where a sensor has cut off so many pixels there that no result
        may exceed it; otherwise infinite.
    sigma : float
        Of the noise, in file values.
    typical : float
        See `denoisekit.engine.masks.typical_spike`; on 0..1.
    spike : float
        How far a hot or dead pixel stands out, on 0..1.
    local : float
        `denoisekit.engine.masks.SURE`; or LIKELY, where there are many.
    correlated : bool
        Whether neighbouring pixels share noise.
    """

    scale: Range
    middle: float
    white: float = math.inf
    sigma: float = 0.0
    typical: float = 0.0
    spike: float = 1.0
    local: float = SURE
    correlated: bool = False

    def file_values(self, unit: Floats, info: ImageInfo) -> Pixels:
        """Return values on 0..1 as the file keeps them."""
        values = from_unit(unit, self.scale, info)
        if math.isinf(self.white):
            return values
        below: Pixels = np.minimum(values, np.asarray(self.white).astype(info.dtype))
        return below

    def spikes(self, unit: Floats) -> tuple[Mask, Mask]:
        """Find the hot and the dead pixels of rows (n, W) on 0..1."""
        return spikes(unit, self.spike, self.typical, self.local)


@dataclass(frozen=True, slots=True)
class Signal:
    """What of an image's values is signal.

    Attributes
    ----------
    channels : tuple of Channel
        One; or one for each step of the axis ``C``; or one for each sample of a pixel whose
        samples are not colours.
    measured : bool
        Whether these are measured data, and no photograph or what a user says is black and white.
    absent : tuple of float
        File values that say "no data".
    spikes : bool
        Whether single pixels that stand out are hot or dead ones, and not texture.
    grey : bool
        Whether red, green and blue are the same: they stay so.
    remove : bool
        Whether hot and dead pixels are removed; otherwise they stay as they are.
    """

    channels: tuple[Channel, ...]
    measured: bool
    absent: tuple[float, ...]
    spikes: bool
    grey: bool
    remove: bool

    @property
    def scale(self) -> Range:
        """Black and white of the first channel."""
        return self.channels[0].scale

    def of(self, info: ImageInfo, plane: int) -> tuple[Channel, ...]:
        """Return the channels of a plane's samples: one for all of them, or one each."""
        if len(self.channels) == 1 or info.colour == "channels":
            return self.channels
        return (self.channels[channel_of(info, plane)],)

    def line(self) -> str | None:
        """Say which values were taken for black and white, where they were measured."""
        if not self.measured:
            return None
        pairs = [f"{one.scale.low:.6g} and {one.scale.high:.6g}" for one in self.channels[:4]]
        more = ", ..." if len(self.channels) > 4 else ""
        each = " of each channel" if len(self.channels) > 1 else ""
        return f"black and white{each}: {', '.join(pairs)}{more} (measured; --range sets them)"


def channel_of(info: ImageInfo, plane: int) -> int:
    """Return the position of a plane on the axis ``C``; 0 where there is none."""
    leading = info.shape[: info.axes.index("Y")]
    if "C" not in info.axes[: len(leading)]:
        return 0
    return int(np.unravel_index(plane, leading)[info.axes.index("C")])


def is_photograph(info: ImageInfo) -> bool:
    """Tell whether a file may be a photograph: colours of 8 or 16 bits whose black is 0."""
    small = info.dtype.kind == "u" and info.dtype.itemsize <= 2
    return small and info.colour == "rgb"


def find_signal(
    spec: RangeSpec, reader: Reader, hot_pixels: HotPixels = "auto", *, own_range: bool = False
) -> Signal:
    """Look at a sample of an image, spread over all of it.

    Parameters
    ----------
    spec : RangeSpec
        From `denoisekit.ranges.parse_range`.
    reader : Reader
        The open image; the sample is read from the top down, plane by plane.
    hot_pixels : {'auto', 'remove', 'keep'}
        ``auto``: removed from photographs, kept in measured data.
    own_range : bool
        Whether a range in numbers was measured on such data, not named by a user.

    Returns
    -------
    Signal
        For `denoisekit.engine.view.View`.

    Raises
    ------
    InputError
        The values lie too far apart to be told by floating-point numbers.
    """
    info = reader.info
    boxes = _sample(reader)
    absent = _absent(boxes, info)
    found = [_Sample.of(part, absent) for part in boxes]
    told = spec.kind == "dtype" or (spec.kind == "given" and not own_range)
    measured = not told and _is_measured(info, found)
    forced = None if measured and spec.kind == "auto" else resolve_range(spec, reader)
    channels, spiked = zip(*(one.channel(forced, measured=measured) for one in found), strict=True)
    remove = hot_pixels == "remove" or (hot_pixels == "auto" and not measured)
    return Signal(channels, measured, absent, any(spiked), _is_grey(info, boxes), remove)


def nominal_scale(spec: RangeSpec, reader: Reader) -> Range:
    """Return black and white of pictures whose noise is told in parts of white.

    As `find_signal`, but grey pictures of 8 bits, and floats that fill 0 to 1, are taken as
    they are: that is what the noise of published figures is measured in.
    """
    info = reader.info
    if spec.kind == "auto" and info.dtype != np.uint8:
        channel = find_signal(spec, reader).channels[0]
        scale = channel.scale
        unit = info.dtype.kind == "f" and scale.low >= 0 and USED <= scale.high <= 1
        # All of the file is read only where the sample may be of a constant.
        flat = channel.sigma == channel.typical == 0 and len(set(minmax(reader))) == 1
        if not unit and not flat:
            return scale
    return resolve_range(spec, reader)


def _is_measured(info: ImageInfo, found: list[_Sample]) -> bool:
    if info.dtype == np.uint8:
        return info.colour != "rgb"
    if not is_photograph(info):
        return True
    high = found[0].quantile(SHARES[1])
    return bool(high < USED * info.peak)


def _is_grey(info: ImageInfo, boxes: list[Pixels]) -> bool:
    """Tell whether nearly all pixels of a colour image have no colour at all."""
    if info.colour != "rgb":
        return False
    same = without_colour(boxes[0])
    return bool(np.count_nonzero(same) >= GREY * same.size)


def without_colour(pixels: Pixels) -> Mask:
    """Return where the three samples, the last axis, are the same."""
    red, green, blue = (pixels[..., index] for index in range(3))
    same: Mask = (red == green) & (red == blue)
    return same


def _sample(reader: Reader) -> list[Pixels]:
    """Return boxes (n, h, w, S) of each channel, spread over its planes."""
    info = reader.info
    colours = info.samples - info.alpha
    planes: dict[int, list[int]] = {}
    for plane in range(info.planes):
        planes.setdefault(channel_of(info, plane), []).append(plane)
    boxes: list[list[Pixels]] = []
    for _, of_channel in sorted(planes.items()):
        count = min(PLANES, len(of_channel))
        chosen = {
            of_channel[round(i * (len(of_channel) - 1) / max(1, count - 1))] for i in range(count)
        }
        across = ACROSS if count == 1 else max(4, ACROSS // 2)
        boxes.append([box for p in sorted(chosen) for box in _of_plane(reader, p, colours, across)])
    if info.colour == "channels":
        everything = np.stack([box for part in boxes for box in part])
        return [everything[..., i : i + 1] for i in range(colours)]
    if info.colour == "rgb":  # one balance of colours for all of them
        return [np.stack([box for part in boxes for box in part])]
    return [np.stack(part) for part in boxes]


def _of_plane(reader: Reader, plane: int, colours: int, across: int) -> Iterator[Pixels]:
    info = reader.info
    if info.height * info.width <= WHOLE:
        yield np.array(reader.read_rows(plane, 0, info.height)[..., :colours])
        return
    tall, wide = min(BOX, info.height), min(BOX, info.width)
    for top in _spread(info.height, tall, across):
        rows = reader.read_rows(plane, top, top + tall)[..., :colours]
        for left in _spread(info.width, wide, across):
            yield np.array(rows[:, left : left + wide])


def _spread(length: int, side: int, most: int) -> list[int]:
    count = min(most, length // side)
    return [i * (length - side) // max(1, count - 1) for i in range(count)]


def _absent(boxes: list[Pixels], info: ImageInfo) -> tuple[float, ...]:
    """Return the values that say "no data": as declared, or one extreme that many pixels share."""
    declared = () if info.nodata is None else (info.nodata,)
    if is_photograph(info) or info.dtype == np.uint8:
        return declared
    values = np.concatenate([part.ravel() for part in boxes])
    values = np.sort(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    for value in declared:
        values = values[values != np.asarray(value).astype(values.dtype)]
    found = list(declared)
    for side in (0, -1, 0, -1):
        if len(values) < 64:
            break
        value = values[side]
        rest = values[values != value]
        count = len(values) - len(rest)
        if count < max(4, SENTINEL * len(values)) or len(rest) < 16:
            continue
        low, high = (float(v) for v in np.quantile(rest, SHARES, method="inverted_cdf"))
        gap = abs(float(rest[0 if side == 0 else -1]) - float(value))
        if high > low and gap > high - low:
            found.append(float(value))
            values = rest
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The sample of one channel.

    Attributes
    ----------
    boxes : numpy.ndarray
        (n, h, w, S).
    known : numpy.ndarray
        Same shape: what of it is a measurement.
    values : numpy.ndarray
        Those, in rising order.
    """

    boxes: Pixels
    known: Mask
    values: Pixels

    @staticmethod
    def of(boxes: Pixels, absent: tuple[float, ...]) -> _Sample:
        known = known_values(boxes, absent)
        measured = known.copy()
        padding = flat_windows(boxes)
        if padding is not None:
            measured &= ~padding[..., None]
        values = boxes[measured]
        if not len(values):  # nothing but padding: a constant is as good as any
            values = boxes[known]
        # Small integers are sorted by counting.
        values.sort(kind="stable" if values.dtype.kind in "iu" else None)
        return _Sample(boxes, measured, values)

    def quantile(self, share: float) -> float:
        """Return the value that this share of all does not exceed."""
        if not len(self.values):
            return 0.0
        at = min(len(self.values) - 1, int(np.ceil(share * len(self.values))) - 1)
        return float(self.values[max(0, at)])

    def unit(self, scale: Range) -> Floats:
        """Return the boxes on 0..1, gaps filled."""
        rows = self.boxes.reshape(-1, *self.boxes.shape[2:])
        filled = fill_absent(rows, ~self.known.reshape(rows.shape), self.quantile(0.5))
        unit = to_unit(filled, scale)
        return unit.clip(-BEYOND, 1 + BEYOND, out=unit).reshape(self.boxes.shape)

    def channel(self, forced: Range | None, *, measured: bool) -> tuple[Channel, bool]:
        """Return the channel, and whether hot or dead pixels are looked for in it."""
        scale = forced or self._percentiles()
        unit = self.unit(scale)
        noise = estimate_noise_boxes(unit, self.known)
        sigma = scale.span * max(noise.sigma) if noise else 0.0
        if forced is None and sigma > STRONGEST * scale.span:
            scale = Range(scale.low, scale.low + sigma / STRONGEST)
            unit = self.unit(scale)
        single = np.ascontiguousarray(np.moveaxis(unit, -1, 0))
        typical = typical_spike(single)
        spike = max(CONTRAST, typical * (SPIKE if measured else SPIKE_OF_PHOTOGRAPH))
        white = self._white() if measured else math.inf
        correlated = noise is not None and noise.correlated
        middle = self.quantile(0.5)
        found = Channel(scale, middle, white, sigma, typical, spike, correlated=correlated)
        if (sure := _share(found, single)) >= MANY:
            likely = replace(found, local=LIKELY)
            if (share := _share(likely, single)) <= RARE:
                return likely, share > 0
        # In a large image a sample shows few or none.
        return found, sure <= RARE

    def _percentiles(self) -> Range:
        low, high = (self.quantile(share) for share in SHARES)
        if low == high and len(self.values):
            low, high = float(self.values[0]), float(self.values[-1])
        return Range.widened(low, high)

    def _white(self) -> float:
        """Return the largest integer where so many have it that a sensor must have cut them off."""
        few = len(self.values) < 1 / (1 - SHARES[1])
        if few or self.values.dtype.kind == "f" or self.values[0] == self.values[-1]:
            return math.inf
        largest = float(self.values[-1])
        return largest if self.quantile(SHARES[1]) == largest else math.inf


def _share(channel: Channel, unit: Floats) -> float:
    """Return the part of the pixels that are hot or dead."""
    hot, dead = channel.spikes(unit)
    return int(np.count_nonzero(hot) + np.count_nonzero(dead)) / max(1, unit.size)


def known_values(rows: Pixels, absent: tuple[float, ...]) -> Mask:
    """Return which values are measurements; same shape."""
    known = np.isfinite(rows) if rows.dtype.kind == "f" else np.ones(rows.shape, bool)
    for value in absent:
        if np.isfinite(value):
            known &= rows != np.asarray(value).astype(rows.dtype)
    return known
