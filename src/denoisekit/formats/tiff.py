"""TIFF in all its dress: plain, BigTIFF, ImageJ, OME."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from denoisekit.errors import OutputError
from denoisekit.formats.base import Format, Source, untied
from denoisekit.formats.tiff_layout import Layout, new_layout, reshaped
from denoisekit.image import ImageInfo, Reader, Writer


def _open(source: Source, axes: str | None) -> Reader:
    from denoisekit.formats.tiff_open import open_tiff

    return open_tiff(source, axes)


def _create(path: Path, info: ImageInfo) -> Writer:
    from denoisekit.formats.tiff_write import TiffWriter

    info = _check(info)
    parts = info.metadata.container.get("parts", (info,))
    layouts = [_layout_for(part) for part in parts]
    # Pages of different sizes follow the first one in what holds for a whole file.
    order, big = layouts[0].order, layouts[0].big
    layouts = [replace(layout, order=order, big=big) for layout in layouts]
    return TiffWriter(path, list(zip(parts, layouts, strict=True)))


def _check(info: ImageInfo) -> ImageInfo:
    from denoisekit.formats.tiff_write import choose_coding

    container = info.metadata.container
    if "parts" in container:  # a stack of pages of different sizes
        parts = tuple(_check(part) for part in container["parts"])
        notes = dict.fromkeys((*info.warnings, *(w for part in parts for w in part.warnings)))
        metadata = replace(info.metadata, container={**container, "parts": parts})
        return replace(info, metadata=metadata, warnings=tuple(notes))
    if info.dtype.kind not in "iuf" or info.dtype.itemsize > 8:
        raise OutputError(
            f"TIFF cannot store {info.dtype.name} samples", "convert the values to float32 first"
        )
    if info.samples > 65535 or max(info.height, info.width) >= 2**32:
        raise OutputError(f"TIFF cannot store planes of {info.shape}", "split the image")
    layout, warnings = container.get("tiff"), list(info.warnings)
    if layout is not None and not layout.fits(info) and layout.kind != "plain":
        warnings.append(f"{layout.kind} metadata do not fit the new planes and are left out")
    fitting = _layout_for(info)
    coding = choose_coding(fitting, info)
    if coding.warning is not None and coding.warning not in warnings:
        warnings.append(coding.warning)
    meta, tied = untied(info.metadata)
    warnings += [f"TIFF has no place for {name}" for name in tied]
    metadata = replace(meta, container={"tiff": fitting})
    return replace(info, format="tiff", metadata=metadata, warnings=tuple(warnings))


def _layout_for(info: ImageInfo) -> Layout:
    layout: Layout | None = info.metadata.container.get("tiff")
    if layout is None:
        return new_layout(info)
    return layout if layout.fits(info) else reshaped(layout, info)


_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
TIFF = Format(
    "tiff", "TIFF", _SUFFIXES, (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _open, _create, _check
)
