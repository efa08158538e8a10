"""Write the pictures that the weights that ship learn from; every eighth is held out.

    python scripts/training_pictures.py clean/ pictures/ --panoramas hdr/

Photographs come as they are, softer (`soften_photographs`), and softer and darker, as in dim
light. Panoramas, linear and all but free of noise, are enlarged until they are as soft as
phones' files at full size, and developed twice: by day, and in dim light. What is in
``pictures/held`` is to choose by; the rest is in ``pictures/train``.

The panoramas are Radiance files; reading them needs `pip install 'denoisekit[bench]'`.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from soften_photographs import soften

from denoisekit.noise.camera import to_linear, to_srgb

HELD = 8
DIM = (0.35, 0.35, 0.15, 0.15)
"""Light that is left; photographs take them in turn."""
ROWS = slice(110, 402)
"""Of a panorama 512 high; above and below it is stretched."""
MEDIANS = (0.2, 0.035)
"""Of the linear values of a developed panorama, by day and in dim light."""


def save(linear: np.ndarray, path: Path) -> None:
    """Write linear light as 8 bits of sRGB."""
    encoded = to_srgb(linear.astype(np.float32), 0.0)
    Image.fromarray(np.round(encoded * 255).astype(np.uint8)).save(path, compress_level=1)


def photograph(path: Path, number: int, out: Path) -> None:
    """Write the forms of a photograph."""
    (out / path.name).write_bytes(path.read_bytes())
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    for enlarge in (1.8, 2.6):
        soften(picture, enlarge).save(out / f"{path.stem}_soft{enlarge:g}.png", compress_level=1)
    enlarge = (4.0, 2.6)[number % 2]
    soft = np.asarray(soften(picture, enlarge), np.float32) / np.float32(255)
    save(to_linear(soft, 0.0) * DIM[number % 4], out / f"{path.stem}_dim{enlarge:g}.png")


def panorama(path: Path, out: Path) -> None:
    """Write the forms of a panorama."""
    import cv2

    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if read is None:
        raise SystemExit(f"{path} cannot be read")
    linear = read[ROWS, :, ::-1].astype(np.float32)
    light = linear.clip(0, np.quantile(linear, 0.999))
    large = cv2.resize(light, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC).clip(0)
    median = np.median(large.mean(-1))
    for index, wanted in enumerate(MEDIANS):
        save(large * wanted / median, out / f"hdr_{path.stem}_{index}.png")


def main() -> None:
    """Read the command line and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--panoramas", type=Path)
    given = parser.parse_args()
    folders = [given.out / ("held" if number == 3 else "train") for number in range(HELD)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(given.photographs.glob("*.[jp][pn]g"))):
        photograph(path, number, folders[number % HELD])
    files = sorted(given.panoramas.glob("*.hdr")) if given.panoramas else []
    for number, path in enumerate(files):
        panorama(path, folders[number % HELD])


if __name__ == "__main__":
    main()
