"""The second part of a fit: a network at full resolution learns from what others made of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch

from denoisekit.fitting.losses import Noise as Source
from denoisekit.fitting.losses import distilled, drawn, recorrupt, recorrupted, resampled
from denoisekit.fitting.material import Material, Renoised, choose_boxes
from denoisekit.fitting.moments import is_gaussian, noise_curve, noise_variance
from denoisekit.fitting.objectives import Noise
from denoisekit.fitting.plan import MEMBERS, Applying, choose_sizes, fitted_patch
from denoisekit.fitting.teaching import middle
from denoisekit.fitting.workshop import BOXES, Network, Workshop
from denoisekit.methods import Stage, get_method
from denoisekit.methods.recipe import cosine
from denoisekit.nets.single import NonLocalMeans
from denoisekit.ranges import Floats

SHIFT = 24
"""Most pixels by which residuals are moved: as far as brightness is mostly alike."""

WIDTHS = (16, 24, 32, 48, 64)
"""Of the network, where it learns from scratch."""

RENEWALS = (3, 6)
"""Looks after which the network's own result counts in what it learns from."""

QUICK = 0.05
"""Part of the time in which the image must be denoised for such renewals."""

HARDLY = 0.3
"""Part of the noise that a network has to take away, for another to learn from it."""

MEASURED = 256
"""Side of the box by which the time of non-local means is measured."""

CURVE = "similar.curve"
"""Key of the noise by which non-local means go."""


