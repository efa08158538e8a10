"""How a TIFF was laid out and what its pages carry: all that a writer needs to make its like.

And OME-XML: what it says of the planes, and the little that changes when they are written anew.
"""

from __future__ import annotations

import json
import re
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np

from denoisekit.formats.tiff_tags import (
    ASCII,
    CHILDREN,
    EXIF,
    GPS,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    Directory,
    Order,
    Tag,
    make_tag,
    pack_block,
    parse_block,
)
from denoisekit.image import ImageInfo, Metadata

Kind = Literal["imagej", "ome", "shaped", "plain"]

DESCRIPTION, ORIENTATION, X_RES, Y_RES, RES_UNIT = 270, 274, 282, 283, 296
COLORMAP, XMP, ICC = 320, 700, 34675
RESOLUTION = frozenset({X_RES, Y_RES, RES_UNIT})
PIXEL_LAYOUT = frozenset(
    {256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 338, 339, 347}
    | {322, 323, 324, 325, 530, 531, 532, 32997, 32998, 50674}
)
POSITIONS = frozenset({288, 289, 330, 400, *range(512, 522)})
"""Tags that hold positions in the old file, or JPEG data bound to them."""
WRITTEN_ANEW = PIXEL_LAYOUT | POSITIONS
PHOTOSHOP_LAYERS = 37724
IMAGEJ_TAGS = frozenset({50838, 50839})
GDAL_NODATA = 42113
GEO_TAGS = frozenset({33550, 33922, 34264, 34735, 34736, 34737, 42112, GDAL_NODATA, 50844})
GENERAL = frozenset({ICC, 33432, 33723, 34377, *range(34016, 34030)})
"""Private tags that any program may write, and which hold no positions: ICC profile, copyright,
IPTC, Photoshop resources, those of TIFF/IT."""
DESCRIBED = frozenset({DESCRIPTION, 271, 272, ORIENTATION, 305, 306, 315, 33432})
"""Tags of a page that EXIF readers of other formats know as well."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a TIFF and the tags of its pages.

    Attributes
    ----------
    kind : {'imagej', 'ome', 'shaped', 'plain'}
        Whose metadata names the axes; ``shaped`` is tifffile's own.
    order : {'<', '>'}
        Byte order.
    big : bool
        BigTIFF.
    photometric, compression, predictor : int
        Values of the TIFF tags.
    planar : bool
        Samples lie in separate planes.
    tile : (int, int) or None
        Height and width of a tile; None for strips.
    strip_rows : int
        Rows of a strip.
    bits : int
        Bits of a sample as stored.
    extra : tuple of int
        What the samples beyond the colour mean (TIFF tag ExtraSamples).
    single : bool
        One directory describes all planes, which follow each other (ImageJ above
        4 GB, tifffile's ``truncate``).
    shape, axes, dtype
        Of the `ImageInfo` for which ``pages`` hold true.
    pages : tuple of Directory
        Tags to copy, a plane each; the first alone where only that is known.
    """

    kind: Kind
    order: Order
    big: bool
    photometric: int
    compression: int
    predictor: int
    planar: bool
    tile: tuple[int, int] | None
    strip_rows: int
    bits: int
    extra: tuple[int, ...]
    single: bool
    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    pages: tuple[Directory, ...]

    def fits(self, info: ImageInfo) -> bool:
        """Whether an image still has the planes that the metadata describe."""
        return (self.shape, self.axes, self.dtype) == (info.shape, info.axes, info.dtype)


