"""What happens in a run, told as records: to a file, to TensorBoard, to whoever listens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from denoisekit.errors import UsageError
from denoisekit.training.state import unwritable

Record = Mapping[str, Any]
"""``event`` says which: ``data``, ``plan``, ``step``, ``validation``, ``saved``, ``late``,
``resumed``, ``stopped`` or ``done``."""

Tell = Callable[[Record], None]


class Log:
    """Hands records on. Only the first process of a run has one that does.

    Parameters
    ----------
    path : Path or None
        File to add a line to for each record; None: none.
    tell : callable
        Called with each.
    board : Path or None
        Folder for TensorBoard.
    """

    def __init__(self, path: Path | None, tell: Tell, board: Path | None = None) -> None:
        self._path, self._tell = path, tell
        self._board: Any = None
        if board is not None:
            self._board = find_board()(str(board))
        self._torn = path is not None and path.exists() and not _ends_well(path)

    def __call__(self, event: str, **facts: Any) -> None:
        """Tell of an event.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        record = {"event": event, "time": round(time.time(), 3), **facts}
        if self._path is not None:
            line = json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"
            try:
                with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write("\n" + line if self._torn else line)
                self._torn = False
            except OSError as error:
                raise unwritable(self._path, error) from error
        if self._board is not None and "step" in facts:
            for key, value in facts.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{facts['stage']}/{key}", value, facts["step"])
        self._tell(record)

    def close(self) -> None:
        """Complete what TensorBoard holds."""
        if self._board is not None:
            self._board.close()


def find_board() -> Any:
    """Return what writes for TensorBoard.

    Raises
    ------
    UsageError
        It is not installed.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        hint = "pip install tensorboard, or leave --tensorboard out"
        raise UsageError("TensorBoard is not installed", hint) from error
    return SummaryWriter


def _ends_well(path: Path) -> bool:
    """Return whether the last line is whole: a run that was killed may have left a part."""
    data = path.read_bytes()
    return not data or data.endswith(b"\n")
