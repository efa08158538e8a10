"""The container of AVIF and HEIC: what the items of a file are.

Box layouts: ISO/IEC 14496-12 and 23008-12; AV1 Image File Format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from denoisekit.formats.boxes import Box, boxes
from denoisekit.formats.jpeg_behind import without_claims

_CONFIGS = (b"av1C", b"hvcC")
_KEPT = (b"irot", b"imir", b"clap", b"pasp", b"clli", b"mdcv")
"""Properties of the picture that hold for the new pixels; colr is treated apart."""

_TURNS = {
    (0, None): 1,
    (0, 1): 2,
    (2, None): 3,
    (0, 0): 4,
    (1, 0): 5,
    (3, None): 6,
    (1, 1): 7,
    (1, None): 8,
    (2, 0): 2,
    (2, 1): 4,
    (3, 1): 5,
    (3, 0): 7,
}
"""EXIF orientation by (quarter turns anticlockwise, mirror axis), applied in that order."""


@dataclass(slots=True)
class Picture:
    """The primary item of a file and what belongs to it."""

    width: int = 0
    height: int = 0
    config: bytes = b""
    channels: bytes = b""
    payload: bytes = b""
    nclx: bytes | None = None
    icc: bytes | None = None
    alpha: bool = False
    premultiplied: bool = False
    exif: bytes | None = None
    xmp: bytes | None = None
    properties: tuple[tuple[bytes, bytes], ...] = ()
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


def orient(orientation: int) -> tuple[tuple[bytes, bytes], ...]:
    """Return the properties that turn a picture as this EXIF orientation does."""
    turn, mirror = next(key for key, value in _TURNS.items() if value == orientation)
    parts = [(b"irot", bytes([turn]))] if turn else []
    if mirror is not None:
        parts.append((b"imir", bytes([mirror])))
    return tuple(parts)


def parse(data: bytes) -> Picture:
    """Describe the primary picture of an AVIF or HEIC file.

    Raises
    ------
    ValueError
        Damaged, or without a primary picture coded as AV1 or HEVC.
    """
    meta = _one(boxes(data), b"meta")
    inside = {b.kind: b for b in boxes(data, meta.start + 4, meta.end)}
    primary = _number(data, inside[b"pitm"])
    kinds = _kinds(data, inside[b"iinf"])
    places = _places(data, inside[b"iloc"], inside.get(b"idat"))
    links = _links(data, inside[b"iref"]) if b"iref" in inside else []
    props = _properties(data, inside[b"iprp"])
    found = Picture(payload=_content(data, places.get(primary, [])))
    _describe(found, props.get(primary, []))
    if kinds.get(primary) == b"grid":  # the tiles carry the codec's configuration
        tiles = [
            to for kind, start, ends in links if kind == b"dimg" and start == primary for to in ends
        ]
        config = [
            body for tile in tiles[:1] for kind, body in props.get(tile, []) if kind in _CONFIGS
        ]
        found.config = found.config or b"".join(config)
        found.payload = b"".join(_content(data, places.get(tile, [])) for tile in tiles)
    if len(found.config) < 4 or not found.width:
        raise ValueError("no picture inside")
    for kind, start, ends in links:
        if kind == b"auxl" and primary in ends:
            urn = dict(props.get(start, [])).get(b"auxC", b"")
            if b":alpha" in urn or b"auxid:1" in urn:
                found.alpha = True
            else:
                found.others.append("an auxiliary picture (depth or gain map)")
        elif kind == b"prem" and start == primary:
            found.premultiplied = True
        elif kind == b"cdsc" and primary in ends:
            _describing(found, kinds.get(start, b""), _content(data, places.get(start, [])))
    if b"tmap" in kinds.values():
        found.others.append("a gain map")
    if any(outer.kind == b"mpvd" for outer in boxes(data)):
        found.others.append("the video of a motion photo")
    if found.others:
        found.xmp = without_claims(found.xmp)
    return found


def _describing(found: Picture, kind: bytes, body: bytes) -> None:
    if kind == b"Exif" and len(body) > 4:
        found.exif = body[4 + int.from_bytes(body[:4], "big") :]
    elif kind == b"mime":
        found.xmp = body


def _describe(found: Picture, props: list[tuple[bytes, bytes]]) -> None:
    kept = []
    for kind, body in props:
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


def properties(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the kind of every property in a file, and where its body begins."""
    meta = _one(boxes(data), b"meta")
    props = _one(boxes(data, meta.start + 4, meta.end), b"iprp")
    shared = _one(boxes(data, props.start, props.end), b"ipco")
    for found in boxes(data, shared.start, shared.end):
        yield found.kind, found.start


