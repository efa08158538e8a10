"""What a result is compared with: denoisers that need no weights and no training set.

They take and return (H, W, C) float32 on 0..1, and see nothing but the noisy image.
All but ``zsn2n`` need scikit-image, ``fastnlm`` OpenCV too:
``pip install 'denoisekit[bench]'``. Their strengths follow from the image alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoisekit.errors import UsageError, pip_install

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = npt.NDArray[np.floating[Any]]

TRIALS = 12
"""Halvings in the search for the strength of total variation."""
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Tried by J-invariance, as multiples of the estimated sigma."""
OPENCV_STRENGTH = 0.8
"""Of OpenCV's filter, as a multiple of the estimated sigma: the best of a few on Gaussian noise."""
OPENCV_CHANNELS = 4
"""That OpenCV takes at once."""
ZSN2N_STEPS, ZSN2N_WIDTH, ZSN2N_RATE, ZSN2N_HALVED = 2000, 48, 1e-3, 1000
"""As in the paper; the last are the steps after which the rate is halved."""


def _restoration() -> Any:
    try:
        import pywt  # noqa: F401 - scikit-image asks for it late, in words of its own
        from skimage import restoration
    except ImportError as error:
        raise UsageError(f"this baseline needs {error.name}", pip_install("bench")) from error
    return restoration


def _estimated_sigma(noisy: Floats) -> float:
    sigma: float = _restoration().estimate_sigma(noisy, average_sigmas=True, channel_axis=-1)
    return sigma


def wavelet(noisy: Floats, _seed: int = 0, sigma: float | None = None) -> Floats:
    """Denoise by BayesShrink, with the sigma that scikit-image estimates where none is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of images too small for all levels
        return _float32(
            _restoration().denoise_wavelet(
                noisy,
                sigma=sigma,
                convert2ycbcr=noisy.shape[2] == 3,
                rescale_sigma=True,
                channel_axis=-1,
            )
        )


def _tv(noisy: Floats, weight: float) -> Floats:
    return _float32(_restoration().denoise_tv_chambolle(noisy, weight, channel_axis=-1))


def _float32(denoised: Floats) -> Floats:
    return denoised.astype(np.float32, copy=False)


def nlm(noisy: Floats, _seed: int = 0) -> Floats:
    """Denoise by non-local means."""
    sigma = _estimated_sigma(noisy)
    denoised: Floats = _restoration().denoise_nl_means(
        noisy,
        h=0.8 * sigma,
        sigma=sigma,
        patch_size=5,
        patch_distance=6,
        fast_mode=True,
        channel_axis=-1,
    )
    # It drops an axis of one channel.
    return _float32(denoised.reshape(noisy.shape))


def fastnlm(noisy: Floats, _seed: int = 0) -> Floats:
    """Denoise by OpenCV's non-local means: fast, on 8 bits, with the sizes that it recommends."""
    try:
        import cv2
    except ImportError as error:
        raise UsageError(f"this baseline needs {error.name}", pip_install("bench")) from error
    strength = OPENCV_STRENGTH * 255 * _estimated_sigma(noisy)
    rounded = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    parts = []
    for first in range(0, noisy.shape[2], OPENCV_CHANNELS):
        part = np.ascontiguousarray(rounded[..., first : first + OPENCV_CHANNELS])
        found = cv2.fastNlMeansDenoising(part, None, strength, 7, 21)
        parts.append(found.reshape(*noisy.shape[:2], -1))
    return _float32(np.concatenate(parts, axis=2)) / np.float32(255)


def tv(noisy: Floats, _seed: int = 0) -> Floats:
    """Denoise by total variation, as strongly as takes off the estimated sigma."""
    sigma = _estimated_sigma(noisy)
    low, high = 0.0, 4.0
    for _ in range(TRIALS):
        weight = (low + high) / 2
        taken = float(np.sqrt(np.square(noisy - _tv(noisy, weight)).mean()))
        low, high = (weight, high) if taken < sigma else (low, weight)
    return _tv(noisy, low) if low else noisy


