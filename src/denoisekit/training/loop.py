"""The training loop: step after step, and between them loss, validation, previews, states."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from denoisekit.errors import DenoisekitError
from denoisekit.methods import MethodInfo, Stage
from denoisekit.training.config import Config, Sizes
from denoisekit.training.data import Pair, Patches, Pool, batches
from denoisekit.training.distributed import Crew
from denoisekit.training.evaluate import SHOWN, Sample, denoise, psnr, write_preview
from denoisekit.training.log import Log
from denoisekit.training.state import Folder, State, save_state, write_weights
from denoisekit.training.step import Trainee

SAVE_SECONDS = 300.0
"""Time between two states, where no number of steps is asked for."""

TOLD_SECONDS = 0.5
"""About how often the loss is read: on a GPU it makes the host wait."""

TOLD_STEPS = 100
"""Most steps until then."""

LOOKS = 20
"""How often a stage is validated and shown, where nothing else is asked for."""

LOOK_STEPS = 100
"""Fewest steps between."""

LOOK_SHARE = 0.1
"""Most of the time that goes into looking, where nobody asked how often: some methods take
minutes for what is trained in seconds."""

STOP, END = 0, -1
"""Instead of a number of steps: save and stop, or go on with what follows the stage."""

HELD_OUT = 4
"""Batches whose loss is the score, where no clean pictures are known."""


@dataclass(frozen=True, slots=True)
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
    pool, held : Pool
        What patches are drawn from: to train, and to judge by.
    samples : sequence of Sample
        Pictures to validate on.
    crew : Crew
        The processes.
    workers : int
        Threads, or processes, that prepare batches.
    log : Log
        Told what happens.
    stop : callable
        Whether to stop soon.
    facts : dict
        For the header of weights: what they were trained on.
    """

    method: MethodInfo
    config: Config
    folder: Folder
    pool: Pool
    held: Pool
    samples: Sequence[Sample]
    crew: Crew
    workers: int
    log: Log
    stop: Callable[[], bool]
    facts: dict[str, Any]

    def write_weights(self, name: str, stage: Stage, state: State, trainee: Trainee) -> None:
        """Write weights on the way, or the result: ``weights``."""
        path = self.folder.weights if name == "weights" else self.folder.kept(name)
        facts = {**self.facts, "stage": stage.name, "steps": state.step, "score": state.best}
        write_weights(path, self.method, stage.config, trainee.weights(), facts)


