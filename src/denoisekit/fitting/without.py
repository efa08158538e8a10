"""What there is where no network learned the image: weights that ship, averages, the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from denoisekit.errors import DenoisekitError
from denoisekit.fitting.plan import SPARE
from denoisekit.fitting.workshop import Network, Workshop
from denoisekit.methods import METHODS, get_method
from denoisekit.weights import find_entry, load_manifest, load_weights, weights_present

if TYPE_CHECKING:
    from denoisekit.fitting.learner import Weights


PASSES = 3
"""Passes over an image that is judged, keeps its mean, and is denoised."""

DIMMED = 0.02
"""Part of the light of stars that a result may take away or add."""

QUICKEST = 4e-6
"""Seconds a pixel that weights which ship take, twice what they do on a core of 2024."""


def has_learned(shop: Workshop, found: Network | None) -> bool:
    """Tell whether a network is better than a plain average of the pixels around."""
    return found is not None and found.score >= shop.least and not _dims(shop, found)


def _dims(shop: Workshop, network: Network) -> bool:
    """Tell whether a network takes light from what lies far above a mostly empty image.

    No pixel of that is held out there, so that scores cannot tell.
    """
    if not shop.noise.sparse:
        return False
    noisy = shop.material.noisy
    bright = noisy > 1
    removed = (noisy - shop.applied(network, ensemble=False))[bright].sum(dtype=np.float64)
    return abs(float(removed)) > DIMMED * float(noisy[bright].sum(dtype=np.float64))


def best_without(shop: Workshop, found: Network | None) -> Network:
    """Return what scores best of all that needs no learning; the network too, if there is one.

    All are judged by pixels that none of them has seen.
    """
    known = [*([] if found is None else [found]), *_candidates(shop)]
    sound = [network for network in known if not _dims(shop, network)]
    judged = [replace(network, score=shop.first_score(network)) for network in sound]
    return max(judged, key=lambda network: network.score)


def _candidates(shop: Workshop) -> Iterator[Network]:
    from denoisekit.fitting.refining import with_means

    yield _linear(shop.channels, 0.0, "the image as it was")
    average = _linear(shop.channels, 1.0, "a mean of 3x3 pixels")
    yield average
    yield replace(with_means(shop, average, bias=False), name="non-local means")
    for network in _shipped():
        if shop.left() > PASSES * _least_seconds(shop) and shop.left() > _seconds(shop, network):
            yield network


def _least_seconds(shop: Workshop) -> float:
    """Return what a pass takes on any machine: below, even to measure it takes too long."""
    return QUICKEST * shop.info.height * shop.info.width


def _seconds(shop: Workshop, network: Network) -> float:
    """Return how long judging and applying a network will take."""
    denoiser = shop.denoiser(network)
    pixels = shop.info.height * shop.info.width * denoiser.passes(shop.info)
    return PASSES * SPARE * denoiser.network.seconds_per_pixel(256) * pixels


def _shipped() -> Iterator[Network]:
    """Yield the first weights of each method that are here and take no time to speak of."""
    entries = load_manifest()
    known = {entry.id for entry in entries}
    method = METHODS[0]
    for name in method.default_weights:
        if name in known and weights_present(find_entry(name, entries)):
            try:
                loaded = load_weights(name, method, allow_download=False)
            except DenoisekitError:
                continue
            yield Network(method, loaded.config, dict(loaded.state), loaded.id)


def _linear(channels: int, smooth: float, name: str) -> Network:
    """Return the mean of 3x3 pixels as a network, or a part of it; 0: nothing is changed."""
    import torch

    method = get_method("single")
    sizes = {"channels": channels, "width": 2 * channels, "depth": 2, "pd": 1, "residual": True}
    taken = -np.full((3, 3), 1 / 9, np.float32)
    taken[1, 1] += 1
    first = np.zeros((2 * channels, channels, 3, 3), np.float32)
    last = np.zeros((channels, 2 * channels, 3, 3), np.float32)
    for channel in range(channels):
        for sign, place in ((1, 2 * channel), (-1, 2 * channel + 1)):
            # What is above and below 0 goes apart through the ReLU.
            first[place, channel] = sign * smooth * taken
            last[channel, place, 1, 1] = sign
    state: Weights = {
        "members.0.layers.0.weight": torch.from_numpy(first),
        "members.0.layers.0.bias": torch.zeros(2 * channels),
        "members.0.layers.1.weight": torch.from_numpy(last),
        "members.0.layers.1.bias": torch.zeros(channels),
    }
    return Network(method, {**method.config, **sizes}, state, name)
