"""Options that several commands share, each said once; and how a batch ends."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import render
from denoisekit.errors import UsageError

if TYPE_CHECKING:
    from denoisekit.options import Strength

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
    bool, typer.Option("--recursive", help="Folders of folders too; the tree is mirrored.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave inputs out whose output exists.")
]
Range = Annotated[
    str, typer.Option(help="Black and white: auto, dtype, minmax, percentile or LO,HI.")
]
Axes = Annotated[
    str | None, typer.Option(help="What the axes are, such as TZCYX; overrides the file.")
]
Methods = Annotated[
    list[str] | None,
    typer.Option(help="Ids with commas between, or several times; also zsn2n, nlm, tv …"),
]
Weights = Annotated[
    list[str] | None, typer.Option(help="Ids or files of weights, each with its method.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only errors.")]
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
    if codes:
        # One cause for all has its own code; several are "some input failed".
        raise typer.Exit(codes[0] if min(codes) == max(codes) else 1)


def parse_time(text: str) -> float:
    """Return the seconds of ``90m``, ``12h``, ``1h30m``, ``2d`` or a number of seconds.

    Raises
    ------
    UsageError
        It is no time.
    """
    match = re.fullmatch(
        r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", text.strip().lower()
    )
    try:
        parts = [float(part or 0) for part in match.groups()] if match else []
    except ValueError:
        parts = []
    seconds = sum(part * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds > 0:
        raise UsageError(f"'{text}' is not a time", "write for instance 90m, 12h or 2d")
    return seconds


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
