"""What is measured: the noisy picture itself, methods with weights, and what needs none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from denoisekit.baselines import BASELINES, find_baseline
from denoisekit.bench.protocols import Protocol
from denoisekit.device import describe_device
from denoisekit.errors import UsageError, did_you_mean
from denoisekit.methods import all_methods
from denoisekit.options import Options
from denoisekit.pipeline import Denoiser, load
from denoisekit.ranges import Floats
from denoisekit.weights import method_of

Denoise = Callable[[Floats], Floats]
"""(H, W, C) float32 on 0..1 in and out; not clipped."""

NOISY = "noisy"
"""The candidate that does nothing: what any other must beat."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the denoisers that are compared.

    Attributes
    ----------
    id : str
        Its own in the run: that of its weights, or of the method that needs none.
    facts : dict
        What it is, for a file of results.
    run : callable
        (H, W, C) float32 on 0..1 in and out; not clipped.
    """

    id: str
    facts: dict[str, Any]
    run: Denoise


def gather(
    methods: Sequence[str],
    weights: Sequence[str],
    protocol: Protocol,
    *,
    device: str = "auto",
    precision: str = "auto",
    allow_download: bool = True,
) -> list[Candidate]:
    """Load everything that is compared; the noisy picture comes first.

    Parameters
    ----------
    methods : sequence of str
        Ids of methods, each with its default weights, and of `denoisekit.baselines`.
    weights : sequence of str
        Ids or files, each with its own method.
    protocol : Protocol
        Says the seed, and whether pictures are cut into squares.
    device, precision : str
        As in `denoisekit.options.Options`.
    allow_download : bool
        Fetch weights that are not here.

    Raises
    ------
    UsageError
        There is no such method, or one is asked for twice.
    WeightsError
        Weights are absent, damaged, or not of a known method.
    """
    known = [info.id for info in all_methods()]
    pairs: list[tuple[str, str | None]] = []
    chosen = [Candidate(NOISY, {"id": NOISY, "method": None}, lambda noisy: noisy)]
    for name in methods:
        if name in known:
            pairs.append((name, None))
        elif name in [baseline.id for baseline in BASELINES]:
            chosen.append(_baseline(name, protocol))
        elif name != NOISY:
            names = [*known, *(baseline.id for baseline in BASELINES)]
            raise UsageError(f"there is no method '{name}'", did_you_mean(name, names))
    for name in weights:
        method = method_of(name)
        if method is None:
            raise UsageError(f"of what method '{name}' is, it does not say", "try weights import")
        pairs.append((method, name))
    for method, named in pairs:
        options = Options(
            method=method,
            weights=named,
            seed=protocol.seed,
            device=device,
            precision=precision,
            tile=0 if protocol.tile else None,
            range="0,1",
        )
        chosen.append(_network(load(options, allow_download=allow_download), protocol.tile))
    ids = [candidate.id for candidate in chosen]
    for name in ids:
        if ids.count(name) > 1:
            raise UsageError(f"'{name}' is asked for twice")
    return chosen


def _baseline(name: str, protocol: Protocol) -> Candidate:
    baseline = find_baseline(name)
    facts = {"id": name, "method": name, "citation": baseline.citation}
    run = _in_squares(lambda noisy: baseline.run(noisy, protocol.seed), protocol.tile)
    return Candidate(name, facts, run)


def _network(denoiser: Denoiser, tile: int | None) -> Candidate:
    weights, method = denoiser.weights, denoiser.info.id
    name = weights.id if weights.id.startswith(f"{method}.") else f"{method} {weights.id}"
    facts = {
        "id": name,
        "method": method,
        "weights": weights.id,
        "weights_sha256": weights.sha256,
        "settings": dict(denoiser.settings),
        "device": describe_device(denoiser.device),
        "precision": denoiser.precision,
    }

    return Candidate(name, facts, _in_squares(partial(_through, denoiser), tile))


def _in_squares(run: Denoise, tile: int | None) -> Denoise:
    """Return what denoises each square of a picture on its own, where there is a size."""
    if tile is None:
        return run

    def squares(noisy: Floats) -> Floats:
        denoised = np.empty_like(noisy)
        for top in range(0, noisy.shape[0], tile):
            for left in range(0, noisy.shape[1], tile):
                part = slice(top, top + tile), slice(left, left + tile)
                denoised[part] = run(noisy[part])
        return denoised

    return squares


def _through(denoiser: Denoiser, noisy: Floats) -> Floats:
    if noisy.shape[2] == 3:
        return denoiser(noisy, axes="YXS")
    # Not colours: one plane after another, whatever their number.
    planes = np.ascontiguousarray(np.moveaxis(noisy, 2, 0))
    return np.moveaxis(denoiser(planes, axes="CYX"), 0, 2)
