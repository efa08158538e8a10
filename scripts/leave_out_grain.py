"""Link the photographs of a folder that carry no grain of their own into another one.

    python scripts/leave_out_grain.py photographs/ clean/
    python scripts/leave_out_grain.py photographs/ cleanest/ --deviation 0.9 --correlation 1

Grain in a picture that is called clean is taught as texture: a network trained on it keeps noise
that looks the same. The flattest twentieth of a picture's 32 x 32 blocks shows it: what is left
of them without their trend is grain where it deviates by more than one of 255 levels and
neighbours hardly agree; texture of the scene is mostly smoother than that. With a correlation of
1 all that deviates more is left out, texture too.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, SHARE = 32, 0.05


def grain(picture: np.ndarray) -> tuple[float, float]:
    """Return deviation, of 255 levels, and neighbours' correlation in the flattest blocks.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W) brightness on 0..255.
    """
    high, wide = (side // SIDE for side in picture.shape)
    squares = picture[: high * SIDE, : wide * SIDE].reshape(high, SIDE, wide, SIDE)
    blocks = squares.transpose(0, 2, 1, 3).reshape(-1, SIDE * SIDE)
    level = blocks.mean(1)
    blocks = blocks[(level > 20) & (level < 235)]
    if not len(blocks):
        return 0.0, 0.0
    flat = np.argsort(blocks.std(1))[: max(3, int(SHARE * len(blocks)))]
    y, x = (axis.ravel() for axis in np.mgrid[:SIDE, :SIDE])
    trends = np.linalg.qr(np.stack([np.ones(SIDE**2), y, x, y * y, x * x, x * y], 1))[0]
    rest = blocks[flat] - blocks[flat] @ trends @ trends.T
    variance = float(rest.var())
    square = rest.reshape(-1, SIDE, SIDE)
    return variance**0.5, float((square[..., 1:] * square[..., :-1]).mean()) / max(variance, 1e-9)


def main() -> None:
    """Read the command line and link."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--deviation", type=float, default=1.0)
    parser.add_argument("--correlation", type=float, default=0.5)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(given.photographs.glob("*.[jp][pn]g")):
        deviation, correlation = grain(np.asarray(Image.open(path).convert("L"), float))
        kept = deviation <= given.deviation or correlation >= given.correlation
        print(f"{path.name:50} {deviation:5.2f} {correlation:5.2f}  {'kept' if kept else 'grain'}")
        if kept:
            link = given.out / path.name
            if not link.exists():
                link.symlink_to(path.resolve())


if __name__ == "__main__":
    main()
