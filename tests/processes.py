"""Processes of their own that start quickly: torch is imported once for all of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
CONTEXT.set_forkserver_preload(["torch._dynamo", "safetensors.torch"])


def launch(
    target: Callable[..., None], *arguments: object, log: Path, **environment: str
) -> BaseProcess:
    """Start a function of a module in a process of its own.

    Parameters
    ----------
    target : callable
        Is called with the arguments.
    log : pathlib.Path
        Of what it says, on stdout and on stderr.
    **environment : str
        Is added to the environment of this process.
    """
    process = CONTEXT.Process(
        target=_run, args=(target, arguments, log, {**os.environ, **environment}), daemon=True
    )
    process.start()
    return process


def _run(
    target: Callable[..., None],
    arguments: tuple[object, ...],
    log: Path,
    environment: dict[str, str],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with log.open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target(*arguments)
