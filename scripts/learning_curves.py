"""Show that each recipe learns from noisy crops alone: a few minutes each, on a CPU.

python scripts/learning_curves.py CLEAN_FOLDER OUT --minutes 4 [--only METHOD]
python scripts/learning_curves.py CLEAN_FOLDER OUT --draw docs/learning.png

Cuts crops of different photographs, adds the noise of a phone, trains small networks of
every method on the noisy ones, and measures PSNR on others kept back. Runs that are in OUT
already are not repeated. Drawing needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from denoisekit.methods import METHODS, get_method
from denoisekit.noise import simulate
from denoisekit.training.config import Asked, Data
from denoisekit.training.run import start

SIDE, COUNT, HELD = 128, 32, 8
GAIN = 0.012
"""Of the sensor: noise of a phone in dim light."""

NETWORKS: dict[str, dict[str, Any]] = {
    "aprrd": {"width": 16},
    "sdap": {"width": 32, "blocks": ["single"] * 3},
    "ssbsn": {"width": 32, "blocks": ["double", "attention"]},
    "promptsid": {
        "width": 16,
        "blocks": [1, 2],
        "heads": [2, 4],
        "refine_blocks": 1,
        "features": 16,
        "encoder_blocks": 1,
    },
}
"""Sizes that learn something in minutes."""

PATCH = {"aprrd": 64, "sdap": 60, "ssbsn": 60, "promptsid": 64}


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


def train(method: str, out: Path, minutes: float) -> None:
    """Train a method by its own recipe; only sizes, time and the rate of Adam are changed."""
    data = Data(
        (str(out / "noisy"),),
        val_noisy=(str(out / "held_noisy"),),
        val_clean=(str(out / "held_clean"),),
    )
    asked = Asked(
        batch=4,
        patch=PATCH[method],
        rate=1e-3,
        network=NETWORKS[method],
        clip=1.0,
        precision="bf16",
        validate_every=25,
        limit=60 * minutes,
    )
    start(get_method(method), data, out / method, asked)


def draw(out: Path, picture: Path) -> None:
    """Draw loss and PSNR of all runs over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    noisy = 0.0
    for index, info in enumerate(METHODS):
        log = out / info.id / "log.jsonl"
        if not log.exists():
            continue
        records = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        began = next(r["time"] for r in records if r["event"] == "step")
        stages = list(dict.fromkeys(r["stage"] for r in records if r["event"] == "step"))
        for stage, style in zip(stages, ("-", "--"), strict=False):
            steps = [r for r in records if r["event"] == "step" and r["stage"] == stage]
            losses = smooth([r["loss"] for r in steps])
            label = info.id if len(stages) == 1 else f"{info.id}, {stage}"
            times = [(r["time"] - began) / 60 for r in steps]
            options: dict[str, Any] = {"color": f"C{index}", "linestyle": style, "label": label}
            left.plot(times, losses / losses[0], **options)
            scores = [r for r in records if r["event"] == "validation" and r["stage"] == stage]
            noisy = scores[0]["noisy_psnr"]
            times = [(r["time"] - began) / 60 for r in scores]
            right.plot(times, [r["psnr"] for r in scores], **options)
            told = f"{scores[0]['psnr']:.2f} -> {scores[-1]['psnr']:.2f} dB, noisy {noisy:.2f}"
            print(f"{label}: loss {losses[0]:.4g} -> {losses[-1]:.4g}; {told}")
    right.axhline(noisy, color="gray", linestyle=":", label="noisy")
    left.set(xlabel="minutes", ylabel="loss, of that at the start", yscale="log")
    right.set(xlabel="minutes", ylabel="PSNR in dB, crops kept back", ylim=(noisy - 4, None))
    right.legend(fontsize="small")
    figure.savefig(picture, dpi=110)


def smooth(losses: list[float]) -> Any:
    """Return the running mean over ten values."""
    padded = np.pad(losses, (0, 9), mode="edge")
    return np.convolve(padded, np.full(10, 0.1), mode="valid")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train every recipe for some minutes.")
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--only", choices=list(NETWORKS))
    parser.add_argument("--draw", type=Path)
    arguments = parser.parse_args()
    if arguments.draw:
        return draw(arguments.out, arguments.draw)
    make_crops(arguments.photographs, arguments.out)
    for method in [arguments.only] if arguments.only else NETWORKS:
        if not (arguments.out / method).exists():
            train(method, arguments.out, arguments.minutes)
    return None


if __name__ == "__main__":
    main()
