"""What ``denoisekit train`` shows while it works."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from denoisekit.cli import render
from denoisekit.errors import printable

if TYPE_CHECKING:
    from rich.live import Live

    from denoisekit.training.log import Record


class Board(Protocol):
    """A few facts that change while work is under way."""

    def update(self, facts: Sequence[tuple[str, str]]) -> None:
        """Show these names and values in place of those before."""
        ...

    def note(self, text: str) -> None:
        """Put a line on stderr without disturbing the facts."""
        ...


@contextmanager
def board(quiet: bool) -> Iterator[Board]:
    """Show facts that change: a table on a terminal, elsewhere a line every ten seconds."""
    if quiet:
        yield _Silent()
    elif render.drawn():
        from rich.console import Console
        from rich.live import Live

        console = Console(file=render.steady_stderr())
        with Live(console=console, refresh_per_second=4, redirect_stdout=False) as live:
            yield _Drawn(live)
    else:
        yield _Plain()


class _Silent:
    def update(self, facts: Sequence[tuple[str, str]]) -> None: ...

    def note(self, text: str) -> None: ...


class _Drawn:
    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, facts: Sequence[tuple[str, str]]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for name, value in facts:
            table.add_row(Text(printable(name)), Text(printable(value)))
        self._live.update(table)

    def note(self, text: str) -> None:
        self._live.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


class _Plain:
    def __init__(self) -> None:
        self._spoke = time.monotonic()

    def update(self, facts: Sequence[tuple[str, str]]) -> None:
        if time.monotonic() - self._spoke >= render.PLAIN_SECONDS:
            self._spoke = time.monotonic()
            render.err(", ".join(f"{name} {value}" for name, value in facts))

    def note(self, text: str) -> None:
        render.err(text)


class Listener:
    """Says what a run tells: on a board for people, or as JSON lines on stdout."""

    def __init__(self, board: Board, as_json: bool) -> None:
        self._board, self._as_json = board, as_json
        self._score = ""

    def hear(self, record: Record) -> None:
        """Take a record; see `denoisekit.training.log`."""
        if self._as_json:
            render.json_line(record)
        elif record["event"] == "step":
            self._board.update(self._facts(record))
        else:
            for line in _lines(record):
                self._board.note(line)
            if record["event"] == "validation":
                self._score = _score(record)

    def _facts(self, record: Record) -> list[tuple[str, str]]:
        facts = [
            (record["stage"], f"step {record['step']} of {record['steps']}"),
            ("loss", f"{record['loss']:.5g}"),
            ("rate", f"{record['rate']:.3g}"),
            ("patches/s", f"{record['patches_per_second']:.3g}"),
            ("left", f"about {render.duration(record['seconds_left'])}"),
        ]
        return facts + ([("score", self._score)] if self._score else [])


def _score(record: Record) -> str:
    if "psnr" in record:
        text = f"PSNR {record['psnr']:.2f} dB (noisy {record['noisy_psnr']:.2f})"
    else:
        text = f"loss of held-out batches {record['held_out_loss']:.5g}"
    return text + (", the best so far" if record["best"] else "")


def _memory(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, size >> 20)} MiB"


def _lines(record: Record) -> Iterator[str]:
    match record["event"]:
        case "data":
            noise = f", noise of {record['simulate']}" if record["simulate"] else ""
            kind = "pairs" if record["pairs"] else "pictures"
            yield f"{record['pictures']} {kind}, {record['megapixels']} megapixels{noise}"
            yield from (f"warning: {warning}" for warning in record["warnings"])
        case "plan":
            processes = f", {record['processes']} processes" if record["processes"] > 1 else ""
            yield f"{record['method']} on {record['device']}, {record['precision']}{processes}"
            for stage in record["stages"]:
                yield (
                    f"{stage['stage']}: {stage['parameters'] / 1e6:.3g} M parameters, "
                    f"{stage['steps']} steps of {stage['batch']} patches of {stage['patch']}²; "
                    f"about {render.duration(stage['seconds'])} "
                    f"and {_memory(stage['bytes'])}"
                )
        case "resumed":
            yield f"going on with {record['stage']} after step {record['step']}"
        case "validation":
            yield f"{record['stage']}, step {record['step']}: {_score(record)}"
        case "late":
            where = f"step {record['step']} of {record['steps']}"
            yield f"the time of {record['stage']} is over at {where}"
        case "stopped":
            yield f"stopped at step {record['step']} of {record['steps']} of {record['stage']}"
        case "done":
            ended = f"in {render.duration(record['seconds'])}: {record['weights']}"
            if record.get("learned", True):
                yield f"done {ended}"
            else:
                yield (
                    f"did not learn {ended} makes pictures worse than they were, PSNR "
                    f"{record['psnr']:.2f} dB (noisy {record['noisy_psnr']:.2f}); "
                    "give it more --max-time, or more pictures"
                )
