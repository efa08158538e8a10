"""Everything the command line says: the only module of the package that prints.

Results go to stdout, everything else to stderr. On a terminal tables and bars
are drawn by Rich; elsewhere the same facts come as plain lines that scripts and
log files can keep. ``NO_COLOR`` is honoured.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from denoisekit.errors import DenoisekitError, printable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

DEBUG = "DENOISEKIT_DEBUG"
"""Environment variable: anything but empty or 0 shows tracebacks."""

MOST_LETTERS = 4000
"""Of a line on stderr."""

PLAIN_SECONDS = 10.0
"""Shortest time between two progress lines where there is no terminal."""


class OutputClosed(BaseException):
    """Whoever read our output has gone (``denoisekit methods | head -1``).

    No `Exception`: it is no file's error, and no batch goes on after it.
    """


def out(text: str) -> None:
    """Print one line of the result on stdout; what is not text in it is written out."""
    _write(sys.stdout, text)


def err(text: str) -> None:
    """Print one line for the user on stderr; what is not text in it is written out.

    A line of thousands of letters, of what a hostile file has for a name, is cut.
    """
    _write(sys.stderr, text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]} …")


def send(path: Path) -> None:
    """Write the content of a file to stdout, as it is."""
    with _delivery(sys.stdout), path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()


_names: Mapping[str, str] = {}
"""Paths that the user did not name, and what they stand for."""


@contextmanager
def calling(names: Mapping[str, str]) -> Iterator[None]:
    """Show names in place of the paths of temporary files meanwhile."""
    global _names
    _names = names
    try:
        yield
    finally:
        _names = {}


def _shown(text: str) -> str:
    for path, name in _names.items():
        text = text.replace(path, name)
    return printable(text)


def json_line(obj: Any) -> None:
    """Print a result as one line of JSON (ASCII; paths become strings; no NaN)."""
    out(json.dumps(obj, allow_nan=False, default=os.fspath))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout.

    Parameters
    ----------
    columns : sequence of str
        Headings; none are shown where all are empty.
    rows : sequence of sequence of str
        Cells, as many a row as there are headings.
    title : str, optional
        A line above.
    """
    if not _terminal(sys.stdout):
        for line in _aligned(columns, rows, title):
            out(line)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_header=any(columns),
    )
    for column in columns:
        drawn.add_column(Text(column), overflow="fold")
    for row in rows:
        # Text, because Rich would read square brackets in a plain string as markup.
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    Console(file=sys.stdout).print(drawn)


def debugging() -> bool:
    """Return whether tracebacks are wanted."""
    return os.environ.get(DEBUG, "0") not in {"", "0"}


def drawn() -> bool:
    """Return whether stderr is a terminal that can draw."""
    return _terminal(sys.stderr) and os.environ.get("TERM") != "dumb"


