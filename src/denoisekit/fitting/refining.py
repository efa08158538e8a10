"""The second part of a fit: a network at full resolution learns from what others made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from denoisekit.fitting.losses import Noise as Source
from denoisekit.fitting.losses import distilled, drawn, recorrupt, recorrupted, resampled
from denoisekit.fitting.material import Material, Renoised, choose_boxes
from denoisekit.fitting.objectives import Noise
from denoisekit.fitting.plan import MEMBERS, choose_sizes, fitted_patch
from denoisekit.fitting.teaching import middle
from denoisekit.fitting.workshop import BOXES, Network, Workshop
from denoisekit.methods import Stage, get_method
from denoisekit.methods.recipe import cosine
from denoisekit.ranges import Floats

SHIFT = 24
"""Most pixels by which residuals are moved: as far as brightness is mostly alike."""

LEVELS = 8
"""Ranges of brightness, as many pixels in each, in which noise is measured."""

WIDTHS = (16, 24, 32, 48, 64)
"""Of the network, where it learns from scratch."""

RENEWALS = (3, 6)
"""Looks after which the network's own result counts in what it learns from."""

KURTOSIS = 3.12
"""Fourth moment of noise, by the square of the second, above which it is not Gaussian."""

QUICK = 0.05
"""Part of the time in which the image must be denoised for such renewals."""


def refine(
    shop: Workshop,
    first: Network,
    start: Network | None,
    share: float,
    until: float,
    *,
    ensemble: bool,
) -> Network:
    """Let a network at full resolution learn from the first one's result; return the best.

    Parameters
    ----------
    shop : Workshop
        The image.
    first : Network
        Knows it from nothing else.
    start : Network or None
        Weights that were there before: their result counts too, and the network begins with
        them. None: from scratch.
    share : float
        Part of the steps, where steps are counted.
    until : float
        Of `time.monotonic`.
    ensemble : bool
        Whether flips and rotations are averaged in what it learns from.
    """
    began = time.monotonic()
    known = [first] if start is None else [first, start]
    # Covered pixels are harder for weights that see all: if they do better even so, what the
    # first network came to, maybe in very little time, must not count.
    if start is not None and (judged := shop.judged(start)).score > first.score:
        known = [judged]
    targets = [_mean([shop.applied(one, ensemble=ensemble) for one in known])]
    quick = time.monotonic() - began < QUICK * (until - began)
    material = replace(shop.material, denoised=targets[0])
    source = noise_source(shop.noise, material)
    shop.held = _renoised(material, source, shop.options.seed)
    # Held-out pixels would flatter networks that see every second pixel alone. From here on
    # scores are of another kind, put where those before were.
    shop.held = replace(shop.held, level=known[0].score - shop.judged(known[0]).score)
    known = [shop.judged(one) for one in known]
    if start is not None:
        shop.tell(known[-1])
    method = get_method("single") if start is None else start.method
    gaussian = not shop.noise.correlated and is_gaussian(material)
    stage = _stage(shop, start, source, material, until, gaussian=gaussian)
    learner = shop.learner(method, stage, material, MEMBERS)
    if start is not None:
        learner.load(start.state)
    looks = 0

    def renew() -> None:
        nonlocal looks
        looks += 1
        if looks in RENEWALS and (quick or shop.options.steps is not None):
            now = Network(method, stage.config, learner.weights(), stage.name)
            targets.append(_mean([targets[-1], shop.applied(now, ensemble=ensemble)]))
            learner.material = replace(material, denoised=targets[-1])

    best = max(known, key=lambda one: one.score)
    network = Network(method, stage.config, {}, stage.name, best.score)
    found = shop.learn(learner, network, shop.span(until, share), {}, renew)
    last = found if found.state else replace(found, state=learner.weights(), score=float("-inf"))
    best = max(best, last, key=lambda one: one.score)
    if start is not None:
        return best
    both = shop.judged(averaged(first, last))
    if both.score <= best.score:
        return best
    shop.tell(both)
    return both


def averaged(first: Network, second: Network) -> Network:
    """Return the mean of both networks of a fit from scratch: their errors differ."""
    config = {**first.config, "full": second.config["width"]}
    state = {
        **first.state,
        **{key.replace("members.0", "full"): value for key, value in second.state.items()},
    }
    return Network(first.method, config, state, f"{first.name}, {second.name}")


def _stage(
    shop: Workshop,
    start: Network | None,
    source: Source,
    material: Material,
    until: float,
    *,
    gaussian: bool,
) -> Stage:
    """Return how the network learns; from scratch of a size for which the time will do."""

    def stage_of(config: Mapping[str, Any]) -> Stage:
        stage = refining(config, source, gaussian=gaussian, new=start is None)
        return fitted_patch(stage, material)

    if start is not None:
        return stage_of(start.config)
    stage = stage_of(pyramid(shop.channels, shop.options.width or middle(WIDTHS)))
    if shop.options.steps is not None or shop.options.width is not None:
        return stage
    learner = shop.learner(get_method("single"), stage, material, 0)
    left = until - time.monotonic()
    sizes = choose_sizes(WIDTHS, middle(WIDTHS), learner.seconds_per_step(), left)
    return stage_of(pyramid(shop.channels, sizes.width))


