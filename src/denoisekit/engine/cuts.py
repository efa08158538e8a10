"""How one axis of an image is cut: where tiles are read, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cuts:
    """Cuts along one axis: cores of length ``core`` from 0 to ``size``, each grown by ``halo``.

    All three are multiples of the grid, ``core`` at least one and at most ``size``.
    """

    size: int
    core: int
    halo: int

    @property
    def count(self) -> int:
        """Number of tiles along the axis."""
        return -(-self.size // self.core)

    def cut(self, i: int) -> tuple[int, int, int, int]:
        """Return (read start, core start, core stop, read stop) of tile ``i``."""
        start, stop = i * self.core, min(self.size, (i + 1) * self.core)
        return max(0, start - self.halo), start, stop, min(self.size, stop + self.halo)

    @property
    def largest(self) -> int:
        """Length of the longest read."""
        # Reads grow until the first one that is not cut off at 0 and shrink after it.
        first_free = self.halo // self.core + 1
        return max(
            stop - start
            for i in (first_free - 1, first_free)
            for start, _, _, stop in [self.cut(min(i, self.count - 1))]
        )

    @property
    def total(self) -> int:
        """Sum of the lengths of all reads."""
        # By symmetry the read stops lose as much at `size` as the starts at 0, apart from
        # the last core, which may be short: so both sums are taken on their own.
        n, h, g = self.count, self.core, self.halo
        first = min(n, g // h + 1)
        starts = h * (n - first) * (n + first - 1) // 2 - g * (n - first)
        free = min(n, max(0, (self.size - g) // h))
        stops = h * free * (free + 1) // 2 + g * free + self.size * (n - free)
        return stops - starts


@dataclass(frozen=True, slots=True)
class NativeCuts:
    """Reads of one length ``side``, evenly spread from 0 to ``size``.

    Neighbours share at least ``shared``; a core ends in the middle of that. Size and side
    are multiples of ``align``.
    """

    size: int
    side: int
    shared: int
    align: int

    @property
    def count(self) -> int:
        """Number of tiles along the axis."""
        if self.side >= self.size:
            return 1
        step = (self.side - self.shared) // self.align * self.align
        return 1 - (self.side - self.size) // step

    def _start(self, i: int) -> int:
        steps = (self.size - self.side) // self.align
        return steps * i // (self.count - 1) * self.align

    def _border(self, i: int) -> int:
        """Return where core ``i`` begins: amid the overlap of reads ``i`` - 1 and ``i``."""
        if i in (0, self.count):
            return self.size if i else 0
        return (self._start(i) + self._start(i - 1) + self.side) // 2

    def cut(self, i: int) -> tuple[int, int, int, int]:
        """Return (read start, core start, core stop, read stop) of tile ``i``."""
        start = self._start(i) if self.count > 1 else 0
        return start, self._border(i), self._border(i + 1), start + self.largest

    @property
    def largest(self) -> int:
        """Length of a read."""
        return min(self.side, self.size)

    @property
    def total(self) -> int:
        """Sum of the lengths of all reads."""
        return self.count * self.largest
