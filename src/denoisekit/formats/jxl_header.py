"""The first bits of a JPEG XL codestream: size, depth, orientation, colour.

The encoder at hand can state neither an orientation nor a colour space, so its header
is taken apart here and put together again with both; the frames after the header
begin on a byte and hold no positions, so they stay as they are.
Bit layouts: ISO/IEC 18181-1, image headers.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class Bits:
    """Reads bits, least significant first, and keeps count."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._value = int.from_bytes(data, "little")
        self._length = 8 * len(data)
        self.at = at

    def take(self, count: int) -> int:
        """Return the next ``count`` bits as a number."""
        if self.at + count > self._length:
            raise ValueError("the JPEG XL header is cut off")
        value = self._value >> self.at & ((1 << count) - 1)
        self.at += count
        return value

    def flag(self) -> bool:
        """Return the next bit."""
        return bool(self.take(1))

    def choice(self, *options: tuple[int, int]) -> int:
        """Return a number coded as one of four (bits, offset)."""
        bits, offset = options[self.take(2)]
        return offset + self.take(bits)

    def enum(self) -> int:
        """Return a coded enumeration value."""
        return self.choice((0, 0), (0, 1), (4, 2), (6, 18))

    def piece(self, start: int, end: int) -> tuple[int, int]:
        """Return the bits from ``start`` to ``end`` as (value, count)."""
        return self._value >> start & ((1 << (end - start)) - 1), end - start


@dataclass(slots=True)
class Header:
    """What the header says.

    ``colour`` and ``depth_span`` locate bits that are copied unread; ``end`` is the byte
    after the header, None where the header is not simple enough to be rewritten.
    """

    width: int = 0
    height: int = 0
    orientation: int = 1
    animated: bool = False
    preview: bool = False
    floating: bool = False
    depth: int = 8
    extra: list[tuple[int, bool]] = field(default_factory=list)
    lossy: bool = True
    gray: bool = False
    icc: bool = False
    colour: tuple[int, int] = (1, 1)
    size_end: int = 0
    depth_span: tuple[int, int] | None = None
    end: int | None = None


def parse(stream: bytes) -> Header:
    """Read the header of a codestream.

    Raises
    ------
    ValueError
        Cut off, or not a JPEG XL codestream.
    """
    if stream[:2] != b"\xff\x0a":
        raise ValueError("not a JPEG XL codestream")
    bits, head = Bits(stream[:4096], 16), Header()
    head.width, head.height = _size(bits)
    head.size_end = bits.at
    simple = bits.flag() or _image(bits, head)
    if simple and bits.flag():  # the default colour transform
        head.end = -(-bits.at // 8)
    return head


def _image(bits: Bits, head: Header) -> bool:
    """Read what is not default; return whether nothing unusual follows."""
    extra = bits.flag()
    if extra:
        head.orientation = bits.take(3) + 1
        if bits.flag():
            _size(bits)
        if bits.flag():
            head.preview = True
            return False
        if bits.flag():
            head.animated = True
            return False
    start = bits.at
    head.floating, head.depth = _depth(bits)
    bits.flag()  # 16-bit buffers suffice
    count = bits.choice((0, 0), (0, 1), (4, 2), (12, 1))
    head.extra = [_extra_channel(bits) for _ in range(count)]
    head.lossy = bits.flag()
    head.depth_span = (start, bits.at)
    start = bits.at
    head.gray, head.icc = _colour(bits)
    head.colour = bits.piece(start, bits.at)
    if extra and not bits.flag():  # tone mapping
        bits.take(16 + 16 + 1 + 16)
    return bits.take(2) == 0 and not head.icc  # no extensions


def _size(bits: Bits) -> tuple[int, int]:
    small = bits.flag()

    def side() -> int:
        if small:
            return 8 * (bits.take(5) + 1)
        return bits.choice((9, 1), (13, 1), (18, 1), (30, 1))

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return side(), height
    over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * over // under, height


def _depth(bits: Bits) -> tuple[bool, int]:
    if bits.flag():
        depth = bits.choice((0, 32), (0, 16), (0, 24), (6, 1))
        bits.take(4)
        return True, depth
    return False, bits.choice((0, 8), (0, 10), (0, 12), (6, 1))


def _extra_channel(bits: Bits) -> tuple[int, bool]:
    """Return the kind of the channel (0: opacity) and whether colours are multiplied by it."""
    if bits.flag():
        return 0, False
    kind = bits.enum()
    _depth(bits)
    bits.choice((0, 0), (0, 3), (0, 4), (3, 1))
    letters = bits.choice((0, 0), (4, 0), (5, 16), (10, 48))
    bits.take(8 * letters)
    return kind, bits.flag() if kind == 0 else False


def _colour(bits: Bits) -> tuple[bool, bool]:
    """Read a colour encoding; return whether it is gray, and whether an ICC profile follows."""
    if bits.flag():
        return False, False
    icc, space = bits.flag(), bits.enum()
    if icc:
        return space == 1, True
    custom = ((19, 0), (19, 524288), (20, 1048576), (21, 2097152))
    if space != 2 and bits.enum() == 2:  # white point
        bits.choice(*custom), bits.choice(*custom)
    if space not in (1, 2) and bits.enum() == 2:  # primaries
        for _ in range(6):
            bits.choice(*custom)
    if space != 2:
        if bits.flag():
            bits.take(24)  # gamma
        else:
            bits.enum()
    bits.enum()  # rendering intent
    return space == 1, False


def rewrite(stream: bytes, orientation: int, colour: tuple[int, int] | None) -> bytes:
    """Return a codestream with another orientation and, where given, colour encoding.

    Raises
    ------
    ValueError
        The stream's header is not of the simple kind that our encoder writes.
    """
    head = parse(stream)
    if head.end is None:
        raise ValueError("a JPEG XL header that cannot be rewritten")
    bits = Bits(stream[: head.end])
    # Defaults written out: 8 bits, 16-bit buffers suffice, no extra channels, lossy.
    middle = bits.piece(*head.depth_span) if head.depth_span else (0b1001000, 7)
    parts = [
        bits.piece(0, head.size_end),
        (0b10, 2),  # not all default; orientation and tone mapping are written
        (orientation - 1, 3),
        (0, 3),  # no intrinsic size, preview, animation
        middle,
        colour or head.colour,
        (0b1001, 4),  # tone mapping default, no extensions (2 bits), transform default
    ]
    value = length = 0
    for part, count in parts:
        value |= part << length
        length += count
    return value.to_bytes(-(-length // 8), "little") + stream[head.end :]
