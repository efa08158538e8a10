"""The methods: a list one can read. A new one is a module and a line here."""

from denoisekit.errors import UsageError, did_you_mean
from denoisekit.limits import Limits
from denoisekit.methods import aprrd, promptsid, sdap, single, ssbsn
from denoisekit.methods.base import (
    CroppingMethod,
    LoadedMethod,
    MethodInfo,
    Setting,
    Settings,
    StudyingMethod,
    TrainableMethod,
    Traits,
)
from denoisekit.methods.recipe import Batch, Stage

__all__ = [
    "METHODS",
    "Batch",
    "CroppingMethod",
    "Limits",
    "LoadedMethod",
    "MethodInfo",
    "Setting",
    "Settings",
    "Stage",
    "StudyingMethod",
    "TrainableMethod",
    "Traits",
    "all_methods",
    "get_method",
]

METHODS: tuple[MethodInfo, ...] = (aprrd.INFO, sdap.INFO, ssbsn.INFO, promptsid.INFO, single.INFO)
"""Those of this package."""


def all_methods() -> tuple[MethodInfo, ...]:
    """Return the methods of this package and of others that are installed."""
    from denoisekit.methods.plugins import load_plugins

    return METHODS + load_plugins()[0]


def get_method(name: str) -> MethodInfo:
    """Return the method with this id.

    Raises
    ------
    UsageError
        No method is called so; the hint names the closest.
    """
    known = {info.id: info for info in METHODS}
    if name not in known:  # only then other packages are asked
        known = {info.id: info for info in all_methods()}
    if name in known:
        return known[name]
    hint = did_you_mean(name, list(known))
    raise UsageError(f"there is no method '{name}'", hint)
