"""What a run is: all that must be known to resume it, and ``config.toml``, which holds it."""

from __future__ import annotations

import json
import math
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from denoisekit.errors import InputError, UsageError, did_you_mean
from denoisekit.methods import MethodInfo, Stage
from denoisekit.options import TrainData, TrainOptions
from denoisekit.weights.checkpoint import check_config
from denoisekit.weights.manifest import SchemaError

TIME_SHARE = 0.9
"""Part of the time allowed that is planned for: validation and neighbours take some too."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a stage is scaled by; the rest of it is the method's.

    Attributes
    ----------
    name : str
        Of the stage.
    steps, batch, patch : int
        See `denoisekit.methods.Stage`.
    rate : float
        Of Adam, at the start.
    limit : float
        Seconds since the run began by which the stage ends, whatever its steps; 0: any.
    """

    name: str
    steps: int
    batch: int
    patch: int
    rate: float
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class Config:
    """A run.

    Attributes
    ----------
    method : str
        Id.
    network : mapping
        Configuration of the network that is the result.
    stages : tuple of Sizes
        What is trained, in order.
    data : TrainData
        On what.
    seed : int
        Of all draws.
    precision : str
        Of forward and backward: ``fp32``, ``bf16`` or ``fp16``. Weights are fp32.
    clip : float
        Largest norm of the gradient; 0: any.
    save_every, validate_every, preview_every : int
        Steps. 0: saved every five minutes; validated and shown twenty times a stage.
    weights : str
        File or id of what the first network starts from; empty: at random.
    teacher : str
        File or id of the teacher; the stage that needs one is then the first.
    """

    method: str
    network: Mapping[str, Any]
    stages: tuple[Sizes, ...]
    data: TrainData
    seed: int = 0
    precision: str = "fp32"
    clip: float = 0.0
    save_every: int = 0
    validate_every: int = 0
    preview_every: int = 0
    weights: str = ""
    teacher: str = ""

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def fitted(self, seconds: Sequence[float], limit: float, spent: float = 0.0) -> Config:
        """Return the run planned to fit into a time.

        Parameters
        ----------
        seconds : sequence of float
            What a step of each stage takes.
        limit : float
            Seconds that the run may take. `TIME_SHARE` of it is planned for, and each stage
            has its part of all of it: one that turns out slower than planned ends early, and
            the next has its time.
        spent : float
            Of that, on planning.
        """
        takes = [cost * stage.steps for cost, stage in zip(seconds, self.stages, strict=True)]
        left = max(0.0, limit - spent)
        share = min(1.0, TIME_SHARE * left / sum(takes))
        ends = [spent + left * end / sum(takes) for end in accumulate(takes)]
        stages = tuple(
            replace(stage, steps=max(1, round(stage.steps * share)), limit=round(end, 3))
            for stage, end in zip(self.stages, ends, strict=True)
        )
        return replace(self, stages=stages)

    def unlimited(self) -> Config:
        """Return the run without limits of time."""
        return replace(self, stages=tuple(replace(stage, limit=0.0) for stage in self.stages))


def resolve(method: MethodInfo, data: TrainData, asked: TrainOptions, channels: int) -> Config:
    """Return a run of a method's recipe.

    Parameters
    ----------
    method : MethodInfo
        What is trained.
    data : TrainData
        On what.
    asked : TrainOptions
        Changes to the recipe.
    channels : int
        Of the pictures; of the network too, where its configuration has them and ``asked``
        does not say otherwise.

    Raises
    ------
    UsageError
        There is no such recipe, or no such network, or a number makes no sense.
    """
    network = {**method.config, **({"channels": channels} if "channels" in method.config else {})}
    for key, value in asked.network.items():
        if key not in network:
            raise UsageError(f"the network has no '{key}'", did_you_mean(key, list(network)))
        network[key] = value
    stages = list(recipe(method, network, paired=data.paired))
    if asked.teacher:
        stages = _taught(stages, method)
    share = 1.0 if asked.steps is None else asked.steps / sum(stage.steps for stage in stages)
    kept = ("seed", "precision", "clip", "save_every", "validate_every", "preview_every")
    return Config(
        method.id,
        network,
        tuple(_sized(stage, asked, share) for stage in stages),
        data,
        weights=asked.weights,
        teacher=asked.teacher,
        **{name: getattr(asked, name) for name in kept},
    )


def _taught(stages: list[Stage], method: MethodInfo) -> list[Stage]:
    """Return the stages from the first on whose teacher is another network."""
    for place in range(1, len(stages)):
        if stages[place].config != stages[place - 1].config:
            return stages[place:]
    raise UsageError(f"no stage of this training of {method.id} has a teacher")


