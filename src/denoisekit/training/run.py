"""A run from its beginning to its weights: planned, started, taken up again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from denoisekit.atomic import Claim, remove_dead_parts
from denoisekit.engine.device import choose_precision, describe_device
from denoisekit.errors import InputError, OutOfMemory, OutputError, OutputTaken, UsageError
from denoisekit.methods import MethodInfo, Stage, get_method
from denoisekit.options import TrainData, TrainOptions
from denoisekit.training.config import Config, read_toml, recipe, resolve, stages_of, write_toml
from denoisekit.training.cost import Cost, measure
from denoisekit.training.distributed import Crew, crew
from denoisekit.training.evaluate import Sample, choose, fewer
from denoisekit.training.log import Log, Tell, find_board
from denoisekit.training.loop import LOOK_SHARE, Run, train_stage
from denoisekit.training.material import Material, gather
from denoisekit.training.planning import plan
from denoisekit.training.state import Folder, State, damaged_state, load_state, write_file
from denoisekit.training.step import Trainee, frozen
from denoisekit.training.threads import threads_that_help
from denoisekit.weights import load_weights


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
        Called with each record of the log; see `denoisekit.training.log`.
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
        Whether it came to its end; False: it was stopped, and can be taken up again.

    Raises
    ------
    DenoisekitError
        Anything that does not let it begin or go on.
    """
    machine, folder = machine or Machine(), Folder(out)
    began = time.monotonic() if machine.began is None else machine.began
    if machine.tensorboard:
        find_board()  # now, before anything is written
    with crew(machine.device) as here, _alone(out, here, new=True), ExitStack() as stack:
        choose_precision(here.device, asked.precision)
        material = gather(data, out, asked.network.get("channels"))
        if asked.limit and here.size == 1:
            # Without a limit a run is repeated by its seed, with as many threads.
            stack.enter_context(threads_that_help(here.device))
        config, costs = _planned(method, data, asked, material.channels, here, began)
        if here.first:
            write_file(folder.config, _encoded(write_toml(config)))
        return _work(method, config, folder, material, here, machine, costs, began)


def resume(out: Path, machine: Machine | None = None) -> bool:
    """Go on with a run that was stopped, killed or failed; see `start`."""
    machine, folder = machine or Machine(), Folder(out)
    config = read_toml(folder.config)
    for place in (out, folder.state.parent, folder.preview("", 0).parent):
        remove_dead_parts(place)  # also where the run turns out to be complete
    method = get_method(config.method)
    stages_of(method, config)  # refuses what no run has, before any picture is read
    state = load_state(folder) or State()
    if state.stage >= len(config.stages):
        raise damaged_state(f"it is in stage {state.stage} of {len(config.stages)}")
    if folder.weights.exists() and _over(config, state):
        raise UsageError(f"the run {out} is complete", f"its weights are {folder.weights}")
    if config.stages[-1].limit <= state.seconds:  # its time was over, and it is to go on
        config = config.unlimited()
    with crew(machine.device) as here, _alone(out, here):
        choose_precision(here.device, config.precision)
        material = gather(config.data, out, config.network.get("channels"))
        return _work(method, config, folder, material, here, machine, [], time.monotonic())


def _planned(
    method: MethodInfo,
    data: TrainData,
    asked: TrainOptions,
    channels: int,
    here: Crew,
    began: float,
) -> tuple[Config, list[Cost]]:
    """Return the run, and what its stages cost: as published, or as time and memory allow."""
    config = resolve(method, data, asked, channels)
    if not asked.limit:
        return config, _measure(method, config, here)
    if here.size > 1:  # all must come to the same: only the steps follow from the time
        costs = _measure(method, config, here)
    else:
        config, costs = plan(
            method,
            asked,
            lambda wanted: resolve(method, data, wanted, channels),
            lambda wanted: _measure(method, wanted, here),
            began,
        )
    seconds = [here.agree(cost.seconds) for cost in costs]
    return config.fitted(seconds, asked.limit, here.agree(time.monotonic() - began)), costs


@contextmanager
def _alone(out: Path, here: Crew, *, new: bool = False) -> Iterator[None]:
    """Keep other runs out of a folder; one that was made for nothing goes again."""
    if not here.first:
        yield
        return
    made = not os.path.lexists(out)
    try:
        claim = _claim(out)
        try:
            if new and any(path != claim.part for path in out.iterdir()):
                raise _there_already(out)
            yield
        finally:
            claim.close()
    finally:
        if made:
            with suppress(OSError):
                out.rmdir()


def _claim(out: Path) -> Claim:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return Claim(out / "run")
    except BlockingIOError as error:
        raise OutputTaken(
            f"{out}: another run is working there", "wait for it, or give another --out"
        ) from error
    except FileExistsError as error:
        raise _there_already(out) from error
    except OSError as error:
        what = f"cannot write in {out}: {error.strerror}"
        raise OutputError(what, "give another --out") from error


def _there_already(out: Path) -> UsageError:
    return UsageError(f"{out} exists already", "go on with --resume, or give another --out")


def _encoded(toml: str) -> bytes:
    try:
        return toml.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "a name that is not UTF-8 cannot be kept for --resume", "rename it, or name its folder"
        ) from error


def _over(config: Config, state: State) -> bool:
    return state.stage == len(config.stages) - 1 and state.step >= config.stages[-1].steps


