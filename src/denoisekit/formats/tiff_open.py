"""Open a TIFF: find its planes, its axes, and what must be carried to the result."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError
from denoisekit.formats.foreign import RAW, refusal
from denoisekit.formats.photo import BILEVEL, check_claim
from denoisekit.formats.tiff_axes import Geometry, aligned, renamed
from denoisekit.formats.tiff_layout import (
    COLORMAP,
    DESCRIPTION,
    GDAL_NODATA,
    PHOTOSHOP_LAYERS,
    PIXEL_LAYOUT,
    POSITIONS,
    WRITTEN_ANEW,
    Kind,
    Layout,
    kept,
    metadata_of,
    reshaped,
)
from denoisekit.formats.tiff_ome import OmeFacts, is_ome, ome_alone, ome_facts
from denoisekit.formats.tiff_pages import (
    YCBCR,
    Several,
    check_block,
    check_numbers,
    choose,
    page_data,
    told_of_holes,
)
from denoisekit.formats.tiff_ragged import MOST_PAGES, RaggedReader
from denoisekit.formats.tiff_read import (
    Source,
    TiffReader,
    quiet,
)
from denoisekit.formats.tiff_tags import (
    CHILDREN,
    Directory,
    Header,
    directory_offsets,
    read_directory,
    read_header,
)
from denoisekit.image import Colour, ImageInfo, Reader

OWN_KINDS: dict[str, Kind] = {"shaped": "shaped", "ome": "ome", "imagej": "imagej"}
OWN_KINDS |= {"uniform": "plain", "generic": "plain", "nih": "plain"}
RAW_TAGS = frozenset({33421, 33422, 50706})
"""Pattern of a colour filter, and the version of DNG."""
RAW_COLOURS = (32803, 34892)
"""Photometric interpretations: under a colour filter, linear raw."""
OF_SET = (
    "one file of an OME-TIFF set: its own planes are denoised; with all files of the set in one "
    "output folder, under their names, the set opens as before"
)
DAMAGED = "open it in an image viewer to see whether it is damaged, or export it again"


def open_tiff(path: Path, axes: str | None) -> Reader:
    """Open a TIFF (see `denoisekit.formats.base.Format`)."""
    try:
        return _open_pages(path, axes, None)
    except Several as several:
        if axes is not None or not 1 < len(several.pages) <= MOST_PAGES:
            raise
        pages = several.pages
        reader = RaggedReader(len(pages), lambda n: _open_pages(path, None, pages[n]))
        if not reader.alike:
            reader.close()
            raise
        info = reader.info
        check_claim(path, f"an image of {info.shape}", info.planes * info.plane_bytes)
        return reader


def _open_pages(path: Path, axes: str | None, page: int | None) -> TiffReader:
    """Open the image that all pages are, or one page."""
    file = path.open("rb")
    try:
        with quiet():
            return _open(path, file, axes, page)
    except (ArithmeticError, AttributeError, LookupError, TypeError, struct.error) as error:
        file.close()
        raise InputError(f"{path}: damaged: the directory makes no sense", DAMAGED) from error
    except BaseException:
        file.close()
        raise


@dataclass(frozen=True, slots=True)
class _Chain:
    """The directories of the main chain, read as bytes."""

    header: Header
    size: int
    offsets: list[int]
    first: Directory
    codes: frozenset[int]


def _open(path: Path, file: IO[bytes], axes: str | None, page: int | None) -> TiffReader:
    import tifffile

    chain = _read_chain(path, file)
    ome = _ome_of(path, chain)
    text = ome_alone(chain.first.text(DESCRIPTION)).decode("utf-8") if ome else None
    # OME-XML that describes no image makes an ordinary TIFF.
    flags = {} if ome else {"is_ome": False}
    with tifffile.TiffFile(path, omexml=text, _multifile=False, **flags) as tif:
        if tif.is_ndpi:
            raise InputError(
                f"{path}: NDPI slides cannot be read", "export the slide as OME-TIFF first"
            )
        if any(int(page.photometric) in RAW_COLOURS for page in _first_pages(tif)):
            raise _is_raw(path)
        series, notes = choose(path, tif, page)
        key = series.keyframe
        check_numbers(path, key, series)
        geometry = aligned(series.axes, series.shape, key.shaped)
        if axes is not None:
            geometry = renamed(geometry, axes, str(path))
        pages, raw = page_data(tif, series, geometry.pages, chain.size)
        if not raw:
            check_block(path, key)
        directories = _directories(file, chain, series, geometry.pages)
        # The decoder is made while the file is open; it needs the file no more.
        key.init_decode()
        unused = len(chain.offsets) - len(directories)
        vendor = series.kind not in OWN_KINDS
        if page is None and unused > 0 and len(tif.series) == 1 and len(directories) > 1:
            notes.append(f"{unused} pages that are not part of the image will not be written")
    kind = OWN_KINDS.get(series.kind, "plain")
    if series.kind == "mmstack" and ome is not None:
        kind = "ome"
    if vendor:
        name = series.kind.upper()
        notes.append(f"the instrument's own metadata ({name}) will not be written")
    if PHOTOSHOP_LAYERS in chain.codes:
        notes.append("Photoshop layers hold the noisy picture and will not be written")
    notes += _lost_children(chain)
    described = chain.first.text(DESCRIPTION)
    if is_ome(described) and ome_facts(described).in_set:
        notes.append(OF_SET)
    if not vendor:
        notes += _lost_tags(directories, chain.size)
    colours = None
    if key.photometric == 3 and kind in ("plain", "shaped"):
        colours = tuple(_colour_table(path, key, d) for d in directories)
        notes.append("the palette's colours will be written as RGB")
    elif np.dtype(key.dtype).kind == "b":
        notes.append(BILEVEL)
    info = _describe(path, series, geometry, colours, ome)
    check_claim(path, f"an image of {info.shape}", info.planes * info.plane_bytes)
    notes += told_of_holes(pages)
    layout = _layout(chain, series, kind, info, directories, vendor, colours is not None)
    single = len(getattr(series, "_pages", ())) == 1 and geometry.pages > 1
    layout = replace(layout, single=single and len(chain.offsets) == 1)
    if not geometry.page_is_plane or (vendor and kind == "plain" and info.planes > 1):
        layout = reshaped(layout, info)
        notes.append(f"will be written as pages of axes {info.axes}")
    plain = kind == "plain" and not vendor
    metadata = metadata_of(layout.pages[0], MappingProxyType({"tiff": layout}), plain)
    info = replace(info, metadata=metadata, warnings=tuple(notes))
    stored = np.dtype(key.dtype).newbyteorder(chain.header.order)
    return TiffReader(info, Source(geometry, key, pages, raw, stored, colours), file)


def _read_chain(path: Path, file: IO[bytes]) -> _Chain:
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(10)[8:] == b"CR":
        raise _is_raw(path)
    header = read_header(file)
    offsets = directory_offsets(file, header, size)
    first, codes = read_directory(file, header, offsets[0], size, PIXEL_LAYOUT | POSITIONS)
    if codes & RAW_TAGS:
        raise _is_raw(path)
    return _Chain(header, size, offsets, first, codes)


def _is_raw(path: Path) -> InputError:
    return refusal(path, RAW)


def _first_pages(tif: Any) -> Iterator[Any]:
    """Yield the first page and those below it, where raw photos keep the sensor's values."""
    for page in tif.pages[:1]:
        yield page
        yield from page.pages or ()


