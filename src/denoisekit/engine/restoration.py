"""Give back what a network took from a picture and was not noise.

Works on a window that slides with the finished rows, so that no plane is held. What comes
out does not depend on how the picture was tiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from denoisekit.engine import structure
from denoisekit.engine.gain import TRUSTED, doubt, picture_share
from denoisekit.engine.tiling import reflect_index
from denoisekit.noise import spectrum
from denoisekit.noise.spectrum import NoiseSpectrum, brightness_of, measure, sample

Floats = npt.NDArray[np.float32]
Rows = Callable[[int, int], Floats]

RIM = 128
"""Pixels around a box that its result depends on."""
BOX = 256, 512
"""Rows and columns of the picture that are worked on at once."""
AROUND = 48
"""Pixels to each side of one whose mean is kept: noise is 97 times weaker there."""
INNER = RIM - AROUND
"""Rim that texture and patterns need: `structure.SIDE`, and two `spectrum.STEP`."""
GRID = 64
"""Boxes are cut to multiples of this, so that windows of patterns lie alike in all."""
TRUST = 1.5
"""Up to twice the best share does no harm; networks that agree with each other have a share of
0.9 and more, and are not to lose anything."""
FOREIGN = 4.0
"""Where the known noise has so many times the power, the two saw different things: no word of
one about the other."""
LAG = BOX[0] + 3 * RIM
"""Rows behind the last ones that are still asked for."""


@dataclass(slots=True)
class Restored:
    """What became of what a network took away: sums of squares over an image.

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
    noises : tuple of Noise or None
        Fine texture too: all that exceeds this noise; one for all colours, or one a channel.
    trusted : bool
        Whether the network is the one that noise is measured with, which takes away hardly
        anything else.
    agreed : float
        Part of what is then left that is taken away, 0 to 1; see `agreement`.
    means : bool
        The mean around every pixel, as measured data need it.
    colour : bool
        Whether the channels are red, green and blue; otherwise each is a picture of its own.
    """

    structure: bool = True
    noises: tuple[NoiseSpectrum, ...] | None = None
    trusted: bool = False
    agreed: float = 1.0
    means: bool = False
    colour: bool = False


def restore(
    bands: Iterable[tuple[int, Floats]],
    noisy: Rows,
    size: tuple[int, int],
    device: torch.device,
    what: Restoring,
    tally: Restored,
) -> Iterator[tuple[int, Floats]]:
    """Return to a result what was no noise.

    Parameters
    ----------
    bands : iterable of (int, numpy.ndarray)
        Top rows, and denoised rows (n, W, C) on 0..1, in order.
    noisy : callable
        ``noisy(top, bottom)`` returns those rows of the noisy picture, finite; asked for rows
        up to `LAG` above the last ones of ``bands``.
    size : (int, int)
        Its height and width.
    device : torch.device
        Where to compute.
    what : Restoring
        What to restore.
    tally : Restored
        Added to.

    Yields
    ------
    (int, numpy.ndarray)
        As ``bands``; in bands of another height.
    """
    height = size[0]
    held: list[Floats] = []
    first = there = 0  # rows held: first ... there
    top = 0
    for start, band in bands:
        assert start == there
        held.append(band)
        there += len(band)
        while top < height and there >= min(height, top + BOX[0] + RIM):
            rows = np.concatenate(held) if len(held) > 1 else held[0]
            core = min(BOX[0], height - top)
            index = reflect_index(top - RIM, top + _whole(core) + RIM, height)
            low, high = int(index.min()), int(index.max()) + 1
            pair = noisy(low, high)[index - low], rows[low - first : high - first][index - low]
            yield top, _strip(pair, core, device, what, tally)
            top += BOX[0]
            # The last strip mirrors rows from further up than its rim.
            drop = max(0, top - 2 * RIM - first)
            held, first = [rows[drop:]], first + drop


def _whole(length: int) -> int:
    """Return the length in steps of `GRID`."""
    return -(-length // GRID) * GRID


@torch.inference_mode()
def _strip(
    pair: tuple[Floats, Floats], height: int, device: torch.device, what: Restoring, tally: Restored
) -> Floats:
    """Return finished rows from those with a rim above and below."""
    width, channels = pair[0].shape[1:]
    groups = [slice(0, channels)] if what.colour else [slice(i, i + 1) for i in range(channels)]
    out = np.empty((height, width, channels), np.float32)
    for left in range(0, width, BOX[1]):
        core = min(BOX[1], width - left)
        columns = reflect_index(left - RIM, left + _whole(core) + RIM, width)
        noisy, denoised = (
            torch.from_numpy(np.ascontiguousarray(part[:, columns].transpose(2, 0, 1))).to(device)
            for part in pair
        )
        for index, group in enumerate(groups):
            noise = what.noises[index] if what.noises else None
            near = slice(AROUND, -AROUND)
            removed = noisy[group] - denoised[group]
            mean = _means(removed) if what.means else 0.0
            removed = removed[:, near, near] - mean
            kept = _noise_in(noisy[group, near, near], removed, what, noise)
            inside = slice(INNER, INNER + height), slice(INNER, INNER + core)
            before, after = removed[:, *inside], kept[:, :height, :core]
            tally.removed += float(before.square().sum())
            tally.returned += float((before - after).square().sum())
            result = noisy[group, near, near][:, *inside] - after
            out[:, left : left + core, group] = result.permute(1, 2, 0).cpu().numpy()
    return out


def _means(removed: torch.Tensor) -> torch.Tensor:
    """Return the mean of what was taken around every pixel; without a rim of `AROUND`."""
    for axis in (1, 2):
        total = functional.pad(removed.double().cumsum(axis), (1, 0) if axis == 2 else (0, 0, 1, 0))
        wide = total.shape[axis] - 2 * AROUND - 1
        removed = total.narrow(axis, 2 * AROUND + 1, wide) - total.narrow(axis, 0, wide)
        removed = removed / (2 * AROUND + 1)
    return removed.float()


def _noise_in(
    noisy: torch.Tensor, removed: torch.Tensor, what: Restoring, noise: NoiseSpectrum | None
) -> torch.Tensor:
    """Return what of the removed is noise, without the rim; (C, h, w) with a rim of `INNER`."""
    rim = 2 * spectrum.STEP
    taken = left = removed[:, rim:-rim, rim:-rim]
    if noise is not None:
        limit = TRUSTED if what.trusted else doubt(noise)
        left = left - picture_in(noisy, noisy - removed, noise, limit)
    inside = slice(structure.SIDE, -structure.SIDE)
    inner = left[:, inside, inside] * what.agreed
    if not what.structure:
        return inner
    # What other networks take is texture as well, much of it: patterns are looked for in what
    # is left of it.
    return inner * structure.noise_share(taken if what.trusted else left)


def picture_in(
    noisy: torch.Tensor, denoised: torch.Tensor, noise: NoiseSpectrum, limit: float
) -> torch.Tensor:
    """Return what of noisy - denoised exceeds the noise.

    Parameters
    ----------
    noisy, denoised : torch.Tensor
        (C, h, w) with a rim of two `spectrum.STEP`; h and w are multiples of that.
    noise : NoiseSpectrum
        Of the picture.
    limit : float
        How many times its variance counts as picture.

    Returns
    -------
    torch.Tensor
        The same without the rim.
    """
    removed = spectrum.forward(spectrum.blocks(spectrum.opponent(noisy - denoised)))
    brightness = brightness_of(spectrum.blocks(spectrum.opponent(denoised)))
    share = picture_share(removed, brightness, noise, limit)
    return spectrum.coloured(spectrum.backward(share * removed[:, 1:-1, 1:-1]))


def agreement(removed: Sequence[Floats], noise: Sequence[Floats]) -> float:
    """Return how much of what a network takes away should be, by what noise is known there.

    Parameters
    ----------
    removed, noise : sequence of numpy.ndarray
        The same parts of a picture: what the network takes away after restoration, and the
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
    """Measure the noise of a picture on what a network took from some of it.

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
        channels = len(noisy)
        groups = [slice(0, channels)] if colour else [slice(i, i + 1) for i in range(channels)]
        samples.append([sample(noisy[group], denoised[group]) for group in groups])
    return tuple(measure(of_group) for of_group in zip(*samples, strict=True))
