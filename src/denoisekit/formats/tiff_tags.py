"""TIFF directories as they lie in a file: read, copied and written tag by tag.

A value is kept as the bytes of the file, so that tags nobody here understands
come back unchanged. Damage is a `ValueError`; the reader turns it into words.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, Literal

import numpy as np

Order = Literal["<", ">"]

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
ITEM_SIZE = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8},
    **{13: 4, 16: 8, 17: 8, 18: 8},
}
NUMBER = {
    **{1: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4"},
    **{11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"},
}
EXIF, GPS, INTEROP = 34665, 34853, 40965
CHILDREN = frozenset({EXIF, GPS, INTEROP})
MOST_TAGS = 4096


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag: its code, its TIFF type and the bytes of its value."""

    code: int
    type: int
    data: bytes

    @property
    def count(self) -> int:
        """Number of items in the value."""
        return len(self.data) // ITEM_SIZE[self.type]


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one IFD that are copied, and the EXIF and GPS directories below it."""

    order: Order = "<"
    tags: tuple[Tag, ...] = ()
    children: Mapping[int, Directory] = field(default_factory=lambda: MappingProxyType({}))

    def get(self, code: int) -> Tag | None:
        """Return the first tag of this code."""
        return next((tag for tag in self.tags if tag.code == code), None)

    def numbers(self, code: int) -> list[float]:
        """Return the value of a numeric tag, rationals as quotients; empty where absent."""
        tag = self.get(code)
        if tag is None or tag.type not in NUMBER:
            return []
        values = np.frombuffer(tag.data, np.dtype(NUMBER[tag.type]).newbyteorder(self.order))
        if tag.type in (5, 10):
            pairs = values.reshape(-1, 2).tolist()
            return [n / d if d else 0.0 for n, d in pairs]
        return [float(v) for v in values.tolist()]

    def text(self, code: int) -> bytes:
        """Return the value of a text tag without the closing zeros; empty where absent."""
        tag = self.get(code)
        return tag.data.rstrip(b"\0") if tag is not None else b""

    def without(self, codes: Container[int]) -> Directory:
        """Return the directory less the tags and children of these codes."""
        return Directory(
            self.order,
            tuple(tag for tag in self.tags if tag.code not in codes),
            {code: child for code, child in self.children.items() if code not in codes},
        )

    def plus(self, *tags: Tag) -> Directory:
        """Return the directory with these tags (in its own byte order) added."""
        return Directory(self.order, (*self.tags, *tags), self.children)

    def to(self, order: Order) -> Directory:
        """Return the directory with its values in another byte order."""
        if order == self.order:
            return self
        tags = tuple(Tag(tag.code, tag.type, _swapped(tag)) for tag in self.tags)
        return Directory(order, tags, {c: child.to(order) for c, child in self.children.items()})


@dataclass(frozen=True, slots=True)
class Header:
    """The first bytes of a TIFF: byte order, 64-bit offsets or not, first directory."""

    order: Order
    big: bool
    first: int


def make_tag(code: int, type_: int, values: bytes | Iterable[int], order: Order) -> Tag:
    """Return a tag from numbers (rationals as a flat list) or from ready bytes."""
    if isinstance(values, bytes):
        return Tag(code, type_, values)
    kind = np.dtype(NUMBER[type_]).newbyteorder(order)
    return Tag(code, type_, np.fromiter(values, kind).tobytes())


def read_header(file: IO[bytes]) -> Header:
    """Return the header of a TIFF or BigTIFF."""
    file.seek(0)
    head = file.read(16)
    order: Order = "<" if head[:2] == b"II" else ">"
    if head[2:4] in (b"+\0", b"\0+"):
        size, zero, first = struct.unpack(order + "HHQ", head[4:16])
        if (size, zero) != (8, 0):
            raise ValueError("the BigTIFF header is damaged")
        return Header(order, True, first)
    if head[2:4] not in (b"*\0", b"\0*"):
        raise ValueError("this is a relative of TIFF, such as a camera's raw file")
    return Header(order, False, struct.unpack(order + "I", head[4:8])[0])


def directory_offsets(file: IO[bytes], header: Header, size: int) -> list[int]:
    """Return where the directories of the main chain lie.

    Raises
    ------
    ValueError
        The chain leads out of the file, in a circle, or nowhere.
    """
    found: dict[int, None] = {}
    at = header.first
    count_format, count_size, entry, pointer = _shape(header.big)
    while at:
        if at in found:
            raise ValueError("the chain of pages runs in a circle")
        if at + count_size > size:
            raise ValueError("a page lies beyond the end of the file")
        found[at] = None
        file.seek(at)
        (number,) = struct.unpack(header.order + count_format, file.read(count_size))
        after = at + count_size + number * entry
        if number > MOST_TAGS or after + struct.calcsize(pointer) > size:
            raise ValueError("a page's directory is damaged or cut off")
        file.seek(after)
        raw = file.read(struct.calcsize(pointer))
        (at,) = struct.unpack(header.order + pointer, raw)
    if not found:
        raise ValueError("the file holds no page")
    return list(found)


def read_directory(
    file: IO[bytes], header: Header, at: int, size: int, skip: Container[int] = ()
) -> tuple[Directory, frozenset[int]]:
    """Return the directory at a file position, and the codes of all its tags.

    Parameters
    ----------
    file, header, size
        The open file, its header and its length in bytes.
    at : int
        Position of the directory.
    skip : container of int
        Tags whose values are not wanted.
    """
    count_format, count_size, entry, pointer = _shape(header.big)
    inline = struct.calcsize(pointer)
    file.seek(at)
    (number,) = struct.unpack(header.order + count_format, file.read(count_size))
    if number > MOST_TAGS:
        raise ValueError("a directory is damaged")
    block = file.read(number * entry)
    if len(block) < number * entry:
        raise ValueError("a directory is cut off")
    tags: list[Tag] = []
    children: dict[int, Directory] = {}
    codes = set()
    for position in range(0, len(block), entry):
        raw = block[position : position + entry]
        code, type_, count = struct.unpack_from(header.order + "HH" + pointer, raw)
        codes.add(code)
        length = ITEM_SIZE.get(type_, 0) * count
        if code in skip or not length:
            continue
        data = raw[-inline:][:length]
        if length > inline:
            (start,) = struct.unpack(header.order + pointer, raw[-inline:])
            if start + length > size:
                raise ValueError(f"the value of tag {code} lies beyond the end of the file")
            file.seek(start)
            data = file.read(length)
        if code in CHILDREN:
            children.update(_read_child(file, header, code, type_, data, size))
        else:
            tags.append(Tag(code, type_, data))
    return Directory(header.order, tuple(tags), children), frozenset(codes)


def pack_directory(directory: Directory, big: bool, at: int, following: int = 0) -> bytes:
    """Return a directory, its values and its children as they lie at a file position.

    Parameters
    ----------
    directory : Directory
        In the byte order of the file.
    big : bool
        64-bit offsets.
    at : int
        Where the bytes will be written.
    following : int
        Position of the next directory of the chain, or 0.
    """
    count_format, count_size, entry, pointer = _shape(big)
    order, inline = directory.order, struct.calcsize(pointer)
    below = {c: child for c, child in directory.children.items() if c in CHILDREN}
    entries = sorted(
        [*directory.tags, *(Tag(c, LONG8 if big else LONG, bytes(inline)) for c in below)],
        key=lambda tag: tag.code,
    )
    values_at = at + count_size + len(entries) * entry + inline
    table, values = bytearray(struct.pack(order + count_format, len(entries))), bytearray()
    for tag in entries:
        data = tag.data
        values.extend(bytes(len(values) % 2))
        here = values_at + len(values)
        if tag.code in below:
            values += pack_directory(below[tag.code], big, here)
            data = struct.pack(order + pointer, here)
        elif len(data) > inline:
            values += data
            data = struct.pack(order + pointer, here)
        table += struct.pack(order + "HH" + pointer, tag.code, tag.type, tag.count)
        table += data.ljust(inline, b"\0")
    values.extend(bytes(len(values) % 2))
    return bytes(table + struct.pack(order + pointer, following) + values)


def parse_block(block: bytes) -> Directory:
    """Return the first directory of an EXIF block, with its children."""
    file = io.BytesIO(block)
    header = read_header(file)
    return read_directory(file, header, header.first, len(block))[0]


def pack_block(directory: Directory) -> bytes:
    """Return an EXIF block: a TIFF structure of this directory alone."""
    order = directory.order
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + pack_directory(directory, False, 8)


def next_pointer_at(directory: Directory, big: bool, at: int) -> int:
    """Return where the pointer to the next directory lies in what `pack_directory` returned."""
    _, count_size, entry, _ = _shape(big)
    return at + count_size + (len(directory.tags) + len(directory.children)) * entry


def _shape(big: bool) -> tuple[str, int, int, str]:
    """Format and size of the tag count, size of an entry, format of an offset."""
    return ("Q", 8, 20, "Q") if big else ("H", 2, 12, "I")


def _swapped(tag: Tag) -> bytes:
    kind = NUMBER.get(tag.type, "u1")
    return np.frombuffer(tag.data, kind).byteswap().tobytes()


def _read_child(
    file: IO[bytes], header: Header, code: int, type_: int, data: bytes, size: int
) -> dict[int, Directory]:
    """Return an EXIF, GPS or interoperability directory; nothing where it is damaged."""
    if type_ not in (LONG, 13, LONG8, 18) or len(data) != ITEM_SIZE[type_]:
        return {}
    at = int(np.frombuffer(data, np.dtype(NUMBER[type_]).newbyteorder(header.order))[0])
    # Only EXIF has a child, so that no chain of children can loop.
    skip = CHILDREN - {INTEROP} if code == EXIF else CHILDREN
    try:
        child, _ = read_directory(file, header, at, size, skip)
    except (ValueError, struct.error):
        return {}
    return {code: child}
