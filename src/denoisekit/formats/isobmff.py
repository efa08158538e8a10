"""Boxes of the ISO base media family: a length, a type, a body. And the items of AVIF and HEIC.

Box layouts: ISO/IEC 14496-12 and 23008-12; AV1 Image File Format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from denoisekit.formats.jpeg import without_claims

_CONFIGS = (b"av1C", b"hvcC")
_KEPT = (b"irot", b"imir", b"clap", b"pasp", b"clli", b"mdcv")
"""Properties of the image that hold for the new pixels; colr is treated apart."""
_ESSENTIAL = (b"av1C", b"irot", b"imir", b"clap")
_TURNS = {
    **{(0, None): 1, (0, 1): 2, (2, None): 3, (0, 0): 4, (1, 0): 5, (3, None): 6},
    **{(1, 1): 7, (1, None): 8, (2, 0): 2, (2, 1): 4, (3, 1): 5, (3, 0): 7},
}
"""EXIF orientation by (quarter turns anticlockwise, mirror axis), applied in that order."""

Property = tuple[bytes, bytes]
"""Kind and body."""


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a byte string: its type and where its body lies."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Walk the boxes of ``data[start:end]``.

    Raises
    ------
    ValueError
        A box ends outside.
    """
    end = len(data) if end is None else end
    while start < end:
        if start + 8 > end:
            raise ValueError("a box header is cut off")
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1:
            if start + 16 > end:
                raise ValueError("a box header is cut off")
            (length,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = end if length == 0 else start + length
        if stop > end or stop < start + head:
            raise ValueError(f"box {kind!r} ends outside the file")
        yield Box(kind, start + head, stop)
        start = stop


def box(kind: bytes, *parts: bytes) -> bytes:
    """Make a box of these parts."""
    body = b"".join(parts)
    if len(body) + 8 < 2**32:
        return struct.pack(">I4s", len(body) + 8, kind) + body
    return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body


def _full(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), *parts)


