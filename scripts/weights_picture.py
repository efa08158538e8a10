"""Draw a detail of an image beside what weights make of it, one panel each.

python scripts/weights_picture.py IMAGE OUT.png --box LEFT,TOP,SIDE ID [ID …] [--clean IMAGE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import denoisekit

ZOOM, LABEL, GAP = 2, 22, 6


def panel(pixels: npt.NDArray[np.uint8], text: str) -> Image.Image:
    """Return a panel: the pixels twice as large, and a line of text above."""
    side = pixels.shape[0] * ZOOM
    drawn = Image.new("RGB", (side, side + LABEL), "white")
    drawn.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST), (0, LABEL))
    font = ImageFont.load_default(14)
    ImageDraw.Draw(drawn).text((side / 2, LABEL / 2), text, fill="black", font=font, anchor="mm")
    return drawn


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Draw what weights make of a detail.")
    parser.add_argument("image", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--box", required=True, help="LEFT,TOP,SIDE of the detail")
    parser.add_argument("--clean", type=Path)
    parser.add_argument("--columns", type=int, default=3)
    arguments = parser.parse_args()
    left, top, side = (int(number) for number in arguments.box.split(","))

    def detail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return pixels[top : top + side, left : left + side]

    noisy = np.asarray(Image.open(arguments.image).convert("RGB"))
    panels = [panel(detail(noisy), "noisy")]
    for weights in arguments.weights:
        method = weights.partition(".")[0]
        denoised = denoisekit.denoise(noisy, method=method, weights=weights, strength=1)
        panels.append(panel(detail(denoised), weights))
    if arguments.clean:
        panels.append(
            panel(detail(np.asarray(Image.open(arguments.clean).convert("RGB"))), "clean")
        )
    columns = min(arguments.columns, len(panels))
    rows = -(-len(panels) // columns)
    width, height = (size + GAP for size in panels[0].size)
    sheet = Image.new("RGB", (columns * width - GAP, rows * height - GAP), "white")
    for index, drawn in enumerate(panels):
        sheet.paste(drawn, (index % columns * width, index // columns * height))
    sheet.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
