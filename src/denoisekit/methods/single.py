"""What ``fit-single`` makes: a small network that knows one image, or one microscope.

Where noise is correlated between neighbours a plain network is fitted to sub-samples of the
image, in which it is not; so it runs on the phases of the image, which are such sub-samples.
A U-Net that learns from its result runs on the image itself, alone or averaged with the former.
Non-local means may follow, which go by the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from denoisekit.limits import Limits
from denoisekit.methods.base import (
    Config,
    MethodInfo,
    NetworkMethod,
    Settings,
    Traits,
    torch_dtype,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from denoisekit.draws import Draws


PYRAMID = "pyramid"
"""A U-Net on the image itself; the other network is plain."""

PYRAMID_LIMITS = Limits(multiple_of=4, halo=24, align=4)

SIMILAR_HALO = 10
"""Pixels further that non-local means see."""

SIMILAR_PRODUCTS = 2e3
"""Of non-local means, for a pixel of a channel: as long as these take, not as many."""


class Single(NetworkMethod):
    """The network with its weights. Values on 0..1.

    Its ``net`` is one network or several, averaged; and one that sees the image where those see
    its phases.
    """

    def __init__(self, config: Config, settings: Settings) -> None:
        import torch

        from denoisekit.nets.single import Mean, NonLocalMeans, Pyramid

        members = [_member(config) for _ in range(config["members"])]
        bent = bool(config.get("bent", False))
        full = Pyramid(config["channels"], config["full"], bent) if config["full"] else None
        levels = config["levels"]
        similar = NonLocalMeans(config["channels"], levels) if levels else None
        super().__init__(Mean(members, full, similar))
        self._pd = int(config["pd"])
        self._dtype = torch.float32

    def prepare(self, device: torch.device, precision: str) -> None:
        """Move to a device and precision; the weights must be loaded before."""
        import torch

        self._dtype = torch_dtype(precision)
        self.net.to(device)
        # Non-local means compare small differences: they stay in full precision.
        self.net.members.to(self._dtype)
        if self.net.full is not None:
            self.net.full.to(self._dtype)
        self.net.to(memory_format=torch.channels_last)
        self.net.requires_grad_(False)

    def denoise(self, noisy: Tensor, *, draws: Draws, context: Any = None) -> Tensor:
        """Denoise (1, C, H, W) float32, H and W multiples of the down-sampling."""
        import torch

        from denoisekit.nets.blind_spot import from_batch, to_batch

        with torch.inference_mode():
            image = noisy.to(self._dtype)
            denoised = from_batch(self.net(to_batch(image, self._pd)), self._pd)
            if self.net.full is not None:
                denoised = (denoised + self.net.full(image)) / 2
            denoised = denoised.float()
            return denoised if self.net.similar is None else self.net.similar(noisy, denoised)


def _member(config: Config) -> torch.nn.Module:
    from denoisekit.nets.single import Plain, Pyramid

    bent = bool(config.get("bent", False))  # files of an earlier day do not say
    if config["net"] == PYRAMID:
        return Pyramid(config["channels"], config["width"], bent)
    return Plain(config["channels"], config["width"], config["depth"], config["residual"], bent)


def _traits(config: Config, settings: Settings) -> Traits:
    channels, width, full = config["channels"], config["width"], config["full"]
    depth, pd = config["depth"], config["pd"]
    if config["net"] == PYRAMID:
        if pd != 1:
            raise ValueError("a U-Net runs on the image itself, not on its phases")
        products, limits = _pyramid_products(channels, width), PYRAMID_LIMITS
    else:
        products = 9 * (2 * channels * width + (depth - 2) * width**2)
        # Tiles may begin anywhere: they have the same phases, in another order.
        limits = Limits(multiple_of=pd, halo=depth * pd)
    products *= config["members"]
    memory = (17.0 if config["net"] == PYRAMID else 8.5) * width
    if full:
        products += _pyramid_products(channels, full)
        halo, grid = max(limits.halo, PYRAMID_LIMITS.halo), PYRAMID_LIMITS.multiple_of
        limits = Limits(multiple_of=math.lcm(pd, grid), halo=halo, align=PYRAMID_LIMITS.align)
        memory = max(memory, 17.0 * full)
    if config["levels"]:
        halo = -(-(limits.halo + SIMILAR_HALO) // limits.align) * limits.align
        limits = replace(limits, halo=halo)
        products += SIMILAR_PRODUCTS * channels
    each = 12.0 * channels + 4.0 * channels * (config["members"] + bool(full))
    each += 40.0 * channels * bool(config["levels"])
    half = memory / 2 + 0.25 * max(width, full)
    return Traits(
        limits=limits,
        flop_per_pixel=2.0 * products,
        bytes_per_pixel={"fp32": each + memory, "bf16": each + half, "fp16": each + half},
        channels=channels,
        # ONNX's exporter takes minutes for hundreds of moved slices, and fails.
        scripted=bool(config["levels"]),
    )


def _pyramid_products(channels: int, width: int) -> float:
    # At a half and a quarter of the resolution: 5 and 2 convolutions of a width each.
    return 9 * (2 * channels * width + (4 + 5 / 4 + 2 / 16) * width**2)


def _infer_config(shapes: Mapping[str, tuple[int, ...]]) -> Config | None:
    """Return the configuration that keys show; what leaves no trace in them as published."""
    members = {key.split(".")[1] for key in shapes if key.startswith("members.")}
    pyramid = shapes.get("members.0.fine.0.weight", ())
    first = pyramid or shapes.get("members.0.layers.0.weight", ())
    if len(first) != 4:
        return None
    levels = shapes.get("similar.curve", (0,))[-1]
    sizes = {"channels": first[1], "width": first[0], "members": len(members), "levels": levels}
    if pyramid:
        return {**INFO.config, **sizes, "net": PYRAMID, "pd": 1, "residual": True}
    depth = sum(key.startswith("members.0.") and key.endswith(".weight") for key in shapes)
    full = shapes.get("full.fine.0.weight", (0,))[0]
    return {**INFO.config, **sizes, "depth": depth, "full": full}


INFO = MethodInfo(
    id="single",
    title="Single image, a small network",
    summary="a few convolutions that denoisekit fit-single has fitted to one image",
    best_for="the image it was fitted to, and others of the same camera or microscope",
    citation="the documentation of denoisekit",
    scale=1.0,
    config={
        "net": "plain",
        "channels": 3,
        "width": 32,
        "depth": 8,
        "members": 1,
        "residual": False,
        "pd": 2,
        "bent": False,
        "full": 0,
        "levels": 0,
    },
    default_weights=(),
    traits=_traits,
    build=Single,
    infer_config=_infer_config,
    map_key=lambda key, config: key,
    without_weights="make them with denoisekit fit-single IMAGE --save-weights FILE",
)
