"""A network fitted to one image within a time, part after part."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from denoisekit.fitting.material import BOX
from denoisekit.fitting.objectives import Objective, find_objective
from denoisekit.fitting.offset import mean_offset
from denoisekit.fitting.plan import Applying, has_turns, plan_applying, with_deciding
from denoisekit.fitting.result import Fit, Listen
from denoisekit.fitting.start import find_start
from denoisekit.fitting.without import best_without, has_learned
from denoisekit.fitting.workshop import BOXES, Network, Workshop, unscaled
from denoisekit.image import Reader
from denoisekit.methods import get_method
from denoisekit.options import FitOptions
from denoisekit.ranges import Range
from denoisekit.weights import LoadedWeights

MEASURED = 2**21
"""Values by which the mean of the image is kept, at least a part of it."""

FIRST_SHARE = 0.35
"""Part of the time of the first networks, where a second one learns from them."""


def fit(
    reader: Reader,
    options: FitOptions | None = None,
    on_look: Listen | None = None,
    began: float | None = None,
) -> Fit:
    """Fit a network to an image or stack, so that it denoises it and its like.

    Parameters
    ----------
    reader : Reader
        The noisy image; parts of it are read, spread over all planes.
    options : FitOptions, optional
        How, and in what time.
    on_look : callable, optional
        Told after every step, see `Look`; it may ask to stop.
    began : float, optional
        When the time began, of `time.monotonic`; default: now.

    Returns
    -------
    Fit
        Its `Fit.denoiser` is ready.

    Raises
    ------
    DenoisekitError
        Unknown names, weights that cannot be had, an image that cannot be read.

    Notes
    -----
    Where nothing was learned in the time, the fit is of the best of what there is without it,
    and `Fit.learned` says so.
    """
    began = time.monotonic() if began is None else began
    options = options or FitOptions()
    from denoisekit.fitting.learner import NotNumbers

    with _own_draws():
        start = find_start(options.start, options.objective, reader.info)
        objective = find_objective(options.objective)
        range = _range(options, start)
        shop = Workshop(reader, options, range, on_look, began)
        try:
            found, ensemble = _learned(shop, objective, start)
        except NotNumbers:
            if options.steps is not None:
                raise
            found, ensemble = None, False
        learned = found is not None
        # Weights that were given are a result whatever is learned beside them.
        if start is None and options.steps is None and not has_learned(shop, found):
            found, ensemble, learned = best_without(shop, found), False, False
        assert found is not None
        return _finished(shop, found, start, range, ensemble=ensemble, learned=learned)


@contextmanager
def _own_draws() -> Iterator[None]:
    """Leave torch's own generator as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def _learned(
    shop: Workshop, objective: Objective, start: LoadedWeights | None
) -> tuple[Network, bool]:
    """Return the network that knows the image best, and whether to average turns of it."""
    from denoisekit.fitting.refining import refine
    from denoisekit.fitting.teaching import teach

    # Weights that learn from pairs go on with them; others with what the first network made.
    plain = start if start is not None and start.config.get("net") == "plain" else None
    started = None
    if start is not None and plain is None:
        method = get_method(start.method)
        started = Network(method, start.config, dict(start.state), start.id)
    applying = _applying(shop, objective, started)
    shop.ending = applying.seconds
    until = shop.began + shop.options.seconds - applying.seconds
    if shop.options.objective != "auto":
        return teach(shop, objective, None, 1.0, until, until), applying.ensemble
    now = time.monotonic()
    soon = now + FIRST_SHARE * (until - now)
    found = teach(shop, objective, plain, FIRST_SHARE, soon, until)
    if not shop.stopped:
        share = 1 - FIRST_SHARE
        until -= (shop.late - 1) * shop.ending
        found = refine(shop, found, started, share, until, applying)
    elif started is not None:
        found = max(found, shop.judged(started), key=lambda one: one.score)
    return found, applying.ensemble


