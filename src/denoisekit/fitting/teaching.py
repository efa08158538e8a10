"""The first part of a fit: networks that learn an image from nothing but the image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from denoisekit.fitting.objectives import Objective
from denoisekit.fitting.plan import choose_sizes, fitted_patch
from denoisekit.fitting.workshop import Network, Workshop
from denoisekit.methods import Stage, get_method
from denoisekit.weights import LoadedWeights

if TYPE_CHECKING:
    from denoisekit.fitting.learner import Weights

GENTLE_RATE = 5e-4
"""Of a plain network that has learned before."""


def teach(
    shop: Workshop,
    objective: Objective,
    start: LoadedWeights | None,
    share: float,
    until: float,
    latest: float,
) -> Network:
    """Let one network learn, or several, whose mean is returned.

    Parameters
    ----------
    shop : Workshop
        The image.
    objective : Objective
        What they learn from.
    start : LoadedWeights or None
        Weights of a plain network that go on; None: from scratch.
    share : float
        Part of the steps, where steps are counted.
    until : float
        Of `time.monotonic`.
    latest : float
        The same, where a network from scratch would learn hardly anything until then.
    """
    method = get_method(objective.method)
    stage, members = _stage(shop, objective, middle(objective.widths)), 1
    if start is not None:
        config = {**start.config, "pd": stage.config["pd"], "residual": start.config["residual"]}
        stage = replace(stage, config=config, rate=GENTLE_RATE)
    elif shop.options.width is not None:
        stage = _stage(shop, objective, shop.options.width)
    elif shop.options.steps is None:
        seconds = shop.learner(method, stage, shop.learned, 0).seconds_per_step()
        left = until - time.monotonic()
        sizes = choose_sizes(objective.widths, middle(objective.widths), seconds, left)
        stage, members = _stage(shop, objective, sizes.width), sizes.members
        until = max(until, time.monotonic() + sizes.least)
        if until + sizes.least > latest:  # too little would be left for a second one
            until = latest
    found: list[Network] = []
    for member in range(members):
        learner = shop.learner(method, stage, shop.learned, member)
        network = Network(method, stage.config, {}, stage.name)
        if start is not None:
            learner.load(start.state)
            network = shop.judged(replace(network, state=dict(start.state)))
            shop.tell(network)
        now = time.monotonic()
        span = shop.span(now + (until - now) / (members - member), share)
        found.append(shop.learn(learner, network, span, objective.judged))
        if shop.stopped:
            break
    return _mean(found)


def middle(widths: Sequence[int]) -> int:
    """Return the size that is measured, and taken where time does not count."""
    return widths[len(widths) // 2]


def _stage(shop: Workshop, objective: Objective, width: int) -> Stage:
    return fitted_patch(objective.stage(shop.noise, shop.channels, width), shop.learned)


def _mean(found: Sequence[Network]) -> Network:
    if len(found) == 1:
        return found[0]
    return replace(
        found[0],
        config={**found[0].config, "members": len(found)},
        state=joined([one.state for one in found]),
        score=max(one.score for one in found),
    )


def joined(states: Sequence[Weights]) -> Weights:
    """Return the weights of plain networks as those of one network, their mean."""
    return {
        key.replace("members.0.", f"members.{place}.", 1): value
        for place, state in enumerate(states)
        for key, value in state.items()
    }
