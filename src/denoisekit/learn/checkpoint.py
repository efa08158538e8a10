"""What a run keeps on the disk: a state to resume from, weights to use, and a log.

Every file appears whole or not at all: it is written beside its place, flushed, and
renamed. So a run that is killed, or whose disk is full, leaves its last good state.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoisekit._version import __version__
from denoisekit.atomic import write_whole
from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.methods import MethodInfo

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]

Record = Mapping[str, Any]
"""``event`` says which: ``data``, ``plan``, ``step``, ``validation``, ``saved``, ``late``,
``resumed``, ``stopped`` or ``done``."""

Tell = Callable[[Record], None]


class Folder:
    """The files of a run.

    Attributes
    ----------
    config, log : Path
        All that tells the run; what happened, a JSON object a line.
    state, weights : Path
        What to resume from; the result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.log = path / "config.toml", path / "log.jsonl"
        self.state, self.weights = path / "checkpoints/state.pt", path / "weights.safetensors"

    def kept(self, name: str) -> Path:
        """Return the place of weights on the way: ``last``, ``best``, or a stage's name."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def preview(self, stage: str, step: int) -> Path:
        """Return the place of an image of what the network does."""
        return self.path / "previews" / f"{stage}_{step:07d}.png"


@dataclass(slots=True)
class State:
    """A run between two steps.

    Attributes
    ----------
    stage, step : int
        The stage under way, and its steps done.
    net, average : dict of str to Tensor
        Weights, and their moving average; the latter empty where there is none.
    adam, scaler : dict
        What the optimiser and the loss scaler keep.
    best : float or None
        The best score of this stage.
    seconds : float
        Spent so far.
    last, noisy : float or None
        PSNR of the last validation, and of the noisy images; None: no clean ones are known.
    """

    stage: int = 0
    step: int = 0
    net: Tensors = field(default_factory=dict)
    average: Tensors = field(default_factory=dict)
    adam: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    best: float | None = None
    seconds: float = 0.0
    last: float | None = None
    noisy: float | None = None

    @property
    def learned(self) -> bool:
        """Whether the last weights better the noisy images, as far as that is known."""
        return self.last is None or self.noisy is None or self.last > self.noisy


def write_file(path: Path, data: bytes) -> None:
    """Write a file of a run, whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written; a former file of this name is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        "the last state is kept: make room, then go on with --resume",
    )


def save_state(folder: Folder, state: State) -> None:
    """Keep a state, in place of the one before.

    Raises
    ------
    OutputError
        It cannot be written; the one before is as it was.
    """
    import torch

    buffer = io.BytesIO()
    torch.save({name: getattr(state, name) for name in State.__slots__}, buffer)
    write_file(folder.state, buffer.getvalue())


def load_state(folder: Folder) -> State | None:
    """Return the state to resume from; None: nothing was saved yet.

    Raises
    ------
    InputError
        It cannot be read.
    """
    import torch

    def tensors(kept: object) -> bool:
        return isinstance(kept, dict) and all(isinstance(v, torch.Tensor) for v in kept.values())

    try:
        with folder.state.open("rb") as file:  # torch takes no name that is not UTF-8
            state = State(**torch.load(file, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file may raise anything
        raise damaged_state(f"{folder.state} cannot be read") from error
    if not (
        all(type(n) is int and 0 <= n < 2**63 for n in (state.stage, state.step))
        and all(isinstance(kept, dict) for kept in (state.adam, state.scaler))
        and all(tensors(kept) for kept in (state.net, state.average))
        and (state.best is None or isinstance(state.best, float))
        and type(state.seconds) in (int, float)
        and state.seconds >= 0
    ):
        raise damaged_state(f"{folder.state} is no state of a run")
    return state


def damaged_state(reason: str) -> InputError:
    """Return the error of a state that no run can resume from."""
    return InputError(
        f"the state of the run is damaged, or of another run: {reason}",
        "start a new run; --weights takes checkpoints/last.safetensors as its start",
    )


def write_weights(
    path: Path,
    method: MethodInfo,
    config: Mapping[str, Any],
    weights: Tensors,
    facts: Mapping[str, Any],
) -> None:
    """Write weights that ``denoise --weights`` takes, with their origin in the header.

    Parameters
    ----------
    path : Path
        Where to.
    method : MethodInfo
        Of which method.
    config : mapping
        Of their network.
    weights : dict of str to Tensor
        Under our keys.
    facts : mapping
        How they were made, for the header.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import torch

    from denoisekit.weights.checkpoint import to_safetensors

    header = {
        "denoisekit": "1",
        "method": method.id,
        "config": json.dumps(dict(config), sort_keys=True),
        "source": f"trained with denoisekit {__version__}",
        "training": json.dumps({**facts, "torch": torch.__version__}, sort_keys=True),
    }
    plain = {key: value.detach().cpu().clone().contiguous() for key, value in weights.items()}
    write_file(path, to_safetensors(plain, header))


class Log:
    """Hands records on: to a file, to TensorBoard, to whoever listens.

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
        self._board: Any = None if board is None else find_board()(str(board))
        # A run that was killed may have left a part of a line.
        written = path.read_bytes() if path is not None and path.exists() else b""
        self._torn = bool(written) and not written.endswith(b"\n")

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
                raise _unwritable(self._path, error) from error
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
