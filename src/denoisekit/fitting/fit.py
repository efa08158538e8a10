"""A network fitted to one image within a time, part after part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from denoisekit.device import resolve_device
from denoisekit.fitting.material import channels_of, gather, hold_out
from denoisekit.fitting.objectives import adapting, find_objective, measure_noise
from denoisekit.fitting.offset import mean_offset
from denoisekit.fitting.options import FitOptions, Listen, Look
from denoisekit.fitting.plan import Applying, choose_sizes, fitted_patch, plan_applying
from denoisekit.fitting.result import Fit
from denoisekit.fitting.start import find_start
from denoisekit.image import Reader
from denoisekit.methods import Stage, get_method
from denoisekit.options import Options
from denoisekit.pipeline import Denoiser
from denoisekit.ranges import Range, parse_range, resolve_range
from denoisekit.weights import LoadedWeights

if TYPE_CHECKING:
    from denoisekit.fitting.learner import Best, Learner, Weights

MEASURED = 2**21
"""Values by which the mean of the image is kept, at least a part of it."""

BOXES = 4
"""Most boxes that a network is judged by."""


def fit(
    reader: Reader,
    options: FitOptions | None = None,
    on_look: Listen | None = None,
    began: float | None = None,
) -> Fit:
    """Fit a network to an image or stack, so that it denoises it and its like.

    Parameters
    ----------
    reader : Reader
        The noisy image; parts of it are read, spread over all planes.
    options : FitOptions, optional
        How, and in what time.
    on_look : callable, optional
        Told after every step, see `Look`; it may ask to stop.
    began : float, optional
        When the time began, of `time.monotonic`; default: now.

    Returns
    -------
    Fit
        Its `Fit.denoiser` is ready.

    Raises
    ------
    DenoisekitError
        Unknown names, weights that cannot be had, an image that cannot be read.
    """
    began = time.monotonic() if began is None else began
    with _own_draws():
        return _Fitting(reader, options or FitOptions(), on_look, began).run()


@contextmanager
def _own_draws() -> Iterator[None]:
    """Leave torch's own generator as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


