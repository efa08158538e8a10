"""What commands share: types of arguments, files through pipes, runs over files, signals."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.errors import InternalError, OutputError, UsageError
from denoisekit.options import DEVICE, PRECISION, RANGE

if TYPE_CHECKING:
    from denoisekit.batch.plan import Plan
    from denoisekit.batch.run import Job, Outcome
    from denoisekit.weights import LoadedWeights

DASH = "-"
"""In place of a name: stdin or stdout."""

Inputs = Annotated[
    list[str],
    typer.Argument(help="Files, folders or patterns; - is stdin.", show_default=False),
]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Folders of folders too; the tree is mirrored.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Device = Annotated[str, typer.Option(help=DEVICE)]
Precision = Annotated[str, typer.Option(help=PRECISION)]
Range = Annotated[str, typer.Option(help=f"{RANGE}.")]
Axes = Annotated[
    str | None, typer.Option(help="What the axes are, such as TZCYX; overrides the file.")
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="Which denoisers, with commas between, such as aprrd,sdap; see denoisekit methods. "
        "Also simple ones that need no weights: nlm, tv, wavelet, zsn2n …"
    ),
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        help="Weights to try: ids (denoisekit weights list), files or hf://USER/REPO/FILE; "
        "repeatable."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the method; repeatable."),
]
Lossless = Annotated[
    bool, typer.Option("--lossless", help="Keep the page's pictures without loss.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a file.")]
JsonTable = Annotated[bool, typer.Option("--json", help="JSON on stdout, in place of a table.")]


def split(texts: Sequence[str] | None) -> list[str]:
    """Return what is listed in texts, with commas between."""
    return [name.strip() for text in texts or () for name in text.split(",") if name.strip()]


def check_writable(*paths: Path | None, overwrite: bool) -> None:
    """Refuse, before any work, what could not be written after it.

    Raises
    ------
    OutputError
        It exists, its folder cannot be written, its name is too long, the disk is full.
    """
    from denoisekit.formats import claim_output

    for path in paths:
        if path is not None:
            claim_output(path, overwrite=overwrite).close()


class FileRun:
    """A run over files: tells how each ended, and ends with the exit code of all.

    Parameters
    ----------
    plan : Plan
        What to do; what cannot be done is told at once.
    report : render.Reporter
        Tells it.
    """

    def __init__(self, plan: Plan, report: render.Reporter) -> None:
        self.plan, self._report = plan, report
        self._failed = [error.exit_code for _, error in plan.failures]
        for path, error in plan.failures:
            report.failure(path, error)
        for note in plan.notes:
            report.note(note)
        if plan.skipped:
            report.note(f"skipped {len(plan.skipped)} whose output exists")
        self.megapixels = 0.0
        self._before = {}
        for job, image in zip(plan.jobs, plan.images, strict=True):
            self._before[job.source] = self.megapixels
            self.megapixels += image.planes * image.height * image.width / 1e6

    def progress(self, job: Job, pixels: float) -> None:
        """Tell how far a file has come."""
        self._report.describe(job.source.name)
        self._report.update(self._before[job.source] + pixels / 1e6)

    def done(self, outcome: Outcome) -> bool:
        """Tell how a file ended, and return whether there is a result to be told."""
        source = outcome.job.source
        if outcome.error:
            self._failed.append(outcome.error.exit_code)
            self._report.failure(source, outcome.error)
        elif outcome.report is None:
            self._report.note(
                f"{source}: skipped, its output is there or another run is writing it"
            )
        return outcome.report is not None

    def end(self) -> None:
        """Count, and end the program with the exit code."""
        total = len(self.plan.failures) + len(self.plan.jobs)
        if self._failed and total > 1:
            self._report.note(f"{total - len(self._failed)} done, {len(self._failed)} failed")
        end_batch(self._failed)


def end_batch(codes: Sequence[int]) -> None:
    """End the program with the exit code of a batch, given those of the files that failed."""
    if InternalError.exit_code in codes:
        raise typer.Exit(InternalError.exit_code)
    if codes:
        # One cause for all has its own code; several are "some input failed".
        raise typer.Exit(codes[0] if min(codes) == max(codes) else 1)


@contextmanager
def piped(
    inputs: Sequence[str], output: Path | None, *, as_json: bool = False
) -> Iterator[tuple[list[str], Path | None]]:
    """Put files in place of ``-``; at the end, send what was written to stdout.

    Readers go to and fro in a file, and writers rename it when it is whole: so both are files of
    a temporary folder meanwhile.

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


STARTED = 0.6
"""Seconds that a program takes to start on a machine with nothing else to do."""

_begun: list[float] = []
"""When the program was started, of `time.monotonic`; empty where it was not by `begin`."""


def begin() -> None:
    """Note when this program was started: on a busy machine that is seconds ago."""
    import psutil

    age = time.time() - psutil.Process().create_time()
    _begun[:] = [time.monotonic() - max(0.0, age)]


def started() -> float:
    """Return when the program was started, of `time.monotonic`."""
    return _begun[0] if _begun else time.monotonic() - STARTED


def noise_in_full(text: str) -> str:
    """Return noise with its strengths in full, and say so where that is not as it was written.

    Raises
    ------
    UsageError
        None is called so, or its strength is no number.
    """
    from denoisekit.noise import in_full

    full = in_full(text)
    if full != text.replace(" ", ""):
        render.err(f"note: {text} is taken as {full}")
    return full


def worth_telling(weights: LoadedWeights) -> str:
    """Return what is to be said of better weights that could not be had; mostly nothing.

    It is said once of each, and not to whoever forbade the network.
    """
    from denoisekit.weights.download import offline
    from denoisekit.weights.store import cache_folder

    if not weights.instead or offline():
        return ""
    better = weights.instead.split()[0]
    path = cache_folder().with_name("told.txt")
    known = ""
    with suppress(OSError, ValueError):
        known = path.read_text("utf-8")
    if better in known.split():
        return ""
    with suppress(OSError):  # then it is said once more
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{known}{better}\n", encoding="utf-8")
    return f"{weights.instead} (said once)"


class Stop:
    """Whether the user wants to stop."""

    def __init__(self, text: str) -> None:
        self._text, self._asked = text, False

    def ask(self, number: int, frame: Any) -> None:  # noqa: ARG002 - a signal's handler
        """Wish it; a second Ctrl-C interrupts at once."""
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
        render.err(self._text)

    def asked(self) -> bool:
        """Return whether that was wished."""
        return self._asked


@contextmanager
def stopping(text: str) -> Iterator[Stop]:
    """Turn the first Ctrl-C, and a request to end, into a wish that the work hears.

    Parameters
    ----------
    text : str
        Said then: what happens now.
    """
    stop = Stop(text)
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # What is ignored, as nohup and scripts do it for what runs beside them, stays so.
    signals = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, stop.ask) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
