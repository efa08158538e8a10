"""Give back what a network took from an image and was not noise.

Two things tell texture from noise in the residual, which is noisy - denoised. Patterns (halftone,
stripes, lines, screens) stand out in its spectrum: the power of noise differs from one frequency to
the next by chance alone, a pattern has a few strong lines. And fine texture exceeds the noise that
was measured in the image, in blocks of cosine coefficients. Measured data keep their local means.

The work is done in strips of rows as wide as the image; every stage holds the few rows around
a strip that it looks at. Strips lie alike in every run, so the result does not depend on tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from denoisekit.engine.tiling import reflect_index
from denoisekit.image import ImageInfo
from denoisekit.noise import spectrum
from denoisekit.noise.spectrum import NOTHING, NoiseSpectrum, measure, sample

Floats = npt.NDArray[np.float32]
Rows = Callable[[int, int], Floats]

STRIP = 64
"""Rows that are worked on at once: twice as many take 6 % less time, and 1.5 times the memory."""
AROUND = 48
"""Pixels to each side of one whose mean is kept: noise is 97 times weaker there."""
BLOCKS = 2 * spectrum.STEP
"""Pixels to each side that a block of coefficients and its neighbours reach."""
SIDE = 64
"""Side of the windows in which patterns are looked for, in pixels."""
STEP = 32
"""From one window to the next."""
RIM = AROUND + BLOCKS + SIDE
"""Pixels around one that its result depends on, at most."""
LAG = STRIP + RIM
"""Rows behind the last ones that are still asked for."""
CHUNK = 512
"""Columns whose coefficients are held at once."""
BYTES, BYTES_OF_MEANS = 12_000, 21_000
"""Held of a column of a channel, at most, without and with local means. (Measured as the growth
of the process, with 1 and 3 channels of 2048 and 4096 columns: at most 10.4 and 19.7 thousand.)"""

RINGS = 8
"""Rings of equal width into which frequencies up to half a cycle a pixel are sorted."""
OUTSTANDING = 4.0
"""Times the mean power of noise that one frequency of noise in 50 exceeds by chance."""
SOUND, PATTERN = 0.12, 0.2
"""Share of the power that stands out up to which all is noise, and from which none is. Measured
on what `aprrd.camera` takes away: of Gaussian noise, photons and strong phone noise 0.02 to
0.07; 0.08 in the median window of light camera noise; 0.2 to 0.7 of halftones, 0.9 and more of
stripes and screens. All of these keep more than 49 dB to their own input."""
LUMINANCE = (0.3, 0.6, 0.1)

LIGHT, STRONG = 1 / 255, 8 / 255
"""Standard deviations of noise, on 0..1, and"""
DOUBT = 1.2, 2.5
"""how many times the noise's variance counts as texture there: the residual, in the mean of
neighbouring blocks and frequencies, exceeds the one now and then by chance, and the other hardly
ever. Of light noise there is less to gain than to lose. (Tuned on training photographs with
simulated noise, with `sdap.camera`: with 1.2 no lightly noisy picture became worse, with 1.7 one
did by 0.1 dB; of strong phone noise 1.7 takes 0.25 dB more than 1.2.)"""
TRUSTED = 12.0
"""The same for the network that noise is measured with: it knows better than a measurement in
one box what is noise, but for what is far beyond it. (6 costs light camera noise 0.05 dB, 12
costs 0.01; clean photographs gain 4 dB by either.)"""

TRUST = 1.5
"""Up to twice the best share does no harm; networks that agree with each other have a share of
0.9 and more, and are not to lose anything."""
FOREIGN = 4.0
"""Where the known noise has so many times the power, the two saw different things: no word of
one about the other."""


@dataclass(slots=True)
class Restored:
    """What became of a residual: sums of squares over an image.

    Attributes
    ----------
    removed, returned : float
        Of all that was taken away, and of what was given back.
    """

    removed: float = 0.0
    returned: float = 0.0

    @property
    def share(self) -> float:
        """Part that was given back, 0 to about 1."""
        return self.returned / self.removed if self.removed else 0.0


@dataclass(frozen=True, slots=True)
class Restoring:
    """What is restored.

    Attributes
    ----------
    structure : bool
        Patterns, lines and halftones: what is no noise by its spectrum.
    noises : tuple of NoiseSpectrum or None
        Fine texture too: all that exceeds this noise; one for all colours, or one a channel.
    trusted : bool
        Whether the network is the one that noise is measured with, which takes away hardly
        anything else.
    agreed : float
        Part of what is then left that is taken away, 0 to 1; see `agreement`.
    means : bool
        The mean around every pixel, as measured data need it.
    colour : bool
        Whether the channels are red, green and blue; otherwise each is an image of its own.
    """

    structure: bool = True
    noises: tuple[NoiseSpectrum, ...] | None = None
    trusted: bool = False
    agreed: float = 1.0
    means: bool = False
    colour: bool = False

    @property
    def rim(self) -> int:
        """Pixels around one that its result depends on."""
        texture = BLOCKS if self.noises is not None else 0
        return AROUND * self.means + texture + SIDE * self.structure

    def groups(self, channels: int) -> list[slice]:
        """Return the channels that are looked at together."""
        if self.colour:
            return [slice(0, channels)]
        return [slice(index, index + 1) for index in range(channels)]


def restore(
    bands: Iterable[tuple[int, Floats]],
    noisy: Rows,
    size: tuple[int, int],
    device: torch.device,
    what: Restoring,
    restored: Restored,
) -> Iterator[tuple[int, Floats]]:
    """Return to a result what was no noise.

    Parameters
    ----------
    bands : iterable of (int, numpy.ndarray)
        Top rows, and denoised rows (n, W, C) on 0..1, in order.
    noisy : callable
        ``noisy(top, bottom)`` returns those rows of the noisy image, finite; asked for rows
        up to `LAG` above the last ones of ``bands``.
    size : (int, int)
        Its height and width.
    device : torch.device
        Where to compute.
    what : Restoring
        What to restore.
    restored : Restored
        Added to.

    Yields
    ------
    (int, numpy.ndarray)
        As ``bands``; in bands of another height.
    """
    height, width = size
    strips = _padded(bands, noisy, size, device, what)
    if what.means:
        strips = _keep_means(strips)
    top = 0
    for pair, share in _with_noise_share(_without_texture(strips, what), what):
        inside = slice(0, height - top), slice(0, width)
        before, left = pair[..., *inside]
        after = left * (what.agreed * share[..., *inside])
        restored.removed += float(before.square().sum())
        restored.returned += float((before - after).square().sum())
        bottom = top + after.shape[1]
        yield top, noisy(top, bottom) - after.permute(1, 2, 0).cpu().numpy()
        top = bottom


def restoring_bytes(image: ImageInfo, *, means: bool) -> int:
    """Return the bytes that `restore` holds of an image, at most, whatever its height.

    Parameters
    ----------
    image : ImageInfo
        The image.
    means : bool
        As `Restoring.means`.
    """
    colours = image.samples - image.alpha
    return (BYTES_OF_MEANS if means else BYTES) * colours * (image.width + 2 * RIM)


def _padded(
    bands: Iterable[tuple[int, Floats]],
    noisy: Rows,
    size: tuple[int, int],
    device: torch.device,
    what: Restoring,
) -> Iterator[torch.Tensor]:
    """Yield strips (2, C, h, w) of the noisy image and the residual, with a mirrored rim."""
    rim = what.rim
    (down, height), (across, width) = ((-(-length // STEP) * STEP + rim, length) for length in size)
    columns = torch.from_numpy(reflect_index(-rim, across, width)).to(device) + rim
    held: list[Floats] = []
    first = there = 0  # denoised rows held: first ... there
    top = -rim
    for start, band in bands:
        assert start == there
        held.append(band)
        there += len(band)
        while top < down:
            bottom = min(top + STRIP, down)
            index = reflect_index(top, bottom, height)
            low, high = int(index.min()), int(index.max()) + 1
            if there < high:
                break
            denoised = np.concatenate(held) if len(held) > 1 else held[0]
            rows = noisy(low, high)
            pair = rows, rows - denoised[low - first : high - first]
            channels = rows.shape[2]
            strip = torch.empty((2, channels, len(index), len(columns)), device=device)
            for part, whole in zip(pair, strip, strict=True):
                whole[..., rim : rim + width] = torch.from_numpy(part[index - low]).permute(2, 0, 1)
            strip[..., :rim] = strip[..., columns[:rim]]
            strip[..., rim + width :] = strip[..., columns[rim + width :]]
            yield strip
            top = bottom
            # The last strips mirror rows from further up.
            drop = max(0, min(top, height - rim - STEP) - first)
            held, first = [denoised[drop:]], first + drop


def _sliding(strips: Iterable[torch.Tensor], rim: int) -> Iterator[torch.Tensor]:
    """Yield strips that overlap by twice the rim, so that their inner rows follow each other."""
    held: torch.Tensor | None = None
    for strip in strips:
        held = strip if held is None else torch.cat([held, strip], -2)
        if held.shape[-2] > 2 * rim:
            yield held
            held = held[..., held.shape[-2] - 2 * rim :, :]


def _keep_means(strips: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Subtract from the residual its mean around every pixel."""
    side = 2 * AROUND + 1
    inner = slice(AROUND, -AROUND)
    for strip in _sliding(strips, AROUND):
        mean = strip[1]
        for axis in (1, 2):
            total = functional.pad(
                mean.double().cumsum(axis), (1, 0) if axis == 2 else (0, 0, 1, 0)
            )
            length = total.shape[axis] - side
            mean = (total.narrow(axis, side, length) - total.narrow(axis, 0, length)) / side
        kept = strip[..., inner, inner].clone()
        kept[1] -= mean
        yield kept


