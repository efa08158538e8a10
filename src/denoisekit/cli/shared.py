"""Options that several commands share, each said once; and how a batch ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.errors import InternalError, UsageError

if TYPE_CHECKING:
    from denoisekit.options import Strength
    from denoisekit.weights import LoadedWeights

Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", readable=False, help="A file, or a folder (also for one input)."
    ),
]
Suffix = Annotated[
    str | None, typer.Option(help="Put after the name; default _denoised beside the input.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
MaxMemory = Annotated[str | None, typer.Option(help="Most memory to take, such as 4GiB.")]
Format = Annotated[str | None, typer.Option(help="Write another format: png, tiff, jpeg …")]
Recursive = Annotated[
    bool, typer.Option("-r", "--recursive", help="Folders of folders too; the tree is mirrored.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave inputs out whose output exists.")
]
RANGE = (
    "Which values of the file are black and white: auto (decides by the file); two numbers such as "
    "0,4095; minmax (its least and largest); percentile (the same without outliers); dtype (all "
    "that the type of file can hold)"
)
"""What ``--range`` means, wherever it is."""

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
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a file.")]


def split(texts: Sequence[str]) -> list[str]:
    """Return what is listed in texts, with commas between."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def check_existing(*, overwrite: bool, skip_existing: bool) -> None:
    """Refuse to both replace and leave out.

    Raises
    ------
    UsageError
        Both are asked for.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other")


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


def end_batch(codes: Sequence[int]) -> None:
    """End the program with the exit code of a batch, given those of the files that failed."""
    if InternalError.exit_code in codes:
        raise typer.Exit(InternalError.exit_code)
    if codes:
        # One cause for all has its own code; several are "some input failed".
        raise typer.Exit(codes[0] if min(codes) == max(codes) else 1)


def parse_strength(text: str) -> Strength:
    """Return ``auto``, or the number that a text says.

    Raises
    ------
    UsageError
        It is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--strength {text} is not a number", "write auto, or a number from 0 to 1"
        ) from None


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
    from contextlib import suppress

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
