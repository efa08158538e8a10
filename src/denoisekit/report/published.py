"""What papers say that methods reach, to stand beside what was measured here.

Only methods of ours, on sets of ours. Where a number is known from another paper than the
method's own, the source says so. The kind of SSIM is given where it is known.
"""

from __future__ import annotations

from dataclasses import dataclass

_PROMPT_SID = "Prompt-SID, AAAI 2025, tables 1 and 2"


@dataclass(frozen=True, slots=True)
class Published:
    """Numbers of a paper.

    Attributes
    ----------
    set, noise : str
        Ids as in a file of results; ``noise`` is empty where the pictures are noisy already.
    method : str
        What the paper calls it.
    ours : str
        The id of the candidate here that is nearest to it: weights, or a method.
    psnr : float
        Mean, in dB.
    source : str
        Where it stands.
    ssim : float or None
        Mean.
    kind : str
        Of SSIM, as in a protocol; empty: not known.
    """

    set: str
    noise: str
    method: str
    ours: str
    psnr: float
    source: str
    ssim: float | None = None
    kind: str = ""


def _synthetic(set: str, noise: str, method: str, ours: str, psnr: float, ssim: float) -> Published:
    return Published(set, noise, method, ours, psnr, _PROMPT_SID, ssim, "gaussian")


PUBLISHED: tuple[Published, ...] = (
    Published("sidd", "", "APR-RD", "aprrd.sidd", 38.00, "as quoted by TM-BSN, CVPR 2026"),
    Published("sidd", "", "TM-BSN (D)", "aprrd.tmbsn-sidd", 38.08, "TM-BSN, CVPR 2026"),
    Published(
        "sidd", "", "SDAP (E)", "sdap.sidd", 37.30, "as quoted by AT-BSN, CVPR 2024, table 1"
    ),
    Published(
        "sidd", "", "SS-BSN, refined", "ssbsn.sidd", 37.32, "as quoted by SelfFormer, table 2"
    ),
    Published("sidd", "", "ZS-N2N", "zsn2n", 25.59, "as measured by NLR, NeurIPS 2025, table 1"),
    _synthetic("kodak", "gaussian:25/255", "Prompt-SID", "promptsid", 32.41, 0.883),
    _synthetic("kodak", "gaussian:25/255", "ZS-N2N", "zsn2n", 29.25, 0.779),
    _synthetic("kodak", "poisson:30", "Prompt-SID", "promptsid", 31.65, 0.874),
    _synthetic("kodak", "poisson:30", "ZS-N2N", "zsn2n", 28.70, 0.756),
    _synthetic("bsd", "gaussian:25/255", "Prompt-SID", "promptsid", 31.16, 0.880),
    _synthetic("bsd", "gaussian:25/255", "ZS-N2N", "zsn2n", 28.56, 0.801),
    _synthetic("bsd", "poisson:30", "Prompt-SID", "promptsid", 30.43, 0.869),
    _synthetic("bsd", "poisson:30", "ZS-N2N", "zsn2n", 28.07, 0.787),
)


def published_on(set: str, noise: str) -> list[Published]:
    """Return what is known of a set."""
    return [entry for entry in PUBLISHED if (entry.set, entry.noise) == (set, noise)]
