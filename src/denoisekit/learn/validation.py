"""What weights in training are worth: images denoised with them, PSNR, and previews."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denoisekit.engine.denoiser import Denoiser
from denoisekit.errors import OutputError
from denoisekit.formats import create_image
from denoisekit.image import ImageInfo
from denoisekit.learn.crops import ImageFiles
from denoisekit.methods import MethodInfo
from denoisekit.metrics import decibels
from denoisekit.options import Options
from denoisekit.ranges import Floats
from denoisekit.weights import LoadedWeights

if TYPE_CHECKING:
    from torch import Tensor

COUNT, SIDE = 8, 256
"""Most images to validate on, and the largest side of what is taken of each: its middle."""

FEWEST = 2
"""Images of a size that must be denoised in the time; else smaller ones are."""

SHOWN, GAP = 4, 4
"""Images in a preview, and white pixels between them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image to validate on: (H, W, C) float32 on 0..1; clean is None where not known."""

    noisy: Floats
    clean: Floats | None


def choose_samples(images: ImageFiles, seed: int) -> list[Sample]:
    """Return images spread evenly over those there are, always the same."""
    total, samples = len(images.images), []
    for index in sorted({i * total // COUNT for i in range(COUNT)}):
        (height, width) = size = images.sizes[index]
        high, wide = (min(length, SIDE) for length in size)
        box = ((height - high) // 2, (width - wide) // 2, high, wide)
        noisy, clean = images.crop(index, box)
        if images.simulate is not None:
            noisy, clean = images.simulate(noisy, np.random.default_rng([seed, index])), noisy
        samples.append(Sample(noisy, clean))
    return samples


def fewer_samples(samples: list[Sample], denoiser: Denoiser, seconds: float) -> list[Sample]:
    """Return fewer and smaller images, where denoising all of them takes longer than this.

    Parameters
    ----------
    samples : list of Sample
        From `choose_samples`; one of a quarter of its side is always kept.
    denoiser : Denoiser
        As it will denoise them.
    seconds : float
        That are to spare.
    """
    each = denoiser.network.seconds_per_pixel(SIDE)
    for side in (SIDE, SIDE // 2, SIDE // 4):
        cut = [Sample(*(_middle(image, side) for image in (s.noisy, s.clean))) for s in samples]
        one = each * max(math.prod(sample.noisy.shape[:2]) for sample in cut)
        count = min(len(cut), int(seconds / one))
        if count >= min(len(cut), FEWEST):
            break
    return cut[:: -(-len(cut) // max(1, count))]


def _middle(image: Any, side: int) -> Any:
    if image is None:
        return None
    height, width = (min(length, side) for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def denoiser_of(
    method: MethodInfo, config: Mapping[str, Any], weights: Mapping[str, Tensor], options: Options
) -> Denoiser:
    """Return what denoises with weights as they are now, as ``denoisekit denoise`` would."""
    state = {key: value.detach().cpu().clone() for key, value in weights.items()}
    return Denoiser(method, LoadedWeights(state, config, "fitted", "", method.id), options)


def psnr(images: Sequence[Floats], samples: Sequence[Sample]) -> float:
    """Return the mean PSNR of images in dB, clipped to 0..1, against the clean samples."""
    values = []
    for image, sample in zip(images, samples, strict=True):
        assert sample.clean is not None
        wrong = image.clip(0, 1).astype(np.float64) - sample.clean.clip(0, 1)
        values.append(decibels(max(float(np.square(wrong).mean()), 1e-10)))
    return sum(values) / len(values)


def write_preview(path: Path, samples: Sequence[Sample], denoised: Sequence[Floats]) -> None:
    """Write a PNG: a row an image, of noisy, denoised and, where known, clean.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    rows = []
    for sample, image in list(zip(samples, denoised, strict=True))[:SHOWN]:
        shown = [sample.noisy, image] + ([] if sample.clean is None else [sample.clean])
        rows.append(_side_by_side([_as_bytes(one) for one in shown]))
    # Rows are turned, laid side by side, and turned back.
    turned = _side_by_side([row.transpose(1, 0, 2) for row in rows])
    pixels = np.ascontiguousarray(turned.transpose(1, 0, 2))
    info = ImageInfo("png", pixels.shape, "YXS", pixels.dtype, "rgb")
    try:
        with create_image(path, info, overwrite=True) as writer:
            writer.write_rows(0, 0, pixels)
    except OutputError as error:
        error.hint = "the last state is kept: make room, then go on with --resume"
        raise


def _as_bytes(image: Floats) -> Any:
    """Return an image as 8-bit RGB."""
    rgb = image[..., [0, 1, 2]] if image.shape[2] >= 3 else image[..., [0, 0, 0]]
    return np.rint(rgb.clip(0, 1) * 255).astype(np.uint8)


def _side_by_side(images: Sequence[Any]) -> Any:
    """Lay images side by side, white between them and below those that are shorter."""
    high, last = max(len(image) for image in images), len(images) - 1
    padding = [((0, high - len(x)), (0, GAP * (k < last)), (0, 0)) for k, x in enumerate(images)]
    both = zip(images, padding, strict=True)
    return np.concatenate([np.pad(one, pad, constant_values=255) for one, pad in both], 1)
