"""What SDAP and SS-BSN share beside their network: its official keys, its cost, its use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from denoisekit.methods.base import Config, torch_dtype

if TYPE_CHECKING:
    import torch

    from denoisekit.nets.blind_spot import BlindSpotNet
    from denoisekit.nets.blind_spot_fast import FastBlindSpot

STRIDES = (2, 3)
"""Dilation of the two branches."""

_FIRST = 6
"""Place of the first residual block in a branch of the reference, ReLUs counted."""

_BLOCK = {
    "body.0": "dilated.0",
    "body.2": "mix",
    "conv1": "dilated.0",
    "conv2": "dilated.1",
    "conv3": "mix",
}


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration of a reference network, by its keys; None: another one."""
    head = shapes.get("head.0.weight", ())
    if len(head) != 4 or "branch2.body.0.weight" not in shapes:
        return None
    blocks: list[str] = []
    while kind := _kind(shapes, f"branch1.body.{_FIRST + len(blocks)}"):
        blocks.append(kind)
    return {"net": "blind_spot", "channels": head[1], "width": head[0], "blocks": blocks}


def _kind(shapes: Mapping[str, tuple[int, ...]], block: str) -> str:
    if f"{block}.wqk" in shapes:
        return "attention"
    if f"{block}.conv1.weight" in shapes:
        return "double"
    return "single" if f"{block}.body.0.weight" in shapes else ""


def rename(key: str, config: Config) -> str:
    """Give our key for one of the reference; unknown keys stay as they are."""
    if match := re.fullmatch(r"head\.0\.(\w+)", key):
        return f"head.{match[1]}"
    if match := re.fullmatch(r"tail\.([0246])\.(\w+)", key):
        return f"tail.{int(match[1]) // 2}.{match[2]}"
    match = re.fullmatch(r"branch([12])\.body\.(\d+)\.(?:(.+)\.)?(\w+)", key)
    if match is None:
        return key
    branch, place, layer, kind = f"branches.{int(match[1]) - 1}", int(match[2]), match[3], match[4]
    last = _FIRST + len(config["blocks"])
    if layer is None and kind == "wqk":
        return f"{branch}.blocks.{place - _FIRST}.attention.embed"
    if layer in _BLOCK and _FIRST <= place < last:
        return f"{branch}.blocks.{place - _FIRST}.{_BLOCK[layer]}.{kind}"
    single = {0: "masked", 2: "mix.0", 4: "mix.1", last: "out"}
    if layer is None and place in single:
        return "" if kind == "mask" else f"{branch}.{single[place]}.{kind}"
    return key


def begin(net: BlindSpotNet, config: Config) -> None:
    """Let training begin with the mean of the neighbours, where the network is wide enough."""
    if config["width"] // 2 >= config["channels"]:
        from denoisekit.nets.begin import as_mean

        as_mean(net, config["channels"])


def radius(config: Config) -> int:
    """Return how far an output pixel sees, without attention."""
    convs = sum(1 if kind == "single" else 2 for kind in config["blocks"])
    return 2 + 3 * convs


def flop_per_pixel(config: Config) -> float:
    """Return the operations per pixel of all convolutions and embeddings."""
    width, channels = float(config["width"]), float(config["channels"])
    taps = {"single": 9 + 1, "double": 18 + 1, "attention": 18 + 1 + 1}
    branch = 3 + sum(taps[kind] for kind in config["blocks"])
    # The two branches differ in their masked kernels only: 3x3 and 5x5.
    squares = 2 * branch + 9 + 25 + 2 + 0.5 + 0.25
    return 2 * (squares * width**2 + 1.5 * channels * width)


def share(
    on_part: Callable[[float], None] | None, done: float, count: int
) -> Callable[[float], None] | None:
    """Return what tells of one of ``count`` passes, when ``done`` of them are over."""
    return None if on_part is None else lambda part: on_part((done + part) / count)


def prepared(net: BlindSpotNet, device: torch.device, precision: str) -> FastBlindSpot:
    """Return the network in its fast form; it takes and returns float32."""
    from denoisekit.nets.blind_spot_fast import FastBlindSpot

    return FastBlindSpot(net.to(device), torch_dtype(precision))