@dataclass(slots=True)
class Item:
    """The primary item of a file and what belongs to it."""

    width: int = 0
    height: int = 0
    config: bytes = b""
    channels: bytes = b""
    payload: bytes = b""
    nclx: bytes | None = None
    icc: bytes | None = None
    alpha: bool = False
    exif: bytes | None = None
    xmp: bytes | None = None
    properties: tuple[Property, ...] = ()
    others: list[str] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Bits a sample."""
        third = self.config[2]
        return (12 if third & 0x20 else 10) if third & 0x40 else 8

    @property
    def layout(self) -> str:
        """Chroma layout: 400, 420, 422 or 444."""
        mono, across, down = (self.config[2] >> n & 1 for n in (4, 3, 2))
        return "400" if mono else "444" if not across else "420" if down else "422"

    @property
    def orientation(self) -> int:
        """EXIF orientation that the rotation and mirror properties amount to."""
        props = dict(self.properties)
        turn = props[b"irot"][0] & 3 if b"irot" in props else 0
        mirror = props[b"imir"][0] & 1 if b"imir" in props else None
        return _TURNS.get((turn, mirror), 1)

    @property
    def colour_code(self) -> tuple[int, int, int] | None:
        """Primaries, transfer and matrix of the colour description."""
        if self.nclx is None or len(self.nclx) < 11:
            return None
        primaries, transfer, matrix = struct.unpack_from(">HHH", self.nclx, 4)
        return primaries, transfer, matrix


def turned(properties: tuple[Property, ...], orientation: int) -> tuple[Property, ...]:
    """Return the properties with those that turn an image as this EXIF orientation does."""
    kept = [p for p in properties if p[0] not in (b"irot", b"imir")]
    turn, mirror = next(key for key, value in _TURNS.items() if value == orientation)
    if turn:
        kept.append((b"irot", bytes([turn])))
    if mirror is not None:
        kept.append((b"imir", bytes([mirror])))
    return tuple(kept)


class _Numbers:
    """Reads numbers of any size from a part of a byte string."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end

    def take(self, size: int) -> int:
        """Return the next number; of no bytes, 0."""
        if self._at + size > self._end:
            raise ValueError("a list of the file's items is cut off")
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def parse(data: bytes) -> Item:
    """Describe the primary image of an AVIF or HEIC file.

    Raises
    ------
    ValueError
        Damaged, or without a primary image coded as AV1 or HEVC.
    """
    meta = _one(boxes(data), b"meta")
    inside = {b.kind: b for b in boxes(data, meta.start + 4, meta.end)}
    pitm, iinf = inside[b"pitm"], inside[b"iinf"]
    primary = _Numbers(data, pitm.start + 4, pitm.end).take(2 if data[pitm.start] == 0 else 4)
    kinds = {}
    for entry in boxes(data, iinf.start + (6 if data[iinf.start] == 0 else 8), iinf.end):
        numbers = _Numbers(data, entry.start + 4, entry.end)
        item, _ = numbers.take(4 if data[entry.start] == 3 else 2), numbers.take(2)
        kinds[item] = numbers.take(4).to_bytes(4, "big")
    bodies = _Bodies(data, inside[b"iloc"], inside.get(b"idat"))
    links = _links(data, inside[b"iref"]) if b"iref" in inside else []
    props = _properties(data, inside[b"iprp"])
    found = Item(payload=bodies.of(primary))
    kept = []
    for kind, body in props.get(primary, []):
        if kind == b"ispe":
            found.width, found.height = struct.unpack_from(">II", body, 4)
        elif kind in _CONFIGS:
            found.config = body
        elif kind == b"pixi":
            found.channels = body
        elif kind == b"colr" and body[:4] == b"nclx":
            found.nclx = body
        elif kind == b"colr" and body[:4] in (b"prof", b"rICC"):
            found.icc = body[4:]
        elif kind in _KEPT:
            kept.append((kind, body))
    found.properties = tuple(kept)
    if kinds.get(primary) == b"grid":  # the tiles carry the codec's configuration
        tiles = [
            to for kind, start, ends in links if (kind, start) == (b"dimg", primary) for to in ends
        ]
        configs = [b for tile in tiles[:1] for kind, b in props.get(tile, []) if kind in _CONFIGS]
        found.config = found.config or b"".join(configs)
        found.payload = b"".join(map(bodies.of, tiles))
    if len(found.config) < 4 or not found.width:
        raise ValueError("no picture inside")
    for kind, start, ends in links:
        if kind == b"auxl" and primary in ends:
            urn = dict(props.get(start, [])).get(b"auxC", b"")
            if b":alpha" in urn or b"auxid:1" in urn:
                found.alpha = True
            else:
                found.others.append("an auxiliary picture (depth or gain map)")
        elif kind == b"cdsc" and primary in ends:
            body = bodies.of(start)
            if kinds.get(start) == b"Exif" and len(body) > 4:
                found.exif = body[4 + int.from_bytes(body[:4], "big") :]
            elif kinds.get(start) == b"mime":
                found.xmp = body
    if b"tmap" in kinds.values():
        found.others.append("a gain map")
    if any(outer.kind == b"mpvd" for outer in boxes(data)):
        found.others.append("the video of a motion photo")
    if found.others:
        found.xmp = without_claims(found.xmp)
    return found


def pool_of(data: bytes) -> list[Box]:
    """Return the properties in a file, shared or not."""
    meta = _one(boxes(data), b"meta")
    props = _one(boxes(data, meta.start + 4, meta.end), b"iprp")
    shared = _one(boxes(data, props.start, props.end), b"ipco")
    return list(boxes(data, shared.start, shared.end))


def _one(among: Iterable[Box], kind: bytes) -> Box:
    found = [b for b in among if b.kind == kind]
    if len(found) != 1:
        raise ValueError(f"{len(found)} boxes {kind!r}")
    return found[0]


class _Bodies:
    """Where the bodies of items lie."""

    def __init__(self, data: bytes, places: Box, idat: Box | None) -> None:
        self._data = data
        self._extents: dict[int, list[tuple[int, int]]] = {}
        version, sizes = data[places.start], data[places.start + 4 : places.start + 6]
        numbers, wide = _Numbers(data, places.start + 6, places.end), 4 if version == 2 else 2
        for _ in range(numbers.take(wide)):
            item = numbers.take(wide)
            method = numbers.take(2) & 15 if version else 0
            numbers.take(2)
            base = numbers.take(sizes[1] >> 4) + (idat.start if method == 1 and idat else 0)
            extents = self._extents[item] = []
            for _ in range(numbers.take(2)):
                numbers.take(sizes[1] & 15 if version else 0)
                start = base + numbers.take(sizes[0] >> 4)
                extents.append((start, start + numbers.take(sizes[0] & 15)))

    def of(self, item: int) -> bytes:
        extents = self._extents.get(item, [])
        if any(end > len(self._data) for _, end in extents):
            raise ValueError("the file ends early")
        return b"".join(self._data[start:end] for start, end in extents)


