"""Pictures as text within a page: small enough, and all versions of one picture alike."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

QUALITIES = (90, 80, 70, 60, 50, 40, 30, 20)
"""What is tried, from the best."""

PROBE = 256
"""Side of the middle part that tells about how large a whole picture becomes."""


def eight_bits(picture: npt.NDArray[Any], scale: tuple[float, float] = (0.0, 1.0)) -> Bytes:
    """Return a picture as screens show it.

    Parameters
    ----------
    picture : numpy.ndarray
        (H, W, C), floats. Other than three channels are shown as their mean.
    scale : (float, float)
        Values of black and white.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) or (H, W), uint8.
    """
    values = np.asarray(picture, np.float32)
    if values.shape[2] != 3:
        values = values.mean(2)
    low, high = scale
    values = (values - low) * np.float32(255 / (high - low))
    shown: Bytes = np.rint(values.clip(0, 255)).astype(np.uint8)
    return shown


def scale_of(reference: npt.NDArray[Any]) -> tuple[float, float]:
    """Return which values to show as black and white: 0 and 1, unless all would be dark.

    Parameters
    ----------
    reference : numpy.ndarray
        (H, W, C) on 0..1: the clean picture, or the noisy one.
    """
    low, high = (float(value) for value in np.quantile(reference, (0.001, 0.999)))
    if high > 0.25 and low > -0.25 and high < 1.25:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1)


def encode_alike(
    pictures: Sequence[Bytes], most: float, *, lossless: bool = False
) -> tuple[list[str], str]:
    """Encode versions of one picture in one way, so that coding favours none.

    Parameters
    ----------
    pictures : sequence of numpy.ndarray
        (H, W, 3) or (H, W), uint8, of one size.
    most : float
        Letters that all together may take; kept to, unless the lowest quality is too large.
    lossless : bool
        Keep every value, whatever that takes.

    Returns
    -------
    addresses : list of str
        ``data:`` addresses.
    how : str
        What was done, in words.
    """
    if lossless:
        return [_address(_webp(picture, None), "webp") for picture in pictures], "without loss"
    kind, encode, name = _coder()
    steps = list(QUALITIES)
    while len(steps) > 1 and _probe(pictures, encode, steps[0]) > most:
        del steps[0]
    for quality in steps:
        coded = [_address(encode(picture, quality), kind) for picture in pictures]
        if sum(map(len, coded)) <= most:
            break
    return coded, f"as {name}, quality {quality}"


def _probe(pictures: Sequence[Bytes], encode: Any, quality: int) -> float:
    """Return about how many letters the pictures take, from their middles."""
    total = 0.0
    for picture in pictures:
        top, left = (max(0, (side - PROBE) // 2) for side in picture.shape[:2])
        middle = picture[top : top + PROBE, left : left + PROBE]
        total += len(encode(middle, quality)) * picture.size / middle.size
    return total * 4 / 3 * 0.9  # a whole picture takes less: a guess too high would cost quality


def _address(coded: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(coded).decode()}"


def _coder() -> tuple[str, Any, str]:
    from PIL import features

    # AVIF keeps the colours of noise; lossy WebP has half of their resolution only.
    return ("avif", _avif, "AVIF 4:4:4") if features.check("avif") else ("webp", _webp, "WebP")


def _avif(picture: Bytes, quality: int) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    colours = "4:0:0" if picture.ndim == 2 else "4:4:4"
    Image.fromarray(picture).save(target, "AVIF", quality=quality, subsampling=colours, speed=8)
    return target.getvalue()


def _webp(picture: Bytes, quality: int | None) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    image = Image.fromarray(picture)
    if quality is None:
        image.save(target, "WEBP", lossless=True, exact=True, method=1, quality=30)
    else:
        image.save(target, "WEBP", quality=quality, method=4)
    return target.getvalue()
