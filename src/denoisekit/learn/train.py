"""A run of ``denoisekit train`` from its start to its weights: planned, started, resumed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from denoisekit.atomic import Claim, remove_dead_parts
from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.device import choose_precision, describe_device
from denoisekit.errors import (
    DenoisekitError,
    InputError,
    OutOfMemory,
    OutputError,
    OutputTaken,
    UsageError,
)
from denoisekit.learn.checkpoint import (
    Folder,
    Log,
    State,
    Tell,
    damaged_state,
    find_board,
    load_state,
    save_state,
    write_file,
    write_weights,
)
from denoisekit.learn.config import Config, read_toml, recipe, resolve, stages_of, write_toml
from denoisekit.learn.crops import Sampler, TrainingData, open_images, prefetched
from denoisekit.learn.loop import VALIDATION_SHARE, Budget, NotNumbers, learn
from denoisekit.learn.planning import Cost, fastest_threads, measure_cost, plan_run
from denoisekit.learn.trainee import ProcessGroup, Trainee, frozen, new_network, process_group
from denoisekit.learn.validation import (
    SHOWN,
    Sample,
    choose_samples,
    denoiser_of,
    fewer_samples,
    psnr,
    write_preview,
)
from denoisekit.methods import MethodInfo, Stage, get_method
from denoisekit.options import Options, TrainData, TrainOptions
from denoisekit.weights import load_weights

VALIDATIONS, VALIDATION_STEPS = 20, 100
"""How often a stage is validated and shown, where nothing else is asked for, and fewest steps
between."""

LOSS_BATCHES = 4
"""Batches whose loss is the score, where no clean images are known."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and how a run is worked on; nothing of this changes its result.

    Attributes
    ----------
    device : str
        As `denoisekit.engine.device.resolve_device` takes it.
    workers : int
        Threads that prepare batches.
    tensorboard : bool
        Whether to write what TensorBoard shows.
    stop : callable
        Whether to stop at the next good moment.
    tell : callable
        Called with each record of the log; see `denoisekit.learn.checkpoint`.
    began : float or None
        When the time of a run with a limit began, of `time.monotonic`; None: at its start.
    """

    device: str = "auto"
    workers: int = 2
    tensorboard: bool = False
    stop: Callable[[], bool] = lambda: False
    tell: Tell = lambda record: None  # noqa: ARG005 - nobody listens
    began: float | None = None


def start(
    method: MethodInfo,
    data: TrainData,
    out: Path,
    asked: TrainOptions,
    machine: Machine | None = None,
) -> bool:
    """Plan a run, write its folder, and train.

    Parameters
    ----------
    method : MethodInfo
        What to train.
    data : TrainData
        On what.
    out : Path
        Folder of the run; it must not be there, or be empty.
    asked : TrainOptions
        What shall differ from the method's recipe.
    machine : Machine, optional
        Where to run.

    Returns
    -------
    bool
        Whether it came to its end; False: it was stopped, and can be resumed.

    Raises
    ------
    DenoisekitError
        Anything that does not let it start or go on.
    """
    machine = machine or Machine()
    began = time.monotonic() if machine.began is None else machine.began
    if machine.tensorboard:
        find_board()  # now, before anything is written
    with process_group(machine.device) as group, _exclusive(out, group, new=True), ExitStack() as s:
        choose_precision(group.device, asked.precision)
        images = open_images(data, out, asked.network.get("channels"))
        if asked.limit and group.size == 1:
            # Without a limit a run is repeated by its seed, with as many threads.
            s.enter_context(fastest_threads(group.device))
        config, costs = _planned(method, data, asked, images.train.channels, group, began)
        run = Run(method, config, Folder(out), images, group, machine, began)
        if group.first:
            try:
                text = write_toml(config).encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    "a name that is not UTF-8 cannot be kept for --resume",
                    "rename it, or name its folder",
                ) from error
            write_file(run.folder.config, text)
        return _work(run, costs)


def resume(out: Path, machine: Machine | None = None) -> bool:
    """Go on with a run that was stopped, killed or failed; see `start`."""
    machine, folder = machine or Machine(), Folder(out)
    config = read_toml(folder.config)
    for place in (out, folder.state.parent, folder.preview("", 0).parent):
        remove_dead_parts(place)  # also where the run turns out to be complete
    method, last = get_method(config.method), config.stages[-1]
    stages_of(method, config)  # refuses what no run has, before any image is read
    state = load_state(folder) or State()
    if state.stage >= len(config.stages):
        raise damaged_state(f"it is in stage {state.stage} of {len(config.stages)}")
    complete = state.stage == len(config.stages) - 1 and state.step >= last.steps
    if folder.weights.exists() and complete:
        raise UsageError(f"the run {out} is complete", f"its weights are {folder.weights}")
    if last.limit <= state.seconds:  # its time was over, and it is to go on
        config = config.unlimited()
    with process_group(machine.device) as group, _exclusive(out, group):
        choose_precision(group.device, config.precision)
        images = open_images(config.data, out, config.network.get("channels"))
        return _work(Run(method, config, folder, images, group, machine, time.monotonic()), [])


@contextmanager
def _exclusive(out: Path, group: ProcessGroup, *, new: bool = False) -> Iterator[None]:
    """Keep other runs out of a folder; one that was made for nothing goes again."""
    if not group.first:
        yield
        return
    taken = UsageError(f"{out} exists already", "go on with --resume, or give another --out")
    made = not os.path.lexists(out)
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            claim = Claim(out / "run")
        except BlockingIOError as error:
            raise OutputTaken(
                f"{out}: another run is working there", "wait for it, or give another --out"
            ) from error
        except FileExistsError as error:
            raise taken from error
        except OSError as error:
            what = f"cannot write in {out}: {error.strerror}"
            raise OutputError(what, "give another --out") from error
        try:
            if new and any(path != claim.part for path in out.iterdir()):
                raise taken
            yield
        finally:
            claim.close()
    finally:
        if made:
            with suppress(OSError):
                out.rmdir()


def _planned(
    method: MethodInfo,
    data: TrainData,
    asked: TrainOptions,
    channels: int,
    group: ProcessGroup,
    began: float,
) -> tuple[Config, list[Cost]]:
    """Return the run, and what its stages cost: as published, or as time and memory allow."""

    def measured(config: Config) -> list[Cost]:
        costs = []
        for place, stage in enumerate(stages_of(method, config)):
            group.share(stage.batch)
            before = _stage_before(method, config, place)
            teacher = before if before is not None and before.config != stage.config else None
            paired, precision = config.data.paired, config.precision
            costs.append(
                measure_cost(method, stage, group, precision, teacher=teacher, paired=paired)
            )
        return costs

    def resolved(wanted: TrainOptions) -> Config:
        return resolve(method, data, wanted, channels)

    if asked.limit and group.size == 1:
        config, costs = plan_run(method, asked, resolved, measured, began)
    else:  # all processes must come to the same: only the steps follow from the time
        config = resolved(asked)
        costs = measured(config)
    if not asked.limit:
        return config, costs
    seconds = [group.agree(cost.seconds) for cost in costs]
    return config.fitted(seconds, asked.limit, group.agree(time.monotonic() - began)), costs


def _stage_before(method: MethodInfo, config: Config, place: int) -> Stage | None:
    """Return the stage before a stage of the run, which may not be one of the run itself.

    Its network has the sizes of the teacher that was given, where there is one.
    """
    known = recipe(method, config.network, paired=config.data.paired)
    at = [stage.name for stage in known].index(config.stages[place].name)
    if not at or place or not config.teacher:
        return known[at - 1] if at else None
    before, found = known[at - 1], load_weights(config.teacher, method).config

    def kind(network: Mapping[str, Any]) -> dict[str, Any]:
        """Return what two networks must have in common, whatever their sizes."""
        return {k: v for k, v in network.items() if isinstance(v, str) or k == "channels"}

    if kind(found) != kind(before.config):
        raise _wrong_network(config.teacher, found, before.config)
    return replace(before, config=found)


@dataclass
class Run:
    """What stays the same through all stages of a run.

    Attributes
    ----------
    method : MethodInfo
        What is trained.
    config : Config
        All of ``config.toml``.
    folder : Folder
        Where everything is written.
    images : TrainingData
        What is trained on.
    group : ProcessGroup
        The processes.
    machine : Machine
        Where it runs.
    began : float
        When its time began, of `time.monotonic`.
    samples : list of Sample
        What is validated on.
    log : Log
        Told what happens; of the first process alone.
    """

    method: MethodInfo
    config: Config
    folder: Folder
    images: TrainingData
    group: ProcessGroup
    machine: Machine
    began: float
    samples: list[Sample] = field(default_factory=list)
    log: Log = field(default_factory=lambda: Log(None, lambda record: None))  # noqa: ARG005

    def denoiser(self, config: Mapping[str, Any], weights: Mapping[str, Any]) -> Denoiser:
        """Return what denoises the samples with weights."""
        options = Options(device=str(self.group.device), range="0,1")
        return denoiser_of(self.method, config, weights, options)


def _work(run: Run, costs: list[Cost]) -> bool:
    """Train all stages; return whether the run came to its end."""
    config, group, folder = run.config, run.group, run.folder
    if group.first:
        board = folder.path / "tensorboard" if run.machine.tensorboard else None
        run.log = Log(folder.log, run.machine.tell, board)
    try:
        run.samples = choose_samples(run.images.validation, config.seed)
        if limit := config.stages[-1].limit:  # fewer and smaller ones where there is little time
            weights = new_network(run.method, config.network, 0).state_dict()
            denoiser = run.denoiser(config.network, weights)
            run.samples = fewer_samples(run.samples, denoiser, VALIDATION_SHARE * limit)
        run.log("data", **run.images.facts, warnings=run.images.warnings(config))
        run.log(
            "plan",
            method=run.method.id,
            device=describe_device(group.device),
            processes=group.size,
            precision=config.precision,
            stages=[
                {
                    "stage": sizes.name,
                    "steps": sizes.steps,
                    "batch": sizes.batch,
                    "patch": sizes.patch,
                    "parameters": cost.parameters,
                    "seconds": round(cost.seconds * sizes.steps, 1),
                    "bytes": cost.bytes,
                }
                for sizes, cost in zip(config.stages, costs, strict=False)
            ],
        )
        with torch.random.fork_rng([group.device] if group.device.type == "cuda" else []):
            return _train_stages(run)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            "the memory of the device is used up", "start again with a smaller --batch or --patch"
        ) from error
    except OSError as error:
        raise OutputError(f"{folder.path}: {error.strerror}", "go on with --resume") from error
    finally:
        run.log.close()


def _train_stages(run: Run) -> bool:
    config, folder, group = run.config, run.folder, run.group
    state = load_state(folder) or State(seconds=time.monotonic() - run.began)
    stages = stages_of(run.method, config)
    if state.step:
        run.log("resumed", stage=stages[state.stage].name, step=state.step)
    for place in range(state.stage, len(stages)):
        stage, seed = stages[place], (config.seed, place)
        trainee = Trainee(run.method, stage, group, seed, config.precision, config.clip)
        _initialise(run, place, stage, trainee)
        if state.net:
            trainee.take(state)
        training = StageTraining(run, trainee, state, config.stages[place].limit)
        if state.step < stage.steps and not training.run_steps():
            run.log("stopped", stage=stage.name, step=state.step, steps=stage.steps)
            return False
        if place == len(stages) - 1:
            if group.first:
                training.write_weights(folder.weights)
            told: dict[str, Any] = {"weights": str(folder.weights)}
            if state.noisy is not None:
                told |= {"psnr": state.last, "noisy_psnr": state.noisy, "learned": state.learned}
            run.log("done", **told, seconds=round(state.seconds, 1))
            return True
        if group.first:
            training.write_weights(folder.kept(stage.name))
        state = State(stage=place + 1, seconds=state.seconds)
        group.wait()
    return True


def _initialise(run: Run, place: int, stage: Stage, trainee: Trainee) -> None:
    """Give a network the weights it starts from, and its teacher."""
    method, config = run.method, run.config

    def found(name: str, wanted: Stage) -> Mapping[str, torch.Tensor]:
        loaded = load_weights(name, method)
        if dict(loaded.config) != dict(wanted.config):
            raise _wrong_network(name, loaded.config, wanted.config)
        return loaded.state

    before = _stage_before(method, config, place)
    if place == 0 and config.weights:
        trainee.load(found(config.weights, stage))
    if before is None or (not place and not config.teacher):
        return
    weights = found(str(run.folder.kept(before.name)) if place else config.teacher, before)
    if before.config == stage.config:
        trainee.load(weights)
    else:
        trainee.teacher = frozen(method, before.config, weights).to(run.group.device)


def _wrong_network(name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> UsageError:
    return UsageError(
        f"{name} is of the network {dict(found)}, and {dict(wanted)} is wanted",
        "give the sizes with --config, or other weights",
    )


class StageTraining:
    """A stage of a run under way: a `denoisekit.learn.loop.Watcher` that logs and writes.

    Parameters
    ----------
    run : Run
        The run.
    trainee : Trainee
        What learns in the stage.
    state : State
        Where it stands.
    limit : float
        Seconds since the run began by which the stage ends, whatever its steps; 0: any.
    """

    def __init__(self, run: Run, trainee: Trainee, state: State, limit: float = 0.0) -> None:
        self.run, self.trainee, self.stage, self.state = run, trainee, trainee.stage, state
        # The validation at the end is part of the time: it takes what one took, or may take.
        reserve = VALIDATION_SHARE * (limit - state.seconds) if limit else 0.0
        seconds = limit or math.inf
        self.budget = Budget(self.stage.steps, seconds, reserve, spent=state.seconds)

    def run_steps(self) -> bool:
        """Train from where the state stands to the stage's end; return False if stopped before.

        Raises
        ------
        DenoisekitError
            The loss is not a number, or something cannot be written. The last good state is
            on the disk.
        """
        run, stage, state = self.run, self.stage, self.state
        config, group, data = run.config, run.group, run.images.train
        # A GPU is fed faster than threads of one Python can simulate.
        apart = data.simulate is not None and group.device.type != "cpu"
        source = data.for_worker(run.machine.workers) if apart else data
        sampler = Sampler(source, stage.patch, (config.seed, state.stage))
        usual = max(VALIDATION_STEPS, stage.steps // VALIDATIONS)
        every = {
            "validate": config.validate_every or usual,
            "preview": config.preview_every or usual,
            "save": config.save_every,
        }
        asked = config.validate_every or config.preview_every
        steps, share = range(state.step, stage.steps), group.share(stage.batch)
        try:
            with prefetched(sampler, steps, share, run.machine.workers, processes=apart) as batches:
                ended = learn(
                    self.trainee,
                    batches,
                    self.budget,
                    state,
                    self,
                    every=every,
                    share=math.inf if asked else VALIDATION_SHARE,
                )
        except NotNumbers as error:
            raise self._not_numbers() from error
        if ended and state.step < stage.steps:
            run.log("late", stage=stage.name, step=state.step, steps=stage.steps)
        return ended

    def told(self, step: int, loss: float, seconds: float) -> bool:
        """Log a step; return whether to stop."""
        self.run.log(
            "step",
            stage=self.stage.name,
            step=step,
            steps=self.stage.steps,
            loss=loss,
            rate=self.stage.rate * self.stage.schedule((step - 1) / self.stage.steps),
            patches_per_second=round(self.stage.batch / seconds, 3),
            seconds_left=round((self.stage.steps - step) * seconds, 1),
        )
        return self.run.machine.stop()

    def validate(self, step: int, due: Collection[str]) -> float | None:
        """Denoise the validation images: write a preview, return the PSNR or minus a loss."""
        run, stage, state, began = self.run, self.stage, self.state, time.monotonic()
        known = bool(run.samples) and run.samples[0].clean is not None
        samples = run.samples if known else run.samples[:SHOWN]
        score = None
        if known or "preview" in due:
            denoiser = run.denoiser(stage.config, self.trainee.weights())
            denoised = [denoiser(sample.noisy, axes="YXS") for sample in samples]
            if "preview" in due:
                write_preview(run.folder.preview(stage.name, step), samples, denoised)
            if known and "validate" in due:
                score = psnr(denoised, samples)
                state.last = round(score, 4)
                state.noisy = round(psnr([sample.noisy for sample in samples], samples), 4)
        if not known and "validate" in due:
            seed = run.config.seed, state.stage, 1
            sampler = Sampler(run.images.validation, stage.patch, seed)
            few = range(min(stage.batch, 8))
            score = -self.trainee.mean_loss([sampler.batch(k, few) for k in range(LOSS_BATCHES)])
        if self.budget.reserve:
            self.budget.reserve = max(self.budget.reserve, time.monotonic() - began)
        return score

    def keep(self, step: int, score: float, *, best: bool) -> None:
        """Log a score, and write the weights if they are the best."""
        told = {"held_out_loss": -score}
        if self.state.last is not None and self.state.noisy is not None:
            told = {"psnr": self.state.last, "noisy_psnr": self.state.noisy}
        self.run.log("validation", stage=self.stage.name, step=step, **told, best=best)
        if best:
            self.write_weights(self.run.folder.kept("best"))

    def save(self) -> None:
        """Keep the state and its weights, unless they are spoilt."""
        if not self.trainee.finite():
            raise self._not_numbers()
        self.trainee.put(self.state)
        self.state.seconds = self.budget.elapsed
        save_state(self.run.folder, self.state)
        self.write_weights(self.run.folder.kept("last"))
        self.run.log("saved", stage=self.stage.name, step=self.state.step)

    def write_weights(self, path: Path) -> None:
        """Write weights on the way, or the result."""
        run, stage = self.run, self.stage
        facts = {**run.images.facts, "seed": run.config.seed, "processes": run.group.size}
        facts |= {"stage": stage.name, "steps": self.state.step, "score": self.state.best}
        write_weights(path, run.method, stage.config, self.trainee.weights(), facts)

    def _not_numbers(self) -> DenoisekitError:
        return DenoisekitError(
            f"the training came to values that are not numbers by step {self.state.step}",
            "the last good state is kept; start again from checkpoints/last.safetensors with "
            "--weights, and a lower --lr or --clip 1",
        )