def _ome_of(path: Path, chain: _Chain) -> OmeFacts | None:
    """Return what the file's OME-XML says; None where there is none that can be used.

    What a file of a set says is about the set: it is carried as it is, and the file's
    own planes are an ordinary stack.
    """
    description = chain.first.text(DESCRIPTION)
    if not is_ome(description):
        return None
    facts = ome_facts(description)
    if facts.in_set:
        return None
    if facts.images > 1:
        raise InputError(
            f"{path}: holds {facts.images} images",
            "split it first, for example with bfconvert -series 0",
        )
    if facts.planes > len(chain.offsets):
        raise InputError(
            f"{path}: OME-XML names {facts.planes} planes, the file has {len(chain.offsets)}",
            "the file is cut off, or part of a set",
        )
    return facts if facts.images else None


def _directories(file: IO[bytes], chain: _Chain, series: Any, number: int) -> list[Directory]:
    """Return the tags of every page, or of the first alone where pages share a directory."""
    found = list(getattr(series, "_pages", None) or series)[:number]
    offsets = [page.offset for page in found]
    if len(found) < number:
        # Planes that follow each other: their directories are there unless only one is.
        start = series.keyframe.index
        each = chain.offsets[start : start + number]
        offsets = each if len(each) == number else each[:1]
    if not all(offsets):
        offsets = offsets[:1]
    skip = PIXEL_LAYOUT | POSITIONS
    return [read_directory(file, chain.header, at, chain.size, skip)[0] for at in offsets]


def _lost_children(chain: _Chain) -> list[str]:
    lost = (chain.codes & CHILDREN) - chain.first.children.keys() - {40965}
    return ["damaged EXIF or GPS data will not be written"] if lost else []


