"""What a run is: all that must be known to take it up again."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from denoisekit.errors import UsageError, did_you_mean
from denoisekit.methods import MethodInfo, Stage
from denoisekit.weights.checkpoint import check_config
from denoisekit.weights.manifest import SchemaError

TIME_SHARE = 0.9
"""Part of the time allowed that is planned for: validation and neighbours take some too."""


@dataclass(frozen=True, slots=True)
class Data:
    """What a run learns from, and what it is judged by. All are files, folders or patterns.

    Attributes
    ----------
    pictures : tuple of str
        Noisy pictures; with ``simulate``, clean ones.
    clean : tuple of str
        The same without noise.
    simulate : str
        Camera whose noise is added to the pictures; empty: none.
    range : str
        How file values become 0..1; see `denoisekit.ranges.parse_range`.
    val_noisy, val_clean : tuple of str
        Pictures to validate on.
    """

    pictures: tuple[str, ...] = ()
    clean: tuple[str, ...] = ()
    simulate: str = ""
    range: str = "auto"
    val_noisy: tuple[str, ...] = ()
    val_clean: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clean and self.simulate:
            raise UsageError("--clean and --simulate exclude each other")
        if self.val_clean and not self.val_noisy:
            raise UsageError("--val-clean needs --val-noisy")

    @property
    def paired(self) -> bool:
        """Whether clean pictures are known."""
        return bool(self.clean or self.simulate)


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
    data : Data
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
    data: Data
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user wants of a run; None, empty or 0: as the method's recipe has it.

    Attributes
    ----------
    steps, batch, patch, rate
        Of the stages; steps are of all together and are shared as published.
    network : mapping
        Changes to the configuration of the network.
    seed, precision, clip, save_every, validate_every, preview_every, weights, teacher
        As in `Config`.
    limit : float
        Seconds that the run may take.
    """

    steps: int | None = None
    batch: int | None = None
    patch: int | None = None
    rate: float | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    precision: str = "fp32"
    clip: float = 0.0
    save_every: int = 0
    validate_every: int = 0
    preview_every: int = 0
    weights: str = ""
    teacher: str = ""
    limit: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch", "rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} {value} makes no sense", "it is above 0")
        for name in ("seed", "clip", "save_every", "validate_every", "preview_every", "limit"):
            if not 0 <= getattr(self, name) < 2**63:
                raise UsageError(f"{name} {getattr(self, name)} makes no sense", "it is 0 or more")


def resolve(method: MethodInfo, data: Data, asked: Asked, channels: int) -> Config:
    """Return a run of a method's recipe.

    Parameters
    ----------
    method : MethodInfo
        What is trained.
    data : Data
        On what.
    asked : Asked
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


def _sized(stage: Stage, asked: Asked, share: float) -> Sizes:
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


def stages_of(method: MethodInfo, config: Config) -> list[tuple[Stage, Sizes]]:
    """Return what each stage of a run is: the method's part of it, and the run's."""
    known = recipe(method, config.network, paired=config.data.paired)
    named = {stage.name: stage for stage in known}
    for sizes in config.stages:
        if sizes.name not in named:
            raise UsageError(
                f"training of {method.id} has no stage '{sizes.name}'", "start a new run"
            )
    return [(named[sizes.name], sizes) for sizes in config.stages]