def pyramid(channels: int, width: int) -> Mapping[str, Any]:
    """Return the configuration of the network that learns from scratch."""
    sizes = {"net": "pyramid", "channels": channels, "width": width}
    return {**get_method("single").config, **sizes, "pd": 1, "residual": True}


def refining(config: Mapping[str, Any], source: Source, *, gaussian: bool, new: bool) -> Stage:
    """Return how a network learns an image of which others have made something.

    Parameters
    ----------
    config : mapping
        Of the network.
    source : callable
        Makes more of the image's noise.
    gaussian : bool
        Whether that is Gaussian and independent. Otherwise what others made of the image is
        taken for clean.
    new : bool
        Whether the network begins at random; otherwise it learns gently.
    """
    return Stage(
        "recorrupted" if gaussian else "distilled",
        config,
        recorrupted(source) if gaussian else distilled(source),
        steps=1,
        rate=2e-3 if new else 1e-4,
        schedule=cosine,
        average=0.99,
        batch=1,
        patch=128,
        multiple=4 if new else 32,
    )


def noise_source(noise: Noise, material: Material) -> Source:
    """Return what makes noise like that of an image, of which there is a denoised version."""
    return resampled(SHIFT) if noise.correlated else drawn(noise_variance(material))


def _renoised(material: Material, source: Source, seed: int) -> Renoised:
    assert material.denoised is not None
    boxes, targets = [], []
    for place in choose_boxes(material.noisy, BOXES):
        noisy, denoised = (
            torch.from_numpy(parts[place])[None] for parts in (material.noisy, material.denoised)
        )
        generator = torch.Generator().manual_seed(seed)
        shown, target = recorrupt(noisy, source(noisy, denoised, generator))
        boxes.append(shown[0].numpy())
        targets.append(target[0].numpy())
    return Renoised(np.stack(boxes), np.stack(targets))


def _mean(results: Sequence[Floats]) -> Floats:
    total: Floats = np.mean(results, 0, np.float32)
    return total


def noise_variance(material: Material) -> list[tuple[float, float]]:
    """Return slope and offset of the variance of independent noise over brightness.

    Parameters
    ----------
    material : Material
        The image, noisy and denoised.

    Returns
    -------
    list of (float, float)
        For every channel, of values on 0..1.
    """
    return [_line(ranges) for ranges in _details(material)]


def is_gaussian(material: Material) -> bool:
    """Tell whether independent noise is Gaussian, by its fourth moment at each brightness.

    That of counted photons is not, nor what a camera's electronics add now and then: 3.2 and
    more times the square of the second was found in micrographs, 3.0 in Gaussian noise.
    """
    moments = [
        float(np.square(squares).mean() / max(squares.mean() ** 2, 1e-24))
        for ranges in _details(material)
        for _, squares in ranges
    ]
    return float(np.median(moments)) < KURTOSIS


def _details(material: Material) -> list[list[tuple[float, Floats]]]:
    """Return the squares of the finest details of noise, for channels and ranges of brightness.

    What is left of the picture in a residual is smooth: in the differences of its neighbours
    (``(a - b - c + d) / 2`` of four) little of it counts, and least where the picture is flat.
    There their mean square is right whatever the noise: with few photons most pixels differ
    little and some a lot, and a median would take it for weaker than it is.
    """
    assert material.denoised is not None
    residual = material.noisy - material.denoised
    height, width = (size // 2 * 2 for size in residual.shape[2:])
    a, b = residual[:, :, :height:2, :width:2], residual[:, :, :height:2, 1:width:2]
    c, d = residual[:, :, 1:height:2, :width:2], residual[:, :, 1:height:2, 1:width:2]
    squares = np.square(a - b - c + d) / 4
    bright = material.denoised[:, :, :height:2, :width:2]
    steep = np.hypot(*np.gradient(bright, axis=(2, 3)))
    return [
        _flat(bright[:, k].ravel(), squares[:, k].ravel(), steep[:, k].ravel())
        for k in range(residual.shape[1])
    ]


def _flat(bright: Any, squares: Any, steep: Any) -> list[tuple[float, Floats]]:
    """Return ranges of brightness: the middle, and the squares in the flatter half."""
    ranges = np.array_split(np.argsort(bright, kind="stable"), LEVELS)
    return [
        (float(bright[one].mean()), squares[one[steep[one] <= np.median(steep[one])]])
        for one in ranges
    ]


def _line(ranges: Sequence[tuple[float, Floats]]) -> tuple[float, float]:
    """Fit a line that does not fall to the variances of ranges of brightness."""
    middles = [middle for middle, _ in ranges]
    variances = np.array([squares.mean() for _, squares in ranges])
    if np.ptp(middles) < 1e-6:
        return 0.0, float(variances.mean())
    slope, offset = np.polyfit(middles, variances, 1)
    if slope < 0:
        return 0.0, float(variances.mean())
    return float(slope), float(offset)