def _lost_tags(directories: list[Directory], size: int) -> list[str]:
    """Name the private tags that are left behind because they may be positions."""
    lost = set()
    for page in directories:
        stay = {tag.code for tag in kept(page, vendor=False, size=size).tags}
        lost |= {tag.code for tag in page.tags} - stay - WRITTEN_ANEW - {PHOTOSHOP_LAYERS}
    names = ", ".join(map(str, sorted(lost)[:8]))
    return [f"TIFF tags that may be positions in the old file are not kept: {names}"] * bool(lost)


def _colour_table(path: Path, key: Any, page: Directory) -> npt.NDArray[Any]:
    values = page.numbers(COLORMAP)
    if len(values) != 3 * 2**key.bitspersample or math.prod(key.shaped[:2]) != 1:
        raise InputError(f"{path}: the palette is damaged", "save it as RGB first")
    table = np.array(values, np.uint16).reshape(3, -1).T
    return (table if key.dtype.itemsize == 2 else table >> 8).astype(_sample_type(key))


def _sample_type(key: Any) -> np.dtype[Any]:
    """Return the type that samples are read as: one bit as 0 and 255."""
    dtype = np.dtype(key.dtype).newbyteorder("=")
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _describe(
    path: Path,
    series: Any,
    geometry: Geometry,
    colours: tuple[npt.NDArray[Any], ...] | None,
    ome: OmeFacts | None,
) -> ImageInfo:
    key = series.keyframe
    axes, shape, dtype = geometry.axes, geometry.shape, _sample_type(key)
    bits = key.bitspersample if np.dtype(key.dtype).kind == "u" else None
    if ome is not None and ome.bits is not None and dtype.kind in "iu":
        bits = ome.bits
    bits = bits if bits and 0 < bits < dtype.itemsize * 8 else None
    if colours is not None:
        if axes.endswith("S"):
            raise InputError(f"{path}: a palette with extra samples", "save it as RGB first")
        return ImageInfo("tiff", (*shape, 3), axes + "S", dtype, "rgb")
    if geometry.sample_role in ("separate", "sample"):
        colour, alpha = _colour(int(key.photometric), shape[-1], key.extrasamples)
    else:
        samples = shape[-1] if axes.endswith("S") else 1
        colour, alpha = {1: "gray", 3: "rgb"}.get(samples, "channels"), False  # type: ignore[assignment]
    return ImageInfo("tiff", shape, axes, dtype, colour, alpha, bits, _nodata(key))


def _nodata(page: Any) -> float | None:
    """Return the value that means "not measured" (GDAL's tag), where the page names one."""
    tag = page.keyframe.tags.get(GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None


def _colour(photometric: int, samples: int, extra: Sequence[int]) -> tuple[Colour, bool]:
    """Return what samples mean, and whether the last is opacity."""
    opacity = bool(extra) and extra[-1] in (1, 2)
    if photometric in (2, YCBCR):
        # A fourth sample without a meaning is a mask more often than a colour.
        if samples in (3, 4):
            return "rgb", samples == 4
        return ("gray" if samples == 1 else "channels"), opacity and samples > 4
    if photometric in (0, 1, 3):
        if samples == 1 or (samples == 2 and opacity):
            return "gray", samples == 2
        return "channels", opacity
    colours = 4 if photometric == 5 else 3
    return "channels", opacity and samples > colours


def _layout(
    chain: _Chain,
    series: Any,
    kind: Kind,
    info: ImageInfo,
    directories: list[Directory],
    vendor: bool,
    palette: bool,
) -> Layout:
    key = series.keyframe
    drop = {COLORMAP} if palette else set()
    if vendor and series.kind not in ("svs", "qpi", "scanimage"):
        drop.add(DESCRIPTION)
    pages = [kept(d, vendor=vendor, size=chain.size).without(drop) for d in directories]
    described = chain.first.get(DESCRIPTION)
    if kind == "ome" and described is not None:
        # OME-XML stands in the file's first page, which may be any plane.
        first = pages[0].without({DESCRIPTION}).plus(described)
        pages = [first, *(page.without({DESCRIPTION}) for page in pages[1:])]
    photometric = 2 if palette else int(key.photometric)
    if photometric in (2, YCBCR) and info.samples < 3:
        photometric = 1
    tile = (key.tilelength, key.tilewidth) if key.is_tiled else None
    bits = key.bitspersample if np.dtype(key.dtype).kind in "iu" else info.dtype.itemsize * 8
    return Layout(
        kind=kind,
        order=chain.header.order,
        big=chain.header.big,
        photometric=photometric,
        compression=int(key.compression),
        predictor=int(key.predictor),
        planar=info.samples > 1 and int(key.planarconfig) == 2,
        tile=tile,
        strip_rows=max(1, int(key.rowsperstrip)),
        bits=int(bits),
        extra=tuple(int(e) for e in key.extrasamples),
        single=False,
        shape=info.shape,
        axes=info.axes,
        dtype=info.dtype,
        pages=tuple(pages),
    )
