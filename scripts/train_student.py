"""Train students for some hours, beginning with the weights of `aprrd.camera`.

    python scripts/train_student.py fluorescence pictures/ --nuclei nuclei/ --start FILE --out run
    python scripts/train_student.py fast pictures/ --start FILE --out run

``fluorescence``: one channel, on simulated micrographs. ``fast``: half resolution, on
photographs with simulated camera noise; half of its loss is the distance to what ``--start``
makes of them. ``pictures`` is the folder that `training_pictures.py` writes. Now and then the
mean PSNR of fixed patches of held-out pictures is told, and the weights, a moving average, are
written to ``run/last.safetensors``. A run that was stopped goes on with ``--resume`` and that
file. The last part of the time is trained in fp32: bf16 leaves the brightness of areas a little
wrong. No weights of ``fast`` ship yet.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from microscopy_patches import Floats, Sources, detected
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from denoisekit.draws import Draws
from denoisekit.learn.checkpoint import write_weights
from denoisekit.methods import get_method
from denoisekit.methods.aprrd import OnePass
from denoisekit.methods.recipe import Batch, distance
from denoisekit.noise import noise_of
from denoisekit.weights.checkpoint import read_state

STUDENT = {"net": "unet", "variant": "1.02M", "channels": 3, "width": 48}
CONFIGS = {"fluorescence": {**STUDENT, "channels": 1}, "fast": {**STUDENT, "variant": "half"}}
CAMERAS = (
    "phone:0.0005,phone:0.002,phone:0.005,phone:0.01,phone:0.02,"
    "dslr:0.0007,dslr:0.001,dslr:0.0015,dslr:0.003,dslr,gaussian"
)
"""Noise of photographs; a patch draws one of them."""
SCALES = {1: 1.0, 4: 0.5, 16: 0.5}
"""Sides of the squares whose means are compared, and how much each counts."""
LEAST = 1 / 255
"""Added to a root of a mean square, so that clean patches do not disturb the others."""


def loss_of(denoised: Tensor, clean: Tensor) -> Tensor:
    """Return the roots of mean squares, patch by patch: every strength of noise counts."""
    error = denoised.float() - clean
    parts = [
        share * (functional.avg_pool2d(error, side).square().mean((1, 2, 3)) + LEAST**2).sqrt()
        for side, share in SCALES.items()
    ]
    return torch.stack(parts).sum(0).mean()


def grey_start(path: Path) -> dict[str, Tensor]:
    """Return weights of the network, made of those for colours if they are such."""
    state = {key: value.float() for key, value in read_state(path).items()}
    state["down.0.weight"] = state["down.0.weight"].sum(1, keepdim=True)
    state["up.0.weight"] = state["up.0.weight"].mean(0, keepdim=True)
    state["up.0.bias"] = state["up.0.bias"].mean(0, keepdim=True)
    return state


class Exact(nn.Module):
    """A layer that is computed in fp32 also amid others in bf16."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        with torch.autocast("cpu", enabled=False):
            result: Tensor = self.layer(x.float())
        return result


def fast_start(path: Path, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of the network at half resolution, its lower levels those of the other."""
    state = {key: value.float() for key, value in read_state(path).items()}
    for key in fresh:
        layer, level, *rest = key.split(".")
        if layer == "bottom":
            fresh[key] = state[key]
        elif layer == "join" or level != "0":
            fresh[key] = state[".".join((layer, str(int(level) + 1), *rest))]
    return fresh


class Micrographs:
    """Simulated micrographs of one set of files."""

    def __init__(self, photographs: Sequence[Path], cells: Sequence[Path], held: bool) -> None:
        self.sources = Sources(photographs, cells, 1 + held, 16 if held else 120)

    def pair(self, rng: np.random.Generator, side: int) -> tuple[Floats, Floats]:
        """Return a noisy patch and its clean one, (1, side, side)."""
        noisy, clean = detected(self.sources.patch(rng, side), rng)
        return noisy[None], clean[None]


class Photographs:
    """Photographs of one set of files, with the noise of cameras."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.pictures = []
        for path in files:
            with Image.open(path) as opened:
                self.pictures.append(np.asarray(opened.convert("RGB")))
        places = np.cumsum([float(p.shape[0] * p.shape[1]) for p in self.pictures])
        self.places, self.simulate = places / places[-1], noise_of(CAMERAS)

    def pair(self, rng: np.random.Generator, side: int) -> tuple[Floats, Floats]:
        """Return a noisy patch and its clean one, (3, side, side)."""
        picture = self.pictures[int(np.searchsorted(self.places, rng.random(), "right"))]
        top, left = (int(rng.integers(n - side + 1)) for n in picture.shape[:2])
        clean = picture[top : top + side, left : left + side].astype(np.float32) / np.float32(255)
        clean = np.rot90(clean, int(rng.integers(4)))
        clean = np.ascontiguousarray(clean[:, ::-1] if rng.random() < 0.5 else clean)
        return self.simulate(clean, rng).transpose(2, 0, 1), clean.transpose(2, 0, 1)


def batch(
    source: Micrographs | Photographs, rng: np.random.Generator, size: int, side: int
) -> list[Tensor]:
    """Return noisy and clean patches, (N, C, side, side) each."""
    pairs = [source.pair(rng, side) for _ in range(size)]
    stacks = (np.ascontiguousarray(np.stack(part)) for part in zip(*pairs, strict=True))
    return [torch.from_numpy(stack) for stack in stacks]


@torch.no_grad()
def score(net: Any, held: list[list[Tensor]]) -> float:
    """Return the mean PSNR of fixed patches."""
    found = []
    for noisy, clean in held:
        error = (net(noisy).float() - clean).square().mean((1, 2, 3))
        found.append(-10 * torch.log10(error + 1e-10))
    return float(torch.cat(found).mean())


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("student", choices=CONFIGS)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--nuclei", type=Path)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=0.7)
    parser.add_argument("--exact", type=float, default=0.3, help="part of it in fp32")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=500)
    return parser.parse_args()


