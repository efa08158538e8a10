"""Open a TIFF: find its planes, its axes, and what must be carried to the result."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import InputError
from denoisekit.formats.base import BILEVEL, Source
from denoisekit.formats.foreign import RAW, refusal
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
    OmeFacts,
    is_ome,
    kept,
    metadata_of,
    ome_alone,
    ome_facts,
    reshaped,
)
from denoisekit.formats.tiff_read import (
    Geometry,
    RaggedReader,
    TiffReader,
    aligned,
    page_data,
    quiet,
    renamed,
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
YCBCR = 6
JPEG = frozenset({6, 7, 33007, 34892})
ASIDE = {"thumbnail", "label", "macro", "overview", "map", "preview"}
"""Names of the small images that slide scanners put beside the image."""
MOST_PAGES = 200
"""Every page of different sizes is opened by itself; a file of more is refused."""
OF_SET = (
    "one file of an OME-TIFF set: its own planes are denoised; with all files of the set in one "
    "output folder, under their names, the set opens as before"
)


class Several(InputError):
    """Pages that are not one stack; ``pages`` are those that are not small copies."""

    def __init__(self, message: str, hint: str, pages: list[int]) -> None:
        super().__init__(message, hint)
        self.pages = pages


def open_tiff(source: Source, axes: str | None) -> Reader:
    """Open a TIFF (see `denoisekit.formats.base.Format`)."""
    try:
        return _open_pages(source, axes, None)
    except Several as several:
        if axes is not None or not 1 < len(several.pages) <= MOST_PAGES:
            raise
        pages = [_open_pages(source, None, page) for page in several.pages]
        infos = [page.info for page in pages]
        if len({(i.dtype, i.axes, i.samples, i.colour, i.alpha) for i in infos}) > 1:
            raise
        reader = RaggedReader(pages)
        info = reader.info
        source.check_claim(f"an image of {info.shape}", info.planes * info.plane_bytes)
        return reader


def _open_pages(source: Source, axes: str | None, page: int | None) -> TiffReader:
    """Open the image that all pages are, or one page."""
    try:
        with quiet():
            return _open(source, axes, page)
    except (ArithmeticError, AttributeError, LookupError, TypeError, struct.error) as error:
        raise InputError(f"{source.path}: damaged: the directory makes no sense") from error


@dataclass(frozen=True, slots=True)
class _Chain:
    """The directories of the main chain, read as bytes."""

    header: Header
    size: int
    offsets: list[int]
    first: Directory
    codes: frozenset[int]


def _open(source: Source, axes: str | None, page: int | None) -> TiffReader:
    import tifffile

    chain = _read_chain(source)
    ome = _ome_of(source, chain)
    text = ome_alone(chain.first.text(DESCRIPTION)).decode("utf-8") if ome else None
    # OME-XML that describes no image makes an ordinary TIFF.
    flags = {} if ome else {"is_ome": False}
    source.file.seek(0)
    with tifffile.TiffFile(source.file, omexml=text, _multifile=False, **flags) as tif:
        series, notes = _choose(source, tif, page)
        key = series.keyframe
        _check_numbers(source, key, series)
        geometry = aligned(series.axes, series.shape, key.shaped)
        if axes is not None:
            geometry = renamed(geometry, axes, str(source.path))
        pages, raw = page_data(tif, series, geometry.pages, chain.size)
        if not raw:
            _check_block(source, key)
        directories = _directories(source, chain, series, geometry.pages)
        # The decoder is made while the file is open; it needs the file no more.
        key.init_decode()
        unused = len(chain.offsets) - len(directories)
        if page is None and unused > 0 and len(tif.series) == 1 and len(directories) > 1:
            notes.append(f"{unused} pages that are not part of the image will not be written")
    vendor = series.kind not in OWN_KINDS
    kind = OWN_KINDS.get(series.kind, "plain")
    if series.kind == "mmstack" and ome is not None:
        kind = "ome"
    notes += _lost(chain, directories, series.kind.upper() if vendor else None)
    colours = None
    if key.photometric == 3 and kind in ("plain", "shaped"):
        colours = tuple(_colour_table(source, key, d) for d in directories)
        notes.append("the palette's colours will be written as RGB")
    elif np.dtype(key.dtype).kind == "b":
        notes.append(BILEVEL)
    info = _describe(source, series, geometry, colours is not None, ome)
    source.check_claim(f"an image of {info.shape}", info.planes * info.plane_bytes)
    holes = sum(not count for data in pages for count in data.counts)
    if holes:  # sparse files leave out what was never written
        whole = sum(len(data.counts) for data in pages)
        notes.append(f"{holes} of {whole} strips or tiles are not in the file: taken as empty")
    layout = _layout(chain, series, kind, info, directories, vendor, colours is not None)
    single = len(getattr(series, "_pages", ())) == 1 and geometry.pages > 1
    layout = replace(layout, single=single and len(chain.offsets) == 1)
    if not geometry.page_is_plane or (vendor and kind == "plain" and info.planes > 1):
        layout = reshaped(layout, info)
        notes.append(f"will be written as pages of axes {info.axes}")
    metadata = metadata_of(layout.pages[0], {"tiff": layout}, kind == "plain" and not vendor)
    info = replace(info, metadata=metadata, warnings=tuple(notes))
    stored = np.dtype(key.dtype).newbyteorder(chain.header.order)
    return TiffReader(source, info, geometry, key, pages, raw, stored, colours)


def _read_chain(source: Source) -> _Chain:
    header = read_header(source.file)
    offsets = directory_offsets(source.file, header, source.size)
    first, codes = read_directory(
        source.file, header, offsets[0], source.size, PIXEL_LAYOUT | POSITIONS
    )
    if codes & RAW_TAGS:
        raise refusal(source.path, RAW)
    return _Chain(header, source.size, offsets, first, codes)


def _ome_of(source: Source, chain: _Chain) -> OmeFacts | None:
    """Return what the file's OME-XML says; None where there is none that can be used.

    What a file of a set says is about the set: it is carried as it is, and the file's
    own planes are an ordinary stack.
    """
    description = chain.first.text(DESCRIPTION)
    if not is_ome(description):
        return None
    facts = ome_facts(description)
    if facts.in_set or not facts.images:
        return None
    if facts.images > 1:
        raise InputError(
            f"{source.path}: holds {facts.images} images",
            "split it first, for example with bfconvert -series 0",
        )
    if facts.planes > len(chain.offsets):
        raise InputError(
            f"{source.path}: OME-XML names {facts.planes} planes, "
            f"the file has {len(chain.offsets)}",
            "the file is cut off, or part of a set",
        )
    return facts


def _choose(source: Source, tif: Any, page: int | None) -> tuple[Any, list[str]]:
    """Return the one series of pages that is the image, and what is said of the others.

    With ``page``, that page alone.
    """
    import tifffile

    path = source.path
    if tif.is_ndpi:
        raise InputError(f"{path}: NDPI slides cannot be read", "export the slide as OME-TIFF")
    for first in tif.pages[:1]:  # raw photos keep the sensor's values there, or below
        if any(int(p.photometric) in RAW_COLOURS for p in (first, *(first.pages or ()))):
            raise refusal(path, RAW)
    if page is not None:
        one = tif.pages[page].aspage()
        return tifffile.TiffPageSeries([one], one.shape, one.dtype, one.axes, kind="generic"), []
    if not tif.series:
        raise InputError(f"{path}: holds no image", "the file is damaged or empty")
    series, notes = tif.series[0], []
    others = [
        other
        for other in tif.series[1:]
        if not other.keyframe.subfiletype & 0b101
        and not (other.name.lower() in ASIDE and other.size < series.size)
    ]
    if others:
        shapes = ", ".join("×".join(map(str, s.shape)) for s in [series, *others][:4])
        raise Several(
            f"{path}: holds {len(others) + 1} images of different kinds ({shapes})",
            "split it into one file an image first, for example with tiffsplit, and join the "
            "results with tiffcp",
            [p.index for p in tif.pages if not p.aspage().subfiletype & 0b101],
        )
    if len(series.levels) > 1:
        notes.append("the smaller copies of the image (pyramid) will not be written")
    elif len(tif.series) > 1:
        notes.append("thumbnails, labels or masks beside the image will not be written")
    if series.is_multifile or series.transform is not None:
        raise InputError(
            f"{path}: needs other files or a conversion of its values",
            "export it as plain TIFF first",
        )
    return series, notes


def _check_numbers(source: Source, key: Any, series: Any) -> None:
    """Raise where the numbers of a page cannot be denoised or decoded."""
    what = ""
    if key.dtype is None:
        what = f"samples of {key.bitspersample} bits cannot be read"
    elif key.dtype.kind == "b" and key.shaped[0] * key.shaped[4] > 1:
        what = "several samples of one bit cannot be denoised"
    elif key.dtype.kind not in "iufb" or not isinstance(key.bitspersample, int):
        what = f"{key.dtype.name} samples cannot be denoised"
    elif np.dtype(series.dtype) != key.dtype:
        what = "values need a conversion"
    elif math.prod(key.shaped) <= 0 or key.shaped[2] > 2**31 or key.shaped[3] > 2**31:
        what = "the size makes no sense"
    elif key.tiledepth > 1 and key.is_tiled:
        what = "tiles of several slices cannot be read"
    elif key.photometric not in (0, 1, 2, 3, 5, YCBCR, 8, 9, 10):
        what = f"photometric interpretation {int(key.photometric)} cannot be denoised"
    elif key.photometric == YCBCR and key.compression not in JPEG:
        what = "YCbCr colour is read from JPEG-compressed TIFF only"
    if what:
        raise InputError(f"{source.path}: {what}", "save it as 8-bit, 16-bit or float gray or RGB")


def _check_block(source: Source, key: Any) -> None:
    """Raise where one row of strips or tiles, which is decoded whole, exceeds memory."""
    rows, columns = key.rowsperstrip, key.shaped[3]
    if key.is_tiled:
        rows, columns = key.tilelength, -(-columns // key.tilewidth) * key.tilewidth
    # A codec's output and its copy in the image live side by side.
    source.check_fits(rows, columns, 2 * key.shaped[4] * key.dtype.itemsize)


def _directories(source: Source, chain: _Chain, series: Any, number: int) -> list[Directory]:
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
    return [read_directory(source.file, chain.header, at, chain.size, skip)[0] for at in offsets]


def _lost(chain: _Chain, directories: list[Directory], maker: str | None) -> list[str]:
    """Say what of the file's metadata will not be written; ``maker``: the kind of a vendor."""
    notes = []
    if maker is not None:
        notes.append(f"the instrument's own metadata ({maker}) will not be written")
    if PHOTOSHOP_LAYERS in chain.codes:
        notes.append("Photoshop layers hold the noisy picture and will not be written")
    if (chain.codes & CHILDREN) - chain.first.children.keys() - {40965}:
        notes.append("damaged EXIF or GPS data will not be written")
    described = chain.first.text(DESCRIPTION)
    if is_ome(described) and ome_facts(described).in_set:
        notes.append(OF_SET)
    if maker is None:
        lost = set()
        for page in directories:
            stay = {tag.code for tag in kept(page, vendor=False, size=chain.size).tags}
            lost |= {tag.code for tag in page.tags} - stay - WRITTEN_ANEW - {PHOTOSHOP_LAYERS}
        if lost:
            names = ", ".join(map(str, sorted(lost)[:8]))
            notes.append(f"TIFF tags that may be positions in the old file are not kept: {names}")
    return notes