def _without_texture(strips: Iterable[torch.Tensor], what: Restoring) -> Iterator[torch.Tensor]:
    """Yield the residual, and the residual without texture: (2, C, h, w)."""
    if what.noises is None:
        yield from (strip[1].expand_as(strip) for strip in strips)
        return
    inner = slice(BLOCKS, -BLOCKS)
    for strip in _sliding(strips, BLOCKS):
        pair = strip[1, :, inner, inner].repeat(2, 1, 1, 1)
        groups = what.groups(strip.shape[1])
        for noise, group in zip(what.noises, groups, strict=True):
            limit = TRUSTED if what.trusted else doubt(noise)
            for left in range(0, pair.shape[3], CHUNK):
                part = strip[:, group, :, left : left + CHUNK + 2 * BLOCKS]
                found = texture_in(part[0], part[1], noise, limit)
                if found is not None:
                    pair[1, group, :, left : left + CHUNK] -= found
        yield pair


def texture_in(
    noisy: torch.Tensor, removed: torch.Tensor, noise: NoiseSpectrum, limit: float
) -> torch.Tensor | None:
    """Return what of a residual exceeds the noise.

    Parameters
    ----------
    noisy, removed : torch.Tensor
        (C, h, w) with a rim of `BLOCKS`; h and w are multiples of `spectrum.STEP`.
    noise : NoiseSpectrum
        Of the image.
    limit : float
        How many times its variance counts as texture.

    Returns
    -------
    torch.Tensor or None
        The same without the rim; None: nothing does.
    """
    brightness = spectrum.block_means((noisy - removed).mean(0))
    side, ninefold = spectrum.SIDE, 9 * limit
    parts: list[torch.Tensor] = []
    most: torch.Tensor | None = None
    residual, levels = spectrum.opponent(removed), noise.level(brightness)
    for one, level, shape in zip(residual, levels, noise.shape, strict=True):
        coefficients = spectrum.forward(one)
        variance = level[:, None] * shape.view(side, side).T[:, None, :, None] + NOTHING
        ratio = spectrum.smooth_coefficients(coefficients.square().div_(variance))
        # A sum of nine blocks in place of their mean.
        ratio = spectrum.sum_neighbours(ratio).clamp_(min=ninefold)
        share = torch.div(-ninefold, ratio, out=ratio).add_(1)
        if most is not None:
            # The noise of colours depends on the colour, and what is lost is hardly ever colour
            # alone.
            torch.minimum(share, most, out=share)
        elif not share.any():
            return None
        elif len(residual) == 3:
            most = share.clone()
        parts.append(spectrum.backward(share.mul_(coefficients[:, 1:-1, :, 1:-1])))
    return spectrum.coloured(torch.stack(parts))


