"""What a network in training is worth: PSNR where clean pictures are known, and pictures."""

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
from denoisekit.methods import MethodInfo
from denoisekit.options import Options
from denoisekit.ranges import Floats
from denoisekit.training.data import Pool
from denoisekit.training.distributed import Crew
from denoisekit.training.step import fresh
from denoisekit.weights import LoadedWeights

if TYPE_CHECKING:
    from torch import Tensor

COUNT = 8
"""Most pictures to validate on."""

SIDE = 256
"""Largest side of what is taken of each: its middle."""

FEWEST = 2
"""Pictures of a size that must be validated in the time; else smaller ones are."""

SHOWN = 4
"""Pictures in a preview."""

GAP = 4
"""White pixels between them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture to validate on: (H, W, C) float32 on 0..1; clean is None where not known."""

    noisy: Floats
    clean: Floats | None


def choose(pool: Pool, seed: int) -> list[Sample]:
    """Return pictures spread evenly over a pool, always the same."""
    total = len(pool.pictures)
    samples = []
    for index in sorted({i * total // COUNT for i in range(COUNT)}):
        info = pool.pictures[index].info
        height, width = min(info.height, SIDE), min(info.width, SIDE)
        box = ((info.height - height) // 2, (info.width - width) // 2, height, width)
        noisy = pool.store.box(pool.pictures[index], box)
        clean = None if pool.clean is None else pool.store.box(pool.clean[index], box)
        if pool.simulate is not None:
            noisy, clean = pool.simulate(noisy, np.random.default_rng([seed, index])), noisy
        samples.append(Sample(noisy, clean))
    return samples


def fewer(
    method: MethodInfo,
    config: Mapping[str, Any],
    samples: list[Sample],
    seconds: float,
    crew: Crew,
) -> list[Sample]:
    """Return fewer and smaller pictures, where denoising all of them takes longer than this.

    Parameters
    ----------
    method, config
        Of the network that will denoise them.
    samples : list of Sample
        From `choose`; one of a quarter of its side is always kept.
    seconds : float
        That are to spare.
    crew : Crew
        Where it will run.
    """
    network = fresh(method, config, 0)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    denoiser = _denoiser(method, config, state, str(crew.device))
    each = denoiser.network.seconds_per_pixel(SIDE)
    for side in (SIDE, SIDE // 2, SIDE // 4):
        cut = [_middle(sample, side) for sample in samples]
        one = each * max(math.prod(sample.noisy.shape[:2]) for sample in cut)
        count = min(len(cut), int(seconds / one))
        if count >= min(len(cut), FEWEST) or side == SIDE // 4:
            return cut[:: -(-len(cut) // max(1, count))]
    return samples


def _middle(sample: Sample, side: int) -> Sample:
    height, width = (min(length, side) for length in sample.noisy.shape[:2])
    top, left = ((n - m) // 2 for n, m in zip(sample.noisy.shape, (height, width), strict=False))
    box = np.s_[top : top + height, left : left + width]
    return Sample(sample.noisy[box], None if sample.clean is None else sample.clean[box])


def _denoiser(
    method: MethodInfo, config: Mapping[str, Any], state: Mapping[str, Tensor], device: str
) -> Denoiser:
    loaded = LoadedWeights(state, config, "training", "", method.id)
    return Denoiser(method, loaded, Options(device=device, range="0,1"))


def denoise(
    method: MethodInfo,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    samples: Sequence[Sample],
    device: str,
) -> list[Floats]:
    """Denoise as ``denoisekit denoise`` would with these weights."""
    state = {key: value.detach().cpu().clone() for key, value in weights.items()}
    denoiser = _denoiser(method, config, state, device)
    return [denoiser(sample.noisy, axes="YXS") for sample in samples]


def psnr(images: Sequence[Floats], samples: Sequence[Sample]) -> float:
    """Return the mean PSNR of pictures in dB, clipped to 0..1, against the clean samples."""
    values = []
    for image, sample in zip(images, samples, strict=True):
        assert sample.clean is not None
        wrong = image.clip(0, 1).astype(np.float64) - sample.clean.clip(0, 1)
        values.append(-10 * math.log10(max(float(np.square(wrong).mean()), 1e-10)))
    return sum(values) / len(values)


def write_preview(path: Path, samples: Sequence[Sample], denoised: Sequence[Floats]) -> None:
    """Write a PNG: a row a picture, of noisy, denoised and, where known, clean.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    rows = []
    for sample, image in list(zip(samples, denoised, strict=True))[:SHOWN]:
        shown = [sample.noisy, image] + ([] if sample.clean is None else [sample.clean])
        rows.append(_joined([_bytes(picture) for picture in shown], axis=1))
    pixels = _joined(rows, axis=0)
    info = ImageInfo("png", pixels.shape, "YXS", pixels.dtype, "rgb")
    try:
        with create_image(path, info, overwrite=True) as writer:
            writer.write_rows(0, 0, pixels)
    except OutputError as error:
        error.hint = "the last state is kept: make room, then go on with --resume"
        raise


def _bytes(image: Floats) -> Any:
    """Return a picture as 8-bit RGB."""
    rgb = image[..., [0, 1, 2]] if image.shape[2] >= 3 else image[..., [0, 0, 0]]
    return np.rint(rgb.clip(0, 1) * 255).astype(np.uint8)


def _joined(pictures: Sequence[Any], axis: int) -> Any:
    """Lay pictures side by side, white where one is shorter."""
    other = 1 - axis
    longest = max(picture.shape[other] for picture in pictures)
    parts = []
    for picture in pictures:
        pad = [(0, 0), (0, 0), (0, 0)]
        pad[other] = (0, longest - picture.shape[other])
        pad[axis] = (0, GAP if picture is not pictures[-1] else 0)
        parts.append(np.pad(picture, pad, constant_values=255))
    return np.concatenate(parts, axis)