def _colour_table(source: Source, key: Any, page: Directory) -> npt.NDArray[Any]:
    values = page.numbers(COLORMAP)
    if len(values) != 3 * 2**key.bitspersample or math.prod(key.shaped[:2]) != 1:
        raise InputError(f"{source.path}: the palette is damaged", "save it as RGB first")
    table = np.array(values, np.uint16).reshape(3, -1).T
    return (table if key.dtype.itemsize == 2 else table >> 8).astype(_sample_type(key))


def _sample_type(key: Any) -> np.dtype[Any]:
    """Return the type that samples are read as: one bit as 0 and 255."""
    dtype = np.dtype(key.dtype).newbyteorder("=")
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


def _describe(
    source: Source, series: Any, geometry: Geometry, palette: bool, ome: OmeFacts | None
) -> ImageInfo:
    key = series.keyframe
    axes, shape, dtype = geometry.axes, geometry.shape, _sample_type(key)
    if palette:
        if axes.endswith("S"):
            raise InputError(f"{source.path}: a palette with extra samples", "save it as RGB first")
        return ImageInfo("tiff", (*shape, 3), axes + "S", dtype, "rgb")
    bits = key.bitspersample if np.dtype(key.dtype).kind == "u" else None
    if ome is not None and ome.bits is not None and dtype.kind in "iu":
        bits = ome.bits
    bits = bits if bits and 0 < bits < dtype.itemsize * 8 else None
    if geometry.sample_role in ("separate", "sample"):
        colour, alpha = _colour(int(key.photometric), shape[-1], key.extrasamples)
    else:
        samples = shape[-1] if axes.endswith("S") else 1
        colour, alpha = {1: "gray", 3: "rgb"}.get(samples, "channels"), False  # type: ignore[assignment]
    nodata, tag = None, key.keyframe.tags.get(GDAL_NODATA)
    if tag is not None:  # the value that means "not measured"
        try:
            nodata = float(str(tag.value).strip("\0 "))
        except ValueError:
            nodata = None
    return ImageInfo("tiff", shape, axes, dtype, colour, alpha, bits, nodata)


