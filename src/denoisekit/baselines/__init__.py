"""What a result is compared with: denoisers that need no weights and no training set.

They take and return (H, W, C) float32 on 0..1, and see nothing but the noisy image.
All but ``zsn2n`` need scikit-image, ``fastnlm`` OpenCV too:
``pip install 'denoisekit[bench]'``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoisekit.baselines import classical, opencv, zsn2n
from denoisekit.errors import UsageError, did_you_mean

__all__ = ["BASELINES", "Baseline", "find_baseline"]

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Baseline:
    """A denoiser to compare with.

    Attributes
    ----------
    id, title, citation : str
        One line each.
    run : callable
        ``run(noisy, seed)``: (H, W, C) float32 on 0..1 in and out.
    """

    id: str
    title: str
    citation: str
    run: Callable[[Floats, int], Floats]


BASELINES: tuple[Baseline, ...] = (
    Baseline(
        "zsn2n",
        "ZS-N2N: two hidden layers learn to tell two halves of the image from each other",
        "Mansour and Heckel, Zero-Shot Noise2Noise, CVPR 2023",
        zsn2n.denoise,
    ),
    Baseline(
        "wavelet",
        "soft thresholds of wavelet coefficients (BayesShrink)",
        "Chang, Yu and Vetterli, Adaptive Wavelet Thresholding, IEEE TIP 2000",
        classical.wavelet,
    ),
    Baseline(
        "nlm",
        "non-local means with the estimated sigma",
        "Buades, Coll and Morel, A Non-Local Algorithm for Image Denoising, CVPR 2005",
        classical.nlm,
    ),
    Baseline(
        "fastnlm",
        "non-local means of OpenCV with the estimated sigma, on 8 bits",
        "Buades, Coll and Morel, Non-Local Means Denoising, IPOL 2011",
        opencv.fastnlm,
    ),
    Baseline(
        "tv",
        "total variation that takes off as much as the estimated sigma",
        "Chambolle, An Algorithm for Total Variation Minimization, JMIV 2004",
        classical.tv,
    ),
    Baseline(
        "jinvariant",
        "wavelets or total variation, whichever predicts hidden pixels best, with its strength",
        "Batson and Royer, Noise2Self, ICML 2019",
        classical.jinvariant,
    ),
)


def find_baseline(name: str) -> Baseline:
    """Return the baseline with this id.

    Raises
    ------
    UsageError
        There is none.
    """
    for known in BASELINES:
        if known.id == name:
            return known
    names = [known.id for known in BASELINES]
    raise UsageError(f"there is no baseline '{name}'", did_you_mean(name, names))
