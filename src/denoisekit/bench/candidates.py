"""What is measured: the noisy image itself, methods with weights, and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from einops import rearrange

from denoisekit.baselines import BASELINES, Baseline
from denoisekit.engine.denoiser import Denoiser, load
from denoisekit.engine.device import describe_device
from denoisekit.errors import InputError, UsageError, did_you_mean
from denoisekit.methods import all_methods
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


def named(methods: Sequence[str], weights: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return what a user names: methods or baselines, each with the weights that are named.

    Parameters
    ----------
    methods : sequence of str
        Ids of methods and of `denoisekit.baselines`.
    weights : sequence of str
        Ids or files, each with its own method.

    Raises
    ------
    UsageError
        There is no such method, or a file does not say its method.
    """
    known = [*(info.id for info in all_methods()), *(baseline.id for baseline in BASELINES)]
    for name in methods:
        if name not in known:
            raise UsageError(f"there is no method '{name}'", did_you_mean(name, known))
    found: list[tuple[str, str | None]] = [(name, None) for name in methods]
    for name in weights:
        method = method_of(name)
        if method is None:
            raise UsageError(f"of what method '{name}' is, it does not say", "try weights import")
        found.append((method, name))
    return found


def check_once(names: Sequence[str]) -> None:
    """Refuse what is asked for twice."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"'{name}' is asked for twice")


def gather(
    methods: Sequence[str],
    weights: Sequence[str],
    protocol: Protocol,
    *,
    settings: Mapping[str, object] = MappingProxyType({}),
    device: str = "auto",
    precision: str = "auto",
) -> list[Candidate]:
    """Load everything that is compared; the noisy image comes first.

    Parameters
    ----------
    methods : sequence of str
        Ids of methods, each with its default weights, and of `denoisekit.baselines`.
    weights : sequence of str
        Ids or files, each with its own method.
    protocol : Protocol
        Says the seed, and whether images are cut into squares or planes.
    settings : mapping of str to object
        Knobs of methods; each holds for those that have it, and one must.
    device, precision : str
        As in `denoisekit.options.Options`.

    Raises
    ------
    UsageError
        There is no such method, or one is asked for twice.
    WeightsError
        Weights are absent, damaged, or not of a known method.
    """
    baselines = {baseline.id: baseline for baseline in BASELINES}
    infos = {info.id: info for info in all_methods()}
    facts: dict[str, Any]
    run: Denoise
    chosen = [Candidate(NOISY, {"id": NOISY, "method": None}, lambda noisy: noisy)]
    asked = named([name for name in methods if name != NOISY], weights)
    nets = [infos[method] for method, _ in asked if method in infos]
    names = [knob.name for info in nets for knob in info.settings]
    for name in settings:
        if name not in names:
            hint = did_you_mean(name, names) if names else "they have none"
            raise UsageError(f"no method here has a setting '{name}'", hint)
    for method, file in sorted(asked, key=lambda one: one[0] not in baselines):
        if method in baselines:
            facts = {"id": method, "method": method, "citation": baselines[method].citation}
            run = partial(_seeded, baselines[method], protocol.seed)
        else:
            own = {knob.name for knob in infos[method].settings}
            options = Options(
                method=method,
                weights=file,
                settings={key: value for key, value in settings.items() if key in own},
                seed=protocol.seed,
                device=device,
                precision=precision,
                tile=0 if protocol.tile else None,
                range="0,1",
            )
            denoiser = load(options)
            found = denoiser.weights
            facts = {
                "id": found.id if found.id.startswith(f"{method}.") else f"{method} {found.id}",
                "method": method,
                "weights": found.id,
                "weights_sha256": found.sha256,
                "settings": dict(denoiser.settings),
                "device": describe_device(denoiser.device),
                "precision": denoiser.precision,
            }
            run = partial(through, denoiser)
        if protocol.tile:
            run = partial(_in_squares, run, protocol.tile)
        if protocol.mosaic:
            run = partial(_of_mosaic, run)
        chosen.append(Candidate(facts["id"], facts, run))
    check_once([candidate.id for candidate in chosen])
    return chosen


def _seeded(baseline: Baseline, seed: int, noisy: Floats) -> Floats:
    return np.asarray(baseline.run(noisy, seed), np.float32)


def through(denoiser: Denoiser, noisy: Floats, *, colour: bool | None = None) -> Floats:
    """Denoise an image, (H, W, C); without colours one channel after another.

    Parameters
    ----------
    denoiser : Denoiser
        Takes arrays.
    noisy : numpy.ndarray
        (H, W, C) float32.
    colour : bool, optional
        Whether the channels are colours of one image; unless said, where there are three.
    """
    if noisy.shape[2] == 3 if colour is None else colour:
        return denoiser(noisy, axes="YXS")
    planes = np.ascontiguousarray(np.moveaxis(noisy, 2, 0))
    return np.moveaxis(denoiser(planes, axes="CYX"), 0, 2)


def _in_squares(run: Denoise, side: int, noisy: Floats) -> Floats:
    """Denoise each square of an image on its own."""
    denoised = np.empty_like(noisy)
    for top in range(0, noisy.shape[0], side):
        for left in range(0, noisy.shape[1], side):
            square = slice(top, top + side), slice(left, left + side)
            denoised[square] = run(noisy[square])
    return denoised


def _of_mosaic(run: Denoise, noisy: Floats) -> Floats:
    """Denoise the four colours of a 2x2 pattern as planes of an image of half the size."""
    if noisy.shape[0] % 2 or noisy.shape[1] % 2 or noisy.shape[2] != 1:
        shape = "x".join(map(str, noisy.shape))
        raise InputError(
            f"a picture of {shape} samples is no mosaic of 2x2 colours",
            "name another --protocol: see denoisekit bench protocols",
        )
    planes = rearrange(noisy, "(h i) (w j) 1 -> h w (i j)", i=2, j=2)
    denoised = run(np.ascontiguousarray(planes))
    return rearrange(denoised, "h w (i j) -> (h i) (w j) 1", i=2, j=2)