def _one(among: Iterable[Box], kind: bytes) -> Box:
    found = [b for b in among if b.kind == kind]
    if len(found) != 1:
        raise ValueError(f"{len(found)} boxes {kind!r}")
    return found[0]


def _number(data: bytes, b: Box) -> int:
    size = 2 if data[b.start] == 0 else 4
    return int.from_bytes(data[b.start + 4 : b.start + 4 + size], "big")


def _kinds(data: bytes, b: Box) -> dict[int, bytes]:
    """Return the kind of every item."""
    start = b.start + (6 if data[b.start] == 0 else 8)
    kinds = {}
    for entry in boxes(data, start, b.end):
        size = 4 if data[entry.start] == 3 else 2
        at = entry.start + 4
        number = int.from_bytes(data[at : at + size], "big")
        kinds[number] = data[at + size + 2 : at + size + 6]
    return kinds


def _places(data: bytes, b: Box, idat: Box | None) -> dict[int, list[tuple[int, int]]]:
    """Return (start, end) of the extents of every item."""
    version = data[b.start]
    sizes = data[b.start + 4], data[b.start + 5]
    offset_size, length_size = sizes[0] >> 4, sizes[0] & 15
    base_size, index_size = sizes[1] >> 4, sizes[1] & 15 if version else 0
    at = b.start + 6

    def take(size: int) -> int:
        nonlocal at
        if at + size > b.end:
            raise ValueError("the list of items is cut off")
        at += size
        return int.from_bytes(data[at - size : at], "big")

    places: dict[int, list[tuple[int, int]]] = {}
    for _ in range(take(4 if version == 2 else 2)):
        number = take(4 if version == 2 else 2)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size) + (idat.start if method == 1 and idat else 0)
        extents = []
        for _ in range(take(2)):
            take(index_size)
            start = base + take(offset_size)
            extents.append((start, start + take(length_size)))
        places[number] = extents
    return places


def _content(data: bytes, extents: list[tuple[int, int]]) -> bytes:
    if any(end > len(data) for _, end in extents):
        raise ValueError("the file ends early")
    return b"".join(data[start:end] for start, end in extents)


def _links(data: bytes, b: Box) -> list[tuple[bytes, int, list[int]]]:
    """Return (kind, from, to) of the references between items."""
    size = 2 if data[b.start] == 0 else 4
    links = []
    for entry in boxes(data, b.start + 4, b.end):
        numbers = data[entry.start : entry.end]
        count = int.from_bytes(numbers[size : size + 2], "big")
        at = [size + 2 + i * size for i in range(count)]
        ends = [int.from_bytes(numbers[i : i + size], "big") for i in at]
        links.append((entry.kind, int.from_bytes(numbers[:size], "big"), ends))
    return links


def _properties(data: bytes, b: Box) -> dict[int, list[tuple[bytes, bytes]]]:
    """Return the properties of every item, in order."""
    parts = list(boxes(data, b.start, b.end))
    shared = _one(parts, b"ipco")
    pool = [(p.kind, data[p.start : p.end]) for p in boxes(data, shared.start, shared.end)]
    owned: dict[int, list[tuple[bytes, bytes]]] = {}
    for part in parts:
        if part.kind != b"ipma":
            continue
        version, wide = data[part.start], data[part.start + 3] & 1
        body, at = data[part.start + 4 : part.end], 4
        for _ in range(int.from_bytes(body[:4], "big")):
            size = 4 if version else 2
            number = int.from_bytes(body[at : at + size], "big")
            count = int.from_bytes(body[at + size : at + size + 1], "big")
            at += size + 1
            for _ in range(count):
                step = 2 if wide else 1
                index = int.from_bytes(body[at : at + step], "big") & (0x7FFF if wide else 0x7F)
                at += step
                if 1 <= index <= len(pool):
                    owned.setdefault(number, []).append(pool[index - 1])
            if at > len(body):
                raise ValueError("the list of properties is cut off")
    return owned


def colour_code(nclx: bytes | None) -> tuple[int, int, int] | None:
    """Return primaries, transfer and matrix of a colour description."""
    if nclx is None or len(nclx) < 11:
        return None
    primaries, transfer, matrix = struct.unpack_from(">HHH", nclx, 4)
    return primaries, transfer, matrix