def train_stage(run: Run, stage: Stage, trainee: Trainee, state: State) -> bool:
    """Train a stage from where its state stands to its end; return False if stopped before.

    Raises
    ------
    DenoisekitError
        The loss is not a number, or something cannot be written. The last good state is
        on the disk.
    """
    sizes, config, crew = trainee.sizes, run.config, run.crew
    patches = Patches(run.pool, sizes.patch, (config.seed, state.stage))
    looks = max(LOOK_STEPS, sizes.steps // LOOKS)
    marks = (config.validate_every or looks, config.preview_every or looks, config.save_every)
    ahead, share = range(state.step, sizes.steps), crew.share(sizes.batch)
    # A GPU is fed faster than threads of one Python can simulate.
    apart = run.pool.simulate is not None and crew.device.type != "cpu"
    losses: list[torch.Tensor] = []
    due = _next(state.step, 1, sizes.steps, marks)
    began = saved = time.monotonic()
    start, looked = began - state.seconds, 0.0
    asked = bool(config.validate_every or config.preview_every)
    # The look at the end is part of the time: it takes what a look took, or may take.
    ending = LOOK_SHARE * (sizes.limit - state.seconds) if sizes.limit else 0.0
    with batches(patches, ahead, share, run.workers, apart=apart) as coming:
        for pair in coming:
            losses.append(trainee.step(state.step, pair))
            state.step += 1
            # Processes look up together, and so at planned steps alone.
            late = crew.size == 1 and _late(sizes, time.monotonic() - start + ending)
            if state.step < due and not late:
                continue
            loss = _mean(losses, crew, state.step)
            now = time.monotonic()
            seconds, state.seconds = (now - began) / len(losses), now - start
            if crew.first:
                _tell(run, stage, trainee, state, loss, seconds)
            pace = _decide(run, sizes, state, seconds, ending)
            end = pace == END
            validate, show, keep = (bool(e) and state.step % e == 0 for e in marks)
            keep |= not config.save_every and now - saved > SAVE_SECONDS
            if not asked and looked > LOOK_SHARE * (time.monotonic() - start):
                validate = show = False
            if crew.first and (validate or show or end):
                _look(run, stage, trainee, state, validate=validate or end, show=show or end)
                took = time.monotonic() - now
                looked, ending = looked + took, max(ending, took)
            if crew.first and (keep or end or pace == STOP):
                save(run, stage, trainee, state)
                saved = time.monotonic()
            state.seconds = time.monotonic() - start
            if pace in (STOP, END):
                return end
            due, losses = _next(state.step, pace, sizes.steps, marks), []
            began = time.monotonic()
    return True


def save(run: Run, stage: Stage, trainee: Trainee, state: State) -> None:
    """Keep the state and its weights, unless they are spoilt."""
    if not trainee.sound():
        raise _spoilt(state.step)
    trainee.put(state)
    save_state(run.folder, state)
    run.write_weights("last", stage, state, trainee)
    run.log("saved", stage=stage.name, step=state.step)


def held_out(run: Run, place: int, sizes: Sizes) -> list[Pair]:
    """Return the batches that the score is taken of; they never change."""
    patches = Patches(run.held, sizes.patch, (run.config.seed, place, 1))
    return [patches.batch(step, range(min(sizes.batch, 8))) for step in range(HELD_OUT)]


def _next(step: int, pace: int, steps: int, marks: Sequence[int]) -> int:
    """Return the step after which to look up next."""
    return min(steps, step + pace, *(step - step % every + every for every in marks if every))


def _mean(losses: list[torch.Tensor], crew: Crew, step: int) -> float:
    loss = float(crew.mean(torch.stack(losses).float().mean()))
    if loss != loss or loss in (float("inf"), -float("inf")):
        raise _spoilt(step)
    return loss


def _spoilt(step: int) -> DenoisekitError:
    return DenoisekitError(
        f"the training came to values that are not numbers by step {step}",
        "the last good state is kept; start again from checkpoints/last.safetensors with "
        "--weights, and a lower --lr or --clip 1",
    )


def _late(sizes: Sizes, seconds: float) -> bool:
    return 0 < sizes.limit <= seconds


def _decide(run: Run, sizes: Sizes, state: State, seconds: float, ending: float) -> int:
    """Return how many steps to go until the next look, or `STOP` or `END`; alike in all."""
    pace = max(1, min(TOLD_STEPS, int(TOLD_SECONDS / max(seconds, 1e-9))))
    if run.stop():
        pace = STOP
    if _late(sizes, state.seconds + ending):
        pace = END
    if state.step == sizes.steps:
        return END
    pace = int(run.crew.agree(pace))
    if pace == END and run.crew.first:
        run.log("late", stage=sizes.name, step=state.step, steps=sizes.steps)
    return pace


def _tell(
    run: Run, stage: Stage, trainee: Trainee, state: State, loss: float, seconds: float
) -> None:
    sizes = trainee.sizes
    run.log(
        "step",
        stage=stage.name,
        step=state.step,
        steps=sizes.steps,
        loss=loss,
        rate=trainee.rate(state.step - 1),
        patches_per_second=round(sizes.batch / seconds, 3),
        seconds_left=round((sizes.steps - state.step) * seconds, 1),
    )


def _look(
    run: Run, stage: Stage, trainee: Trainee, state: State, *, validate: bool, show: bool
) -> None:
    """Denoise the pictures of validation; score the weights, keep the best, write a preview."""
    known = bool(run.samples) and run.samples[0].clean is not None
    shown, denoised = run.samples if known else run.samples[:SHOWN], []
    if show or known:
        device = str(run.crew.device)
        denoised = denoise(run.method, stage.config, trainee.weights(), shown, device)
    if show:
        write_preview(run.folder.preview(stage.name, state.step), shown, denoised)
    if not validate:
        return
    if known:
        score = psnr(denoised, run.samples)
        noisy = psnr([sample.noisy for sample in run.samples], run.samples)
        told = {"psnr": round(score, 4), "noisy_psnr": round(noisy, 4)}
        state.last, state.noisy = told["psnr"], told["noisy_psnr"]
    else:
        score = -trainee.held_out(held_out(run, state.stage, trainee.sizes))
        told = {"held_out_loss": -score}
    better = state.best is None or score > state.best
    run.log("validation", stage=stage.name, step=state.step, **told, best=better)
    if better:
        state.best = score
        run.write_weights("best", stage, state, trainee)
