"""What a number means: how pictures are rounded, cut and compared, as named data.

A protocol never changes: what measures otherwise gets another version.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from denoisekit.bench.metrics import Floats, find_family, psnr, ssim
from denoisekit.errors import UsageError, did_you_mean

Rounding = Literal["even", "up", "none"]


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a denoised picture is compared with the clean one.

    Attributes
    ----------
    id : str
        Its name.
    version : int
        Raised by every change that could move a number.
    title : str
        Whose it is, in a line.
    ssim : str
        The kind of SSIM, of `denoisekit.bench.metrics.FAMILIES`.
    rounding : {'even', 'up', 'none'}
        To 8 bits before comparing: halves to the even value (``numpy.rint``), halves up
        (``floor(x + 0.5)``), or not at all.
    clip : bool
        Whether values are first clipped to 0..1.
    border : int
        Pixels left out at every side.
    tile : int or None
        Side of the squares that the picture is cut into, each denoised on its own; None: as
        the program does it.
    seed : int
        Of methods that draw.
    """

    id: str
    version: int
    title: str
    ssim: str = "gaussian"
    rounding: Rounding = "even"
    clip: bool = True
    border: int = 0
    tile: int | None = None
    seed: int = 0

    def __str__(self) -> str:
        rounding = {"even": "rounded to 8 bits", "up": "rounded half up to 8 bits"}
        parts = [
            rounding.get(self.rounding, "not rounded"),
            "clipped to 0..1" if self.clip else "not clipped",
            f"SSIM: {find_family(self.ssim).summary}",
        ]
        parts += [f"a border of {self.border} left out"] * bool(self.border)
        parts += [f"cut into squares of {self.tile}"] * bool(self.tile)
        return f"protocol {self.id} v{self.version}: {'; '.join(parts)}; seed {self.seed}"

    def facts(self) -> dict[str, Any]:
        """Return all of it, for a file of results."""
        return asdict(self)

    def seen(self, picture: Floats) -> Floats:
        """Return a picture as this protocol looks at it.

        Parameters
        ----------
        picture : numpy.ndarray
            (H, W, C) on 0..1.

        Returns
        -------
        numpy.ndarray
            float64 on 0..1, its borders gone.
        """
        rest = slice(self.border, -self.border or None)
        values: Floats = np.asarray(picture[rest, rest], np.float64)
        if self.clip:
            values = values.clip(0, 1)
        if self.rounding == "even":
            values = np.rint(values * 255) / 255
        elif self.rounding == "up":
            values = np.floor(values * 255 + 0.5) / 255
        return values

    def measure(self, clean: Floats, denoised: Floats) -> dict[str, float]:
        """Return the numbers: ``psnr`` in dB, and ``ssim_`` with its kind.

        Parameters
        ----------
        clean, denoised : numpy.ndarray
            (H, W, C) of one shape, on 0..1.

        Raises
        ------
        InputError
            They are smaller than the window of SSIM.
        """
        one, other = self.seen(clean), self.seen(denoised)
        return {"psnr": psnr(one, other), f"ssim_{self.ssim}": ssim(one, other, self.ssim)}


PROTOCOLS = (
    Protocol("srgb", 1, "the usual one for photographs of 8 bits"),
    Protocol("sdap", 1, "SDAP, ICCV 2023: img_as_ubyte"),
    Protocol("aprrd", 1, "APR-RD, AAAI 2025: saved as PNG, read back"),
    Protocol("promptsid", 1, "Prompt-SID, AAAI 2025: BasicSR in RGB"),
    Protocol(
        "ssbsn",
        1,
        "SS-BSN, IJCAI 2023: halves up, 7x7 windows, squares of 256",
        ssim="uniform",
        rounding="up",
        tile=256,
    ),
    Protocol(
        "apbsn",
        1,
        "AP-BSN, CVPR 2022, and PUCA, LG-BPN: halves up, 7x7 windows",
        ssim="uniform",
        rounding="up",
    ),
    Protocol("basicsr-y", 1, "BasicSR on luma alone, as for TM-BSN", ssim="y"),
    Protocol("matlab", 1, "MATLAB's ssim of a colour picture: a volume", ssim="volume"),
    Protocol(
        "float", 1, "neither rounded nor clipped: 16 bits and floats", "gaussian", "none", False
    ),
)
DEFAULT = PROTOCOLS[0]


def find_protocol(name: str) -> Protocol:
    """Return the protocol with this id.

    Raises
    ------
    UsageError
        There is none.
    """
    for protocol in PROTOCOLS:
        if protocol.id == name:
            return protocol
    names = [protocol.id for protocol in PROTOCOLS]
    raise UsageError(f"there is no protocol '{name}'", did_you_mean(name, names))
