"""Measure what `denoisekit fit-single` makes of noisy pictures whose clean ones are known.

Every picture is one run of the command, timed as a whole. Pairs are found by name:
--noisy and --clean are folders, or patterns of as many files in the same order. A line of
JSON a picture goes to stdout, the means to stderr.

    python scripts/fit_quality.py --noisy sidd/noisy --clean sidd/clean --time 180 -- --start none
    python scripts/fit_quality.py --clean kodak24 --sigma 25 --crop 256 --every 3 --time 180
    python scripts/fit_quality.py --noisy w2s/in* --clean w2s/out* --affine --baselines all
"""

from __future__ import annotations

import argparse
import glob
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from denoisekit.baselines import BASELINES
from denoisekit.errors import find_by_id
from denoisekit.formats import create_image, open_image
from denoisekit.image import ImageInfo, Pixels
from denoisekit.metrics import fit_levels, psnr


def read(path: Path) -> tuple[Pixels, ImageInfo]:
    """Return the first plane, (H, W, S), without opacity."""
    reader = open_image(path)
    try:
        info = reader.info
        pixels = np.array(reader.read_rows(0, 0, info.height))
    finally:
        reader.close()
    return pixels[..., : info.samples - info.alpha], info


def write(path: Path, pixels: Pixels) -> None:
    colour: Any = "rgb" if pixels.shape[2] == 3 else "gray"
    info = ImageInfo(path.suffix[1:], pixels.shape, "YXS", pixels.dtype, colour)
    with create_image(path, info) as writer:
        writer.write_rows(0, 0, pixels)


def find(names: list[str]) -> list[Path]:
    """Return the files of folders and patterns, sorted."""
    found: list[Path] = []
    for name in names:
        inside = Path(name).iterdir() if Path(name).is_dir() else map(Path, glob.glob(name))  # noqa: PTH207
        found += sorted(inside)
    return found


def decibels(image: Pixels, clean: Pixels, peak: float, affine: bool) -> float:
    """Return the PSNR in dB; ``affine``: after fitting gain and offset of the clean picture."""
    x, y = clean / peak, image / peak
    if affine:
        gain, offset = fit_levels(x, y)
        x = gain * x + offset
    return psnr(x, y)


def centre(pixels: Pixels, side: int) -> Pixels:
    if not side:
        return pixels
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


def largest_bias(image: Pixels, noisy: Pixels, block: int = 64) -> float:
    """Return the largest difference of means over blocks, as a part of the block's mean.

    Blocks darker than a tenth of the brightest are left out: their mean divides by little.
    """
    height, width = (size // block * block for size in image.shape[:2])

    def means(pixels: Pixels) -> Any:
        cut = pixels[:height, :width].astype(np.float64)
        return cut.reshape(height // block, block, width // block, block, -1).mean((1, 3))

    before, after = means(noisy), means(image)
    seen = before > 0.1 * before.max()
    return float(np.abs(after / np.maximum(before, 1e-9) - 1)[seen].max())


def run(noisy: Path, output: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the command on a file; return what it said and the seconds it took."""
    command = [sys.executable, "-m", "denoisekit", "fit-single", str(noisy), "-o", str(output)]
    command += ["--time", str(options.time), "--json", "--quiet", *options.rest]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr or done.stdout)
    (fit,) = json.loads(done.stdout)["fits"]
    return {"seconds": round(seconds, 2), "objective": fit["objective"], "steps": fit["steps"]}


def measure(name: str, noisy: Pixels, clean: Pixels, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a picture."""
    peak = float(np.iinfo(noisy.dtype).max) if noisy.dtype.kind == "u" else 1.0
    row: dict[str, Any] = {"image": name, "noisy": decibels(noisy, clean, peak, options.affine)}
    with tempfile.TemporaryDirectory() as folder:
        ending = ".tif" if noisy.dtype != np.uint8 else ".png"
        source, target = Path(folder, f"noisy{ending}"), Path(folder, f"denoised{ending}")
        write(source, noisy)
        row.update(run(source, target, options))
        denoised = read(target)[0]
    row["fit"] = decibels(denoised, clean, peak, options.affine)
    row["mean_change"] = float(denoised.mean(dtype=np.float64) / noisy.mean(dtype=np.float64) - 1)
    row["largest_bias"] = largest_bias(denoised, noisy)
    unit = noisy.astype(np.float32) / np.float32(peak)
    for chosen in options.baselines:
        began = time.perf_counter()
        result = find_by_id("baseline", chosen, BASELINES).run(unit, 0).clip(0, 1)
        row[f"{chosen}_seconds"] = round(time.perf_counter() - began, 2)
        row[chosen] = decibels(
            np.rint(result * peak) if peak > 1 else result, clean, peak, options.affine
        )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--noisy", nargs="*", default=[])
    parser.add_argument("--clean", nargs="+", required=True)
    parser.add_argument("--sigma", type=float, help="of 255: make the noisy pictures")
    parser.add_argument("--crop", type=int, default=0, help="side of the middle that is taken")
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair")
    parser.add_argument("--affine", action="store_true", help="fit gain and offset first")
    parser.add_argument("--time", type=float, default=150.0)
    parser.add_argument("--baselines", nargs="*", default=[], help="ids, or all")
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.rest = arguments[cut + 1 :]
    if options.baselines == ["all"]:
        options.baselines = [known.id for known in BASELINES]

    cleans = find(options.clean)
    noisies = find(options.noisy) if options.noisy else cleans
    if len(noisies) != len(cleans):
        raise SystemExit(f"{len(noisies)} noisy files and {len(cleans)} clean ones")
    rows = []
    for index, (first, second) in enumerate(zip(noisies, cleans, strict=True)):
        if index % options.every:
            continue
        clean = centre(read(second)[0], options.crop)
        noisy = centre(read(first)[0], options.crop)
        if options.sigma:
            noise = np.random.default_rng(index).standard_normal(clean.shape) * options.sigma
            noisy = np.rint(clean + noise).clip(0, 255).astype(np.uint8)
        rows.append(measure(first.name, noisy, clean, options))
        print(json.dumps(rows[-1]), flush=True)
    for key in rows[0]:
        values = [row[key] for row in rows]
        if all(isinstance(value, float) for value in values):
            least, most = min(values), max(values)
            print(f"{key}: mean {np.mean(values):.4g}, {least:.4g} to {most:.4g}", file=sys.stderr)


if __name__ == "__main__":
    main()
