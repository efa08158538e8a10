"""Write photographs as soft as a camera's own files at full size, to train with them.

    python scripts/soften_photographs.py clean/ soft/
    python scripts/soften_photographs.py clean/ soft/ --enlarge 1.8

Photographs that are published have mostly been made smaller, so each pixel is sharp; a camera's
own JPEG has little finer than two or three pixels. A network that only knows the sharp ones
takes coarse noise for detail. Each picture is shrunk by a box filter, which also takes away what
noise it has, and enlarged again by less.
"""

import argparse
from pathlib import Path

from PIL import Image

SMALL = 800
"""Shorter side, in pixels, up to which a picture is halved and not made a third."""


def soften(picture: Image.Image, enlarge: float) -> Image.Image:
    """Return a picture smaller and softer."""
    shrink = 3 if min(picture.size) > SMALL else 2
    width, height = (side // shrink for side in picture.size)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
    size = int(width * enlarge), int(height * enlarge)
    return small.resize(size, Image.Resampling.BICUBIC)


def main() -> None:
    """Read the command line and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--enlarge", type=float, nargs="+", default=[1.8, 2.6])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(given.photographs.glob("*.[jp][pn]g")):
        with Image.open(path) as picture:
            for enlarge in given.enlarge:
                soft = soften(picture, enlarge)
                soft.save(given.out / f"{path.stem}_soft{enlarge:g}.png")


if __name__ == "__main__":
    main()
