"""What SDAP and SS-BSN share: how their network is run, its checkpoints, cost and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from denoisekit.methods.base import Config, NetworkMethod, torch_dtype
from denoisekit.methods.recipe import AVERAGE, Batch, Stage, cosine

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from denoisekit.draws import Draws
    from denoisekit.nets.blind_spot import BlindSpotNet, FastBlindSpot

    Pass = Callable[[Tensor], Tensor]

PD = 2
"""Pixel-shuffle down-sampling of the first pass of both."""

STRIDES = (2, 3)
"""Dilation of the two branches."""

FIRST_BLOCK = 6
"""Place of the first residual block in a branch of the reference, ReLUs counted."""


class BlindSpotMethod(NetworkMethod):
    """A blind-spot network with its weights, run as often as the method says.

    Parameters
    ----------
    config : mapping
        Of the network.
    run : callable
        ``run(network, noisy, draws)`` denoises (1, C, H, W); it calls ``network(image)``.
    """

    def __init__(self, config: Config, run: Callable[[Pass, Tensor, Draws], Tensor]) -> None:
        from denoisekit.nets.blind_spot import BlindSpotNet

        grid = config.get("grid", 2)
        super().__init__(BlindSpotNet(config["channels"], config["width"], config["blocks"], grid))
        self._run = run
        self._fast: FastBlindSpot | None = None

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        from denoisekit.nets.blind_spot import FastBlindSpot

        self._fast = FastBlindSpot(self.net.to(device), torch_dtype(precision))

    def denoise(self, noisy: Tensor, *, draws: Draws, context: Any = None) -> Tensor:
        """Denoise (1, C, H, W) float32 in the method's scale, H and W even."""
        import torch

        with torch.inference_mode():
            return self._run(self._fast or self.net, noisy, draws)


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of a reference network, by its keys; None: another one."""
    head = shapes.get("head.0.weight", ())
    if len(head) != 4 or "branch2.body.0.weight" not in shapes:
        return None
    blocks: list[str] = []
    signs = {"wqk": "attention", "conv1.weight": "double", "body.0.weight": "single"}
    while True:
        block = f"branch1.body.{FIRST_BLOCK + len(blocks)}"
        kinds = [kind for sign, kind in signs.items() if f"{block}.{sign}" in shapes]
        if not kinds:
            return {"net": "blind_spot", "channels": head[1], "width": head[0], "blocks": blocks}
        blocks.append(kinds[0])


def map_key(key: str, config: Config) -> str:
    """Give our key for one of the reference; unknown keys stay as they are."""
    count = len(config["blocks"])
    layers = {"head.0": "head", **{f"tail.{2 * place}": f"tail.{place}" for place in range(4)}}
    for index in range(2):
        theirs, ours = f"branch{index + 1}.body", f"branches.{index}"
        if key == f"{theirs}.0.mask":
            return ""
        ends = {0: "masked", 2: "mix.0", 4: "mix.1", FIRST_BLOCK + count: "out"}
        layers |= {f"{theirs}.{place}": f"{ours}.{layer}" for place, layer in ends.items()}
        for place in range(count):
            block, mine = f"{theirs}.{FIRST_BLOCK + place}", f"{ours}.blocks.{place}"
            if key == f"{block}.wqk":
                return f"{mine}.attention.embed"
            layers |= {f"{block}.body.0": f"{mine}.dilated.0", f"{block}.body.2": f"{mine}.mix"}
            layers |= {f"{block}.conv{n}": f"{mine}.dilated.{n - 1}" for n in (1, 2)}
            layers[f"{block}.conv3"] = f"{mine}.mix"
    layer, _, kind = key.rpartition(".")
    return f"{layers[layer]}.{kind}" if layer in layers else key


def initialise(net: BlindSpotNet, config: Config) -> None:
    """Let training start with the mean of the neighbours, where the network is wide enough."""
    if config["width"] // 2 >= config["channels"]:
        from denoisekit.nets.initialisation import as_mean

        as_mean(net, config["channels"])


def paired_stage(
    config: Config, loss: Callable[[Any, Batch], Tensor], steps: int, batch: int, patch: int
) -> Stage:
    """Return a stage on pairs. Schedule, batch and patch are ours: the papers have none."""
    made = Stage("supervised", config, loss, steps, batch, patch, schedule=cosine, average=AVERAGE)
    return replace(made, multiple=PD)


def radius(config: Config) -> int:
    """Return how far an output pixel sees, without attention."""
    return 2 + 3 * sum(1 if kind == "single" else 2 for kind in config["blocks"])


def flop_per_pixel(config: Config) -> float:
    """Return the operations per pixel of all convolutions and embeddings."""
    width, channels = float(config["width"]), float(config["channels"])
    taps = {"single": 9 + 1, "double": 18 + 1, "attention": 18 + 1 + 1}
    branch = 3 + sum(taps[kind] for kind in config["blocks"])
    # The two branches differ in their masked kernels only: 3x3 and 5x5.
    squares = 2 * branch + 9 + 25 + 2 + 0.5 + 0.25
    return 2 * (squares * width**2 + 1.5 * channels * width)