def _links(data: bytes, b: Box) -> list[tuple[bytes, int, list[int]]]:
    """Return (kind, from, to) of the references between items."""
    size, links = 2 if data[b.start] == 0 else 4, []
    for entry in boxes(data, b.start + 4, b.end):
        numbers = _Numbers(data, entry.start, entry.end)
        start = numbers.take(size)
        links.append((entry.kind, start, [numbers.take(size) for _ in range(numbers.take(2))]))
    return links


def _properties(data: bytes, b: Box) -> dict[int, list[Property]]:
    """Return the properties of every item, in order."""
    parts = list(boxes(data, b.start, b.end))
    shared = _one(parts, b"ipco")
    pool = [(p.kind, data[p.start : p.end]) for p in boxes(data, shared.start, shared.end)]
    owned: dict[int, list[Property]] = {}
    for part in (p for p in parts if p.kind == b"ipma"):
        version, step = data[part.start], 1 + (data[part.start + 3] & 1)
        numbers = _Numbers(data, part.start + 4, part.end)
        for _ in range(numbers.take(4)):
            item = owned.setdefault(numbers.take(4 if version else 2), [])
            for _ in range(numbers.take(1)):
                index = numbers.take(step) & (0x7FFF if step == 2 else 0x7F)
                item += pool[index - 1 : index] if index else []
    return owned


def build(colour: Item, alpha: Item | None, shown: Item) -> bytes:
    """Make an AVIF file of encoded images and the metadata of another description.

    The encoder at hand makes files without metadata; its compressed images are taken out
    of them.

    Parameters
    ----------
    colour, alpha : Image
        What the encoder made of the colours and of the alpha, each a file of its own.
    shown : Image
        Where profile, EXIF, XMP, colour description and properties come from.
    """
    profile = [(b"colr", b"prof" + shown.icc)] if shown.icc else []
    # What the encoder used; it was told primaries and transfer.
    code = [(b"colr", colour.nclx)] if colour.nclx else []
    owned = [[*_shape(colour), *profile, *code, *shown.properties]]
    items = [(b"av01", b"", colour.payload)]
    references = b""
    if alpha is not None:
        kind = (b"auxC", bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
        turns = [p for p in shown.properties if p[0] in (b"irot", b"imir", b"clap")]
        owned.append([*_shape(alpha), kind, *turns])
        items.append((b"av01", b"", alpha.payload))
        references += box(b"auxl", struct.pack(">HHH", len(items), 1, 1))
    for fourcc, extra, body in (
        (b"Exif", b"", shown.exif and bytes(4) + shown.exif),
        (b"mime", b"application/rdf+xml\0", shown.xmp),
    ):
        if body:
            items.append((fourcc, extra, body))
            references += box(b"cdsc", struct.pack(">HHH", len(items), 1, 1))
    head = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    start = len(head) + len(_meta(items, references, owned, 0)) + 8
    meta = _meta(items, references, owned, start)
    return head + meta + box(b"mdat", b"".join(body for *_, body in items))


def _shape(of: Item) -> list[Property]:
    size = (b"ispe", struct.pack(">III", 0, of.width, of.height))
    return [size, (b"pixi", of.channels), (b"av1C", of.config)]


def _meta(
    items: list[tuple[bytes, bytes, bytes]],
    references: bytes,
    owned: list[list[Property]],
    start: int,
) -> bytes:
    """Make the meta box of items (kind, extra, body); the first is the image."""
    count = struct.pack(">H", len(items))
    places, entries = [], []
    for number, (kind, extra, body) in enumerate(items, 1):
        places.append(struct.pack(">HHHII", number, 0, 1, start, len(body)))
        entries.append(_full(b"infe", 2, struct.pack(">HH", number, 0), kind, b"\0", extra))
        start += len(body)
    pool = list(dict.fromkeys(prop for props in owned for prop in props))
    lists = []
    for number, props in enumerate(owned, 1):
        marks = [pool.index(p) + 1 | (0x80 if p[0] in _ESSENTIAL else 0) for p in props]
        lists.append(struct.pack(">HB", number, len(marks)) + bytes(marks))
    return _full(
        b"meta",
        0,
        _full(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
        _full(b"pitm", 0, struct.pack(">H", 1)),
        _full(b"iloc", 0, b"\x44\0", count, *places),
        _full(b"iinf", 0, count, *entries),
        _full(b"iref", 0, references) if references else b"",
        box(
            b"iprp",
            box(b"ipco", *(box(kind, body) for kind, body in pool)),
            _full(b"ipma", 0, struct.pack(">I", len(lists)), *lists),
        ),
    )
