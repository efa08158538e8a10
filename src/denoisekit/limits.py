"""What a network demands of the tiles that it is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Facts that tiling needs about a network; a test perturbs pixels to prove them.

    Attributes
    ----------
    multiple_of : int
        Height and width of a network call must be multiples of this.
    align : int
        Tiles must begin on multiples of this, counted from the image's origin.
    halo : int
        Input pixels farther than this from an output pixel do not change it. With
        `native`: the rim of a call that is thrown away, because the network does worse
        there.
    native : int or None
        None: the network is local, and tiles are exact. Otherwise its result at a pixel
        depends on all that a call sees; it is called on boxes of this side, the one it
        was made for, and neighbours are blended.
    blend : int
        Width over which neighbouring boxes of a network that is not local are mixed.
    """

    multiple_of: int = 1
    align: int = 1
    halo: int = 0
    native: int | None = None
    blend: int = 0