def _sized(stage: Stage, asked: TrainOptions, share: float) -> Sizes:
    patch = asked.patch or max(stage.multiple, stage.patch // stage.multiple * stage.multiple)
    if patch % stage.multiple:
        fitting = -(-patch // stage.multiple) * stage.multiple
        raise UsageError(
            f"a patch of {patch} pixels is not a multiple of {stage.multiple}",
            f"give --patch {fitting}",
        )
    return Sizes(
        stage.name,
        steps=max(1, round(stage.steps * share)),
        batch=asked.batch or stage.batch,
        patch=patch,
        rate=asked.rate or stage.rate,
    )


def recipe(method: MethodInfo, network: Mapping[str, Any], *, paired: bool) -> tuple[Stage, ...]:
    """Return the stages of training a network, as published.

    Raises
    ------
    UsageError
        The method has no recipe for such data, or there is no such network.
    """
    unknown = f"there is no network of the configuration {dict(network)}"
    hint = f"see --config and the method's own: {json.dumps(dict(method.config))}"
    try:
        check_config(network, method)
    except SchemaError as error:
        raise UsageError(f"{unknown}: {error}", hint) from error
    try:
        stages = () if method.recipe is None else method.recipe(network, paired)
        for stage in stages:
            method.traits(stage.config, method.choose())
            _check_network(method, stage)
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UsageError(unknown, hint) from error
    if not stages:
        how = "pairs of noisy and clean pictures" if paired else "noisy pictures alone"
        raise UsageError(f"the method {method.id} cannot be trained on {how}")
    return stages


def _check_network(method: MethodInfo, stage: Stage) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty tensors, which are refused here
        shapes = method.build(stage.config, method.choose()).shapes()
    if any(0 in shape for shape in shapes.values()):
        raise ValueError("a layer of nothing")


def stages_of(method: MethodInfo, config: Config) -> list[Stage]:
    """Return the stages of a run at its sizes."""
    known = recipe(method, config.network, paired=config.data.paired)
    named, stages = {stage.name: stage for stage in known}, []
    for sizes in config.stages:
        if sizes.name not in named:
            raise UsageError(
                f"training of {method.id} has no stage '{sizes.name}'", "start a new run"
            )
        scaled = {key: getattr(sizes, key) for key in ("steps", "batch", "patch", "rate")}
        stages.append(replace(named[sizes.name], **scaled))
    return stages


MOST = {"batch": 2**16, "patch": 2**16}
"""Larger ones are damage: no memory holds them."""


def write_toml(config: Config) -> str:
    """Return the text of ``config.toml``."""
    content = asdict(config)
    stages = content.pop("stages")
    tables = {key: content.pop(key) for key in ("network", "data")}
    lines = ["# A run of denoisekit train; --resume goes by it."]
    lines += [_line(key, value) for key, value in content.items()]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(_line(k, v) for k, v in table.items())]
    for stage in stages:
        lines += ["", "[[stages]]", *(_line(k, v) for k, v in stage.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    return f"{key if key.isidentifier() else json.dumps(key)} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_line(k, v) for k, v in value.items()) + " }"
    # What JSON writes of strings, numbers, lists and truths is TOML too.
    return json.dumps(value, ensure_ascii=False)


def read_toml(path: Path) -> Config:
    """Read a ``config.toml``.

    Raises
    ------
    InputError
        It cannot be read, or is not one of ours.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        data = _read(TrainData, "data", content.pop("data"))
        stages = tuple(_read(Sizes, "sizes", stage) for stage in content.pop("stages"))
        if not stages or not data.pictures:
            raise ValueError("it names no stages or no pictures")
        config: Config = _read(Config, "config", {**content, "data": data, "stages": stages})
        return config
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no run", "name the folder given to --out") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", "start a new run") from error


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int and 0 <= value < 2**63,
    "float": lambda value: type(value) in (int, float) and 0 <= value < math.inf,
    "tuple[str, ...]": lambda value: all(isinstance(item, str) for item in value),
}
"""What a value must be, by the type that its field is declared with."""


def _read(kind: Any, called: str, table: Any) -> Any:
    """Return a `Config` or a part of it, each value of the type that its field has."""
    if not isinstance(table, dict):
        raise ValueError(f"{called} is no table")
    types = {field.name: str(field.type) for field in fields(kind)}
    for name, value in table.items():
        if not _KINDS.get(types.get(name, ""), lambda _: True)(value):
            raise ValueError(f"{name} = {value!r:.60} makes no sense")
        if types.get(name, "").startswith("tuple"):
            table[name] = tuple(value)
    for name in {"steps", "batch", "patch", "rate"} & table.keys():
        if not 0 < table[name] <= MOST.get(name, math.inf):
            raise ValueError(f"{name} = {table[name]} makes no sense")
    return kind(**table)
