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

import numpy as np

from denoisekit.bench.material import Material
from denoisekit.comparing import Limits, Part, Result, choices_named, compare, judge, middle_crop
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.metrics import find_protocol
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
    material = Material("pictures", find_files(chosen.noisy), find_files(chosen.clean))
    measure = find_protocol("srgb").measure
    lost = []
    for item in material.items[:: chosen.every]:
        noisy, clean = material.read(item)
        assert clean is not None
        reader = ArrayReader(noisy, "YXS")
        part = Part(reader, middle_crop(reader.info.width, reader.info.height), (0,))
        results = [
            found
            for found in compare(part, choices, Range(0.0, 1.0), Limits())
            if isinstance(found, Result)
        ]
        noisy_score, ranked = judge([noisy], results)
        reached = {one.choice.id: measure(clean, one.denoised[0])["psnr"] for one in ranked}
        lost.append(max(reached.values()) - reached[ranked[0].choice.id])
        row = {"picture": item.name, "noisy": measure(clean, noisy)["psnr"]}
        scores = {one.choice.id: one.score for one in ranked}
        scores["noisy"] = noisy_score
        print(json.dumps({**row, "psnr": reached, "scores": scores, "lost": lost[-1]}), flush=True)
    right = sum(loss == 0 for loss in lost)
    print(
        f"the first was the best on {right} of {len(lost)} pictures; "
        f"{np.mean(lost):.3f} dB were lost in the mean, {max(lost):.2f} at most",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
