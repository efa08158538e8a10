"""Time the training loop against the bare steps it is made of, on the same batches.

Bare is forward, backward and a step of Adam on one batch that lies ready; the loop reads,
cuts, turns and sends patches, follows the average, and keeps the log. Both take turns, so
that a machine that slows down slows both; medians of patches a second are printed.
Validation and saving are not counted: how often they happen is the user's choice.

    python scripts/training_speed.py --method aprrd --pictures folder/ --patch 128 --batch 8
    python scripts/training_speed.py --method aprrd --pictures folder/ --simulate phone
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from denoisekit.learn.checkpoint import Folder, State
from denoisekit.learn.config import resolve, stages_of
from denoisekit.learn.crops import Sampler, open_images
from denoisekit.learn.train import Machine, Run, StageTraining
from denoisekit.learn.trainee import ProcessGroup, Trainee, new_network, process_group
from denoisekit.methods import get_method
from denoisekit.options import TrainData, TrainOptions


def main() -> None:
    """Read the command line, time, print."""
    parser = argparse.ArgumentParser(description="Time the training loop against bare steps.")
    parser.add_argument("--method", default="aprrd")
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--simulate", default="")
    parser.add_argument("--width", type=int)
    parser.add_argument("--patch", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    with process_group(given.device) as group, tempfile.TemporaryDirectory() as folder:
        bare, loop = _forms(given, group, Path(folder))
        bare()
        speeds = [(bare(), loop()) for _ in range(given.rounds)]
    plain, whole = (statistics.median(column) for column in zip(*speeds, strict=True))
    ratio = statistics.median(other / one for one, other in speeds)
    print(f"bare steps: {plain:.2f} patches/s")
    print(f"the loop:   {whole:.2f} patches/s, {ratio:.3f} of it")


def _forms(
    given: argparse.Namespace, group: ProcessGroup, folder: Path
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return the bare steps and the loop as functions that return patches a second."""
    method = get_method(given.method)
    data = TrainData((given.pictures,), simulate=given.simulate)
    images = open_images(data, channels=3)
    asked = TrainOptions(
        patch=given.patch,
        batch=given.batch,
        network={} if given.width is None else {"width": given.width},
        precision=given.precision,
        validate_every=10**9,
        preview_every=10**9,
        save_every=10**9,
    )
    config = resolve(method, data, asked, 3)
    stages = stages_of(method, config)
    stage, before = stages[-1], stages[-2] if len(stages) > 1 else stages[-1]
    trainee = Trainee(method, stage, group, precision=given.precision)
    if before.config != stage.config:
        teacher = new_network(method, before.config, 0)
        trainee.teacher = teacher.to(group.device).requires_grad_(False)
    ready = trainee.batch(Sampler(images.train, stage.patch, (0, 0)).batch(0, range(stage.batch)))
    net = trainee.net
    adam = torch.optim.Adam(net.parameters(), stage.rate, stage.betas)

    def bare() -> float:
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < given.seconds:
            for _ in range(10 if group.device.type == "cuda" else 1):
                adam.zero_grad(set_to_none=True)
                with trainee.computing():
                    loss = stage.loss(net, ready)
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
                done += 1
            _wait()
        return done * stage.batch / (time.perf_counter() - began)

    def loop() -> float:
        end, state = time.perf_counter() + given.seconds, State()
        machine = Machine(workers=given.workers, stop=lambda: time.perf_counter() > end)
        run = Run(method, config, Folder(folder), images, group, machine, 0.0)
        StageTraining(run, trainee, state).run_steps()
        return state.step * stage.batch / state.seconds

    return bare, loop


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
