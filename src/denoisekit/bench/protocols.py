"""What a number means: how pictures are rounded, cut and compared, as named data.

A protocol never changes: what measures otherwise gets another version.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from denoisekit.bench.metrics import Floats, find_family, psnr, ssim
from denoisekit.errors import InputError, UsageError, did_you_mean

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
    affine : bool
        Whether the two pictures differ in offset and gain, which are found first: those with
        which the clean picture comes nearest to the noisy one, the same for all candidates.
    mosaic : bool
        Whether a pixel is one colour of a 2x2 pattern: the four are denoised as planes of
        their own, and measured together.
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
    affine: bool = False
    mosaic: bool = False

    def __str__(self) -> str:
        rounding = {"even": "rounded to 8 bits", "up": "rounded half up to 8 bits"}
        parts = [
            rounding.get(self.rounding, "not rounded"),
            "clipped to 0..1" if self.clip else "not clipped",
            f"SSIM: {find_family(self.ssim).summary}",
        ]
        parts += ["offset and gain of noisy to clean taken out"] * self.affine
        parts += ["a mosaic, its four colours denoised apart"] * self.mosaic
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

    def measure(
        self, clean: Floats, denoised: Floats, noisy: Floats | None = None
    ) -> dict[str, float]:
        """Return the numbers: ``psnr`` in dB, and ``ssim_`` with its kind.

        Parameters
        ----------
        clean, denoised : numpy.ndarray
            (H, W, C) of one shape, on 0..1.
        noisy : numpy.ndarray, optional
            The same; needed where offset and gain are taken out.

        Raises
        ------
        InputError
            They are smaller than the window of SSIM, or the noisy picture does not follow the
            clean one.
        """
        if self.affine:
            assert noisy is not None
            gain, offset = fit_levels(clean, noisy)
            denoised = (np.asarray(denoised, np.float64) - offset) / gain
        one, other = self.seen(clean), self.seen(denoised)
        return {"psnr": psnr(one, other), f"ssim_{self.ssim}": ssim(one, other, self.ssim)}


def fit_levels(clean: Floats, noisy: Floats) -> tuple[float, float]:
    """Return gain and offset with which a clean picture comes nearest to a noisy one.

    Least squares: noise is in what is explained alone, so that it does not bend the line, as
    it would the other way around.

    Parameters
    ----------
    clean, noisy : numpy.ndarray
        Of one shape.

    Raises
    ------
    InputError
        The noisy picture does not become brighter where the clean one does.
    """
    one: Floats = np.asarray(clean, np.float64).ravel()
    other: Floats = np.asarray(noisy, np.float64).ravel()
    bend = one - one.mean()
    squares = float(bend @ bend)
    gain = float(bend @ other) / squares if squares else 0.0
    if not gain > 0:
        raise InputError(
            "a noisy picture does not follow its clean one", "are they of the same place?"
        )
    return gain, float(other.mean() - gain * one.mean())


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
    Protocol(
        "raw",
        1,
        "raw pictures, as Neighbor2Neighbor and Blind2Unblind measure them",
        rounding="none",
        mosaic=True,
    ),
    Protocol(
        "w2s",
        1,
        "W2S, ECCV workshops 2020: not rounded, 7x7 windows; offset and gain are ours",
        ssim="uniform",
        rounding="none",
        affine=True,
    ),
    Protocol(
        "fmd",
        1,
        "FMD, CVPR 2019: not rounded, 7x7 windows, whole pictures",
        ssim="uniform",
        rounding="none",
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