def _measure(method: MethodInfo, config: Config, here: Crew) -> list[Cost]:
    costs: list[Cost] = []
    stages = stages_of(method, config)
    for place, (stage, sizes) in enumerate(stages):
        here.share(sizes.batch)
        before = _before(method, config, place)
        taught = before if before is not None and before.config != stage.config else None
        paired = config.data.paired
        costs.append(
            measure(method, stage, sizes, here, config.precision, teacher=taught, paired=paired)
        )
    return costs


def _before(method: MethodInfo, config: Config, place: int) -> Stage | None:
    """Return the stage before a stage of the run, which may not be one of the run itself.

    Its network has the sizes of the teacher that was given, where there is one.
    """
    known = recipe(method, config.network, paired=config.data.paired)
    at = [stage.name for stage in known].index(config.stages[place].name)
    if not at:
        return None
    before = known[at - 1]
    if place or not config.teacher:
        return before
    found = load_weights(config.teacher, method).config
    if _kind(found) != _kind(before.config):
        raise _unfit(config.teacher, found, before.config)
    return replace(before, config=found)


def _kind(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two networks must have in common, whatever their sizes."""
    return {k: v for k, v in config.items() if isinstance(v, str) or k == "channels"}


def _work(
    method: MethodInfo,
    config: Config,
    folder: Folder,
    material: Material,
    here: Crew,
    machine: Machine,
    costs: list[Cost],
    began: float,
) -> bool:
    board = folder.path / "tensorboard" if machine.tensorboard else None
    log = Log(folder.log, machine.tell, board) if here.first else Log(None, lambda record: None)  # noqa: ARG005
    run = Run(
        method=method,
        config=config,
        folder=folder,
        pool=material.pool,
        held=material.held,
        samples=_samples(method, config, material, here),
        crew=here,
        workers=machine.workers,
        log=log,
        stop=machine.stop,
        facts={**material.facts, "seed": config.seed, "processes": here.size},
    )
    try:
        log("data", **material.facts, warnings=material.warnings(config))
        log("plan", **_plan(run, costs))
        own = [here.device] if here.device.type == "cuda" else []
        with torch.random.fork_rng(own):
            return _stages(run, began)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            "the memory of the device is used up", "start again with a smaller --batch or --patch"
        ) from error
    except OSError as error:
        raise OutputError(f"{folder.path}: {error.strerror}", "go on with --resume") from error
    finally:
        log.close()


def _samples(method: MethodInfo, config: Config, material: Material, here: Crew) -> list[Sample]:
    """Return pictures to validate on: fewer and smaller ones where there is little time."""
    samples = choose(material.held, config.seed)
    limit = config.stages[-1].limit
    return fewer(method, config.network, samples, LOOK_SHARE * limit, here) if limit else samples


def _plan(run: Run, costs: list[Cost]) -> dict[str, Any]:
    config = run.config
    told = []
    for sizes, cost in zip(config.stages, costs, strict=False):
        told.append(
            {
                "stage": sizes.name,
                "steps": sizes.steps,
                "batch": sizes.batch,
                "patch": sizes.patch,
                "parameters": cost.parameters,
                "seconds": round(cost.seconds * sizes.steps, 1),
                "bytes": cost.bytes,
            }
        )
    return {
        "method": run.method.id,
        "device": describe_device(run.crew.device),
        "processes": run.crew.size,
        "precision": config.precision,
        "stages": told,
    }


def _stages(run: Run, began: float) -> bool:
    config, folder, crew = run.config, run.folder, run.crew
    state = load_state(folder) or State(seconds=time.monotonic() - began)
    stages = stages_of(run.method, config)
    if state.step:
        run.log("resumed", stage=stages[state.stage][0].name, step=state.step)
    for place in range(state.stage, len(stages)):
        stage, sizes = stages[place]
        last = place == len(stages) - 1
        trainee = Trainee(
            run.method, stage, sizes, crew, (config.seed, place), config.precision, config.clip
        )
        _prepare(run, place, stage, trainee)
        if state.net:
            trainee.take(state)
        if state.step < sizes.steps and not train_stage(run, stage, trainee, state):
            run.log("stopped", stage=stage.name, step=state.step, steps=sizes.steps)
            return False
        if crew.first:
            run.write_weights("weights" if last else stage.name, stage, state, trainee)
        if last:
            told: dict[str, Any] = {"weights": str(folder.weights)}
            if state.noisy is not None:
                told |= {"psnr": state.last, "noisy_psnr": state.noisy, "learned": state.learned}
            run.log("done", **told, seconds=round(state.seconds, 1))
            return True
        state = State(stage=place + 1, seconds=state.seconds)
        crew.wait()
    return True


def _prepare(run: Run, place: int, stage: Stage, trainee: Trainee) -> None:
    """Give a network the weights it starts from, and its teacher."""
    method, config = run.method, run.config
    before = _before(method, config, place)
    if place == 0 and config.weights:
        trainee.load(_found(config.weights, method, stage))
    if before is None or (not place and not config.teacher):
        return
    name = str(run.folder.kept(before.name)) if place else config.teacher
    weights = _found(name, method, before)
    if before.config == stage.config:
        trainee.load(weights)
    else:
        trainee.teacher = frozen(method, before.config, weights).to(run.crew.device)


def _found(name: str, method: MethodInfo, stage: Stage) -> Mapping[str, torch.Tensor]:
    """Load weights of the network of a stage."""
    loaded = load_weights(name, method)
    if dict(loaded.config) != dict(stage.config):
        raise _unfit(name, loaded.config, stage.config)
    return loaded.state


def _unfit(name: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> UsageError:
    return UsageError(
        f"{name} is of the network {dict(found)}, and {dict(wanted)} is wanted",
        "give the sizes with --config, or other weights",
    )
