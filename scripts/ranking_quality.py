"""Measure how often `denoisekit compare` ranks first what is nearest to a clean picture.

Every picture is denoised and judged as the command does it. A line of JSON a picture goes to
stdout: score and PSNR of every result; how often the first was the best, and how much PSNR
was lost where it was not, to stderr. Pairs are found as by `denoisekit bench`.

    python scripts/ranking_quality.py --noisy fmd/*_noisy.png --clean fmd/*_clean.png \
        --methods nlm,wavelet,tv,jinvariant --weights aprrd.camera --weights sdap.camera
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from denoisekit.bench.images import paired_images
from denoisekit.compare import Comparison, Part, choices_named, middle_crop
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.metrics import SRGB
from denoisekit.pairs import find_files
from denoisekit.ranges import Range


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--noisy", nargs="+", required=True)
    parser.add_argument("--clean", nargs="+", required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair")
    parser.add_argument("--methods", default="", help="as of compare: ids, by commas")
    parser.add_argument("--weights", action="append", default=[])
    return parser.parse_args()


def main() -> None:
    """Measure."""
    chosen = parse()
    choices = choices_named([name for name in chosen.methods.split(",") if name], chosen.weights)
    images = paired_images("pictures", find_files(chosen.noisy), find_files(chosen.clean))
    lost = []
    for item in images.items[:: chosen.every]:
        noisy, clean = images.read(item)
        assert clean is not None
        part = Part(ArrayReader(noisy, "YXS"), middle_crop(noisy.shape[1], noisy.shape[0]), (0,))
        comparison = Comparison(Path(item.name), part, Range(0.0, 1.0))
        list(comparison.run(choices))
        comparison.rank()
        results = {one.choice.id: one for one in comparison.results}
        reached = {
            name: SRGB.measure(clean, one.denoised[0])["psnr"] for name, one in results.items()
        }
        lost.append(max(reached.values()) - reached[next(iter(results))])
        row = {"picture": item.name, "noisy": SRGB.measure(clean, noisy)["psnr"], "psnr": reached}
        scores = {name: one.score for name, one in results.items()}
        scores["noisy"] = comparison.noisy_score
        print(json.dumps({**row, "scores": scores, "lost": lost[-1]}), flush=True)
    right = sum(loss == 0 for loss in lost)
    print(
        f"the first was the best on {right} of {len(lost)} pictures; "
        f"{np.mean(lost):.3f} dB were lost in the mean, {max(lost):.2f} at most",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
