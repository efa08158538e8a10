"""Measure the method auto and the strength auto on noisy pictures whose clean ones are known.

Every picture is denoised with each set of weights that the method auto would try, with the
strengths 1 and auto, and as `denoisekit denoise` does by itself. A line of JSON a picture goes
to stdout, the means to stderr. Pairs are found as by `denoisekit bench`.

    python scripts/choosing_quality.py --noisy polyu/*_real.JPG --clean polyu/*_mean.JPG
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace

import numpy as np

from denoisekit.auto import Chooser
from denoisekit.bench.images import paired_images
from denoisekit.engine.denoiser import load
from denoisekit.engine.tiling import Floats
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.metrics import find_protocol
from denoisekit.options import Options, Strength
from denoisekit.pairs import find_files

Row = dict[str, float]
FULL, AUTO = "{} 1", "{} auto"
STRENGTHS: dict[str, Strength] = {FULL: 1.0, AUTO: "auto"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noisy", nargs="+", required=True)
    parser.add_argument("--clean", nargs="+", required=True)
    parser.add_argument("--limit", type=int, help="of the first pictures alone")
    return parser.parse_args()


def eight_bit(pixels: Floats) -> Floats:
    """Return a picture as a file of 8 bits would give it back."""
    rounded: Floats = (np.rint(pixels.clip(0, 1) * 255) / 255).astype(np.float32)
    return rounded


def by_itself(chooser: Chooser, noisy: Floats) -> tuple[Floats, dict[str, float]]:
    """Denoise as the command does; return the estimates too."""
    run = chooser.run(ArrayReader(noisy, "YXS"))
    denoised = np.concatenate([rows for _, _, rows in run])
    return denoised, dict(run.estimates)


def measure(chooser: Chooser, noisy: Floats, clean: Floats) -> tuple[Row, dict[str, float]]:
    """Return PSNR and seconds, and what each set of weights was expected to reach."""
    psnr = find_protocol("srgb").measure
    row: Row = {"noisy": psnr(clean, noisy)["psnr"]}
    for denoiser in chooser.candidates:
        name, way = denoiser.weights.id, denoiser.on_unit()
        for text, strength in STRENGTHS.items():
            way.options = replace(way.options, strength=strength)
            began = time.process_time()
            denoised = way(noisy, axes="YXS")
            row[f"{text.format(name)} seconds"] = time.process_time() - began
            row[text.format(name)] = psnr(clean, denoised)["psnr"]
    began = time.process_time()
    denoised, estimates = by_itself(chooser, noisy)
    row["auto seconds"] = time.process_time() - began
    row["auto"] = psnr(clean, denoised)["psnr"]
    return row, estimates


def main() -> None:
    """Measure."""
    chosen = parse()
    chooser = Chooser(load(Options(strength="auto", range="0,1")))
    material = paired_images("pictures", find_files(chosen.noisy), find_files(chosen.clean))
    rows: list[Row] = []
    lost: list[float] = []
    for item in material.items[: chosen.limit]:
        noisy, clean = material.read(item)
        assert clean is not None
        row, estimates = measure(chooser, eight_bit(noisy), clean)
        rows.append(row)
        if estimates:
            reached = {name: row[AUTO.format(name)] for name in estimates}
            lost.append(max(reached.values()) - reached[max(estimates, key=estimates.__getitem__)])
        print(json.dumps({"picture": item.name, **row, "estimates": estimates}), flush=True)
    told(rows, lost)


def told(rows: list[Row], lost: list[float]) -> None:
    """Say the means."""
    noisy = np.array([row["noisy"] for row in rows])
    for name in (name for name in rows[0] if f"{name} seconds" in rows[0]):
        reached = np.array([row[name] for row in rows])
        seconds = np.array([row[f"{name} seconds"] for row in rows])
        print(
            f"{name}: {reached.mean():.3f} dB, noisy {noisy.mean():.3f}; below noisy "
            f"{(reached < noisy).sum()} of {len(rows)}, worst {(reached - noisy).min():+.2f}; "
            f"{seconds.mean():.2f} s a picture",
            file=sys.stderr,
        )
    if lost:
        right = sum(loss == 0 for loss in lost)
        print(
            f"the best weights were named for {right} of {len(lost)} pictures, "
            f"{np.mean(lost):.3f} dB were lost in the mean",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
