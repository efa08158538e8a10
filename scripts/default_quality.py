"""Measure what `denoisekit denoise` does by default, in files' own types.

Pairs say how much nearer to the clean picture a result is; clean pictures alone, how far they are
from themselves. Pairs are found by the order of their names. A line a picture and the means go to
stdout.

    python scripts/default_quality.py --noisy polyu/*_real.JPG --clean polyu/*_mean.JPG
    python scripts/default_quality.py --noisy kodak24/*.png --weights sdap.camera
    python scripts/default_quality.py --noisy w2s/input*.tif --clean w2s/target*.tif --affine
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import denoisekit
from denoisekit.formats import open_image
from denoisekit.metrics import fit_levels, psnr

Pixels = npt.NDArray[Any]
CEILING = 99.0
"""Decibels at which pictures count as equal."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noisy", nargs="+", required=True)
    parser.add_argument("--clean", nargs="*", default=[])
    parser.add_argument("--weights", default="aprrd.camera")
    parser.add_argument("--affine", action="store_true", help="fit gain and offset before PSNR")
    parser.add_argument("--crop", type=int, help="side of the middle that is taken")
    return parser.parse_args()


def planes(path: str) -> tuple[Pixels, str]:
    """Return all of a file, and its axes."""
    reader = open_image(Path(path))
    try:
        info = reader.info
        rows = [np.array(reader.read_rows(plane, 0, info.height)) for plane in range(info.planes)]
        return np.stack(rows).reshape(info.shape), info.axes
    finally:
        reader.close()


def middle(pixels: Pixels, axes: str, side: int | None) -> Pixels:
    """Return the middle of every plane."""
    place = [slice(None)] * pixels.ndim
    for axis in "YX" if side else "":
        index = axes.index(axis)
        start = max(0, (pixels.shape[index] - (side or 0)) // 2)
        place[index] = slice(start, start + (side or 0))
    return np.ascontiguousarray(pixels[tuple(place)])


def decibels(one: Pixels, clean: Pixels, *, affine: bool) -> float:
    """Return decibels; the peak is that of the type, or the range of the clean picture."""
    one, clean = one.astype(np.float64), clean.astype(np.float64)
    if affine:
        gain, offset = fit_levels(one, clean)
        one = gain * one + offset
    peak = 255.0
    if affine or clean.max() > 255:
        peak = float(np.ptp(np.quantile(clean, (0.001, 0.999))))
    return min(CEILING, psnr(clean / peak, one / peak))


def main() -> None:
    """Measure."""
    asked = parse()
    denoiser = denoisekit.load(weights=asked.weights, strength=None)
    rows = []
    for index, path in enumerate(sorted(asked.noisy)):
        noisy, axes = planes(path)
        noisy = middle(noisy, axes, asked.crop)
        clean = noisy
        if asked.clean:
            clean = middle(*planes(sorted(asked.clean)[index]), asked.crop)
        denoised = np.asarray(denoiser(noisy, axes=axes))
        before, after = (decibels(p, clean, affine=asked.affine) for p in (noisy, denoised))
        change = 100 * (float(denoised.mean()) / float(noisy.mean()) - 1)
        rows.append((before, after, change))
        print(
            f"{Path(path).name}: {before:.2f} -> {after:.2f} dB, mean {change:+.3f} %", flush=True
        )
    found = np.array(rows)
    gains = found[:, 1] - found[:, 0]
    print(
        f"{asked.weights}, {len(rows)} pictures: {found[:, 0].mean():.3f} -> "
        f"{found[:, 1].mean():.3f} dB (least {found[:, 1].min():.2f}), gain at least "
        f"{gains.min():+.2f}, mean changed by {np.abs(found[:, 2]).max():.3f} % at most"
    )


if __name__ == "__main__":
    main()
