"""TIFF in all its dress: plain, BigTIFF, ImageJ, OME."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from denoisekit.errors import OutputError
from denoisekit.formats.base import Format
from denoisekit.formats.photo import untied
from denoisekit.formats.tiff_codec import choose_coding
from denoisekit.formats.tiff_layout import Layout, new_layout, reshaped
from denoisekit.image import ImageInfo, Reader, Writer


def _sniff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _open(path: Path, axes: str | None) -> Reader:
    from denoisekit.formats.tiff_open import open_tiff

    return open_tiff(path, axes)


def _create(path: Path, info: ImageInfo) -> Writer:
    from denoisekit.formats.tiff_write import TiffWriter

    info = _check(info)
    if parts := info.metadata.container.get("parts"):
        from denoisekit.formats.tiff_ragged import RaggedWriter

        return RaggedWriter(path, [(part, _layout_for(part)) for part in parts])
    return TiffWriter(path, info, _layout_for(info))


def _check(info: ImageInfo) -> ImageInfo:
    if parts := info.metadata.container.get("parts"):
        return _check_parts(info, [_check(part) for part in parts])
    if info.dtype.kind not in "iuf" or info.dtype.itemsize > 8:
        raise OutputError(
            f"TIFF cannot store {info.dtype.name} samples", "convert the values to float32 first"
        )
    if info.samples > 65535 or max(info.height, info.width) >= 2**32:
        raise OutputError(f"TIFF cannot store planes of {info.shape}", "split the image")
    layout = info.metadata.container.get("tiff")
    warnings = list(info.warnings)
    if layout is not None and not layout.fits(info) and layout.kind != "plain":
        warnings.append(f"{layout.kind} metadata do not fit the new planes and are left out")
    fitting = _layout_for(info)
    coding = choose_coding(fitting, info)
    if coding.warning is not None and coding.warning not in warnings:
        warnings.append(coding.warning)
    metadata, tied = untied(info.metadata)
    warnings += [f"TIFF has no place for {name}" for name in tied]
    metadata = replace(metadata, container=MappingProxyType({"tiff": fitting}))
    return replace(info, format="tiff", metadata=metadata, warnings=tuple(warnings))


def _check_parts(info: ImageInfo, parts: list[ImageInfo]) -> ImageInfo:
    """Return ``info``, a stack of pages of different sizes, with each page checked."""
    container = MappingProxyType({**info.metadata.container, "parts": tuple(parts)})
    warnings = dict.fromkeys((*info.warnings, *(w for part in parts for w in part.warnings)))
    metadata = replace(info.metadata, container=container)
    return replace(info, metadata=metadata, warnings=tuple(warnings))


def _layout_for(info: ImageInfo) -> Layout:
    layout: Layout | None = info.metadata.container.get("tiff")
    if layout is None:
        return new_layout(info)
    return layout if layout.fits(info) else reshaped(layout, info)


TIFF = Format(
    id="tiff",
    title="TIFF",
    suffixes=(".tif", ".tiff", ".btf", ".tf8"),
    sniff=_sniff,
    open=_open,
    create=_create,
    check=_check,
)