def duration(seconds: float) -> str:
    """Return a time in words: ``8 s``, ``2 min 5 s``, ``3 h 10 min``, ``4 days 2 h``.

    Parameters
    ----------
    seconds : float
        At least 0.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 72 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days {whole % 86400 // 3600} h"


class Reporter:
    """Says what a command does: lines and a bar on stderr, results on stdout, for all commands.

    Safe to use from several threads.

    Parameters
    ----------
    quiet : bool
        Only errors.
    as_json : bool
        Results are JSON on stdout.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        self._bar: Bar | None = None
        self._task = cast("TaskID", 0)
        self._title, self._unit, self._total = "", "", 0.0
        self._began = self._spoke = 0.0

    def note(self, text: str) -> None:
        """Put a line on stderr, without disturbing the bar; nothing where only errors count."""
        if not self.quiet:
            self._line(text)

    def result(self, text: str, facts: Mapping[str, Any]) -> None:
        """Print a result: a line for people, unless they want only errors, or JSON."""
        if self.as_json:
            json_line(facts)
        elif not self.quiet:
            out(text)

    def failure(self, path: Path, error: DenoisekitError) -> None:
        """Tell that a file of several failed: said here, because the others go on."""
        if debugging() and error.__cause__ is not None:
            err("".join(traceback.format_exception(error.__cause__)).rstrip())
        text = error.message if str(path) in error.message else f"{path}: {error.message}"
        if self.as_json:
            json_line({"input": path, "error": text, "hint": error.hint})
        self._line(f"error: {text}")
        if error.hint:
            self._line(f"hint: {error.hint}")

    def _line(self, text: str) -> None:
        if self._bar is None:
            err(text)
        else:
            self._bar.console.print(_shown(text), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: float, unit: str) -> Iterator[Reporter]:
        """Show on stderr how far a long piece of work has come, with the time left.

        Parameters
        ----------
        title : str
            What is under way: a file's name.
        total : float
            Amount of work, in `unit`.
        unit : str
            ``"MP"``, ``"MB"`` …

        Yields
        ------
        Reporter
            Itself. A terminal has a bar; elsewhere there is a line at most every ten seconds.
        """
        self._title, self._total, self._unit = title, total, unit
        self._began = self._spoke = time.monotonic()
        if self.quiet or not drawn():
            yield self
            return
        with _bar(unit) as bar:
            self._bar, self._task = bar, bar.add_task("", total=total)
            self.describe(title)
            try:
                yield self
            finally:
                self._bar = None

    def update(self, done: float, total: float | None = None) -> None:
        """Tell how much is done so far (not since the last call), in the unit of the total."""
        self._total = self._total if total is None else total
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._total)
            return
        now = time.monotonic()
        if self.quiet or now - self._spoke < PLAIN_SECONDS or done <= 0:
            return
        self._spoke = now
        left = max(0.0, (self._total - done) * (now - self._began) / done)
        share = min(100, int(100 * done / self._total)) if self._total > 0 else 100
        err(
            f"{self._title}: {share} % ({done:.1f} of {self._total:.1f} {self._unit}), "
            f"about {duration(left)} left"
        )

    def describe(self, title: str) -> None:
        """Change what is said to be under way: the next file of a batch."""
        self._title = title
        if self._bar is not None:
            from rich.markup import escape

            self._bar.update(self._task, description=escape(printable(title)))


def progress(
    title: str, total: float, unit: str, quiet: bool = False
) -> AbstractContextManager[Reporter]:
    """Show how far a long piece of work has come; see `Reporter.progress`."""
    return Reporter(quiet).progress(title, total, unit)


def words(value: object) -> str:
    """Return a value as people read it: ``yes``, ``0.25``, ``a, b``, ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(item)}" for key, item in value.items())
    return str(value)


def _bar(unit: str) -> Bar:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.completed:.1f}/{task.total:.1f} " + unit),
        progress.TimeRemainingColumn(),
        console=Console(file=cast(IO[str], _Steady(sys.stderr))),
        # One slow tile may take longer than Rich's usual half minute.
        speed_estimate_period=600,
        # Rich would send stdout to its own stream: right on a shared terminal only.
        redirect_stdout=_terminal(sys.stdout),
        transient=True,
    )


def _aligned(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None
) -> Iterator[str]:
    from rich.cells import cell_len

    if title:
        yield title
    lines = [columns, *rows] if any(columns) else rows
    lines = [[printable(cell) for cell in line] for line in lines]
    if not lines:
        return
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (cell + " " * (w - cell_len(cell)) for cell, w in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def prepare() -> None:
    """Make the streams fit to be printed on, whoever started us."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: or the next file opened would get what libraries print
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may hold letters that this terminal cannot show.
            stream.reconfigure(errors="backslashreplace")


def flush() -> str | None:
    """Push out what is still held back; return why results did not arrive, if any did not."""
    global _lost
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with _delivery(stream):
                stream.flush()
    lost, _lost = _lost, None
    return lost


def _write(stream: TextIO | None, text: str) -> None:
    if stream is not None:  # None: closed by whoever started us
        with _delivery(stream):
            print(_shown(text), file=stream)


_lost: str | None = None
"""Why results could not be printed: told at the end, because the work goes on."""


@contextmanager
def _delivery(stream: TextIO) -> Iterator[None]:
    global _lost
    try:
        yield
    except OSError as error:
        # What is left in the buffer goes nowhere, or Python would fail again at its exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if stream is not sys.stdout:
            return
        if isinstance(error, BrokenPipeError):
            raise OutputClosed from None
        _lost = f"cannot write to {stream.name}: {error.strerror}"


class _Steady:
    """Stderr as Rich can draw on it, though the terminal goes away meanwhile."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _delivery(self._stream):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _delivery(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
