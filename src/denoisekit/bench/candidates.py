"""What is measured: the noisy picture itself, methods with weights, and what needs none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from einops import rearrange

from denoisekit.baselines import BASELINES
from denoisekit.engine.denoiser import Denoiser, load
from denoisekit.engine.device import describe_device
from denoisekit.errors import InputError, UsageError, did_you_mean, find_by_id
from denoisekit.methods import METHODS, all_methods, get_method
from denoisekit.metrics import Protocol
from denoisekit.options import Options
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
    settings: Mapping[str, object] = MappingProxyType({}),
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
        Says the seed, and whether pictures are cut into parts.
    settings : mapping of str to object
        Knobs of methods; each holds for those that have it, and one must.
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
    pairs: list[tuple[str, str | None]] = []
    chosen = [Candidate(NOISY, {"id": NOISY, "method": None}, lambda noisy: noisy)]
    for name in methods:
        if name in [baseline.id for baseline in BASELINES]:
            chosen.append(_baseline(name, protocol))
        elif name in [info.id for info in METHODS] or name in (info.id for info in all_methods()):
            pairs.append((name, None))
        elif name != NOISY:
            every = [*(info.id for info in all_methods()), *(known.id for known in BASELINES)]
            raise UsageError(f"there is no method '{name}'", did_you_mean(name, every))
    for name in weights:
        method = method_of(name)
        if method is None:
            raise UsageError(f"of what method '{name}' is, it does not say", "try weights import")
        pairs.append((method, name))
    infos = [get_method(method) for method, _ in pairs]
    names = [own.name for info in infos for own in info.settings]
    for name in settings:
        if name not in names:
            hint = did_you_mean(name, names) if names else "they have none"
            raise UsageError(f"no method here has a setting '{name}'", hint)
    for (method, named), info in zip(pairs, infos, strict=True):
        own = {knob.name for knob in info.settings}
        options = Options(
            method=method,
            weights=named,
            settings={key: value for key, value in settings.items() if key in own},
            seed=protocol.seed,
            device=device,
            precision=precision,
            tile=0 if protocol.tile else None,
            range="0,1",
        )
        chosen.append(_network(load(options, allow_download=allow_download), protocol))
    ids = [candidate.id for candidate in chosen]
    for name in ids:
        if ids.count(name) > 1:
            raise UsageError(f"'{name}' is asked for twice")
    return chosen


def _baseline(name: str, protocol: Protocol) -> Candidate:
    baseline = find_by_id("baseline", name, BASELINES)
    facts = {"id": name, "method": name, "citation": baseline.citation}
    return Candidate(name, facts, _cut(lambda n: baseline.run(n, protocol.seed), protocol))


def _network(denoiser: Denoiser, protocol: Protocol) -> Candidate:
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
    return Candidate(name, facts, _cut(partial(_through, denoiser), protocol))


def _cut(run: Denoise, protocol: Protocol) -> Denoise:
    """Return what denoises the parts of a picture that the protocol wants apart."""
    run = _in_squares(run, protocol.tile)
    return partial(_of_mosaic, run) if protocol.mosaic else run


def _of_mosaic(run: Denoise, noisy: Floats) -> Floats:
    """Denoise the four colours of a 2x2 pattern as planes of a picture of half the size."""
    if noisy.shape[0] % 2 or noisy.shape[1] % 2 or noisy.shape[2] != 1:
        shape = "x".join(map(str, noisy.shape))
        raise InputError(
            f"a picture of {shape} samples is no mosaic of 2x2 colours",
            "name another --protocol: see denoisekit bench protocols",
        )
    planes = rearrange(noisy, "(h i) (w j) 1 -> h w (i j)", i=2, j=2)
    denoised = run(np.ascontiguousarray(planes))
    return rearrange(denoised, "h w (i j) -> (h i) (w j) 1", i=2, j=2)


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
