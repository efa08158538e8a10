"""Show that each recipe learns from noisy crops alone: a few minutes each, on a CPU.

python scripts/learning_curves.py CLEAN_FOLDER OUT [--only METHOD]
python scripts/learning_curves.py CLEAN_FOLDER OUT --draw docs/images/learning.png

Cuts crops of different photographs, adds the noise of a phone, and trains a small network
of every method on the noisy ones. On others kept back, which stay the same, it then
measures the recipe's own loss and PSNR, of weights kept on the way. What is in OUT already
is not repeated. Drawing needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from denoisekit.learn.config import read_toml, stages_of
from denoisekit.learn.train import Machine, start
from denoisekit.learn.trainee import Trainee, frozen, process_group
from denoisekit.learn.validation import Sample, denoiser_of, psnr
from denoisekit.methods import METHODS, get_method
from denoisekit.noise import simulate
from denoisekit.options import Options, TrainData, TrainOptions
from denoisekit.weights import load_weights

SIDE, COUNT, HELD = 128, 32, 8
GAIN = 0.012
"""Of the sensor: noise of a phone in dim light."""

LOOKS = 12
"""Weights kept on the way of a run."""

NEVER = 2**31

RUNS: Mapping[str, TrainOptions] = {
    "aprrd": TrainOptions(steps=1200, batch=1, patch=128, rate=4e-4, network={"width": 12}),
    "sdap": TrainOptions(
        steps=600, batch=1, patch=120, rate=3e-4, network={"width": 32, "blocks": ["single"] * 3}
    ),
    "ssbsn": TrainOptions(
        steps=200,
        batch=1,
        patch=120,
        rate=2e-4,
        network={"width": 16, "blocks": ["double", "attention"]},
    ),
    "promptsid": TrainOptions(
        steps=600,
        batch=4,
        patch=64,
        rate=1e-3,
        network={
            "width": 16,
            "blocks": [1, 2],
            "heads": [2, 4],
            "refine_blocks": 1,
            "features": 16,
            "encoder_blocks": 1,
        },
    ),
}
"""Sizes and rates that learn something in minutes."""


def make_crops(photographs: Path, out: Path) -> None:
    """Write the noisy crops, and those kept back with their clean ones."""
    names = sorted(path for path in photographs.rglob("*") if path.suffix in {".png", ".jpg"})
    if len(names) < HELD + 1:
        raise SystemExit(f"fewer than {HELD + 1} pictures in {photographs}")
    for folder in ("noisy", "held_noisy", "held_clean"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for index in range(COUNT + HELD):
        rng = np.random.default_rng(index)
        held = index >= COUNT
        # Photographs of the crops kept back give none to train on.
        ours = names[-HELD:] if held else names[:-HELD]
        with Image.open(ours[index % len(ours)]) as picture:
            width, height = picture.size
            left, top = int(rng.integers(width - SIDE)), int(rng.integers(height - SIDE))
            crop = picture.convert("RGB").crop((left, top, left + SIDE, top + SIDE))
        clean = np.asarray(crop, np.float32) / np.float32(255)
        noisy = simulate(clean, "phone", rng, gain=GAIN)
        save(noisy, out / ("held_noisy" if held else "noisy") / f"{index:02}.png")
        if held:
            save(clean, out / "held_clean" / f"{index:02}.png")


def save(image: np.ndarray[Any, Any], path: Path) -> None:
    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(path)


def train(method: str, out: Path) -> None:
    """Train a method by its own recipe, and keep weights on the way."""
    run, kept, asked = out / method, out / f"{method}-kept", RUNS[method]
    kept.mkdir(exist_ok=True)
    (kept / "log.jsonl").write_text("", "utf-8")
    began = time.process_time()

    def watch(record: Mapping[str, Any]) -> None:
        nonlocal began
        if record["event"] == "plan":  # until now the machine was measured
            began = time.process_time()
        if record["event"] != "saved":
            return
        seconds, stage, step = time.process_time() - began, record["stage"], record["step"]
        shutil.copy(run / "checkpoints" / "last.safetensors", kept / f"{stage}-{step}.safetensors")
        with (kept / "log.jsonl").open("a", encoding="utf-8") as log:
            print(json.dumps({"stage": stage, "step": step, "seconds": seconds}), file=log)

    every = max(1, (asked.steps or 0) // LOOKS)
    asked = replace(
        asked,
        precision="bf16",
        save_every=every,
        # Looks by the loop itself would take time; one at the end is always taken.
        validate_every=NEVER,
        preview_every=NEVER,
    )
    noisy, held, clean = (str(out / kind) for kind in ("noisy", "held_noisy", "held_clean"))
    data = TrainData((noisy,), val_noisy=(held,), val_clean=(clean,))
    start(get_method(method), data, run, asked, Machine("cpu", workers=1, tell=watch))


def measure(method: str, out: Path) -> None:
    """Write loss and PSNR of all weights that were kept, and of those it began with."""
    samples = [
        Sample(opened(out / "held_noisy" / path.name), opened(path))
        for path in sorted((out / "held_clean").iterdir())
    ]
    noisy = psnr([sample.noisy for sample in samples], samples)
    lines = []
    for told, trainee in trainees(method, out):
        side = SIDE // trainee.stage.multiple * trainee.stage.multiple
        batch = np.stack([sample.noisy[:side, :side].transpose(2, 0, 1) for sample in samples])
        loss = trainee.mean_loss([(np.ascontiguousarray(batch), None)])
        config, weights = trainee.stage.config, trainee.weights()
        options = Options(device="cpu", range="0,1")
        denoiser = denoiser_of(trainee.method, config, weights, options)
        score = psnr([denoiser(sample.noisy, axes="YXS") for sample in samples], samples)
        lines.append({**told, "loss": loss, "psnr": score, "noisy": noisy})
        print(method, lines[-1], flush=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (out / f"{method}.jsonl").write_text(text, "utf-8")


def opened(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    with Image.open(path) as picture:
        return np.asarray(picture, np.float32) / np.float32(255)


def trainees(name: str, out: Path) -> Iterator[tuple[dict[str, Any], Trainee]]:
    """Give the network of a run as each stage began, and at all weights kept."""
    method, kept = get_method(name), out / f"{name}-kept"
    config = read_toml(out / name / "config.toml")
    log = [json.loads(line) for line in (kept / "log.jsonl").read_text("utf-8").splitlines()]
    seconds = 0.0
    before: Trainee | None = None
    with process_group("cpu") as group:
        for place, stage in enumerate(stages_of(method, config)):
            trainee = Trainee(method, stage, group, (config.seed, place))
            if before is not None and before.stage.config == stage.config:
                trainee.load(before.weights())
            elif before is not None:
                trainee.teacher = frozen(method, before.stage.config, before.weights())
            yield {"stage": stage.name, "step": 0, "seconds": seconds}, trainee
            for told in (line for line in log if line["stage"] == stage.name):
                path = kept / f"{stage.name}-{told['step']}.safetensors"
                trainee.load(load_weights(str(path), method).state)
                seconds = told["seconds"]
                yield told, trainee
            before = trainee


def draw(out: Path, picture: Path) -> None:
    """Draw loss and PSNR of all runs over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    noisy = 0.0
    for index, info in enumerate(METHODS):
        path = out / f"{info.id}.jsonl"
        if not path.exists():
            continue
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        noisy = lines[0]["noisy"]
        stages = list(dict.fromkeys(line["stage"] for line in lines))
        for stage, style in zip(stages, ("-", "--"), strict=False):
            label = info.id if len(stages) == 1 else f"{info.id}, {stage}"
            told = []
            for key, axes in (("loss", left), ("psnr", right)):
                # Not everything need be measured at every look.
                ours = [line for line in lines if line["stage"] == stage and key in line]
                if not ours:
                    continue
                minutes, values = [line["seconds"] / 60 for line in ours], [u[key] for u in ours]
                whole = values[0] if key == "loss" else 1
                axes.plot(
                    minutes,
                    [value / whole for value in values],
                    color=f"C{index}",
                    linestyle=style,
                    marker=".",
                    label=label,
                )
                told.append(f"{key} {values[0]:.4g} -> {values[-1]:.4g} ({minutes[-1]:.1f} min)")
            print(f"{label}:", *told, f"noisy {noisy:.2f}")
    right.axhline(noisy, color="gray", linestyle=":", label="noisy")
    left.set(xlabel="minutes of a core", ylabel="loss, of that at the start, crops kept back")
    right.set(xlabel="minutes of a core", ylabel="PSNR in dB, crops kept back")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside right center")
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train every recipe for some minutes.")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=list(RUNS))
    parser.add_argument("--draw", type=Path)
    arguments = parser.parse_args()
    if arguments.draw:
        return draw(arguments.out, arguments.draw)
    make_crops(arguments.photographs, arguments.out)
    for method in [arguments.only] if arguments.only else RUNS:
        if not (arguments.out / method).exists():
            train(method, arguments.out)
        if not (arguments.out / f"{method}.jsonl").exists():
            measure(method, arguments.out)
    return None


if __name__ == "__main__":
    main()