def refine(
    shop: Workshop,
    first: Network,
    start: Network | None,
    share: float,
    until: float,
    applying: Applying,
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
    applying : Applying
        Whether flips and rotations are averaged, in what it learns from too; how it is chosen.
    """
    began = time.monotonic()
    known = [first] if start is None else [first, start]
    # Covered pixels are harder for weights that see all: if they do better even so, what the
    # first network came to, maybe in very little time, must not count.
    if start is not None and (judged := shop.judged(start)).score > first.score:
        known = [judged]
    ensemble = applying.ensemble
    targets = [_mean([shop.applied(one, ensemble=ensemble) for one in known])]
    quick = time.monotonic() - began < QUICK * (until - began)
    if start is None and shop.options.steps is None and _leaves_all(shop, targets[0]):
        return first
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
    if stage is None:
        return with_means(shop, first, bias=True) if shop.noise.correlated else first
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
    last = found if found.state else replace(found, state=learner.weights(), score=-math.inf)
    if start is None and (draws := applying.drawn(shop.left(), shop.late)) > 0:
        return decide(shop, first, last, draws)
    best = max(best, last, key=lambda one: one.score)
    if start is None and shop.noise.correlated:
        best = with_means(shop, best, bias=True)
    return best


def decide(shop: Workshop, first: Network, last: Network, draws: int) -> Network:
    """Return the first network, the second one or their mean, and maybe non-local means after it.

    The one that scores best. The noise that is put on is what the second one takes away, with
    those means after it: where the first leaves some, what it took is too weak, and what
    leaves noise would score too well. The first one's score stays what it is.

    Of correlated noise all of them leave blotches, which scores cannot tell from the
    image: those means always follow. Of other noise none returned scores less than the first.
    """
    correlated = shop.noise.correlated
    smooth = with_means(shop, last, bias=correlated)
    remover = smooth if correlated else last
    denoised = shop.applied(remover, ensemble=False)
    material = replace(shop.material, denoised=denoised)
    if _leaves_all(shop, denoised):  # whatever leaves noise would score high
        return first
    source = noise_source(shop.noise, material)
    shop.held = held = _renoised(material, source, shop.options.seed, draws)
    one, other = shop.boxes(first), shop.boxes(last)
    level = first.score - held.score(one)
    results = [(first, one), (last, other), (averaged(first, last), _mean([one, other]))]
    curve = smooth.state[CURVE]
    after = [
        (with_curve(network, curve), smoothed(held.boxes, denoised, curve))
        for network, denoised in (results if correlated else [_best(held, results)])
    ]
    best, denoised = _best(held, after if correlated else results + after)
    best = replace(best, score=level + held.score(denoised))
    shop.tell(best)
    return best


def _best(held: Renoised, results: Sequence[tuple[Network, Floats]]) -> tuple[Network, Floats]:
    return max(results, key=lambda result: held.score(result[1]))


def averaged(first: Network, second: Network) -> Network:
    """Return the mean of both networks of a fit from scratch: their errors differ."""
    config = {**first.config, "full": second.config["width"]}
    state = {
        **first.state,
        **{key.replace("members.0", "full"): value for key, value in second.state.items()},
    }
    return Network(first.method, config, state, f"{first.name}, {second.name}")


def with_means(shop: Workshop, network: Network, *, bias: bool) -> Network:
    """Return the network with non-local means after it.

    ``bias``: the mean of noise may differ from 0, where black or white cut it off.
    """
    material = replace(shop.material, denoised=shop.applied(network, ensemble=False))
    curve = torch.from_numpy(noise_curve(material))
    curve[:, 1] *= bias
    return with_curve(network, curve)


def with_curve(network: Network, curve: torch.Tensor) -> Network:
    """Return the network with non-local means after it, for this noise."""
    config = {**network.config, "levels": curve.shape[-1]}
    state = {**network.state, CURVE: curve}
    return replace(network, config=config, state=state, name=f"{network.name}, non-local means")


def smoothed(noisy: Floats, denoised: Floats, curve: torch.Tensor) -> Floats:
    """Return non-local means of boxes (N, C, h, w)."""
    similar = NonLocalMeans(*curve.shape[::2])
    similar.load_state_dict({"curve": curve})
    pairs = zip(noisy, denoised, strict=True)
    found = [similar(*(torch.from_numpy(one)[None] for one in pair)) for pair in pairs]
    return np.concatenate([one.numpy() for one in found])


def seconds_of_means(channels: int) -> float:
    """Measure what non-local means take for a pixel, on more than a network is measured with.

    Of a few pixels they take as long as of many: there are hundreds of steps.
    """
    box, taken = np.zeros((1, channels, MEASURED, MEASURED), np.float32), 0.0
    for _ in range(2):  # the first is not believed
        began = time.monotonic()
        smoothed(box, box, NonLocalMeans(channels, 2).curve)
        taken = time.monotonic() - began
    return taken / MEASURED**2


def _stage(
    shop: Workshop,
    start: Network | None,
    source: Source,
    material: Material,
    until: float,
    *,
    gaussian: bool,
) -> Stage | None:
    """Return how the network learns; from scratch of a size for which the time will do, if any."""

    def stage_of(config: Mapping[str, Any]) -> Stage:
        stage = refining(config, source, gaussian=gaussian, new=start is None)
        return fitted_patch(stage, material)

    if start is not None:
        return stage_of(start.config)
    stage = stage_of(
        pyramid(shop.channels, shop.options.width or middle(WIDTHS), bent=shop.noise.sparse)
    )
    if shop.options.steps is not None or shop.options.width is not None:
        return stage
    learner = shop.learner(get_method("single"), stage, material, 0)
    left = until - time.monotonic()
    sizes = choose_sizes(WIDTHS, middle(WIDTHS), learner.seconds_per_step(), left)
    if left < sizes.least:
        return None
    return stage_of(pyramid(shop.channels, sizes.width, bent=shop.noise.sparse))


def pyramid(channels: int, width: int, *, bent: bool = False) -> Mapping[str, Any]:
    """Return the configuration of the network that learns from scratch."""
    sizes = {"net": "pyramid", "channels": channels, "width": width, "bent": bent}
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


def _renoised(material: Material, source: Source, seed: int, draws: int = 1) -> Renoised:
    assert material.denoised is not None
    boxes, targets = [], []
    places = choose_boxes(material.noisy, BOXES)
    for drawn_by, place in product(range(seed, seed + draws), places):
        noisy, denoised = (
            torch.from_numpy(parts[place])[None] for parts in (material.noisy, material.denoised)
        )
        generator = torch.Generator().manual_seed(drawn_by)
        shown, target = recorrupt(noisy, source(noisy, denoised, generator))
        boxes.append(shown[0].numpy())
        targets.append(target[0].numpy())
    return Renoised(np.stack(boxes), np.stack(targets))


def _leaves_all(shop: Workshop, denoised: Floats) -> bool:
    """Tell whether noise is left: a second one would learn to leave it, and score high."""
    taken = float(np.sqrt(np.square(shop.material.noisy - denoised).mean()))
    return taken < HARDLY * shop.noise.sigma


def _mean(results: Sequence[Floats]) -> Floats:
    total: Floats = np.mean(results, 0, np.float32)
    return total