def new_layout(info: ImageInfo) -> Layout:
    """Return the layout for an image that was no TIFF before."""
    integer = info.dtype.kind in "iu"
    page = _page_from_exif(info.metadata)
    if not RESOLUTION & {tag.code for tag in page.tags} and info.metadata.dpi is not None:
        page = page.plus(*_resolution_tags(info.metadata.dpi, page.order))
    return Layout(
        kind="plain",
        order=page.order,
        big=False,
        photometric=2 if info.colour == "rgb" else 1,
        compression=8 if integer else 1,
        predictor=2 if integer and info.dtype.itemsize <= 4 else 1,
        planar=False,
        tile=None,
        strip_rows=max(1, 2**20 // (info.plane_bytes // info.height)),
        bits=info.dtype.itemsize * 8,
        extra=(),
        single=False,
        shape=info.shape,
        axes=info.axes,
        dtype=info.dtype,
        pages=(_with_axes(page, info, planar=False),),
    )


def reshaped(layout: Layout, info: ImageInfo) -> Layout:
    """Return the layout for planes that the file's own metadata no longer describe.

    What stays is what holds for any pixels: compression, byte order, resolution,
    texts, EXIF. ImageJ and OME metadata, which count planes, give way to axes in
    tifffile's form.
    """
    page = layout.pages[0]
    if layout.kind != "plain":
        page = page.without({DESCRIPTION} | IMAGEJ_TAGS)
    colour = 2 if info.colour == "rgb" else 1
    planar = layout.planar and info.axes.endswith("S")
    keep = layout.photometric in (0, 5, 8, 9, 10) and info.axes[-1:] == layout.axes[-1:]
    return replace(
        layout,
        kind="plain" if info.planes == 1 else "shaped",
        photometric=layout.photometric if keep else colour,
        bits=layout.bits if info.dtype == layout.dtype else info.dtype.itemsize * 8,
        predictor=layout.predictor if info.dtype.kind == layout.dtype.kind else 1,
        planar=planar,
        single=False,
        shape=info.shape,
        axes=info.axes,
        dtype=info.dtype,
        pages=(_with_axes(page, info, planar=planar),),
    )


def _with_axes(page: Directory, info: ImageInfo, *, planar: bool) -> Directory:
    """Return a first page that names the axes of a stack; that of a single image as it is."""
    if info.planes == 1 and info.axes.removesuffix("S") == "YX":
        return page
    lengths = dict(zip(info.axes, info.shape, strict=True))
    stored = info.axes[:-3] + "SYX" if planar else info.axes
    facts: dict[str, Any] = {"shape": [lengths[letter] for letter in stored], "axes": stored}
    text = page.text(DESCRIPTION).decode("utf-8", "replace")
    if text:
        facts["Description"] = text
    described = make_tag(DESCRIPTION, ASCII, json.dumps(facts).encode("ascii") + b"\0", "<")
    return page.without({DESCRIPTION}).plus(described)


def kept(page: Directory, *, vendor: bool, size: int) -> Directory:
    """Return the tags of a page that may be copied into another file.

    Parameters
    ----------
    page : Directory
        As read.
    vendor : bool
        The file is of an instrument's or scanner's own kind: of its private tags
        only those of general use are kept.
    size : int
        Bytes of the file. A private tag of integers that could be positions in it
        is left behind, for they would point to something else.
    """

    def may_stay(tag: Tag) -> bool:
        if tag.code in WRITTEN_ANEW or tag.code == PHOTOSHOP_LAYERS or tag.type in (13, 18):
            return False
        if tag.code < 32768 or tag.code in GENERAL or tag.code in GEO_TAGS:
            return True
        if vendor:
            return False
        if tag.code in IMAGEJ_TAGS or tag.type not in (LONG, LONG8):
            return True
        return not any(8 <= n < size for n in Directory(page.order, (tag,)).numbers(tag.code))

    return Directory(page.order, tuple(t for t in page.tags if may_stay(t)), page.children)


def metadata_of(page: Directory, container: Mapping[str, Any], plain_text: bool) -> Metadata:
    """Return what other formats can take from a page.

    Parameters
    ----------
    page : Directory
        The first page.
    container : mapping
        What only TIFF understands.
    plain_text : bool
        ImageDescription is a person's text rather than a program's record.
    """
    icc, xmp = page.get(ICC), page.get(XMP)
    return Metadata(
        icc=icc.data if icc else None,
        exif=_exif_from_page(page, plain_text),
        xmp=xmp.data.rstrip(b"\0") if xmp else None,
        dpi=_dpi(page),
        container=container,
    )


def with_profile(page: Directory, metadata: Metadata) -> Directory:
    """Return a page with the ICC profile and the XMP packet of an image's metadata."""
    extra: list[Tag] = []
    if metadata.xmp:
        extra.append(make_tag(XMP, 1, metadata.xmp, page.order))
    if metadata.icc:
        extra.append(make_tag(ICC, 7, metadata.icc, page.order))
    return page.without({ICC, XMP}).plus(*extra)


def _dpi(page: Directory) -> tuple[float, float] | None:
    unit = (page.numbers(RES_UNIT) or [2])[0]
    x, y = page.numbers(X_RES), page.numbers(Y_RES)
    per_inch = {2: 1.0, 3: 2.54}.get(int(unit))
    if per_inch is None or not x or not y or not 0 < x[0] < 1e9 or not 0 < y[0] < 1e9:
        return None
    return x[0] * per_inch, y[0] * per_inch


def _resolution_tags(dpi: tuple[float, float], order: Order) -> list[Tag]:
    def rational(value: float) -> tuple[int, int]:
        quotient = Fraction(min(max(value, 0.0), 4e9)).limit_denominator(1_000_000)
        while quotient.numerator >= 2**32:
            quotient = quotient.limit_denominator(max(1, quotient.denominator // 10))
        return quotient.numerator, quotient.denominator

    return [
        make_tag(X_RES, RATIONAL, rational(dpi[0]), order),
        make_tag(Y_RES, RATIONAL, rational(dpi[1]), order),
        make_tag(RES_UNIT, SHORT, [2], order),
    ]


def _exif_from_page(page: Directory, plain_text: bool) -> bytes | None:
    codes = DESCRIBED if plain_text else DESCRIBED - {DESCRIPTION}
    tags = [tag for tag in page.tags if tag.code in codes]
    children = {code: page.children[code] for code in (EXIF, GPS) if code in page.children}
    if not children and not any(tag.code != 305 for tag in tags):
        return None
    tags += [tag for tag in page.tags if tag.code in RESOLUTION]
    return pack_block(Directory(page.order, tuple(tags), children))


def _page_from_exif(metadata: Metadata) -> Directory:
    """Return a first page from the EXIF block of another format; empty where there is none."""
    if not metadata.exif:
        return Directory()
    try:
        block = parse_block(metadata.exif)
    except (ValueError, struct.error):
        return Directory()
    wanted = DESCRIBED | RESOLUTION
    children = {code: child for code, child in block.children.items() if code in CHILDREN}
    return Directory(block.order, tuple(t for t in block.tags if t.code in wanted), children)


# The text is patched rather than written from a tree: an ElementTree would rename
# namespaces and lose comments, and everything else is to come back as it was.
_TIFFDATA = re.compile(
    rb"<((?:[\w.-]+:)?)TiffData\b(?:[^>]*?/>|[^>]*>.*?</\1TiffData\s*>)\s*", re.DOTALL
)
_UUID = re.compile(rb"<((?:[\w.-]+:)?)UUID\b(?:[^>]*?/>|[^>]*>.*?</\1UUID\s*>)", re.DOTALL)
_ROOT_UUID = re.compile(rb"(<(?:[\w.-]+:)?OME\b[^>]*?\sUUID\s*=\s*[\"'])([^\"']*)")
_PIXELS = re.compile(rb"<(?:[\w.-]+:)?Pixels\b[^>]*?[^/]>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OmeFacts:
    """What OME-XML says of a file.

    Attributes
    ----------
    images : int
        Number of images described.
    planes : int
        Z × C × T of the first, in pages: channels that are samples of a pixel
        count once.
    files : int
        Number of files over which the planes are spread.
    elsewhere : bool
        The metadata lie in a companion file.
    bits : int or None
        Significant bits of a sample.
    """

    images: int
    planes: int
    files: int
    elsewhere: bool
    bits: int | None

    @property
    def in_set(self) -> bool:
        """Whether the planes described are those of several files."""
        return self.elsewhere or self.files > 1


def is_ome(description: bytes) -> bool:
    """Whether an ImageDescription is OME-XML."""
    return description.rstrip(b"\0 \r\n\t")[-4:] == b"OME>"


def ome_facts(xml: bytes) -> OmeFacts:
    """Return what OME-XML says of the planes.

    Raises
    ------
    ValueError
        It is not well-formed, or sizes are not numbers.
    """
    try:
        root = ElementTree.fromstring(xml.rstrip(b"\0 \r\n\t"))
    except ElementTree.ParseError as error:
        raise ValueError(f"the OME-XML is damaged ({error})") from error
    pixels = [e for image in root for e in image if e.tag.endswith("Pixels")]
    files = {e.text for e in root.iter() if e.tag.endswith("}UUID") or e.tag == "UUID"}
    elsewhere = any(e.tag.endswith("BinaryOnly") for e in root)
    if not pixels:
        return OmeFacts(0, 0, len(files), elsewhere, None)
    first = pixels[0].attrib
    planes = int(first["SizeZ"]) * int(first["SizeC"]) * int(first["SizeT"])
    channels = [e for e in pixels[0] if e.tag.endswith("Channel")]
    samples = int(channels[0].attrib.get("SamplesPerPixel", 1)) if channels else 1
    bits = int(first["SignificantBits"]) if "SignificantBits" in first else None
    return OmeFacts(len(pixels), planes // max(1, samples), len(files), elsewhere, bits)


def ome_alone(xml: bytes) -> bytes:
    """Return OME-XML without the file names of planes.

    A file that was renamed must not send the reader looking for its old name.
    """
    return _UUID.sub(b"", xml)


def ome_patched(xml: bytes, planes: int) -> bytes:
    """Return OME-XML for a file that holds the planes in the order of its axes.

    Only the places of the planes and the file's own identifier change.

    Parameters
    ----------
    xml : bytes
        Of the file read.
    planes : int
        Pages of the file written.
    """
    xml = xml.rstrip(b"\0 \r\n\t")
    places = list(_TIFFDATA.finditer(xml))
    pixels = _PIXELS.search(xml)
    if places:
        at, prefix = places[0].start(), places[0].group(1)
    elif pixels:
        prefix = re.match(rb"<((?:[\w.-]+:)?)", pixels.group()).group(1)  # type: ignore[union-attr]
        # TiffData stands after the channels in the schema.
        at = max(xml.rfind(b"</" + prefix + b"Channel>"), xml.rfind(b"<" + prefix + b"Channel"))
        at = xml.find(b">", at) + 1 if at > pixels.end() else pixels.end()
    else:
        return xml
    here = b'<%bTiffData IFD="0" PlaneCount="%d"/>' % (prefix, planes)
    xml = xml[:at] + here + _TIFFDATA.sub(b"", xml[at:])
    return _ROOT_UUID.sub(_new_identifier, xml, count=1)


def _new_identifier(found: re.Match[bytes]) -> bytes:
    """Return another identifier that is always the same for the same source."""
    old = found.group(2).decode("utf-8", "replace")
    return found.group(1) + b"urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_URL, old)).encode()