def _colour(photometric: int, samples: int, extra: Sequence[int]) -> tuple[Colour, bool]:
    """Return what samples mean, and whether the last is alpha."""
    has_alpha = bool(extra) and extra[-1] in (1, 2)
    if photometric in (2, YCBCR):
        # A fourth sample without a meaning is a mask more often than a colour.
        if samples in (3, 4):
            return "rgb", samples == 4
        return ("gray" if samples == 1 else "channels"), has_alpha and samples > 4
    if photometric in (0, 1, 3):
        if samples == 1 or (samples == 2 and has_alpha):
            return "gray", samples == 2
        return "channels", has_alpha
    colours = 4 if photometric == 5 else 3
    return "channels", has_alpha and samples > colours


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
    bits = key.bitspersample if np.dtype(key.dtype).kind in "iu" else info.dtype.itemsize * 8
    return Layout(
        kind=kind,
        order=chain.header.order,
        big=chain.header.big,
        photometric=photometric,
        compression=int(key.compression),
        predictor=int(key.predictor),
        planar=info.samples > 1 and int(key.planarconfig) == 2,
        tile=(key.tilelength, key.tilewidth) if key.is_tiled else None,
        strip_rows=max(1, int(key.rowsperstrip)),
        bits=int(bits),
        extra=tuple(int(e) for e in key.extrasamples),
        single=False,
        shape=info.shape,
        axes=info.axes,
        dtype=info.dtype,
        pages=tuple(pages),
    )
