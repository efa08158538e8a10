"""What a run keeps on the disk: a state to go on from, and weights to use.

Every file appears whole or not at all: it is written beside its place, flushed, and
renamed. So a run that is killed, or whose disk is full, leaves its last good state.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoisekit._version import __version__
from denoisekit.atomic import write_whole
from denoisekit.errors import InputError, OutputError
from denoisekit.methods import MethodInfo

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """All that tells the run."""
        return self.path / "config.toml"

    @property
    def log(self) -> Path:
        """What happened, a JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def state(self) -> Path:
        """What to go on from."""
        return self.path / "checkpoints" / "state.pt"

    @property
    def weights(self) -> Path:
        """The result."""
        return self.path / "weights.safetensors"

    def kept(self, name: str) -> Path:
        """Return the place of weights on the way: ``last``, ``best``, or a stage's name."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def preview(self, stage: str, step: int) -> Path:
        """Return the place of a picture of what the network does."""
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
        PSNR of the last validation, and of the noisy pictures; None: no clean ones are known.
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
        """Whether the last weights better the noisy pictures, as far as that is known."""
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
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """Return the error of a file of a run that cannot be written."""
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

    content = {name: getattr(state, name) for name in State.__slots__}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(folder.state, buffer.getvalue())


def load_state(folder: Folder) -> State | None:
    """Return the state to go on from; None: nothing was saved yet.

    Raises
    ------
    InputError
        It cannot be read.
    """
    import torch

    try:
        with folder.state.open("rb") as file:  # torch takes no name that is not UTF-8
            state = State(**torch.load(file, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file may raise anything
        raise damaged_state(f"{folder.state} cannot be read") from error
    sound = (
        all(type(n) is int and 0 <= n < 2**63 for n in (state.stage, state.step))
        and all(isinstance(kept, dict) for kept in (state.adam, state.scaler))
        and all(_tensors(kept) for kept in (state.net, state.average))
        and (state.best is None or isinstance(state.best, float))
        and type(state.seconds) in (int, float)
        and state.seconds >= 0
    )
    if not sound:
        raise damaged_state(f"{folder.state} is no state of a run")
    return state


def _tensors(kept: object) -> bool:
    from torch import Tensor

    return isinstance(kept, dict) and all(isinstance(value, Tensor) for value in kept.values())


def damaged_state(reason: str) -> InputError:
    """Return the error of a state that no run can go on from."""
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
