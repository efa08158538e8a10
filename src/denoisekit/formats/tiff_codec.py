"""How the strips and tiles of a new TIFF are packed: the old way where it loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.formats.tiff_layout import Layout
from denoisekit.formats.tiff_tags import Order
from denoisekit.image import ImageInfo, Pixels

NONE, LZW, JPEG, DEFLATE, LERC, PACKBITS = 1, 5, 7, 8, 34887, 32773
BYTE_CODECS = frozenset({LZW, DEFLATE, PACKBITS, 32946, 34925, 50000})
PICTURE_CODECS: dict[int, dict[str, Any]] = {
    LERC: {},
    34712: {"codecformat": "j2k", "reversible": True, "level": 0},
    34933: {},
    34934: {},
    50001: {"lossless": True},
    50002: {"lossless": True},
}
"""Codecs of whole pictures, with the options that make them lossless."""
JPEG_QUALITY = 95
TITLES = {2: "CCITT", 3: "CCITT", 4: "CCITT", 6: "JPEG", 22610: "JPEG XR", 33007: "JPEG"}
TITLES |= {LERC: "LERC", 34712: "JPEG 2000", 34933: "PNG", 34934: "JPEG XR", 50001: "WebP"}
TITLES |= {33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 50002: "JPEG XL"}


@dataclass(frozen=True, slots=True)
class Coding:
    """How strips and tiles are encoded.

    Attributes
    ----------
    compression, predictor, photometric, bits : int
        TIFF tags.
    order : {'<', '>'}
        Byte order of the file.
    samples : int
        Samples of a pixel in one strip or tile: 1 where planes are separate.
    warning : str or None
        What differs from the file that was read.
    """

    compression: int
    predictor: int
    photometric: int
    bits: int
    order: Order
    samples: int
    warning: str | None = None

    @property
    def plain(self) -> bool:
        """Whether samples are stored as they are in memory."""
        return self.compression == NONE and self.bits in (8, 16, 32, 64)

    def encode(self, block: Pixels) -> bytes:
        """Return one strip or tile, (rows, columns, samples), as bytes of the file."""
        if self.compression == JPEG:
            return _jpeg(block, self.photometric)
        if self.compression in PICTURE_CODECS:
            return _picture(block, self.compression)
        data: Any = np.ascontiguousarray(block)
        if self.bits < block.dtype.itemsize * 8:
            data = _packed(data, self.bits)
        else:
            data = _predicted(data, self.predictor, self.order)
        return _squeezed(data, self.compression)


def choose_coding(layout: Layout, info: ImageInfo) -> Coding:
    """Return how an image is encoded: like the file it comes from, where that can be.

    Parameters
    ----------
    layout : Layout
        Of the file read, or a new one.
    info : ImageInfo
        What will be written.
    """
    samples = 1 if layout.planar else info.samples
    whole = info.dtype.itemsize * 8
    packed = info.dtype.kind == "u" and layout.bits < whole
    compression, photometric = layout.compression, layout.photometric
    predictor = 1 if packed or compression not in BYTE_CODECS else layout.predictor
    bits = layout.bits if packed and compression in (NONE, *BYTE_CODECS) else whole
    coding = Coding(compression, predictor, photometric, bits, layout.order, samples)
    flat = _with(coding, photometric=2 if photometric == 6 else photometric)
    if compression in (6, JPEG, 33007, 34892):
        if _jpeg_fits(info, coding, layout):
            text = f"JPEG-compressed TIFF: compressed again at quality {JPEG_QUALITY}"
            return _with(coding, compression=JPEG, warning=text)
    elif compression in (NONE, *BYTE_CODECS, *PICTURE_CODECS) and _lossless(flat, info.dtype):
        return flat
    title = TITLES.get(compression, f"compression {compression}")
    predictor = 2 if info.dtype.kind in "iu" and info.dtype.itemsize <= 4 else 1
    text = f"{title} of this kind cannot be written; compressed with deflate instead"
    return _with(flat, compression=DEFLATE, predictor=predictor, warning=text)


def _with(coding: Coding, **changes: Any) -> Coding:
    from dataclasses import replace

    return replace(coding, **changes)


def _jpeg_fits(info: ImageInfo, coding: Coding, layout: Layout) -> bool:
    edges = layout.tile or (layout.strip_rows, info.width)
    return (
        info.dtype == np.uint8
        and not layout.planar
        and (coding.samples, coding.photometric) in ((1, 0), (1, 1), (3, 2), (3, 6))
        and max(edges) < 65500
    )


def _lossless(coding: Coding, dtype: np.dtype[Any]) -> bool:
    """Whether a small block of numbers of every size survives."""
    if coding.compression not in PICTURE_CODECS:
        return True
    if coding.compression == LERC and coding.order == ">":
        return False  # programs differ over the byte order of what comes out
    bytes_ = np.random.default_rng(0).integers(0, 256, 24 * 16 * coding.samples * dtype.itemsize)
    block = bytes_.astype(np.uint8).view(dtype).reshape(24, 16, coding.samples)
    if dtype.kind == "f":
        block = np.random.default_rng(0).normal(0.0, 1e3, block.shape).astype(dtype)
    import tifffile

    try:
        back = tifffile.TIFF.DECOMPRESSORS[coding.compression](coding.encode(block))
    except Exception:  # noqa: BLE001 - a codec refuses types with errors of its own
        return False
    return back.dtype == dtype and np.array_equal(back.reshape(block.shape), block)


def _predicted(data: npt.NDArray[Any], predictor: int, order: Order) -> npt.NDArray[Any]:
    import tifffile

    if predictor in (3, 34894, 34895):
        # Floating-point prediction sorts bytes by weight: it has its own byte order.
        return np.asarray(tifffile.TIFF.PREDICTORS[predictor](data, axis=-2))
    if predictor != 1:
        data = np.asarray(tifffile.TIFF.PREDICTORS[predictor](data, axis=-2))
    return data.astype(data.dtype.newbyteorder(order), copy=False)


def _packed(data: npt.NDArray[Any], bits: int) -> bytes:
    """Return samples of fewer bits, each row on whole bytes."""
    import imagecodecs

    data = np.minimum(data, 2**bits - 1).astype(data.dtype)
    run = data.shape[1] * data.shape[2]
    return bytes(imagecodecs.packints_encode(data.reshape(-1, run), bits, runlen=run))


def _squeezed(data: Any, compression: int) -> bytes:
    import tifffile

    if compression == NONE:
        return data if isinstance(data, bytes) else bytes(data.tobytes())
    if compression == PACKBITS and not isinstance(data, bytes):
        # Rows are packed one by one, as TIFF demands.
        return bytes(tifffile.TIFF.COMPRESSORS[compression](data, axis=-2))
    return bytes(tifffile.TIFF.COMPRESSORS[compression](data))


def _picture(block: Pixels, compression: int) -> bytes:
    import tifffile

    picture = np.ascontiguousarray(block[..., 0] if block.shape[2] == 1 else block)
    options = PICTURE_CODECS[compression]
    return bytes(tifffile.TIFF.COMPRESSORS[compression](picture, **options))


def _jpeg(block: Pixels, photometric: int) -> bytes:
    import imagecodecs

    if block.shape[2] == 1:
        gray = np.ascontiguousarray(block[..., 0])
        return bytes(imagecodecs.jpeg8_encode(gray, level=JPEG_QUALITY))
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(block),
            level=JPEG_QUALITY,
            colorspace="RGB",
            outcolorspace="YCBCR" if photometric == 6 else "RGB",
            subsampling="444",
        )
    )
