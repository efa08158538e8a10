"""PSNR, the four kinds of SSIM that papers call SSIM, and protocols: what a number means.

The kinds differ by some hundredths on the same images, so each has a name and none is simply
"SSIM". Images are (H, W, C) on 0..1; values beyond are taken as they are.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from denoisekit.errors import InputError, UsageError, did_you_mean, find_by_id

Floats = npt.NDArray[np.floating[Any]]

SSIM_KINDS = {
    "gaussian": "Gaussian window of sigma 1.5 (11x11), mean of channels",
    "uniform": "uniform 7x7 window, sample covariance, mean of channels",
    "y": "Gaussian window of sigma 1.5 (11x11), BT.601 luma of 16 to 235",
    "volume": "3-D Gaussian window over rows, columns and channels",
}
GAUSSIAN = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
WINDOWS = {"uniform": np.full(7, 1 / 7)} | dict.fromkeys(
    ("gaussian", "y", "volume"), GAUSSIAN / GAUSSIAN.sum()
)


def decibels(mean_squared_error: float) -> float:
    """Return a mean squared error on 0..1 as PSNR in dB; infinite where it is 0."""
    return -10 * math.log10(mean_squared_error) if mean_squared_error else math.inf


def psnr(clean: Floats, denoised: Floats) -> float:
    """Return the peak signal-to-noise ratio in dB, over all samples; infinite where equal.

    Parameters
    ----------
    clean, denoised : numpy.ndarray
        Of one shape, on 0..1.
    """
    return decibels(float(np.square(np.subtract(clean, denoised, dtype=np.float64)).mean()))


def ssim(clean: Floats, denoised: Floats, kind: str = "gaussian") -> float:
    """Return the structural similarity, 1 where equal.

    Parameters
    ----------
    clean, denoised : numpy.ndarray
        (H, W, C) of one shape, on 0..1.
    kind : str
        One of `SSIM_KINDS`.

    Raises
    ------
    InputError
        The images are smaller than the window.
    UsageError
        There is no such kind.
    """
    if kind not in SSIM_KINDS:
        raise UsageError(f"there is no SSIM '{kind}'", did_you_mean(kind, [*SSIM_KINDS]))
    x: Floats = np.asarray(clean, np.float64)
    y: Floats = np.asarray(denoised, np.float64)
    window = WINDOWS[kind]
    axes = range(3 if kind == "volume" else 2)
    if kind == "y":
        x, y = luma(x), luma(y)
    if kind == "volume":  # its borders are repeated
        x, y = (np.pad(image, len(window) // 2, mode="edge") for image in (x, y))
    elif min(x.shape[:2]) < len(window):
        raise InputError(
            f"an image of {x.shape[0]}x{x.shape[1]} pixels is smaller than the window of SSIM",
            f"it takes at least {len(window)} rows and columns",
        )

    def local(values: Floats) -> Floats:
        for axis in axes:
            windows = sliding_window_view(values, len(window), axis)
            values = np.einsum("...k,k", windows, window)
        return values

    mean_x, mean_y = local(x), local(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    sample = 49 / 48 if kind == "uniform" else 1.0
    covariance = sample * (local(x * y) - product)
    variances = sample * (local(x**2 + y**2) - squares)
    # The constants keep the quotients from 0/0.
    above = (2 * product + 0.01**2) * (2 * covariance + 0.03**2)
    below = (squares + 0.01**2) * (variances + 0.03**2)
    return float((above / below).mean())


def luma(image: Floats) -> Floats:
    """Return the brightness of a colour image as video codes it, 16/255 to 235/255.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C) on 0..1. One of another number of channels than 3 comes back as it is.

    Returns
    -------
    numpy.ndarray
        (H, W, 1), or the image.
    """
    if image.shape[2] != 3:
        return image
    coded: Floats = (image @ np.array([65.481, 128.553, 24.966]) + 16)[..., None] / 255
    return coded


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a denoised image is compared with the clean one.

    A protocol never changes: what measures otherwise gets another version.

    Attributes
    ----------
    id : str
        Its name.
    version : int
        Raised by every change that could move a number.
    title : str
        Whose it is, in a line.
    ssim : str
        One of `SSIM_KINDS`.
    rounding : {'even', 'up', 'none'}
        To 8 bits before comparing: halves to the even value (``numpy.rint``), halves up
        (``floor(x + 0.5)``), or not at all.
    clip : bool
        Whether values are first clipped to 0..1.
    border : int
        Pixels left out at every side.
    tile : int or None
        Side of the squares that the image is cut into, each denoised on its own; None: as
        the program does it.
    seed : int
        Of methods that draw.
    affine : bool
        Whether the two images differ in offset and gain, which are fitted first: those with
        which the clean image comes nearest to the noisy one, the same for all candidates.
    mosaic : bool
        Whether a pixel is one colour of a 2x2 pattern: the four are denoised as planes of
        their own, and measured together.
    """

    id: str
    version: int
    title: str
    ssim: str = "gaussian"
    rounding: Literal["even", "up", "none"] = "even"
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
            f"SSIM: {SSIM_KINDS[self.ssim]}",
        ]
        parts += ["offset and gain of noisy to clean taken out"] * self.affine
        parts += ["a mosaic, its four colours denoised apart"] * self.mosaic
        parts += [f"a border of {self.border} left out"] * bool(self.border)
        parts += [f"cut into squares of {self.tile}"] * bool(self.tile)
        return f"protocol {self.id} v{self.version}: {'; '.join(parts)}; seed {self.seed}"

    def facts(self) -> dict[str, Any]:
        """Return all of it, for a file of results."""
        return asdict(self)

    def seen(self, image: Floats) -> Floats:
        """Return an image as this protocol looks at it.

        Parameters
        ----------
        image : numpy.ndarray
            (H, W, C) on 0..1.

        Returns
        -------
        numpy.ndarray
            float64 on 0..1, its borders gone.
        """
        rest = slice(self.border, -self.border or None)
        values: Floats = np.asarray(image[rest, rest], np.float64)
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
            They are smaller than the window of SSIM, or the noisy image does not follow the
            clean one.
        """
        if self.affine:
            assert noisy is not None
            gain, offset = fit_levels(clean, noisy)
            denoised = (np.asarray(denoised, np.float64) - offset) / gain
        one, other = self.seen(clean), self.seen(denoised)
        return {"psnr": psnr(one, other), f"ssim_{self.ssim}": ssim(one, other, self.ssim)}


def fit_levels(clean: Floats, noisy: Floats) -> tuple[float, float]:
    """Return gain and offset with which a clean image comes nearest to a noisy one.

    Least squares: noise is in what is explained alone, so that it does not bend the line, as
    it would the other way around.

    Parameters
    ----------
    clean, noisy : numpy.ndarray
        Of one shape.

    Raises
    ------
    InputError
        The noisy image does not become brighter where the clean one does.
    """
    x: Floats = np.asarray(clean, np.float64).ravel()
    y: Floats = np.asarray(noisy, np.float64).ravel()
    centred = x - x.mean()
    squares = float(centred @ centred)
    gain = float(centred @ y) / squares if squares else 0.0
    if not gain > 0:
        raise InputError(
            "a noisy image does not follow its clean one", "are they of the same place?"
        )
    return gain, float(y.mean() - gain * x.mean())


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
        "apbsn", 1, "AP-BSN, CVPR 2022, and PUCA, LG-BPN: halves up, 7x7 windows", "uniform", "up"
    ),
    Protocol("basicsr-y", 1, "BasicSR on luma alone, as for TM-BSN", "y"),
    Protocol("matlab", 1, "MATLAB's ssim of a colour picture: a volume", "volume"),
    Protocol(
        "float", 1, "neither rounded nor clipped: 16 bits and floats", rounding="none", clip=False
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
        "fmd", 1, "FMD, CVPR 2019: not rounded, 7x7 windows, whole pictures", "uniform", "none"
    ),
)
SRGB = PROTOCOLS[0]


def find_protocol(name: str) -> Protocol:
    """Return the protocol with this id.

    Raises
    ------
    UsageError
        There is none.
    """
    return find_by_id("protocol", name, PROTOCOLS)
