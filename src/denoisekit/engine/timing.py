"""How long a run will take, said before it begins, and what would take less."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.device import native_bf16
from denoisekit.errors import OutOfMemory
from denoisekit.image import ImageInfo
from denoisekit.methods import METHODS, MethodInfo, Settings, TrainableMethod, Traits
from denoisekit.options import Options
from denoisekit.weights import LoadedWeights

TRIFLE = 1e11
"""Floating-point operations that any computer does in a few seconds; not worth measuring. One
core of 2024 takes 0.4 s for them with aprrd, which has few large layers, 4 s with ssbsn."""

LONG = 120.0
"""Seconds on a CPU from which cheaper ways are named."""

BF16_GAIN = 0.6
"""What bf16 takes of fp32's time on processors that multiply it; see the benchmarks."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a run asks of the network.

    Attributes
    ----------
    pixels : float
        Pixels that cost as much as what goes through it, halos and repetitions included.
    side : int
        Of its largest call.
    """

    pixels: float
    side: int

    def flop(self, traits: Traits) -> float:
        """Return the floating-point operations with a network of these traits."""
        return self.pixels * traits.flop(self.side**2)


def measure_work(denoiser: Denoiser, images: Sequence[ImageInfo]) -> Work:
    """Return what denoising some images will ask of the network.

    An image that is too large for the memory allowed does not count: in its turn it fails.
    """
    pixels, side = 0.0, 1
    planes: Counter[tuple[int, int, int]] = Counter()
    for image in images:
        planes[image.height, image.width, denoiser.passes(image)] += image.planes
    for (height, width, passes), count in planes.items():
        try:
            plan, _ = denoiser.plan(height, width)
        except OutOfMemory:
            continue
        pixels += count * passes * plan.work(denoiser.traits.halo_cost)
        side = max(side, round(math.prod(plan.largest_read) ** 0.5))
    return Work(pixels, side)


def estimate_seconds(denoiser: Denoiser, work: Work) -> float | None:
    """Return how long the network will take, or None for a few seconds at most."""
    if work.flop(denoiser.traits) < TRIFLE:
        return None
    return denoiser.network.seconds_per_pixel(work.side) * work.pixels


def untrained(info: MethodInfo) -> Denoiser:
    """Return what takes as long as the method's denoiser, and needs none of its weights."""
    network = cast("TrainableMethod", info.build(info.config, info.choose())).net
    weights = LoadedWeights(network.state_dict(), info.config, "", "", info.id)
    return Denoiser(info, weights, Options(method=info.id))


def cheaper(denoiser: Denoiser, work: Work, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield options that take clearly less time, and about how much, in seconds."""
    info, config = denoiser.info, denoiser.weights.config
    flop = work.flop(denoiser.traits)
    if denoiser.options.self_ensemble:
        yield "leave --self-ensemble out", seconds / 8
    if denoiser.precision == "fp32" and native_bf16():
        yield "--precision bf16", seconds * BF16_GAIN
    for setting in info.settings:
        least = type(setting.default)(setting.minimum)
        settings: Settings = {**denoiser.settings, setting.name: least}
        part = work.flop(info.traits(config, settings)) / flop
        if part < 0.7:
            text = "off" if least is False else f"{least:g}"
            yield f"--set {setting.name}={text}", seconds * part
    for other in METHODS:
        if other.default_weights and other.id != info.id:
            part = work.flop(other.traits(other.config, other.choose())) / flop
            if part < 0.3:
                yield f"--method {other.id}", seconds * part
