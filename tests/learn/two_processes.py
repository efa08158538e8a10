"""One of several processes that train one network: run by test_processes.py."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
from small_runs import NETWORKS, PATCHES, asked

from denoisekit.learn import loop, planning
from denoisekit.learn.config import recipe
from denoisekit.learn.crops import Sampler, open_images
from denoisekit.learn.train import Machine, start
from denoisekit.learn.trainee import Trainee, process_group
from denoisekit.methods import get_method
from denoisekit.options import TrainData


def steps(folder: str) -> dict[str, torch.Tensor]:
    """Take some steps, on pairs and on noisy pictures; return the weights."""
    with process_group("cpu") as here:
        kept = {}
        # The second leaves parameters out of its loss, and draws.
        for name, paired in (("ssbsn", False), ("promptsid", True)):
            info = get_method(name)
            (stage,) = recipe(info, {**info.config, **NETWORKS[name]}, paired=paired)
            stage = replace(stage, steps=10, batch=4, patch=PATCHES[name], rate=1e-2)
            trainee = Trainee(info, stage, here, (5, 0))
            data = TrainData((folder,), simulate="gaussian:0.1" if paired else "")
            sampler = Sampler(open_images(data).train, stage.patch, (5, 0))
            for step in range(3):
                trainee.step(step, sampler.batch(step, here.share(4)), step / 10)
            for key, value in trainee.net.state_dict().items():
                kept[f"{name}.{key}"] = value.clone()
    return kept


def work(folder: str, out: Path) -> None:
    """Be one of them, as the environment says."""
    rank = os.environ["RANK"]
    torch.set_num_threads(1)
    planning.BELIEVED, loop.TOLD_STEPS = 0.0, 2
    torch.save(steps(folder), out / f"rank{rank}.pt")
    # Another meeting place: at the old one a process may still find the former meeting.
    os.environ["MASTER_PORT"] = os.environ["SECOND_PORT"]
    records: list[object] = []
    machine = Machine("cpu", workers=1, tell=records.append)
    start(get_method("aprrd"), TrainData((folder,)), out / "run", asked("aprrd"), machine)
    (out / f"records{rank}").write_text(str(len(records)))
