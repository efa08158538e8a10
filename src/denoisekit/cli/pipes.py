"""``-``: an image that comes through stdin, and one that goes through stdout.

Readers want to go to and fro in a file, and writers to rename it when it is whole: so both are
files of a temporary folder meanwhile.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from denoisekit.cli import render
from denoisekit.errors import OutputError, UsageError

DASH = "-"


@contextmanager
def piped(
    inputs: Sequence[str], output: Path | None, *, as_json: bool = False
) -> Iterator[tuple[list[str], Path | None]]:
    """Put files in place of ``-``; at the end, send what was written to stdout.

    Parameters
    ----------
    inputs : sequence of str
        As named by the user.
    output : Path or None
        The same.
    as_json : bool
        Whether stdout is wanted for something else.

    Yields
    ------
    inputs, output
        What to work with. Where the result goes to stdout, all that is printed there meanwhile
        goes to stderr.

    Raises
    ------
    UsageError
        A terminal is at the other end, or it is not one image.
    """
    into, onto = DASH in inputs, output is not None and str(output) == DASH
    if not (into or onto):
        yield list(inputs), output
        return
    _check(inputs, into=into, onto=onto, output=output, as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="denoisekit-") as name:
        folder = Path(name)
        result = folder / "result"
        result.mkdir()
        source = folder / "stdin"
        with render.calling({str(source): "stdin", f"{result}{os.sep}": "stdout: "}):
            if into:
                with source.open("wb") as file:
                    shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
            named = [str(source)] if into else list(inputs)
            if not onto:
                yield named, output
                return
            with redirect_stdout(sys.stderr):
                yield named, result
            written = [path for path in result.iterdir() if not path.name.startswith(".")]
            if len(written) != 1:
                raise OutputError("there is no one result to send to stdout")
            render.send(written[0])


def _check(
    inputs: Sequence[str], *, into: bool, onto: bool, output: Path | None, as_json: bool
) -> None:
    if len(inputs) > 1 or (onto and os.path.isdir(inputs[0])):  # noqa: PTH112
        raise UsageError("- is one image: give one input", "a folder is done with -o FOLDER")
    if into and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError(
            "- reads an image from stdin, and nothing is sent there",
            "send one: denoisekit denoise - -o clean.png < photo.png",
        )
    if into and output is None:
        raise UsageError(
            "an image from stdin has no name that the result could be named by",
            "say where to: -o FILE, or -o - for stdout",
        )
    if onto and as_json:
        raise UsageError("--json and -o - both write to stdout", "leave one of them out")
    if onto and (sys.stdout is None or sys.stdout.isatty()):
        raise UsageError(
            "-o - writes the image to stdout, which is a terminal",
            "send it on: denoisekit denoise photo.png -o - > clean.png",
        )
