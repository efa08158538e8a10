"""A new AVIF file around encoded pictures.

The encoder at hand makes files without metadata; its compressed pictures are taken out
of them and put into a file with profile, EXIF, XMP and orientation.
Box layouts: ISO/IEC 14496-12 and 23008-12; AV1 Image File Format.
"""

from __future__ import annotations

import struct

from denoisekit.formats.avif_boxes import Picture
from denoisekit.formats.boxes import box


def build(colour: Picture, alpha: Picture | None, shown: Picture) -> bytes:
    """Make a file of encoded pictures and the metadata of another description.

    Parameters
    ----------
    colour, alpha : Picture
        What the encoder made of the colours and of the opacity, each a file of its own.
    shown : Picture
        Where profile, EXIF, XMP, colour description and properties come from.
    """
    items: list[tuple[bytes, bytes, bytes]] = [(b"av01", b"", colour.payload)]
    ends: list[tuple[bytes, int]] = []
    colours: list[tuple[bytes, bytes]] = []
    if shown.icc:
        colours.append((b"colr", b"prof" + shown.icc))
    if colour.nclx:  # what the encoder used; it was told primaries and transfer
        colours.append((b"colr", colour.nclx))
    owned = [[*_shape(colour), *colours, *shown.properties]]
    if alpha is not None:
        items.append((b"av01", b"", alpha.payload))
        ends.append((b"auxl", len(items)))
        kind = (b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
        turned = [p for p in shown.properties if p[0] in (b"irot", b"imir", b"clap")]
        owned.append([*_shape(alpha), kind, *turned])
    if shown.exif:
        items.append((b"Exif", b"", bytes(4) + shown.exif))
        ends.append((b"cdsc", len(items)))
    if shown.xmp:
        items.append((b"mime", b"application/rdf+xml\0", shown.xmp))
        ends.append((b"cdsc", len(items)))
    head = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    meta = _meta(items, ends, owned, 0)
    start = len(head) + len(meta) + 8
    return (
        head + _meta(items, ends, owned, start) + box(b"mdat", b"".join(body for *_, body in items))
    )


def _shape(of: Picture) -> list[tuple[bytes, bytes]]:
    size = (b"ispe", struct.pack(">III", 0, of.width, of.height))
    return [size, (b"pixi", of.channels), (b"av1C", of.config)]


def _full(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *parts)


def _meta(
    items: list[tuple[bytes, bytes, bytes]],
    links: list[tuple[bytes, int]],
    owned: list[list[tuple[bytes, bytes]]],
    start: int,
) -> bytes:
    """Make the meta box of items (kind, extra, body); the first is the picture."""
    places, entries = [], []
    for number, (kind, extra, body) in enumerate(items, 1):
        places.append(struct.pack(">HHHII", number, 0, 1, start, len(body)))
        entries.append(_full(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0", extra))
        start += len(body)
    references = [box(kind, struct.pack(">HHH", frm, 1, 1)) for kind, frm in links]
    return _full(
        b"meta",
        0,
        _full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
        _full(b"pitm", 0, struct.pack(">H", 1)),
        _full(b"iloc", 0, b"\x44\0", struct.pack(">H", len(items)), *places),
        _full(b"iinf", 0, struct.pack(">H", len(items)), *entries),
        *([_full(b"iref", 0, *references)] if references else []),
        _owned(owned),
    )


def _owned(owned: list[list[tuple[bytes, bytes]]]) -> bytes:
    essential = (b"av1C", b"irot", b"imir", b"clap")
    pool: list[tuple[bytes, bytes]] = []
    lists: list[bytes] = []
    for number, props in enumerate(owned, 1):
        marks: list[int] = []
        for prop in props:
            if prop not in pool:
                pool.append(prop)
            marks.append(pool.index(prop) + 1 | (0x80 if prop[0] in essential else 0))
        lists.append(struct.pack(">HB", number, len(marks)) + bytes(marks))
    shared = box(b"ipco", *(box(kind, body) for kind, body in pool))
    return box(b"iprp", shared, _full(b"ipma", 0, struct.pack(">I", len(lists)), *lists))
