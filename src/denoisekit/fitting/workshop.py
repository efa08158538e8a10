"""What every part of a fit needs: the image, the clock, and the means to learn and to judge."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.device import resolve_device
from denoisekit.engine.signal import find_signal
from denoisekit.engine.view import View
from denoisekit.fitting.material import (
    Held,
    Material,
    Renoised,
    channels_of,
    gather,
    hold_out,
    without_peaks,
)
from denoisekit.fitting.objectives import measure_noise
from denoisekit.fitting.result import Listen, Look
from denoisekit.image import Reader
from denoisekit.methods import MethodInfo, Stage
from denoisekit.options import FitOptions, Options, Strength
from denoisekit.ranges import Floats, parse_range
from denoisekit.weights import LoadedWeights

if TYPE_CHECKING:
    from denoisekit.fitting.learner import Best, Judge, Learner, Span, Weights

BOXES = 4
"""Most boxes that a network is judged by."""


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
        See `denoisekit.fitting.learner.Judge`; -inf: not judged.
    """

    method: MethodInfo
    config: Mapping[str, Any]
    state: Weights
    name: str
    score: float = float("-inf")


class Workshop:
    """An image that is being fitted.

    Parameters
    ----------
    reader : Reader
        The image.
    options : FitOptions
        How.
    range : str
        Which values are black and white.
    on_look : callable or None
        Is told of every step.
    began : float
        When the time began, of `time.monotonic`.

    Attributes
    ----------
    material : Material
        Parts of the image.
    learned : Material
        The same without the pixels that networks are judged by which know nothing else.
    held : Held or Renoised
        What they are judged by.
    noise : Noise
        Of the image.
    least : float
        Score of a network below which it has not learned the image yet, in dB.
    first_held : Held
        What the first networks are judged by; ``held`` may become another.
    ending : float
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

    def __init__(
        self, reader: Reader, options: FitOptions, range: str, on_look: Listen | None, began: float
    ) -> None:
        self.info, self.options, self.began, self._on_look = reader.info, options, began, on_look
        self.channels = channels_of(reader.info)
        self.device = resolve_device(options.device)
        signal = find_signal(parse_range(range), reader, own_range=True)
        self.scale = whole = signal.scale
        self.material = gather(View(reader, signal))
        if range == "percentile":
            self.material, self.scale = without_peaks(self.material, whole)
        self.noise = measure_noise(self.material, sparse=self.scale != whole)
        self.learned, self.first_held = hold_out(
            self.material, self.noise.reach, BOXES, options.seed, sparse=self.noise.sparse
        )
        self.held: Held | Renoised = self.first_held
        # Of a plain average: below it, less a little for chance, nothing was learned.
        self.least = self.first_held.averaged(self.noise.reach + 1) - 1.0
        self.ending, self.late = 0.0, 1.0
        self.looks: list[Look] = []
        self.steps, self.stopped = 0, False

    def learner(self, method: MethodInfo, stage: Stage, material: Material, member: int) -> Learner:
        """Return what learns; ``member`` tells those of one kind apart."""
        from denoisekit.fitting.learner import Learner

        return Learner(method, stage, material, self.device, (self.options.seed, member))

    def span(self, until: float, share: float) -> Span:
        """Return the time from now until then; or that share of the steps, where they count."""
        from denoisekit.fitting.learner import Span

        steps = self.options.steps
        counted = None if steps is None else max(1, round(share * steps))
        return Span(time.monotonic(), until, counted, self.ending * self.late)

    def left(self) -> float:
        """Return the seconds until the result must be there; infinite where steps count."""
        if self.options.steps is not None:
            return math.inf
        return self.began + self.options.seconds - time.monotonic()

    def learn(
        self,
        learner: Learner,
        network: Network,
        span: Span,
        judged: Mapping[str, object],
        on_look: Callable[[], None] | None = None,
    ) -> Network:
        """Let a network learn; return it at its best, or as it was if that scored better.

        Parameters
        ----------
        learner : Learner
            Learns.
        network : Network
            What is to be bettered, and what it is; no weights: anything betters it.
        span : Span
            How long.
        judged : mapping
            Settings of the method with which it is judged.
        on_look : callable, optional
            Called after every look.
        """
        from denoisekit.fitting.learner import LATEST

        judge, before = self._judge(network, judged), self.steps

        def tell(step: int, score: float | None, better: bool) -> bool:
            self._look(network.name, before + step, score, better)
            if score is not None and on_look is not None and not self.stopped:
                on_look()
            return self.stopped

        best = learner.run(span, judge, _best(network), tell)
        self.late = min(LATEST, self.late * learner.late)
        return Network(network.method, network.config, best.weights, network.name, best.score)

    def first_score(self, network: Network) -> float:
        """Return the score of a network by what the first networks are judged by."""
        return self.first_held.score(self._through(network, self.first_held.boxes))

    def judged(self, network: Network) -> Network:
        """Return a network with its score."""
        score = self._judge(network, {}).score(network.state)
        return Network(network.method, network.config, network.state, network.name, score)

    def boxes(self, network: Network) -> Floats:
        """Return what a network makes of the boxes by which it is judged."""
        return self._judge(network, {}).denoised(network.state)

    def tell(self, network: Network) -> None:
        """Tell the score of a network that is there before it learns."""
        self._look(network.name, self.steps, network.score, True)

    def _judge(self, network: Network, settings: Mapping[str, object]) -> Judge:
        from denoisekit.fitting.learner import Judge

        chosen = network.method.choose(settings)
        return Judge(network.method, network.config, chosen, self.held, self.device)

    def _look(self, name: str, step: int, score: float | None, better: bool) -> None:
        self.steps = step
        seconds = time.monotonic() - self.began
        look = Look(name, step, seconds, self.options.seconds, score, better)
        if score is not None:
            self.looks.append(look)
        self.stopped |= bool(self._on_look is not None and self._on_look(look))

    def denoiser(
        self, network: Network, *, ensemble: bool = False, strength: Strength = 1.0
    ) -> Denoiser:
        """Return what applies a network."""
        options = Options(
            method=network.method.id,
            strength=strength,
            self_ensemble=ensemble,
            seed=self.options.seed,
            device=self.options.device,
            precision=self.options.precision,
            max_memory=self.options.max_memory,
            range="auto" if "range" in network.config else "0,1",
        )
        weights = LoadedWeights(network.state, network.config, "fitted", "", network.method.id)
        return Denoiser(network.method, weights, options)

    def applied(self, network: Network, *, ensemble: bool) -> Floats:
        """Return what a network makes of the image's parts: (N, C, h, w) on 0..1."""
        return self._through(network, self.material.noisy, ensemble=ensemble)

    def _through(self, network: Network, parts: Floats, *, ensemble: bool = False) -> Floats:
        """Denoise parts (N, C, h, w) on 0..1, fitted to the network's channels."""
        plain = Network(network.method, unscaled(network.config), network.state, network.name)
        noisy = np.ascontiguousarray(parts.transpose(0, 2, 3, 1))
        denoised = self.denoiser(plain, ensemble=ensemble)(noisy, axes="QYXS")
        return np.ascontiguousarray(denoised.transpose(0, 3, 1, 2))


def unscaled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration for values on 0..1 to which nothing is added."""
    return {key: value for key, value in config.items() if key not in ("range", "offset")}


def _best(network: Network) -> Best:
    from denoisekit.fitting.learner import Best

    return Best(dict(network.state), network.score)
