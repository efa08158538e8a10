"""What a network can learn from one image: a table of objectives, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from denoisekit.fitting.material import Material
from denoisekit.methods import MethodInfo, Stage, get_method
from denoisekit.methods.recipe import cosine
from denoisekit.noise.estimate import NoiseEstimate, estimate_noise

if TYPE_CHECKING:
    from denoisekit.fitting.losses import Loss

FAR = 0.1
"""Correlation at a distance from which on pixels count as independent."""

FAR_OFF = 5.0
"""Deviations of noise beyond which neighbours in a mostly empty image differ for another reason:
few of them would outweigh all others."""

RISE = 0.03
"""Part of the time in which the rate of a plain network rises. At the full rate at once, the
features of a wide one can all become 0 for good: it then returns the image as it is."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What matters of an image's noise.

    Attributes
    ----------
    correlated : bool
        Whether neighbouring pixels share noise.
    reach : int
        Distance up to which they do; 0: not at all.
    sigma : float
        Its standard deviation, mean of the channels, on 0..1.
    sparse : bool
        Whether the image is mostly empty, with few values that are far from the others.
    """

    correlated: bool
    reach: int
    sigma: float
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class Objective:
    """What a network learns from.

    Attributes
    ----------
    id, summary : str
        One line each.
    method : str
        Id of the method whose network learns.
    stage : callable
        ``stage(noise, channels, width)`` says how.
    widths : tuple of int
        Sizes of the network to choose from, the smallest first.
    judged : mapping
        Settings of the method with which it is judged while it learns: the quick ones.
    """

    id: str
    summary: str
    method: str
    stage: Callable[[Noise, int, int], Stage]
    widths: tuple[int, ...]
    judged: Mapping[str, object] = field(default_factory=dict)


def measure_noise(material: Material, *, sparse: bool = False) -> Noise:
    """Judge the noise by the middle part of an image."""
    middle = material.noisy[len(material.noisy) // 2]
    found = estimate_noise(middle.transpose(1, 2, 0))
    assert found is not None, "parts have at least 64 pixels along a side"
    sigma = sum(found.sigma) / len(found.sigma)
    return Noise(found.correlated, _reach(found), sigma, sparse)


def _reach(noise: NoiseEstimate) -> int:
    if not noise.correlated:
        return 0
    near = [correlation < FAR for correlation in noise.correlation]
    return min(2, near.index(True) - 1 if True in near else 2)


def find_objective(name: str) -> Objective:
    """Return the objective of this name."""
    name = "pairs" if name == "auto" else name
    return next(known for known in OBJECTIVES if known.id == name)


def _plain(noise: Noise, channels: int, width: int) -> Mapping[str, Any]:
    """Return the plain network that denoises the phases in which this noise is independent."""
    sizes = {"channels": channels, "width": width, "pd": 1 + noise.reach}
    # Measured: of correlated noise a residual network leaves more.
    residual = not noise.correlated
    ways = {"residual": residual, "bent": noise.sparse and residual}
    return {**get_method("single").config, **sizes, **ways}


def _stage(name: str, config: Mapping[str, Any], loss: Loss, **sizes: Any) -> Stage:
    return Stage(name, config, loss, steps=1, rate=2e-3, schedule=_rising, average=0.99, **sizes)


def _rising(progress: float) -> float:
    return cosine(progress) * min(1.0, 0.1 + 0.9 * progress / RISE)


def _pairs(noise: Noise, channels: int, width: int) -> Stage:
    from denoisekit.fitting.losses import paired

    config = _plain(noise, channels, width)
    bend = FAR_OFF * noise.sigma if noise.sparse else None
    loss = paired(config["pd"], absolute=noise.correlated, bend=bend)
    return _stage("pairs", config, loss, **_sizes(config))


def _sizes(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return batch and patch of pairs: few pixels a step, for many steps in little time."""
    pd = int(config["pd"])
    return {"batch": 2 if pd == 1 else 1, "patch": 128 * pd, "multiple": 2 * pd}


def _sdap(noise: Noise, channels: int, width: int) -> Stage:
    from denoisekit.fitting.losses import sub_sampled

    # Not less than 4, however short the correlation: what is left of it at 3 is learned.
    cell = max(4, noise.reach + 3) if noise.correlated else 2
    config = _plain(noise, channels, width)
    loss = sub_sampled(cell)
    return _stage("sub-samples", config, loss, batch=1, patch=24 * cell, multiple=cell)


def _published(method: str, config: Mapping[str, Any], **changes: Any) -> Stage:
    """Return the first stage of a method's own recipe, for another network of it."""
    info: MethodInfo = get_method(method)
    assert info.recipe is not None
    stage = info.recipe(config, False)[0]
    return replace(stage, steps=1, schedule=cosine, average=0.99, config=config, **changes)


def _promptsid(noise: Noise, channels: int, width: int) -> Stage:  # noqa: ARG001
    config = {
        **get_method("promptsid").config,
        "channels": channels,
        "width": width,
        "blocks": [1, 2],
        "heads": [2, 4],
        "refine_blocks": 1,
        "features": 2 * width,
        "encoder_blocks": 1,
    }
    return _published("promptsid", config, batch=2, patch=64, rate=1e-3)


def _aprrd(noise: Noise, channels: int, width: int) -> Stage:  # noqa: ARG001
    config = {"net": "bsn", "channels": channels, "width": width}
    return _published("aprrd", config, batch=1, patch=128, rate=1e-3)


def _ssbsn(noise: Noise, channels: int, width: int) -> Stage:  # noqa: ARG001
    blocks = ["double", "double", "attention"]
    config = {
        "net": "blind_spot",
        "channels": channels,
        "width": width,
        "blocks": blocks,
        "grid": 2,
    }
    return _published("ssbsn", config, batch=1, patch=120, rate=1e-3)


OBJECTIVES: tuple[Objective, ...] = (
    Objective(
        "pairs",
        "neighbouring sub-images tell each other, in phases where noise is independent",
        "single",
        _pairs,
        (16, 24, 32, 48, 64),
    ),
    Objective(
        "sdap",
        "random sub-samples of the image tell each other",
        "single",
        _sdap,
        (16, 24, 32, 48, 64),
    ),
    Objective(
        "promptsid",
        "as pairs, with a prompt that a diffusion model makes of the whole image",
        "promptsid",
        _promptsid,
        (8, 16, 24),
    ),
    Objective(
        "aprrd",
        "two versions of the image with pixels exchanged tell each other; blind-spot U-Net",
        "aprrd",
        _aprrd,
        (8, 16, 24),
    ),
    Objective(
        "ssbsn",
        "a blind-spot network with attention tells every pixel from others",
        "ssbsn",
        _ssbsn,
        (16, 32, 48),
        judged={"refine_rounds": 0},
    ),
)
"""All of them; ``auto`` is the first."""