def main() -> None:
    """Train."""
    given = parse()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    photographs = [sorted((given.pictures / name).iterdir()) for name in ("train", "held")]
    source: Micrographs | Photographs
    if given.student == "fluorescence":
        cells = sorted(given.nuclei.glob("*.png"))
        source = Micrographs(photographs[0], [c for i, c in enumerate(cells) if i % 8], held=False)
        apart = batch(Micrographs(photographs[1], cells[::8], held=True), rng, 64, given.patch)
    else:
        source = Photographs(photographs[0])
        apart = batch(Photographs(photographs[1]), rng, 64, given.patch)
    held = [[part[i : i + 8] for part in apart] for i in range(0, len(apart[0]), 8)]
    method, config = get_method("aprrd"), CONFIGS[given.student]
    net: Any = cast("OnePass", method.build(config, method.choose())).net.train()
    teacher = None
    if given.student == "fast":
        nn.init.zeros_(net.up[0].weight)
        net.load_state_dict(fast_start(given.start, net.state_dict()))
        teacher = method.build(STUDENT, method.choose())
        teacher.load({key: value.float() for key, value in read_state(given.start).items()})
        teacher.prepare(torch.device("cpu"), "fp32")
        print(f"teacher {score(partial(teacher.denoise, draws=Draws()), held):.3f} dB")
        teacher.prepare(torch.device("cpu"), "bf16")
    else:
        net.load_state_dict(grey_start(given.start))
    if given.resume:
        net.load_state_dict(read_state(given.resume))
    net.to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    began, step, losses = time.monotonic(), 0, []
    noisy_score = score(lambda noisy: noisy, held)
    print(f"noisy {noisy_score:.3f}, start {score(average, held):.3f} dB", flush=True)
    up = net.up
    up[0] = Exact(up[0])
    optimiser = torch.optim.Adam(net.parameters(), given.lr)
    rng = np.random.default_rng(given.seed)
    progress = 0.0
    while progress < 1:
        progress = (time.monotonic() - began) / (3600 * given.hours)
        rate = min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1)))
        for group in optimiser.param_groups:
            group["lr"] = given.lr * rate
        noisy, clean = batch(source, rng, given.batch, given.patch)
        with torch.autocast("cpu", torch.bfloat16, enabled=progress < 1 - given.exact):
            denoised = net(noisy.contiguous(memory_format=torch.channels_last))
        if teacher is None:
            loss = loss_of(denoised, clean)
        else:
            taught = teacher.denoise(noisy, draws=Draws()).clone()
            batches = [Batch(noisy, torch.Generator(), target) for target in (clean, taught)]
            loss = torch.stack([distance(denoised, one) for one in batches]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        step += 1
        decay = min(0.998, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, now in zip(average.parameters(), net.parameters(), strict=True):
                kept.lerp_(now, 1 - decay)
        if step % given.every == 0 or progress >= 1:
            seen = score(average, held)
            minutes = (time.monotonic() - began) / 60
            print(
                f"{minutes:.1f} min, step {step}: loss {np.mean(losses):.5f}, {seen:.3f} dB",
                flush=True,
            )
            losses = []
            facts = {
                "simulate": "microscopy_patches" if given.student == "fluorescence" else CAMERAS,
                "seed": given.seed,
                "steps": step,
                "score": round(seen, 3),
            }
            kept_state = average.state_dict()
            write_weights(given.out / "last.safetensors", method, config, kept_state, facts)


if __name__ == "__main__":
    main()
