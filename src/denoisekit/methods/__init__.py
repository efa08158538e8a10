"""The methods: a list one can read. A new one is a module and a line here."""

from denoisekit.errors import UsageError, did_you_mean
from denoisekit.methods import aprrd
from denoisekit.methods.base import Limits, LoadedMethod, MethodInfo

__all__ = ["METHODS", "Limits", "LoadedMethod", "MethodInfo", "get_method"]

METHODS: tuple[MethodInfo, ...] = (aprrd.INFO,)


def get_method(name: str) -> MethodInfo:
    """Return the method with this id.

    Raises
    ------
    UsageError
        No method is called so; the hint names the closest.
    """
    for info in METHODS:
        if info.id == name:
            return info
    known = [info.id for info in METHODS]
    raise UsageError(f"there is no method '{name}'", did_you_mean(name, known))