class _Fitting:
    """A fit under way."""

    def __init__(
        self, reader: Reader, options: FitOptions, on_look: Listen | None, began: float
    ) -> None:
        self.info, self.options, self.began = reader.info, options, began
        self.on_look = on_look
        self.device = resolve_device(options.device)
        self.start = find_start(options.start, options.objective, self.info)
        self.range = _range(options, self.start)
        self.scale = resolve_range(parse_range(self.range), reader)
        self.material = gather(reader, self.scale)
        self.noise = measure_noise(self.material)
        self.objective = find_objective(options.objective)
        self.method = get_method(self.start.method if self.start else self.objective.method)
        self.learned, self.held = hold_out(self.material, self.noise.reach, BOXES, options.seed)
        self.looks: list[Look] = []
        self.steps, self.stopped = 0, False

    def run(self) -> Fit:
        """Fit, and return what was found."""
        stage, members, applying = self._plan()
        found: list[Best] = []
        until = self.began + self.options.seconds - applying.seconds
        for member in range(members):
            now = time.monotonic()
            span = now, now + (until - now) / (members - member)
            found.append(self._learn(stage, member, span))
            if self.stopped:
                break
        return self._finish(stage, found, ensemble=applying.ensemble)

    def _plan(self) -> tuple[Stage, int, Applying]:
        """Choose network and ending by what they take here."""
        widths = self.objective.widths
        if self.options.width is not None:
            widths = (self.options.width,)
        middle = widths[len(widths) // 2]
        stage = self._stage(middle)
        learner = self._learner(stage, 0)
        denoiser = self._denoiser(stage.config, learner.weights())
        pixels = self.info.height * self.info.width * denoiser.passes(self.info)
        if self.options.steps is not None:
            return stage, 1, Applying(0.0, ensemble=False)
        applying = plan_applying(
            denoiser.network.seconds_per_pixel(256) * pixels, self.info, self.options.seconds
        )
        if self.start is not None:
            return stage, 1, applying
        left = self.began + self.options.seconds - applying.seconds - time.monotonic()
        sizes = choose_sizes(widths, middle, learner.seconds_per_step(), left)
        return self._stage(sizes.width), sizes.members, applying

    def _stage(self, width: int) -> Stage:
        if self.start is not None:
            stage = adapting(self.start.method, self.start.config, self.noise)
        else:
            stage = self.objective.stage(self.noise, channels_of(self.info), width)
        return fitted_patch(stage, self.material)

    def _learner(self, stage: Stage, member: int) -> Learner:
        from denoisekit.fitting.learner import Learner

        seed = (self.options.seed, member)
        return Learner(self.method, stage, self.learned, self.device, seed)

    def _learn(self, stage: Stage, member: int, span: tuple[float, float]) -> Best:
        """Let one network learn, and return its best weights."""
        from denoisekit.fitting.learner import Best, Judge, Span

        settings = self.method.choose(self.objective.judged if self.start is None else {})
        judge = Judge(self.method, stage.config, settings, self.held, self.device)
        learner = self._learner(stage, member)
        best = None
        if self.start is not None:
            learner.load(self.start.state)
            best = Best(dict(self.start.state), judge.score(self.start.state))
            self._look(self.start.id, 0, best.score, True)
        before = self.steps

        def tell(step: int, score: float | None, better: bool) -> bool:
            self._look(stage.name, before + step, score, better)
            return self.stopped

        return learner.run(Span(*span, self.options.steps), judge, best, tell)

    def _look(self, name: str, step: int, score: float | None, better: bool) -> None:
        """Remember how far the fit is, and tell it."""
        self.steps = step
        seconds = time.monotonic() - self.began
        look = Look(name, step, seconds, self.options.seconds, score, better)
        if score is not None:
            self.looks.append(look)
        self.stopped |= bool(self.on_look is not None and self.on_look(look))

    def _denoiser(
        self, config: Mapping[str, Any], state: Weights, *, ensemble: bool = False
    ) -> Denoiser:
        options = Options(
            method=self.method.id,
            self_ensemble=ensemble,
            seed=self.options.seed,
            device=self.options.device,
            precision=self.options.precision,
            max_memory=self.options.max_memory,
        )
        weights = LoadedWeights(state, config, "fitted", "", self.method.id)
        return Denoiser(self.method, weights, options)

    def _finish(self, stage: Stage, found: Sequence[Best], *, ensemble: bool) -> Fit:
        """Join the networks, keep the mean of the image, and make what applies them."""
        config, state = dict(stage.config), found[0].weights
        if len(found) > 1:
            config["members"] = len(found)
            state = joined([one.weights for one in found])
        parts = self.material.noisy[: max(1, MEASURED // self.material.noisy[0].size)]
        inner = self._denoiser({**config, "range": "0,1", "offset": ()}, state, ensemble=ensemble)
        config["offset"] = mean_offset(inner, parts, self.scale, self.info)
        config["range"] = _as_numbers(self.range, self.scale)
        return Fit(
            denoiser=self._denoiser(config, state, ensemble=ensemble),
            options=self.options,
            objective=self.objective.id if self.start is None else stage.name,
            start=self.start.id if self.start else "",
            score=max(one.score for one in found),
            steps=self.steps,
            looks=tuple(self.looks),
            stopped=self.stopped,
        )


def _range(options: FitOptions, start: LoadedWeights | None) -> str:
    if options.range != "auto":
        return options.range
    if start is None:
        return "percentile"
    range: str = start.config.get("range", "auto")
    return range


def _as_numbers(range: str, scale: Range) -> str:
    """Return the range for other images: what depends on this one's values as these values."""
    return range if range in {"auto", "dtype"} else f"{scale.low!r},{scale.high!r}"


def joined(states: Sequence[Weights]) -> Weights:
    """Return the weights of plain networks as those of one network, their mean."""
    return {
        key.replace("members.0.", f"members.{place}.", 1): value
        for place, state in enumerate(states)
        for key, value in state.items()
    }
