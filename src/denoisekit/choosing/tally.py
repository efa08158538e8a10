"""What happened to what a network took away."""

from __future__ import annotations

from dataclasses import dataclass

HELD_BYTES = 2**28
"""Largest result that is held in memory while its noise is measured."""


@dataclass(slots=True)
class Tally:
    """Sums of squares over an image.

    Attributes
    ----------
    removed, returned : float
        Of all that was taken away, and of what was given back.
    """

    removed: float = 0.0
    returned: float = 0.0

    @property
    def share(self) -> float:
        """Part that was given back, 0 to about 1."""
        return self.returned / self.removed if self.removed else 0.0


def held_bytes(height: int, width: int, channels: int) -> int:
    """Return the memory that a result takes until its noise is measured, in bytes."""
    return min(HELD_BYTES, 4 * height * width * channels)
