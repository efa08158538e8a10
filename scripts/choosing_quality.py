"""Measure the strength auto and the score on noisy pictures whose clean ones are known.

Every picture is denoised with each of some weights, with strength 1 and auto; a line of JSON a
picture goes to stdout, the means to stderr. Pairs are found as by `denoisekit bench`.

    python scripts/choosing_quality.py --noisy polyu/*_real.JPG --clean polyu/*_mean.JPG \
        --weights aprrd.sidd aprrd.tmbsn-sidd
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace

import numpy as np

from denoisekit.bench.material import Material
from denoisekit.bench.protocols import find_protocol
from denoisekit.choosing import score
from denoisekit.options import Options
from denoisekit.pictures import find_files
from denoisekit.pipeline import Denoiser, load
from denoisekit.tiling import Floats
from denoisekit.weights import method_of

Row = dict[str, float]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noisy", nargs="+", required=True)
    parser.add_argument("--clean", nargs="+", required=True)
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--limit", type=int, help="of the first pictures alone")
    return parser.parse_args()


def loaded(weights: str) -> Denoiser:
    """Return a denoiser of arrays on 0..1."""
    method = method_of(weights)
    assert method is not None
    return load(Options(method=method, weights=weights, range="0,1"))


def measure(denoiser: Denoiser, noisy: Floats, clean: Floats) -> Row:
    """Return PSNR, score and seconds of one picture with one set of weights."""
    psnr = find_protocol("srgb").measure
    row: Row = {}
    plain = denoiser.options
    for name, options in (("full", plain), ("auto", replace(plain, strength="auto"))):
        denoiser.options = options
        began = time.process_time()
        denoised = denoiser(noisy, axes="YXS")
        row[f"{name}_seconds"] = time.process_time() - began
        row[name] = psnr(clean, denoised)["psnr"]
        if name == "full":
            row["score"] = score(noisy, denoised)
    denoiser.options = plain
    return row


def main() -> None:
    """Measure."""
    chosen = parse()
    denoisers = {weights: loaded(weights) for weights in chosen.weights}
    material = Material("pictures", find_files(chosen.noisy), find_files(chosen.clean))
    rows: list[dict[str, Row]] = []
    for item in material.items[: chosen.limit]:
        noisy, clean = material.read(item)
        assert clean is not None
        psnr = find_protocol("srgb").measure(clean, noisy)["psnr"]
        row = {"noisy": {"full": psnr, "auto": psnr, "score": score(noisy, noisy)}}
        row |= {weights: measure(d, noisy, clean) for weights, d in denoisers.items()}
        rows.append(row)
        print(json.dumps({"picture": item.name, **row}), flush=True)
    for weights in denoisers:
        full, auto, base, slow, fast = (
            np.array([row[w][key] for row in rows])
            for w, key in (
                (weights, "full"),
                (weights, "auto"),
                ("noisy", "full"),
                (weights, "auto_seconds"),
                (weights, "full_seconds"),
            )
        )
        print(
            f"{weights}: {len(rows)} pictures, noisy {base.mean():.2f}, full {full.mean():.3f}, "
            f"auto {auto.mean():.3f}; below noisy: full {(full < base).sum()}, "
            f"auto {(auto < base).sum()}, worst {(auto - base).min():+.2f}; "
            f"time {slow.sum() / fast.sum():.2f} of full",
            file=sys.stderr,
        )
    ranked(rows)


def ranked(rows: list[dict[str, Row]]) -> None:
    """Say how often the score names what PSNR names."""
    lost = []
    for row in rows:
        named = max(row.values(), key=lambda one: one["score"])
        lost.append(max(one["full"] for one in row.values()) - named["full"])
    right = sum(loss == 0 for loss in lost)
    print(
        f"the score is right on {right} of {len(lost)}, and loses {np.mean(lost):.2f} dB",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