def doubt(noise: NoiseSpectrum) -> float:
    """Return how many times the noise's variance counts as texture."""
    sigma = math.sqrt(float(noise.variance.mean()))
    step = (sigma - LIGHT) / (STRONG - LIGHT)
    return DOUBT[0] + (DOUBT[1] - DOUBT[0]) * min(max(step, 0.0), 1.0)


def _with_noise_share(
    pairs: Iterable[torch.Tensor], what: Restoring
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield pairs, and how far each pixel passes for noise by its spectrum, 1 to 0."""
    if not what.structure:
        yield from ((pair, pair.new_ones(1, 1, 1)) for pair in pairs)
        return
    inner = slice(SIDE, -SIDE)
    known = 2 * SIDE // STEP - 1  # rows of windows of the strip before that lie in the next one
    powers: torch.Tensor | None = None
    for pair in _sliding(pairs, SIDE):
        # What other networks take is texture as well, much of it: patterns are looked for in
        # what is left of it.
        judged = pair[0] if what.trusted else pair[1]
        if powers is not None:
            judged = judged[:, known * STEP :]
        fresh = torch.stack([_window_powers(judged[g]) for g in what.groups(len(judged))], 1)
        powers = fresh if powers is None else torch.cat([powers[:, :, -known:], fresh], 2)
        # With the windows around.
        out, total = (functional.avg_pool2d(part, 3, 1) for part in powers)
        share = torch.where(total > NOTHING, out / total.clamp_min(NOTHING), 0.0)
        noise = ((PATTERN - share) / (PATTERN - SOUND)).clamp(0, 1)
        smooth = functional.interpolate(noise[None], scale_factor=STEP, mode="bilinear")[0]
        half = slice(STEP // 2, -STEP // 2)
        yield pair[..., inner, inner], smooth[:, half, half]


def _window_powers(removed: torch.Tensor) -> torch.Tensor:
    """Return the power of each window that stands out, and all of it but the lowest frequencies.

    Parameters
    ----------
    removed : torch.Tensor
        (C, h, w); h and w are multiples of `STEP`.

    Returns
    -------
    torch.Tensor
        (2, rows, columns).
    """
    channels = len(removed)
    weights = LUMINANCE if channels == 3 else (1 / channels,) * channels
    single = (removed.new_tensor(weights) @ removed.flatten(1)).view(removed.shape[1:])
    windows = single.unfold(0, SIDE, STEP).unfold(1, SIDE, STEP)
    size = windows.shape[:2]
    centred = windows.reshape(-1, SIDE, SIDE)
    centred = centred - centred.mean((1, 2), keepdim=True)
    waves = torch.view_as_real(torch.fft.rfft2(centred.mul_(_hann(removed.device))))
    power = waves.square_().sum(-1).flatten(1)
    order, lengths = _rings(removed.device)
    out, total = removed.new_zeros((2, len(power)))
    for ring in torch.split(power.index_select(1, order), lengths, 1):
        total += ring.sum(1)
        # numpy's selection is five times as fast as torch's.
        middle = (ring.shape[1] - 1) // 2
        median = np.partition(ring.cpu().numpy(), middle, 1)[:, middle, None]
        # The median of the power of noise is log 2 times its mean.
        mean = torch.from_numpy(median).to(ring.device) / math.log(2)
        out += torch.sub(ring, mean, alpha=OUTSTANDING).clamp_(min=0).sum(1)
    return torch.stack([out, total]).view(2, *size)


@cache
def _rings(device: torch.device) -> tuple[torch.Tensor, list[int]]:
    """Return the frequencies sorted by ring, without the lowest ring, and how many each has.

    A network that is wrong about brightness destroys no pattern. What lies in the corners is
    the last ring.
    """
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)[None])
    index = (radius / 0.5 * RINGS).long().clamp_max(RINGS).flatten()
    lengths = torch.bincount(index).tolist()
    return index.argsort(stable=True)[lengths[0] :].to(device), lengths[1:]


@cache
def _hann(device: torch.device) -> torch.Tensor:
    window = torch.hann_window(SIDE, device=device)
    return window[:, None] * window


def agreement(removed: Sequence[Floats], noise: Sequence[Floats]) -> float:
    """Return how much of a residual should be taken away, by what noise is known there.

    Parameters
    ----------
    removed, noise : sequence of numpy.ndarray
        The same parts of an image: what the network takes away after restoration, and the
        noise as another network sees it.

    Returns
    -------
    float
        1 unless the two have little to do with each other: `TRUST` times the share of the
        noise in the removed that leaves the least error.
    """
    mine, theirs = (
        np.concatenate([part.ravel() for part in parts]).astype(np.float64)
        for parts in (removed, noise)
    )
    power, known = float(mine @ mine), float(theirs @ theirs)
    if power == 0.0 or known > FOREIGN * power:
        return 1.0
    return min(1.0, max(0.0, TRUST * float(mine @ theirs) / power))


@torch.inference_mode()
def measure_noise(
    boxes: Iterable[tuple[Floats, Floats]], device: torch.device, *, colour: bool
) -> tuple[NoiseSpectrum, ...]:
    """Measure the noise of an image on what a network took from some of it.

    Parameters
    ----------
    boxes : iterable of (numpy.ndarray, numpy.ndarray)
        Noisy and denoised, (h, w, C) on 0..1, at least 32 pixels along a side.
    device : torch.device
        Where to compute.
    colour : bool
        As `Restoring.colour`.

    Returns
    -------
    tuple of NoiseSpectrum
        For `Restoring.noises`.
    """
    samples = []
    for pair in boxes:
        noisy, denoised = (torch.from_numpy(part).permute(2, 0, 1).to(device) for part in pair)
        groups = Restoring(colour=colour).groups(len(noisy))
        samples.append([sample(noisy[group], denoised[group]) for group in groups])
    return tuple(measure(of_group) for of_group in zip(*samples, strict=True))
