"""What may be compared: weights that are here, and what the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from denoisekit.baselines import BASELINES
from denoisekit.comparing.part import SIDE
from denoisekit.errors import UsageError, did_you_mean
from denoisekit.methods import all_methods
from denoisekit.weights import load_manifest, method_of, weights_present


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be compared.

    Attributes
    ----------
    id : str
        Its own: of weights, of a file of them, or of a baseline.
    method : str
        Id of the method, or of the baseline.
    weights : str or None
        Id or file; None: a baseline.
    flop : float
        Operations an output pixel takes, where that is known beforehand.
    """

    id: str
    method: str
    weights: str | None
    flop: float = 0.0


def choices_here() -> list[Choice]:
    """Return all weights that are on this machine, the cheapest first."""
    methods = {info.id: info for info in all_methods()}
    found = []
    for entry in load_manifest():
        info = methods.get(entry.method)
        if info is not None and weights_present(entry):
            flop = info.traits(entry.config, info.choose()).flop(SIDE * SIDE)
            found.append(Choice(entry.id, entry.method, entry.id, flop))
    return sorted(found, key=lambda choice: choice.flop)


def choices_named(methods: Sequence[str], weights: Sequence[str]) -> list[Choice]:
    """Return what the user names.

    Parameters
    ----------
    methods : sequence of str
        Ids of methods, each with its best weights that are here, and of baselines.
    weights : sequence of str
        Ids or files.

    Raises
    ------
    UsageError
        There is no such method, it has no weights here, one is named twice, or a file does
        not say its method.
    """
    here = choices_here()
    known = {info.id: info for info in all_methods()}
    baselines = [baseline.id for baseline in BASELINES]
    found: list[Choice] = []
    for name in methods:
        if name in baselines:
            found.append(Choice(name, name, None))
            continue
        if name not in known:
            hint = did_you_mean(name, [*known, *baselines])
            raise UsageError(f"there is no method '{name}'", hint)
        best = [c for id in known[name].default_weights for c in here if c.id == id]
        if not best:
            hint = f"see denoisekit weights list; or name a file: --weights FILE of {name}"
            raise UsageError(f"no weights of '{name}' are here", hint)
        found.append(best[0])
    for name in weights:
        method = method_of(name)
        if method is None:
            raise UsageError(f"of what method '{name}' is, it does not say", "try weights import")
        found.append(Choice(name, method, name))
    for choice in found:
        if found.count(choice) > 1:
            raise UsageError(f"'{choice.id}' is asked for twice")
    return found
