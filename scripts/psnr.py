"""Print the PSNR of the images of one folder against their clean versions in another.

PSNR of 8-bit values, data range 255, the mean over all pixels and channels of an image;
then the mean over the images. Pairs are found by name; --pair tells how names differ:

    python scripts/psnr.py denoised/ clean/ --pair _N.=_CL.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.formats import open_image


def main() -> None:
    parser = argparse.ArgumentParser(description="PSNR of folders of 8-bit images.")
    parser.add_argument("images", type=Path)
    parser.add_argument("clean", type=Path)
    parser.add_argument("--pair", default="=", help="FROM=TO: replaced in a name to get the clean")
    parser.add_argument("--every", action="store_true", help="print every image too")
    arguments = parser.parse_args()

    before, _, after = arguments.pair.partition("=")
    scores = {}
    for path in sorted(arguments.images.iterdir()):
        name = path.name.replace(before, after) if before else path.name
        clean = arguments.clean / name
        if not clean.exists():
            clean = next(arguments.clean.glob(Path(name).stem + ".*"), clean)
        if clean.exists() and (not before or before in path.name):
            scores[path.name] = psnr(pixels(path), pixels(clean))
    if not scores:
        raise SystemExit(f"no pairs of {arguments.images} and {arguments.clean}")
    if arguments.every:
        for image, score in scores.items():
            print(f"{score:7.3f}  {image}")
    print(f"{sum(scores.values()) / len(scores):.3f} dB, mean of {len(scores)}")


def pixels(path: Path) -> npt.NDArray[Any]:
    reader = open_image(path)
    try:
        return reader.read_rows(0, 0, reader.info.height)
    finally:
        reader.close()


def psnr(image: npt.NDArray[Any], clean: npt.NDArray[Any]) -> float:
    error = float(np.mean((image.astype(np.float64) - clean) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


if __name__ == "__main__":
    main()