def _applying(shop: Workshop, objective: Objective, started: Network | None) -> Applying:
    """Keep time for the ending, by what a network of middle size takes here."""
    from denoisekit.fitting.refining import WIDTHS, seconds_of_means
    from denoisekit.fitting.teaching import middle

    total = shop.options.seconds
    if shop.options.steps is not None:
        return Applying(0.0, ensemble=False)
    offset = _offset_share(shop)
    if started is not None or shop.options.objective != "auto":
        likely = started or _likely(shop, objective, middle(objective.widths))
        return plan_applying(_once(shop, likely), shop.info, total, offset=offset)
    boxes = min(1.0, BOXES * BOX**2 / (shop.info.height * shop.info.width))
    choices = 3 if shop.noise.correlated else 1
    likely = _likely(shop, objective, middle(objective.widths), middle(WIDTHS))
    means = seconds_of_means(shop.channels) * _pixels(shop, likely)
    once = means + _once(shop, likely)
    # The second network's result says how strong the noise is.
    before = shop.material.noisy[:, 0].size / (shop.info.height * shop.info.width)
    planned = plan_applying(once, shop.info, total, before=before, offset=offset)
    applying = with_deciding(planned, choices * once * boxes, total)
    if applying.draws > 0:
        return applying
    # So little time makes small networks, and no choice of whether means follow.
    once = _once(shop, _likely(shop, objective, min(objective.widths), min(WIDTHS)))
    once += means if shop.noise.correlated else 0.0
    return replace(plan_applying(once, shop.info, total, offset=offset), draws=0)


def _offset_share(shop: Workshop) -> float:
    """Return the part of a plane by which the mean of the image is kept."""
    parts = shop.material.noisy[: max(1, MEASURED // shop.material.noisy[0].size)]
    return parts[:, 0].size / (shop.info.height * shop.info.width)


def _likely(shop: Workshop, objective: Objective, width: int, full: int = 0) -> Network:
    """Return a network of these sizes; ``full``: of the second one, 0: there is none."""
    config = objective.stage(shop.noise, shop.channels, width).config
    return _new(objective.method, {**config, "full": full} if full else config)


def _once(shop: Workshop, network: Network) -> float:
    """Measure the seconds in which a network denoises a plane."""
    return shop.denoiser(network).network.seconds_per_pixel(256) * _pixels(shop, network)


def _pixels(shop: Workshop, network: Network) -> int:
    """Return the pixels of a plane, as often as the network sees them: channels apart count."""
    return shop.info.height * shop.info.width * shop.denoiser(network).passes(shop.info)


def _new(method: str, config: Mapping[str, Any]) -> Network:
    from denoisekit.training.step import fresh

    info = get_method(method)
    return Network(info, config, dict(fresh(info, config, 0).state_dict()), "")


def _finished(
    shop: Workshop,
    found: Network,
    start: LoadedWeights | None,
    range: str,
    *,
    ensemble: bool,
    learned: bool,
) -> Fit:
    """Keep the mean of the image, and make what applies the network to files."""
    if ensemble and not math.isinf(shop.left()):
        ensemble = has_turns(_once(shop, found), shop.left(), _offset_share(shop))
    config = {**found.config, "range": _as_numbers(range, shop.scale)}
    keep, strength = shop.options.keep_mean, shop.options.strength
    if strength is None:
        strength = "auto" if _photograph(shop) else 1.0
    if not _photograph(shop) if keep is None else keep:
        parts = shop.material.noisy[: max(1, MEASURED // shop.material.noisy[0].size)]
        inner = shop.denoiser(replace(found, config=unscaled(found.config)), ensemble=ensemble)
        config["offset"] = mean_offset(inner, parts, shop.scale, shop.info)
    return Fit(
        denoiser=shop.denoiser(replace(found, config=config), ensemble=ensemble, strength=strength),
        options=shop.options,
        objective=found.name,
        start=start.id if start else "",
        score=found.score,
        steps=shop.steps,
        looks=tuple(shop.looks),
        stopped=shop.stopped,
        learned=learned,
    )


def _photograph(shop: Workshop) -> bool:
    """Tell what a camera has developed: its black and white cut noise off, and move the mean."""
    return shop.info.colour == "rgb" and shop.info.dtype == "uint8" and shop.noise.correlated


def _range(options: FitOptions, start: LoadedWeights | None) -> str:
    if options.range != "auto":
        return options.range
    if start is None:
        return "percentile"
    range: str = start.config.get("range", "auto")
    return range


def _as_numbers(range: str, scale: Range) -> str:
    """Return the range for other images: what depends on this one's values as these values."""
    return range if range in {"auto", "dtype"} else f"{scale.low!r},{scale.high!r}"
