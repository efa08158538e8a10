"""Methods of other packages: found by their entry points, and never fatal.

A package that declares an entry point of the group ``denoisekit.methods`` adds a
method: the entry point is a `MethodInfo`. Nothing is looked up before it is asked for.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib import metadata

from denoisekit.methods.base import MethodInfo

GROUP = "denoisekit.methods"

IMPORT_SECONDS = 20.0
"""Most that the import of a plugin may take; importing torch from a slow disk takes ten."""

_SOUND = 47
"""How a process ends that could import a plugin; no other exit is likely to be this."""

_TRY = f"""
import importlib, json, os, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    importlib.import_module(sys.argv[2])
except BaseException:
    pass
os._exit({_SOUND})
"""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A method that another package brought.

    Attributes
    ----------
    info : MethodInfo
        The method.
    package, version : str
        Who brought it.
    """

    info: MethodInfo
    package: str
    version: str


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """An entry point that is of no use.

    Attributes
    ----------
    name : str
        Of the entry point.
    package, version : str
        Who declared it.
    reason : str
        One line.
    """

    name: str
    package: str
    version: str
    reason: str


def load_plugins() -> tuple[tuple[MethodInfo, ...], tuple[PluginFailure, ...]]:
    """Return the methods of other packages, and what went wrong with the rest.

    The packages are imported by the first call; later ones repeat its answer.

    Returns
    -------
    methods : tuple of MethodInfo
        By package, then by name.
    failures : tuple of PluginFailure
        Entry points that cannot be imported, are no method, or whose id is taken.
    """
    plugins, failures = installed_plugins()
    return tuple(plugin.info for plugin in plugins), failures


@cache
def installed_plugins() -> tuple[tuple[Plugin, ...], tuple[PluginFailure, ...]]:
    """Return what `load_plugins` does, with the package of each method."""
    from denoisekit.methods import METHODS

    owners = {info.id: "denoisekit" for info in METHODS}
    plugins: list[Plugin] = []
    failures: list[PluginFailure] = []
    points = _entry_points()
    for point, trouble in zip(points, _tried([point.module for point in points]), strict=True):
        package, version = _origin(point)
        try:
            if trouble:
                raise _Refused(trouble)
            info = _load(point, owners)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - someone else's code
            failures.append(PluginFailure(point.name, package, version, _reason(error)))
        else:
            owners[info.id] = package
            plugins.append(Plugin(info, package, version))
    return tuple(plugins), tuple(failures)


class _Refused(Exception):
    """What was imported is no method that could be used; the text says why."""


def _tried(modules: list[str]) -> list[str]:
    """Say what is wrong with modules that end the program or hang when they are imported.

    Each is imported by a process of its own first, all side by side: nothing else survives
    what calls ``os._exit``, or waits for ever. An exception is no trouble here.
    """
    if not modules or not sys.executable:
        return [""] * len(modules)
    tried = [
        subprocess.Popen(
            [sys.executable, "-c", _TRY, json.dumps(sys.path), module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for module in modules
    ]
    ends = time.monotonic() + IMPORT_SECONDS
    found = []
    try:
        for process in tried:
            try:
                code = process.wait(max(0.0, ends - time.monotonic()))
                found.append("" if code == _SOUND else f"its import ends the program ({code})")
            except subprocess.TimeoutExpired:
                found.append(f"its import takes more than {IMPORT_SECONDS:g} s")
    finally:
        for process in tried:
            process.kill()
            process.wait()
    return found


def _entry_points() -> list[metadata.EntryPoint]:
    # Sorted, so that of two methods with one id the same one always wins.
    return sorted(metadata.entry_points(group=GROUP), key=lambda p: (_origin(p), p.name, p.value))


def _origin(point: metadata.EntryPoint) -> tuple[str, str]:
    about = point.dist.metadata if point.dist else None

    def field(name: str) -> str:
        return about[name] if about and name in about else "?"

    return field("Name"), field("Version")


def _load(point: metadata.EntryPoint, owners: dict[str, str]) -> MethodInfo:
    info = point.load()
    if not isinstance(info, MethodInfo):
        raise _Refused(f"{point.value} is of type {type(info).__name__}, not a MethodInfo")
    if not re.fullmatch(r"[a-z][a-z0-9]*", info.id):
        raise _Refused(f"its id '{info.id}' is not made of small letters and digits")
    if info.id in owners:
        raise _Refused(f"its id '{info.id}' is taken by {owners[info.id]}")
    # Asked now, because a list of all methods shows them.
    info.traits(info.config, info.choose())
    return info


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, _Refused) else f"{type(error).__name__}: {text}".rstrip(": ")
