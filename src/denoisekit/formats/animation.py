"""Animated PNG and WebP: a stack of frames, as they are shown, and the time of each.

Frames are composed by Pillow, decoded one at a time, and written whole. The rest of an
animation's metadata is its profile, EXIF and XMP.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from denoisekit.errors import InputError, UsageError
from denoisekit.formats import base
from denoisekit.image import ImageInfo, Metadata, Pixels

if TYPE_CHECKING:
    from PIL import ImageFile


def open_animation(
    source: base.Source,
    axes: str | None,
    plugin: Callable[[BinaryIO], ImageFile.ImageFile],
    format_id: str,
    size: tuple[int, int],
    milliseconds: Sequence[float],
    alpha: bool,
    metadata: Metadata,
    notes: Sequence[str],
) -> base.HeldReader:
    """Return a reader of the frames.

    Parameters
    ----------
    source, axes
        As `denoisekit.formats.base.Format.open` gets them.
    plugin : callable
        Pillow's class for the format.
    format_id : str
        The format.
    size : (int, int)
        Width and height.
    milliseconds : sequence of float
        How long each frame is shown.
    alpha : bool
        Whether frames have alpha.
    metadata : Metadata
        Of the file, with ``loop`` in the container.
    notes : sequence of str
        What to warn of.
    """
    if axes is not None and axes.upper() not in ("TYXS", "QYXS", "ZYXS"):
        raise UsageError(
            f"{source.path}: axes {axes!r} do not fit an animation, TYXS", "leave them out"
        )
    width, height = size
    samples, count = 3 + alpha, len(milliseconds)
    source.check_fits(height, width, 4 * samples)
    source.check_claim(
        f"{count} frames of {width} x {height} pixels", count * height * width * samples
    )
    info = ImageInfo(
        format_id,
        (count, height, width, samples),
        "TYXS",
        np.dtype(np.uint8),
        "rgb",
        alpha,
        metadata=Metadata(
            container={**metadata.container, "frames": tuple(milliseconds)},
            icc=metadata.icc,
            exif=metadata.exif,
            xmp=metadata.xmp,
        ),
        warnings=tuple(notes),
    )
    source.file.seek(0)
    image = plugin(source.file)
    if getattr(image, "n_frames", 1) != count:
        raise InputError(f"{source.path}: damaged: the animation lacks frames")

    def frame(number: int) -> Pixels:
        image.seek(number)
        pixels = np.array(image.convert("RGBA" if alpha else "RGB"))
        if pixels.shape != info.shape[1:]:
            raise ValueError("a frame does not match the header")
        return pixels

    return base.HeldReader(source, info, frame)


def encode_animation(frames: Pixels, info: ImageInfo, kind: str, **options: Any) -> bytes:
    """Return the file of all frames, (frames, H, W, S), with their times."""
    from PIL import Image

    first, *others = (Image.fromarray(frame) for frame in frames)
    meta, out = info.metadata, io.BytesIO()
    extra = {"icc_profile": meta.icc, "exif": meta.exif, "xmp": meta.xmp}
    first.save(
        out,
        kind,
        save_all=True,
        append_images=others,
        duration=list(meta.container["frames"]),
        loop=meta.container["loop"],
        **options,
        **{name: value for name, value in extra.items() if value},
    )
    return out.getvalue()
