"""A network fitted to one image within a time, part after part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from denoisekit.errors import DenoisekitError
from denoisekit.fitting.material import BOX
from denoisekit.fitting.objectives import Objective, find_objective
from denoisekit.fitting.offset import mean_offset
from denoisekit.fitting.options import FitOptions, Listen
from denoisekit.fitting.plan import Applying, plan_applying, with_deciding
from denoisekit.fitting.result import Fit
from denoisekit.fitting.start import find_start
from denoisekit.fitting.workshop import BOXES, Network, Workshop, unscaled
from denoisekit.image import Reader
from denoisekit.methods import get_method
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
        Unknown names, weights that cannot be had, an image that cannot be read, too little time
        to learn it.
    """
    began = time.monotonic() if began is None else began
    options = options or FitOptions()
    with _own_draws():
        start = find_start(options.start, options.objective, reader.info)
        objective = find_objective(options.objective)
        range = _range(options, start)
        shop = Workshop(reader, options, range, on_look, began)
        found, applying = _learned(shop, objective, start)
        # Weights that were given are a result whatever is learned beside them.
        if start is None and options.steps is None and found.score < shop.least:
            raise DenoisekitError(
                f"in {time.monotonic() - began:.0f} s the network did not learn the image yet",
                "give it more --time, or let it --start with weights",
            )
        return _finished(shop, found, start, range, ensemble=applying.ensemble)


@contextmanager
def _own_draws() -> Iterator[None]:
    """Leave torch's own generator as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def _learned(
    shop: Workshop, objective: Objective, start: LoadedWeights | None
) -> tuple[Network, Applying]:
    """Return the network that knows the image best, and how to apply it."""
    from denoisekit.fitting.refining import refine
    from denoisekit.fitting.teaching import teach

    # Weights that learn from pairs go on with them; others with what the first network made.
    plain = start if start is not None and start.config.get("net") == "plain" else None
    started = None
    if start is not None and plain is None:
        method = get_method(start.method)
        started = Network(method, start.config, dict(start.state), start.id)
    applying = _applying(shop, objective, started)
    until = shop.began + shop.options.seconds - applying.seconds
    if shop.options.objective != "auto":
        return teach(shop, objective, None, 1.0, until, until), applying
    now = time.monotonic()
    soon = now + FIRST_SHARE * (until - now)
    found = teach(shop, objective, plain, FIRST_SHARE, soon, until)
    if not shop.stopped:
        share = 1 - FIRST_SHARE
        found = refine(shop, found, started, share, until, applying)
    elif started is not None:
        found = max(found, shop.judged(started), key=lambda one: one.score)
    return found, applying


def _applying(shop: Workshop, objective: Objective, started: Network | None) -> Applying:
    """Keep time for the ending, by what a network of middle size takes here."""
    from denoisekit.fitting.refining import WIDTHS, seconds_of_means
    from denoisekit.fitting.teaching import middle

    total = shop.options.seconds
    if shop.options.steps is not None:
        return Applying(0.0, ensemble=False)
    if started is not None or shop.options.objective != "auto":
        likely = started or _likely(shop, objective, middle(objective.widths))
        return plan_applying(_once(shop, likely), shop.info, total)
    boxes = min(1.0, BOXES * BOX**2 / (shop.info.height * shop.info.width))
    choices = 3 if shop.noise.correlated else 1
    likely = _likely(shop, objective, middle(objective.widths), middle(WIDTHS))
    means = seconds_of_means(shop.channels) * _pixels(shop, likely)
    once = means + _once(shop, likely)
    planned = plan_applying(once, shop.info, total)
    applying = with_deciding(planned, choices * once * boxes, total)
    if applying.draws > 0:
        return applying
    # So little time makes small networks, and no choice of whether means follow.
    once = _once(shop, _likely(shop, objective, min(objective.widths), min(WIDTHS)))
    once += means if shop.noise.correlated else 0.0
    return replace(plan_applying(once, shop.info, total), draws=0)


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
) -> Fit:
    """Keep the mean of the image, and make what applies the network to files."""
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
