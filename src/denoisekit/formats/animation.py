"""Animated PNG and WebP: a stack of frames, as they are shown, and the time of each.

Frames are composed by Pillow, decoded one at a time, and written whole. The rest of an
animation's metadata is its profile, EXIF and XMP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from denoisekit.errors import InputError, UsageError
from denoisekit.formats.photo import RowOrder, check_claim, check_fits
from denoisekit.image import ImageInfo, Metadata, Pixels

if TYPE_CHECKING:
    from PIL import ImageFile


class AnimationReader:
    """Frames of an animation (see `denoisekit.image.Reader`).

    Parameters
    ----------
    path : pathlib.Path
        The file.
    plugin : callable
        Pillow's class for the format.
    info : ImageInfo
        What `animation_info` made.
    """

    def __init__(
        self, path: Path, plugin: Callable[[Path], ImageFile.ImageFile], info: ImageInfo
    ) -> None:
        self.info = info
        self._image = plugin(path)
        self._mode = "RGBA" if info.alpha else "RGB"
        self._frame: tuple[int, Pixels] | None = None
        if getattr(self._image, "n_frames", 1) != info.planes:
            self._image.close()
            raise InputError(f"{path}: damaged: the animation lacks frames")

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a frame (see `denoisekit.image.Reader`)."""
        if self._frame is None or self._frame[0] != plane:
            self._image.seek(plane)
            frame = np.array(self._image.convert(self._mode))
            if frame.shape != self.info.shape[1:]:
                raise ValueError("a frame does not match the header")
            self._frame = plane, frame
        return self._frame[1][top:bottom]

    def close(self) -> None:
        """Let go of the file."""
        self._frame = None
        self._image.close()


def animation_info(
    path: Path,
    axes: str | None,
    format_id: str,
    size: tuple[int, int],
    milliseconds: Sequence[float],
    alpha: bool,
    metadata: Metadata,
    **container: Any,
) -> ImageInfo:
    """Describe an animation of frames of ``size``, width and height."""
    if axes is not None and axes.upper() not in ("TYXS", "QYXS", "ZYXS"):
        raise UsageError(f"{path}: axes {axes!r} do not fit an animation, TYXS", "leave them out")
    width, height = size
    samples = 3 + alpha
    check_fits(path, height, width, 4 * samples)
    shape = (len(milliseconds), height, width, samples)
    check_claim(path, f"{shape[0]} frames of {width} x {height} pixels", int(np.prod(shape)))
    container["frames"] = tuple(milliseconds)
    return ImageInfo(
        format_id,
        shape,
        "TYXS",
        np.dtype(np.uint8),
        "rgb",
        alpha,
        metadata=Metadata(
            metadata.icc, metadata.exif, metadata.xmp, None, MappingProxyType(container)
        ),
    )


class AnimationWriter:
    """Collects frames, then encodes them together."""

    def __init__(self, path: Path, info: ImageInfo, kind: str, options: dict[str, Any]) -> None:
        self._path, self._info, self._kind, self._options = path, info, kind, options
        self._order = RowOrder(info)
        self._frames = np.empty(info.shape, np.uint8)

    def write_rows(self, plane: int, top: int, rows: Pixels) -> None:
        """Keep the next rows (see `denoisekit.image.Writer`)."""
        self._order.take(plane, top, rows)
        self._frames[plane, top : top + len(rows)] = rows

    def finish(self) -> None:
        """Encode and write the file."""
        from PIL import Image

        self._order.complete()
        first, *others = (Image.fromarray(frame) for frame in self._frames)
        meta, container = self._info.metadata, self._info.metadata.container
        extra = {"icc_profile": meta.icc, "exif": meta.exif, "xmp": meta.xmp}
        first.save(
            self._path,
            self._kind,
            save_all=True,
            append_images=others,
            duration=list(container["frames"]),
            loop=container["loop"],
            **self._options,
            **{name: value for name, value in extra.items() if value},
        )

    def close(self) -> None:
        """Let go of the frames."""
        self._frames = np.empty(0, np.uint8)