def jinvariant(noisy: Floats, _seed: int = 0) -> Floats:
    """Denoise by what predicts hidden pixels best: wavelets or total variation."""
    sigma = max(_estimated_sigma(noisy), 1e-4)
    functions: list[tuple[Callable[..., Floats], str]] = [(wavelet, "sigma"), (_tv, "weight")]
    found = []
    for function, name in functions:
        values = [sigma * strength for strength in STRENGTHS]
        denoise, (_, losses) = _restoration().calibrate_denoiser(
            noisy, function, {name: values}, extra_output=True
        )
        found.append((min(losses), denoise))
    _, best = min(found, key=lambda pair: pair[0])
    return _float32(best(noisy))


def zsn2n(noisy: Floats, seed: int, steps: int = ZSN2N_STEPS) -> Floats:
    """Denoise by ZS-N2N: a small network learns one half of a noisy image from the other.

    Mansour and Heckel, "Zero-Shot Noise2Noise: Efficient Image Denoising without any Data",
    CVPR 2023. Written from the paper: two means of diagonal neighbours in every 2x2 cell are
    two noisy versions of the image at half its size; a residual network of 48 features learns
    each from the other, and to do the same to the whole image as to its halves.

    Parameters
    ----------
    noisy : numpy.ndarray
        (H, W, C) float32 on 0..1, at least 2x2.
    seed : int
        Of the network's initialisation.
    steps : int
        As in the paper.
    """
    import torch

    image = torch.from_numpy(np.ascontiguousarray(noisy.transpose(2, 0, 1), np.float32))[None]
    net = zsn2n_network(image.shape[1], seed)
    adam = torch.optim.Adam(net.parameters(), ZSN2N_RATE)
    schedule = torch.optim.lr_scheduler.StepLR(adam, ZSN2N_HALVED, 0.5)
    # The halves need even sides; the network takes any.
    even = image[:, :, : image.shape[2] // 2 * 2, : image.shape[3] // 2 * 2]
    for _ in range(steps):
        adam.zero_grad()
        zsn2n_loss(net, even).backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
    with torch.no_grad():
        denoised: Floats = (image - net(image)).clamp(0, 1)[0].numpy()
    return denoised.transpose(1, 2, 0)


def zsn2n_network(channels: int, seed: int) -> nn.Sequential:
    """Return the network that predicts the noise; torch's generator is left alone."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(channels, ZSN2N_WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ZSN2N_WIDTH, ZSN2N_WIDTH, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ZSN2N_WIDTH, channels, 1),
        )


def zsn2n_halves(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of both diagonals of every 2x2 cell, (N, C, H/2, W/2) each."""
    a, b = image[:, :, 0::2, 0::2], image[:, :, 0::2, 1::2]
    c, d = image[:, :, 1::2, 0::2], image[:, :, 1::2, 1::2]
    return (b + c) / 2, (a + d) / 2


def zsn2n_loss(net: nn.Module, image: Tensor) -> Tensor:
    """Return the error between the halves, and between halves of the result and results."""
    noisy = zsn2n_halves(image)
    denoised = [half - net(half) for half in noisy]
    whole = zsn2n_halves(image - net(image))
    pairs = [(noisy[0], denoised[1]), (noisy[1], denoised[0]), *zip(denoised, whole, strict=True)]
    errors: list[Tensor] = [(a - b).square().mean() for a, b in pairs]
    return (errors[0] + errors[1]) / 2 + (errors[2] + errors[3]) / 2


@dataclass(frozen=True, slots=True)
class Baseline:
    """A denoiser to compare with.

    Attributes
    ----------
    id, citation : str
        One line each.
    run : callable
        ``run(noisy, seed)``: (H, W, C) float32 on 0..1 in and out.
    """

    id: str
    citation: str
    run: Callable[[Floats, int], Floats]


BASELINES: tuple[Baseline, ...] = (
    Baseline("zsn2n", "Mansour and Heckel, Zero-Shot Noise2Noise, CVPR 2023", zsn2n),
    Baseline(
        "wavelet", "Chang, Yu and Vetterli, Adaptive Wavelet Thresholding, IEEE TIP 2000", wavelet
    ),
    Baseline(
        "nlm", "Buades, Coll and Morel, A Non-Local Algorithm for Image Denoising, CVPR 2005", nlm
    ),
    Baseline("fastnlm", "Buades, Coll and Morel, Non-Local Means Denoising, IPOL 2011", fastnlm),
    Baseline("tv", "Chambolle, An Algorithm for Total Variation Minimization, JMIV 2004", tv),
    Baseline("jinvariant", "Batson and Royer, Noise2Self, ICML 2019", jinvariant),
)
