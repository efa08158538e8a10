"""A fit under way: its clock, its networks, and the means to train and apply them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch

from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.device import native_bf16, resolve_device
from denoisekit.errors import UsageError, WeightsError
from denoisekit.image import ImageInfo
from denoisekit.learn.checkpoint import State, Tensors
from denoisekit.learn.crops import Sampler, prefetched
from denoisekit.learn.loop import LATEST, VALIDATION_SHARE, Budget, NotNumbers, learn
from denoisekit.learn.result import Listen, Look
from denoisekit.learn.single_image import PART, Parts, Validation, channels_of
from denoisekit.learn.trainee import ProcessGroup, Trainee
from denoisekit.learn.validation import denoiser_of
from denoisekit.methods import MethodInfo, Stage, get_method
from denoisekit.options import FitOptions, Options, Strength
from denoisekit.ranges import Floats
from denoisekit.weights import (
    LoadedWeights,
    find_entry,
    load_manifest,
    load_weights,
    method_of,
    weights_present,
)

MEASURED_STEPS = 3
"""Steps that are timed before a fit is planned; the first of all is not believed."""

VALIDATIONS = 8
"""How often a network is validated while it learns, at most."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network that knows the image.

    Attributes
    ----------
    method : MethodInfo
        Whose.
    config : mapping
        Of the network.
    state : mapping
        Its weights.
    name : str
        What it learned from.
    score : float
        PSNR of its result in dB against noisy values that it was not made from; -inf: not known.
    """

    method: MethodInfo
    config: Mapping[str, Any]
    state: Tensors
    name: str
    score: float = -math.inf


class Session:
    """The clock of a fit, what it tells, and the means to train and apply networks.

    Parameters
    ----------
    options : FitOptions
        What was asked for.
    on_look : callable or None
        Told of every step.
    began : float
        When the time began, of `time.monotonic`.

    Attributes
    ----------
    reserve : float
        Seconds kept for what follows the learning, as measured before it.
    late : float
        How many times as long as then the machine takes now.
    looks : list of Look
        How the scores developed.
    steps : int
        Taken in all.
    stopped : bool
        Whether somebody asked to stop.
    """

    def __init__(self, options: FitOptions, on_look: Listen | None, began: float) -> None:
        self.options, self._on_look, self.began = options, on_look, began
        self.group = ProcessGroup(0, 1, resolve_device(options.device))
        self.reserve, self.late = 0.0, 1.0
        self.looks: list[Look] = []
        self.steps, self.stopped = 0, False

    def left(self) -> float:
        """Return the seconds until the result must be there; infinite where steps count."""
        if self.options.steps is not None:
            return math.inf
        return self.began + self.options.seconds - time.monotonic()

    def tell(self, name: str, step: int, score: float | None, *, best: bool) -> None:
        """Tell of a step, or of the score after it; hear whether to stop."""
        self.steps = step
        seconds = time.monotonic() - self.began
        look = Look(name, step, seconds, self.options.seconds, score, best)
        if score is not None:
            self.looks.append(look)
        self.stopped |= bool(self._on_look is not None and self._on_look(look))

    def budget(self, until: float, share: float) -> Budget:
        """Return the time from now until then; or that share of the steps, where they count."""
        if self.options.steps is not None:
            return Budget(max(1, round(share * self.options.steps)))
        reserve = self.reserve * self.late
        return Budget(None, until - time.monotonic() + reserve, reserve)

    def trainee(self, method: MethodInfo, stage: Stage, member: int) -> Trainee:
        """Return a new network in training; ``member`` tells those of one kind apart."""
        device = self.group.device.type
        precision = "bf16" if device == "cuda" or (device == "cpu" and native_bf16()) else "fp32"
        seed = self.options.seed, member
        trainee = Trainee(method, stage, self.group, seed, precision, clip=1.0)
        if device == "cpu" and precision != "fp32":
            # Faster for 3x3 convolutions, and nothing else changes.
            trainee.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return trainee

    def sampler(self, parts: Parts, stage: Stage, member: int) -> Sampler:
        """Return what a network in training is shown."""
        return Sampler(parts, stage.patch, (self.options.seed, member))

    def seconds_per_step(self, method: MethodInfo, stage: Stage, parts: Parts) -> float:
        """Measure a step of a network: the median of some."""
        trainee, sampler = self.trainee(method, stage, 0), self.sampler(parts, stage, 0)
        taken = []
        for _ in range(1 + MEASURED_STEPS):
            began = time.monotonic()
            float(trainee.step(0, sampler.batch(0, range(stage.batch)), progress=0.0))
            taken.append(time.monotonic() - began)
        return sorted(taken[1:])[MEASURED_STEPS // 2]

    def train(
        self,
        trainee: Trainee,
        sampler: Sampler,
        network: Network,
        validation: Validation,
        budget: Budget,
        settings: Mapping[str, object] | None = None,
        after_validation: Callable[[], None] | None = None,
    ) -> Network:
        """Train a network; return it at its best, or as it was if that scored better.

        Parameters
        ----------
        trainee, sampler : Trainee, Sampler
            What learns, and from what.
        network : Network
            What is to be bettered, and what it is; no weights: anything betters it.
        validation : Validation
            Scores the weights now and then.
        budget : Budget
            How long.
        settings : mapping, optional
            Of the method, for validation.
        after_validation : callable, optional
            Called after every validation.
        """
        watcher = _Watcher(self, trainee, network, validation, settings or {}, after_validation)
        state = State(best=network.score if network.score > -math.inf else None)
        timed = self.options.steps is None
        try:
            with prefetched(sampler, count(), range(trainee.stage.batch), workers=0) as batches:
                ended = learn(
                    trainee,
                    batches,
                    budget,
                    state,
                    watcher,
                    every={},
                    validations=VALIDATIONS,
                    share=VALIDATION_SHARE if timed else math.inf,
                    told_steps=1,
                )
            if not ended:
                score = watcher.validate(state.step, ())
                watcher.keep(state.step, score, best=score > watcher.network.score)
        except NotNumbers:
            if watcher.network.score == -math.inf:
                raise
        self.late = min(LATEST, self.late * budget.late)
        return watcher.network

    def denoiser(
        self,
        network: Network,
        *,
        ensemble: bool = False,
        strength: Strength = 1.0,
        precision: str = "",
        settings: Mapping[str, object] | None = None,
    ) -> Denoiser:
        """Return what applies a network."""
        options = Options(
            method=network.method.id,
            strength=strength,
            self_ensemble=ensemble,
            seed=self.options.seed,
            device=self.options.device,
            precision=precision or self.options.precision,
            max_memory=self.options.max_memory,
            range="auto" if "range" in network.config else "0,1",
            settings=settings or {},
        )
        return denoiser_of(network.method, network.config, network.state, options)

    def denoise(self, network: Network, parts: Floats, **applied: Any) -> Floats:
        """Return what a network makes of parts (N, C, h, w) on 0..1; see `denoiser`."""
        noisy = np.ascontiguousarray(parts.transpose(0, 2, 3, 1))
        denoised = self.denoiser(for_unit_values(network), **applied)(noisy, axes="QYXS")
        return np.ascontiguousarray(denoised.transpose(0, 3, 1, 2))

    def scored(self, network: Network, validation: Validation) -> Network:
        """Return a network with its score."""
        denoised = self.denoise(network, validation.boxes, precision="fp32")
        return replace(network, score=validation.score(denoised))

    def seconds_of(self, network: Network, info: ImageInfo) -> float:
        """Measure the seconds in which a network denoises a plane of the image."""
        denoiser = self.denoiser(network)
        pixels = info.height * info.width * denoiser.passes(info)
        return denoiser.network.seconds_per_pixel(PART) * pixels


class _Watcher:
    """Tells a session of a network that learns, and keeps its best weights."""

    def __init__(
        self,
        session: Session,
        trainee: Trainee,
        network: Network,
        validation: Validation,
        settings: Mapping[str, object],
        after_validation: Callable[[], None] | None,
    ) -> None:
        self.session, self.trainee, self.network = session, trainee, network
        self._validation, self._settings = validation, settings
        self._after, self._before = after_validation, session.steps

    def told(self, step: int, loss: float, seconds: float) -> bool:  # noqa: ARG002 - of no use
        self.session.tell(self.network.name, self._before + step, None, best=False)
        return self.session.stopped

    def validate(self, step: int, due: Collection[str]) -> float:  # noqa: ARG002 - always alike
        now = replace(self.network, state=self.trainee.weights())
        boxes, settings = self._validation.boxes, self._settings
        denoised = self.session.denoise(now, boxes, precision="fp32", settings=settings)
        return self._validation.score(denoised)

    def keep(self, step: int, score: float, *, best: bool) -> None:
        if best:
            state = copied(self.trainee.weights())
            self.network = replace(self.network, state=state, score=score)
        self.session.tell(self.network.name, self._before + step, score, best=best)
        if self._after is not None and not self.session.stopped:
            self._after()

    def save(self) -> None:
        """Nothing to save: a fit is short."""


def copied(weights: Tensors) -> Tensors:
    """Return weights that learning no longer changes, on the CPU."""
    return {key: value.detach().cpu().clone() for key, value in weights.items()}


def for_unit_values(network: Network) -> Network:
    """Return a network for values on 0..1, to whose result nothing is added."""
    config = {key: value for key, value in network.config.items() if key not in ("range", "offset")}
    return replace(network, config=config)


# The weights that a fit starts from: those asked for, those that are here, or none.

ADAPTABLE = ("aprrd", "single")
"""Methods whose networks can be adapted."""


def find_start(name: str, objective: str, info: ImageInfo) -> LoadedWeights | None:
    """Return the weights to adapt to an image, or None: from scratch.

    Parameters
    ----------
    name : str
        As `FitOptions.start`.
    objective : str
        As `FitOptions.objective`; one that is asked for is learned from scratch.
    info : ImageInfo
        Of the image.

    Raises
    ------
    UsageError
        There are no such weights, or none that can be adapted.
    WeightsError
        They are absent, damaged, or of another number of channels.
    """
    if name == "none":
        return None
    if name == "auto":
        photograph = info.colour == "rgb" and info.dtype == "uint8" and info.planes == 1
        method = get_method("aprrd")
        here = present_weights(method) if photograph and objective == "auto" else []
        return load_weights(here[0], method, allow_download=False) if here else None
    if objective != "auto":
        raise UsageError(
            "an objective is for a fit from scratch", "leave --objective out, or add --start none"
        )
    method = get_method(method_of(name) or "aprrd")
    if method.id not in ADAPTABLE:
        raise UsageError(
            f"weights of the method {method.id} cannot be adapted to an image",
            f"those of {' and '.join(ADAPTABLE)} can; --start none begins from scratch",
        )
    loaded = load_weights(name, method)
    channels = method.traits(loaded.config, method.choose()).channels
    if loaded.config.get("net") == "bsn":
        raise UsageError(f"{name} is a teacher, which cannot be adapted", "give the student's")
    if channels != channels_of(info):
        raise WeightsError(
            f"{name} takes {channels} channels, and the image has {channels_of(info)}",
            "give other weights, or --start none",
        )
    if method.id == "single":
        # Without what the other image's networks were given in the end: it is found anew.
        state = {key: value for key, value in loaded.state.items() if key.startswith("members.")}
        loaded = replace(loaded, config={**loaded.config, "full": 0, "levels": 0}, state=state)
    return loaded


def present_weights(method: MethodInfo) -> list[str]:
    """Return those of a method's default weights that are here, the best first."""
    entries = load_manifest()
    known = {entry.id for entry in entries} & set(method.default_weights)
    here = {name for name in known if weights_present(find_entry(name, entries))}
    return [name for name in method.default_weights if name in here]
