"""Give back what a network took from a picture and was not noise.

The noise is measured on the whole result before any of it is given out, so that a result is
held until then: in memory, or on disk where it is large. What comes out does not depend on
how the picture was tiled.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from denoisekit.choosing import spectrum
from denoisekit.choosing.gain import picture_share
from denoisekit.choosing.noise import Noise, Sample, brightness_of, measure, sample
from denoisekit.choosing.tally import HELD_BYTES, Tally
from denoisekit.errors import OutputError
from denoisekit.tiling import reflect_index

Floats = npt.NDArray[np.float32]
Rows = Callable[[int, int], Floats]

RIM = 2 * spectrum.STEP
"""Pixels around a box that its result depends on."""
BOX = 128, 512
"""Rows and columns of the picture that are worked on at once."""
LOOK = 64
"""Side of the boxes in which noise is measured."""
LOOKS = 16
"""Most of them along either side: bounds the work for any size."""


def give_back(
    bands: Iterable[tuple[int, Floats]],
    noisy: Rows,
    size: tuple[int, int],
    device: torch.device,
    tally: Tally,
    *,
    colour: bool,
) -> Iterator[tuple[int, Floats]]:
    """Return to a result what was picture.

    Parameters
    ----------
    bands : iterable of (int, numpy.ndarray)
        Top rows, and denoised rows (n, W, C) on 0..1, in order.
    noisy : callable
        ``noisy(top, bottom)`` returns those rows of the noisy picture, finite.
    size : (int, int)
        Its height and width.
    device : torch.device
        Where to compute.
    tally : Tally
        Added to.
    colour : bool
        Whether the channels are red, green and blue; otherwise each is a picture of its own.

    Yields
    ------
    (int, numpy.ndarray)
        As ``bands``; in bands of another height.

    Raises
    ------
    OutputError
        There is no room to hold the result.
    """
    denoised = _hold(bands, size)
    pair = _Pair(noisy, denoised, device, colour=colour)
    noises = _noises(pair)
    for top in range(0, size[0], BOX[0]):
        yield top, _strip(pair, top, noises, tally)


def _hold(bands: Iterable[tuple[int, Floats]], size: tuple[int, int]) -> Floats:
    held: Floats | None = None
    for top, band in bands:
        if held is None:
            held = _room((*size, band.shape[2]))
        held[top : top + len(band)] = band
    assert held is not None
    return held


def _room(shape: tuple[int, ...]) -> Floats:
    size = 4 * math.prod(shape)
    if size <= HELD_BYTES:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile() as file:  # the map keeps it; its name is gone already
            if hasattr(os, "posix_fallocate"):
                # Now, because a map of a full disk ends the program.
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.float32, "w+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"no room for {size / 1e9:.1f} GB of intermediate results in {tempfile.gettempdir()}",
            "set TMPDIR to a folder with more room, or give --strength a number",
        ) from error


class _Pair:
    """A noisy picture and its result, read in boxes that are reflected at the borders."""

    def __init__(
        self, noisy: Rows, denoised: Floats, device: torch.device, *, colour: bool
    ) -> None:
        self.noisy, self.denoised, self.device = noisy, denoised, device
        self.height, self.width, channels = denoised.shape
        self.groups = [slice(0, channels)] if colour else [slice(i, i + 1) for i in range(channels)]

    def looks(self) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
        """Yield boxes spread over the picture: noisy and denoised, of every group."""
        for top in _spread(self.height):
            rows = self.rows(top, LOOK)
            for left in _spread(self.width):
                yield self.box(rows, left, LOOK)

    def rows(self, top: int, height: int) -> tuple[Floats, Floats]:
        """Return rows with a rim: noisy and denoised."""
        index = reflect_index(top - RIM, top + height + RIM, self.height)
        first, stop = int(index.min()), int(index.max()) + 1
        return self.noisy(first, stop)[index - first], self.denoised[first:stop][index - first]

    def box(
        self, rows: tuple[Floats, Floats], left: int, width: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Cut columns with a rim from rows; return (C, h, w) tensors of every group."""
        columns = reflect_index(left - RIM, left + width + RIM, self.width)
        noisy, denoised = (
            torch.from_numpy(np.ascontiguousarray(part[:, columns].transpose(2, 0, 1))).to(
                self.device
            )
            for part in rows
        )
        return [(noisy[group], denoised[group]) for group in self.groups]


def _spread(length: int) -> list[int]:
    """Return where boxes begin: evenly, all of it where that is not too much."""
    count = min(LOOKS, -(-length // LOOK))
    return [i * max(0, length - LOOK) // max(1, count - 1) for i in range(count)]


@torch.inference_mode()
def _noises(pair: _Pair) -> list[Noise]:
    """Measure the noise of every group of channels."""
    samples: list[list[Sample]] = [[] for _ in pair.groups]
    for boxes in pair.looks():
        for mine, box in zip(samples, boxes, strict=True):
            mine.append(sample(*box))
    return [measure(mine) for mine in samples]


@torch.inference_mode()
def _strip(pair: _Pair, top: int, noises: list[Noise], tally: Tally) -> Floats:
    """Return finished rows."""
    height = min(BOX[0], pair.height - top)
    out = np.empty((height, *pair.denoised.shape[1:]), np.float32)
    rows = pair.rows(top, _whole_steps(height))
    for left in range(0, pair.width, BOX[1]):
        width = min(BOX[1], pair.width - left)
        boxes = pair.box(rows, left, _whole_steps(width))
        for group, noise, (noisy, denoised) in zip(pair.groups, noises, boxes, strict=True):
            core = denoised[:, RIM : RIM + height, RIM : RIM + width]
            removed = noisy[:, RIM : RIM + height, RIM : RIM + width] - core
            returned = picture_in(noisy, denoised, noise)[:, :height, :width]
            tally.removed += float(removed.square().sum())
            tally.returned += float(returned.square().sum())
            result = (core + returned).permute(1, 2, 0).cpu().numpy()
            out[:, left : left + width, group] = result
    return out


def _whole_steps(length: int) -> int:
    return -(-length // spectrum.STEP) * spectrum.STEP


def picture_in(noisy: torch.Tensor, denoised: torch.Tensor, noise: Noise) -> torch.Tensor:
    """Return what of noisy - denoised is picture.

    Parameters
    ----------
    noisy, denoised : torch.Tensor
        (C, h, w) with a rim of `RIM` pixels; h and w are multiples of `spectrum.STEP`.
    noise : Noise
        Of the picture.

    Returns
    -------
    torch.Tensor
        The same without the rim.
    """
    removed = spectrum.forward(spectrum.blocks(spectrum.opponent(noisy - denoised)))
    brightness = brightness_of(spectrum.blocks(spectrum.opponent(denoised)))
    share = picture_share(removed, brightness, noise)
    return spectrum.coloured(spectrum.backward(share * removed[:, 1:-1, 1:-1]))
