"""``fit-single``: a network for one noisy image, with nothing else to learn from, within a time.

1. `sample_image`: parts of the image, its noise measured, pixels held out to validate by.
2. `train_on_subsamples`: networks that learn from sub-samples of the image.
3. `distil`: a network at full resolution, which learns from what those make of the image.
4. `choose_network`: the best of them or their mean, with non-local means after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.device import resolve_device
from denoisekit.engine.run import Report, Run
from denoisekit.errors import DenoisekitError, UsageError
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.learn import objectives
from denoisekit.learn.loop import NotNumbers
from denoisekit.learn.planning import MEMBERS, choose_width, fastest_threads
from denoisekit.learn.result import Fit, Listen
from denoisekit.learn.session import (
    Network,
    Session,
    copied,
    find_start,
    for_unit_values,
    present_weights,
)
from denoisekit.learn.single_image import (
    BOXES,
    PART,
    ImageSample,
    Noise,
    Parts,
    Validation,
    is_gaussian,
    noise_curve,
    noise_variance,
    sample_image,
    validation_boxes,
)
from denoisekit.learn.trainee import new_network
from denoisekit.methods import METHODS, Stage, get_method
from denoisekit.methods.recipe import cosine
from denoisekit.nets.single import NonLocalMeans
from denoisekit.options import SHORTEST_FIT, FitOptions, Options
from denoisekit.ranges import Floats, Range, from_unit, to_unit
from denoisekit.weights import LoadedWeights, load_weights


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

    Notes
    -----
    Where nothing was learned in the time, the fit is of the best of what there is without it,
    and `Fit.learned` says so.
    """
    options = options or FitOptions()
    session = Session(options, on_look, time.monotonic() if began is None else began)
    with torch.random.fork_rng(devices=[]):
        start = find_start(options.start, options.objective, reader.info)
        range = options.range
        if range == "auto":
            range = "percentile" if start is None else start.config.get("range", "auto")
        image = sample_image(reader, range, options.seed)
        network: Network | None = None
        try:
            network, ensemble = train_networks(session, image, start)
        except NotNumbers as error:
            if options.steps is not None or start is not None:
                raise DenoisekitError(
                    "the fit came to values that are not numbers",
                    "try another --objective, or --range percentile",
                ) from error
        # Weights that were given are a result whatever is learned beside them.
        sure = start is not None or options.steps is not None
        learned = sure or has_learned(session, image, network)
        if network is None or not learned:
            network, ensemble = best_without_learning(session, image, network), False
        return Fit(
            denoiser=finished_denoiser(session, image, network, range, ensemble=ensemble),
            options=options,
            objective=network.name,
            start=start.id if start else "",
            score=network.score,
            steps=session.steps,
            looks=tuple(session.looks),
            stopped=session.stopped,
            learned=learned,
        )


FIRST_SHARE = 0.35
"""Part of the time of the first networks, where a second one learns from them."""


def train_networks(
    session: Session, image: ImageSample, start: LoadedWeights | None
) -> tuple[Network, bool]:
    """Return the network that knows the image best, and whether to average turns of it."""
    options = session.options
    objective = objectives.find_objective(options.objective)
    # Weights that learn from sub-samples go on with them; others with what the first network made.
    plain = start if start is not None and start.config.get("net") == "plain" else None
    started = None
    if start is not None and plain is None:
        state = dict(start.state)
        started = Network(get_method(start.method), start.config, state, start.id)
    ending = plan_ending(session, image, objective, started)
    session.reserve = ending.seconds
    until = session.began + options.seconds - ending.seconds
    if options.objective != "auto":
        network = train_on_subsamples(session, image, objective, None, 1.0, until, until)
        return network, ending.ensemble
    now = time.monotonic()
    soon = now + FIRST_SHARE * (until - now)
    first = train_on_subsamples(session, image, objective, plain, FIRST_SHARE, soon, until)
    if session.stopped:
        known = [first] if started is None else [first, session.scored(started, image.held_out)]
        return _best(known), ending.ensemble
    until -= (session.late - 1) * session.reserve
    known, last = distil(session, image, first, started, until, ensemble=ending.ensemble)
    draws = ending.draws_in(session.left(), session.late) if started is None and last else 0
    if last is not None and draws:
        return choose_network(session, image, first, last, draws), ending.ensemble
    best = _best(known if last is None else [*known, last])
    if started is None and image.noise.correlated:
        denoised = session.denoise(best, image.parts.noisy)
        if last is not None or not leaves_noise(image, denoised):
            best = with_non_local_means(best, noise_of(image, denoised, bias=True))
    return best, ending.ensemble


def _best(networks: Sequence[Network]) -> Network:
    return max(networks, key=lambda network: network.score)


# What is kept of the time for the ending: to apply the network, and to choose it.

SPARE = 1.3
"""What applying a network may take of what was measured with small images."""

WRITING = 1.0
"""Seconds kept for writing the file, and for what cannot be planned."""

TURNS, TURNS_SHARE = 8, 0.15
"""Flips and rotations, and the part of the time that averaging them may take."""

LARGEST_SHARE = 0.5
"""Most of the time that is kept for applying the network to a single image."""

DRAWS, DRAWS_SHARE = 8, 0.1
"""Times that noise is drawn to decide between the networks of a fit from scratch, and part of the
time that this may take; with one draw their scores differ by more than they themselves do."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the network is chosen and applied in the end.

    Attributes
    ----------
    seconds : float
        Kept for it, as fast as the machine was when that was measured.
    ensemble : bool
        Whether the eight flips and rotations are averaged.
    draws : int
        Of noise, by which it is chosen; 0: there is no time for that.
    draw : float
        Seconds that each of them takes.
    """

    seconds: float
    ensemble: bool
    draws: int = DRAWS
    draw: float = 0.0

    def draws_in(self, left: float, late: float) -> int:
        """Return how many draws of noise there is time for.

        Parameters
        ----------
        left : float
            Seconds until the result must be there; infinite: the clock does not count.
        late : float
            How many times as long as planned the machine takes now.
        """
        if not self.draws or math.isinf(left):
            return self.draws
        ending = self.seconds - self.draws * self.draw
        return max(0, min(self.draws, int((left - ending * late) / (self.draw * late))))


def plan_ending(
    session: Session, image: ImageSample, objective: objectives.Objective, started: Network | None
) -> Ending:
    """Keep time for the ending, by what a network of middle size takes here."""
    options, info, total = session.options, image.info, session.options.seconds
    if options.steps is not None:
        return Ending(0.0, ensemble=False)
    plane = info.height * info.width

    def once(width: int, full: int = 0) -> float:
        """Measure a network of these sizes; ``full``: of the second one, 0: there is none."""
        config = objective.stage(image.noise, image.channels, width).config
        config = {**config, "full": full} if full else config
        method = get_method(objective.method)
        state = dict(new_network(method, config, 0).state_dict())
        return session.seconds_of(Network(method, config, state, ""), info)

    def planned(once: float, denoised_before: float) -> Ending:
        # Of a stack the result itself is not part of the time.
        planes = offset_parts(image)[:, 0].size / plane + (info.planes == 1)
        turned = SPARE * (denoised_before + planes * TURNS) * once
        if info.planes == 1 and turned <= TURNS_SHARE * total:
            return Ending(WRITING + turned, ensemble=True)
        single = SPARE * (denoised_before + planes) * once
        return Ending(WRITING + min(single, LARGEST_SHARE * total), ensemble=False)

    middle = middle_of(objective.widths)
    if started is not None:
        return planned(session.seconds_of(started, info), 0.0)
    if options.objective != "auto":
        return planned(once(middle), 0.0)
    box = np.zeros((1, image.channels, PART, PART), np.float32)
    curve = NonLocalMeans(image.channels, 2).curve
    for _ in range(2):  # the first is not believed
        began = time.monotonic()
        non_local_means(box, box, curve)
        means = (time.monotonic() - began) / PART**2 * plane * (info.samples - info.alpha)
        means /= image.channels
    both = means + once(middle, middle_of(WIDTHS))
    # The second network's result says how strong the noise is.
    ending = planned(both, image.parts.noisy[:, 0].size / plane)
    draw = (3 if image.noise.correlated else 1) * both * min(1.0, BOXES * PART**2 / plane)
    draws = min(DRAWS, int(DRAWS_SHARE * total / draw))
    if draws:
        return replace(ending, seconds=ending.seconds + draws * draw, draws=draws, draw=draw)
    # So little time makes small networks, and no choice of whether means follow.
    small = once(min(objective.widths), min(WIDTHS)) + (means if image.noise.correlated else 0.0)
    return replace(planned(small, 0.0), draws=0)


def middle_of(widths: Sequence[int]) -> int:
    """Return the size that is measured, and taken where time does not count."""
    return widths[len(widths) // 2]


# 2. Networks that learn from sub-samples.

GENTLE_RATE = 5e-4
"""Of a plain network that has learned before."""


def train_on_subsamples(
    session: Session,
    image: ImageSample,
    objective: objectives.Objective,
    start: LoadedWeights | None,
    share: float,
    until: float,
    latest: float,
) -> Network:
    """Train one network from nothing but the image, or several, whose mean is returned.

    Parameters
    ----------
    session, image : Session, ImageSample
        The image.
    objective : objectives.Objective
        What they learn from.
    start : LoadedWeights or None
        Weights of a plain network that go on; None: from scratch.
    share : float
        Part of the steps, where steps are counted.
    until : float
        Of `time.monotonic`.
    latest : float
        The same, where a network from scratch would learn hardly anything until then.
    """
    method, options, members = get_method(objective.method), session.options, 1

    def stage_of(width: int) -> Stage:
        return fitting_patch(objective.stage(image.noise, image.channels, width), image.seen)

    measured = middle_of(objective.widths)
    stage = stage_of(measured)
    if start is not None:
        config = {**start.config, "pd": stage.config["pd"], "residual": start.config["residual"]}
        stage = replace(stage, config=config, rate=GENTLE_RATE)
    elif options.width is not None:
        stage = stage_of(options.width)
    elif options.steps is None:
        seconds = session.seconds_per_step(method, stage, image.seen)
        left = until - time.monotonic()
        width, members, least = choose_width(objective.widths, measured, seconds, left)
        stage = stage_of(width)
        until = max(until, time.monotonic() + least)
        if until + least > latest:  # too little would be left for a second one
            until = latest
    found: list[Network] = []
    for member in range(members):
        trainee = session.trainee(method, stage, member)
        network = Network(method, stage.config, {}, stage.name)
        if start is not None:
            trainee.load(start.state)
            network = session.scored(replace(network, state=dict(start.state)), image.held_out)
            session.tell(network.name, session.steps, network.score, best=True)
        now = time.monotonic()
        budget = session.budget(now + (until - now) / (members - member), share)
        sampler, settings = session.sampler(image.seen, stage, member), objective.validated
        found.append(session.train(trainee, sampler, network, image.held_out, budget, settings))
        if session.stopped:
            break
    if len(found) == 1:
        return found[0]
    # The weights of plain networks as those of one network, their mean.
    state = {
        key.replace("members.0.", f"members.{member}.", 1): value
        for member, network in enumerate(found)
        for key, value in network.state.items()
    }
    config = {**found[0].config, "members": len(found)}
    return replace(_best(found), config=config, state=state)


def fitting_patch(stage: Stage, parts: Parts) -> Stage:
    """Return the stage with a patch that the parts of the image hold."""
    side = min(stage.patch, *parts.noisy.shape[2:])
    return replace(stage, patch=side // stage.multiple * stage.multiple)


# 3. A network at full resolution, which learns from what others made of the image.

WIDTHS = (16, 24, 32, 48, 64)
"""Of the network, where it learns from scratch."""

SHIFT = 24
"""Most pixels by which residuals are moved: as far as brightness is mostly alike."""

RENEWALS = (3, 6)
"""Validations after which the network's own result counts in what it learns from."""

QUICK = 0.05
"""Part of the time in which the image must be denoised for such renewals."""

HARDLY = 0.3
"""Part of the noise that a network has to take away, for another to learn from it."""

ADAPTING_RATE = 1e-4
"""Of weights for many images that are adapted to one."""


def distil(
    session: Session,
    image: ImageSample,
    first: Network,
    started: Network | None,
    until: float,
    *,
    ensemble: bool,
) -> tuple[list[Network], Network | None]:
    """Train a network at full resolution on the result of the first one.

    Parameters
    ----------
    session, image : Session, ImageSample
        The image.
    first : Network
        Knows it from nothing else.
    started : Network or None
        Weights that were there before: their result counts too, and the network starts with
        them. None: from scratch.
    until : float
        Of `time.monotonic`.
    ensemble : bool
        Whether flips and rotations are averaged in what it learns from.

    Returns
    -------
    known : list of Network
        Those there were, with scores that compare with that of the new one.
    last : Network or None
        The new one, at its best; None: there was no time, or nothing to learn from.
    """
    options, noisy, began = session.options, image.parts.noisy, time.monotonic()
    known = [first] if started is None else [first, started]
    # Covered pixels are harder for weights that see all: if they do better even so, what the
    # first network came to, maybe in very little time, must not count.
    if started is not None:
        scored = session.scored(started, image.held_out)
        known = [scored] if scored.score > first.score else known
    results = [session.denoise(one, noisy, ensemble=ensemble) for one in known]
    target: Floats = np.mean(results, 0, np.float32)
    quick = time.monotonic() - began < QUICK * (until - began)
    if started is None and options.steps is None and leaves_noise(image, target):
        return [first], None
    parts = Parts(noisy, target)
    source = noise_source(image.noise, parts)
    # Held-out pixels would flatter networks that see every second pixel alone.
    validation = recorrupted(parts, source, options.seed)
    result = session.denoise(known[0], validation.boxes, precision="fp32")
    validation = validation.anchored(result, known[0].score)
    known = [session.scored(one, validation) for one in known]
    if started is not None:
        session.tell(known[-1].name, session.steps, known[-1].score, best=True)
    stage = distilling_stage(session, image, started, source, parts, until)
    if stage is None:
        return known, None
    method = get_method("single") if started is None else started.method
    trainee, sampler = (
        session.trainee(method, stage, MEMBERS),
        session.sampler(parts, stage, MEMBERS),
    )
    if started is not None:
        trainee.load(started.state)
    validations = 0

    def renew() -> None:
        nonlocal validations, target
        validations += 1
        if validations in RENEWALS and (quick or options.steps is not None):
            now = Network(method, stage.config, copied(trainee.weights()), stage.name)
            result = session.denoise(now, noisy, ensemble=ensemble)
            both: Floats = np.mean([target, result], 0, np.float32)
            target = both
            sampler.source = Parts(noisy, both)

    network = Network(method, stage.config, {}, stage.name, _best(known).score)
    budget = session.budget(until, 1 - FIRST_SHARE)
    found = session.train(trainee, sampler, network, validation, budget, after_validation=renew)
    if not found.state:  # nothing was better than what was known
        found = replace(found, state=copied(trainee.weights()), score=-math.inf)
    return known, found


def distilling_stage(
    session: Session,
    image: ImageSample,
    started: Network | None,
    source: objectives.NoiseSource,
    parts: Parts,
    until: float,
) -> Stage | None:
    """Return how the network learns; from scratch of a size for which the time will do, if any."""
    # Independent Gaussian noise alone can be drawn so truly that the noisy image itself tells;
    # otherwise what others made of it is taken for clean.
    by_image = not image.noise.correlated and is_gaussian(parts)

    def stage_of(config: Mapping[str, Any]) -> Stage:
        stage = Stage(
            "recorrupted" if by_image else "distilled",
            config,
            objectives.recorrupted(source) if by_image else objectives.distilled(source),
            steps=1,
            rate=objectives.RATE if started is None else ADAPTING_RATE,
            schedule=cosine,
            average=objectives.AVERAGE,
            batch=1,
            patch=128,
            multiple=4 if started is None else 32,
        )
        return fitting_patch(stage, parts)

    if started is not None:
        return stage_of(started.config)
    options, channels, bent = session.options, image.channels, image.noise.sparse
    measured = options.width or middle_of(WIDTHS)
    stage = stage_of(pyramid(channels, measured, bent=bent))
    if options.steps is not None or options.width is not None:
        return stage
    seconds = session.seconds_per_step(get_method("single"), stage, parts)
    left = until - time.monotonic()
    width, _, least = choose_width(WIDTHS, measured, seconds, left)
    return None if left < least else stage_of(pyramid(channels, width, bent=bent))


def pyramid(channels: int, width: int, *, bent: bool = False) -> Mapping[str, Any]:
    """Return the configuration of the network that learns from scratch."""
    sizes = {"net": "pyramid", "channels": channels, "width": width, "bent": bent}
    return {**get_method("single").config, **sizes, "pd": 1, "residual": True}


def noise_source(noise: Noise, parts: Parts) -> objectives.NoiseSource:
    """Return what makes noise like that of an image, of which there is a denoised version."""
    if noise.correlated:
        return objectives.resampled(SHIFT)
    return objectives.gaussian(noise_variance(parts))


def recorrupted(
    parts: Parts, source: objectives.NoiseSource, seed: int, draws: int = 1
) -> Validation:
    """Return boxes with more noise on them, and targets whose noise is not correlated with it."""
    assert parts.denoised is not None
    boxes, targets = [], []
    for draw in range(seed, seed + draws):
        for place in validation_boxes(parts.noisy, BOXES):
            noisy, denoised = (
                torch.from_numpy(p[place])[None] for p in (parts.noisy, parts.denoised)
            )
            generator = torch.Generator().manual_seed(draw)
            shown, target = objectives.recorrupt(noisy, source(noisy, denoised, generator))
            boxes.append(shown[0].numpy())
            targets.append(target[0].numpy())
    return Validation(np.stack(boxes), np.stack(targets))


def leaves_noise(image: ImageSample, denoised: Floats) -> bool:
    """Tell whether noise is left: another network would learn to leave it, and score high."""
    taken = float(np.sqrt(np.square(image.parts.noisy - denoised).mean()))
    return taken < HARDLY * image.noise.sigma


# 4. The best network, with non-local means after it.

CURVE = "similar.curve"
"""Key of the noise by which non-local means go."""


def choose_network(
    session: Session, image: ImageSample, first: Network, last: Network, draws: int
) -> Network:
    """Return the first network, the last one or their mean, and maybe non-local means after it.

    The one that scores best. The noise that is put on is what the last one takes away, with
    those means after it: where the first leaves some, what it took is too weak, and what
    leaves noise would score too well. The first one's score stays what it is.

    Of correlated noise all of them leave blotches, which scores cannot tell from the
    image: those means always follow. Of other noise none returned scores less than the first.
    """
    correlated = image.noise.correlated
    denoised = session.denoise(last, image.parts.noisy)
    curve = noise_of(image, denoised, bias=correlated)
    if correlated:
        smooth = with_non_local_means(last, curve)
        denoised = session.denoise(smooth, image.parts.noisy)
    if leaves_noise(image, denoised):  # whatever leaves noise would score high
        return first
    parts = Parts(image.parts.noisy, denoised)
    validation = recorrupted(parts, noise_source(image.noise, parts), session.options.seed, draws)
    boxes = validation.boxes
    one, two = (session.denoise(network, boxes, precision="fp32") for network in (first, last))
    validation = validation.anchored(one, first.score)
    both = {
        **first.state,
        **{key.replace("members.0", "full"): value for key, value in last.state.items()},
    }
    config = {**first.config, "full": last.config["width"]}
    mean = Network(first.method, config, both, f"{first.name}, {last.name}")
    middle: Floats = np.mean([one, two], 0, np.float32)
    results = [(first, one), (last, two), (mean, middle)]

    def score(result: tuple[Network, Floats]) -> float:
        return validation.score(result[1])

    smoothed = [
        (with_non_local_means(network, curve), non_local_means(boxes, denoised, curve))
        for network, denoised in (results if correlated else [max(results, key=score)])
    ]
    best = max(smoothed if correlated else results + smoothed, key=score)
    chosen = replace(best[0], score=score(best))
    session.tell(chosen.name, session.steps, chosen.score, best=True)
    return chosen


def noise_of(image: ImageSample, denoised: Floats, *, bias: bool) -> torch.Tensor:
    """Return the noise by brightness that was taken away, for non-local means.

    ``bias``: its mean may differ from 0, where black or white cut it off.
    """
    curve = torch.from_numpy(noise_curve(Parts(image.parts.noisy, denoised)))
    curve[:, 1] *= bias
    return curve


def with_non_local_means(network: Network, curve: torch.Tensor) -> Network:
    """Return the network with non-local means after it, for this noise."""
    config = {**network.config, "levels": curve.shape[-1]}
    state = {**network.state, CURVE: curve}
    return replace(network, config=config, state=state, name=f"{network.name}, non-local means")


def non_local_means(noisy: Floats, denoised: Floats, curve: torch.Tensor) -> Floats:
    """Return non-local means of boxes (N, C, h, w)."""
    means = NonLocalMeans(*curve.shape[::2])
    means.load_state_dict({"curve": curve})
    pairs = zip(noisy, denoised, strict=True)
    found = [means(*(torch.from_numpy(one)[None] for one in pair)) for pair in pairs]
    return np.concatenate([one.numpy() for one in found])


# Where no network learned the image: weights that ship, averages, the image.

MARGIN = 1.0
"""dB below the score of a plain average that are left to chance."""

DIMMED = 0.02
"""Part of the light of stars that a result may take away or add."""

PASSES = 3
"""Passes over an image that is validated, keeps its mean, and is denoised."""

QUICKEST = 4e-6
"""Seconds a pixel that weights which ship take, twice what they do on a core of 2024."""


def has_learned(session: Session, image: ImageSample, network: Network | None) -> bool:
    """Tell whether a network is better than a plain average of the pixels around."""
    least = image.held_out.score_of_mean(image.noise.reach + 1) - MARGIN
    return network is not None and network.score >= least and not _dims(session, image, network)


def _dims(session: Session, image: ImageSample, network: Network) -> bool:
    """Tell whether a network takes light from what lies far above a mostly empty image.

    No pixel of that is held out there, so that scores cannot tell.
    """
    if not image.noise.sparse:
        return False
    noisy = image.parts.noisy
    bright = noisy > 1
    removed = (noisy - session.denoise(network, noisy))[bright].sum(dtype=np.float64)
    return abs(float(removed)) > DIMMED * float(noisy[bright].sum(dtype=np.float64))


def best_without_learning(session: Session, image: ImageSample, network: Network | None) -> Network:
    """Return what scores best of all that needs no learning; the network too, if there is one.

    All are scored by pixels that none of them has seen.
    """
    known = [*([] if network is None else [network]), *_without_learning(session, image)]
    sound = [one for one in known if not _dims(session, image, one)]
    return _best([session.scored(one, image.held_out) for one in sound])


def _without_learning(session: Session, image: ImageSample) -> Iterator[Network]:
    yield _average(image.channels, 0.0, "the image as it was")
    average = _average(image.channels, 1.0, "a mean of 3x3 pixels")
    yield average
    curve = noise_of(image, session.denoise(average, image.parts.noisy), bias=False)
    yield replace(with_non_local_means(average, curve), name="non-local means")
    # Weights that are here, where they take no time to speak of. Below what a pass takes on any
    # machine, even to measure it takes too long.
    method, info = METHODS[0], image.info
    for name in present_weights(method):
        if session.left() <= PASSES * QUICKEST * info.height * info.width:
            return
        try:
            loaded = load_weights(name, method, allow_download=False)
        except DenoisekitError:
            continue
        network = Network(method, loaded.config, dict(loaded.state), loaded.id)
        if session.left() > PASSES * SPARE * session.seconds_of(network, info):
            yield network


def _average(channels: int, part: float, name: str) -> Network:
    """Return the mean of 3x3 pixels as a network, or a part of it; 0: nothing is changed."""
    method = get_method("single")
    sizes = {"channels": channels, "width": 2 * channels, "depth": 2, "pd": 1, "residual": True}
    taken = torch.full((3, 3), -1 / 9)
    taken[1, 1] += 1
    first = torch.zeros(2 * channels, channels, 3, 3)
    last = torch.zeros(channels, 2 * channels, 3, 3)
    for channel in range(channels):
        for sign, place in ((1, 2 * channel), (-1, 2 * channel + 1)):
            # What is above and below 0 goes apart through the ReLU.
            first[place, channel] = sign * part * taken
            last[channel, place, 1, 1] = sign
    layers = {"0.weight": first, "0.bias": torch.zeros(2 * channels), "1.weight": last}
    layers["1.bias"] = torch.zeros(channels)
    state = {f"members.0.layers.{key}": value for key, value in layers.items()}
    return Network(method, {**method.config, **sizes}, state, name)


# The denoiser of the result.

MEASURED = 2**21
"""Values by which the mean of the image is kept, at least a part of it."""

HALVINGS = 24
"""Of the interval that an offset lies in: a 16-millionth of the range of the values."""


def finished_denoiser(
    session: Session, image: ImageSample, network: Network, range: str, *, ensemble: bool
) -> Denoiser:
    """Return what applies the network to files: with their range, keeping the image's mean."""
    info, parts = image.info, offset_parts(image)
    if ensemble and not math.isinf(left := session.left()):
        offset = parts[:, 0].size / (info.height * info.width)
        turned = SPARE * (1 + offset) * TURNS * session.seconds_of(network, info)
        ensemble = turned + WRITING <= left
    # What a camera has developed: its black and white cut noise off, and move the mean.
    photograph = info.colour == "rgb" and info.dtype == "uint8" and image.noise.correlated
    # For other images: what depends on this one's values as these values.
    if range not in {"auto", "dtype"}:
        range = f"{image.scale.low!r},{image.scale.high!r}"
    config = {**network.config, "range": range}
    keep, strength = session.options.keep_mean, session.options.strength
    if strength is None:
        strength = "auto" if photograph else 1.0
    if not photograph if keep is None else keep:
        inner = for_unit_values(network)
        denoised = session.denoise(inner, parts, ensemble=ensemble)
        config["offset"] = tuple(
            mean_offset(parts[:, k], denoised[:, k], image.scale, info)
            for k in np.arange(parts.shape[1])
        )
    network = replace(network, config=config)
    return session.denoiser(network, ensemble=ensemble, strength=strength)


def offset_parts(image: ImageSample) -> Floats:
    """Return the parts of an image by which its mean is kept: (N, C, h, w)."""
    noisy = image.parts.noisy
    return noisy[: max(1, MEASURED // noisy[0].size)]


def mean_offset(noisy: Floats, denoised: Floats, scale: Range, info: ImageInfo) -> float:
    """Return what is added to a channel so that its mean stays: on 0..1.

    Found by halving: clipping and rounding leave the mean rising, but not evenly.

    Parameters
    ----------
    noisy, denoised : numpy.ndarray
        A channel on 0..1.
    scale, info : Range, ImageInfo
        Of the image: integers are clipped and rounded when they are written.
    """
    wanted = float(noisy.mean(dtype=np.float64))
    missing = wanted - float(denoised.mean(dtype=np.float64))
    if info.dtype.kind == "f":
        return missing
    low, high = -1.0 - abs(missing), 1.0 + abs(missing)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        written = to_unit(from_unit(denoised + np.float32(middle), scale, info), scale)
        if written.mean(dtype=np.float64) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


# Many images, each with a network of its own.


class Fitter:
    """Fits a network to each image of a batch, and denoises that with it.

    Parameters
    ----------
    options : FitOptions
        How to fit.
    each : bool
        Whether every plane of a stack has a network of its own; they share the time.
    on_look : callable, optional
        As for `fit`.
    began : float, optional
        When the time of the first image began, of `time.monotonic`.

    Attributes
    ----------
    options : Options
        What batches ask for.
    fits : list of Fit
        Those of the last image: one, or one a plane.
    """

    def __init__(
        self,
        options: FitOptions,
        *,
        each: bool = False,
        on_look: Listen | None = None,
        began: float | None = None,
    ) -> None:
        self.options = Options(max_memory=options.max_memory, device=options.device)
        self.fits: list[Fit] = []
        self._fit_options, self._each, self._on_look = options, each, on_look
        self._began = began

    def run(
        self,
        reader: Reader,
        *,
        on_progress: Callable[[float], None] | None = None,
        reserved: int = 0,
    ) -> FitRun:
        """Fit to an open image and denoise it; see `denoisekit.engine.denoiser.Denoiser.run`.

        Raises
        ------
        UsageError
            There is too little time for a network a plane.
        """
        began, self._began = self._began or time.monotonic(), None
        self.fits.clear()
        planes = reader.info.planes if self._each else 1
        seconds = self._fit_options.seconds / planes
        if planes > 1 and seconds < SHORTEST_FIT:
            raise UsageError(
                f"{self._fit_options.seconds:g} s are too short for {planes} networks",
                f"give --time {SHORTEST_FIT * planes:g} or more, or --planes shared",
            )
        options = replace(self._fit_options, seconds=seconds)

        def runs() -> Iterator[tuple[int, Run]]:
            size = reader.info.height * reader.info.width
            for plane in range(planes):
                view = OnePlane(reader, plane) if planes > 1 else reader
                with fastest_threads(resolve_device(self.options.device)):
                    found = fit(view, options, self._on_look, began if plane == 0 else None)
                self.fits.append(found)

                def tell(done: float, before: int = plane * size) -> None:
                    if on_progress is not None:
                        on_progress(before + done)

                run = found.denoiser.run(view, on_progress=tell, reserved=reserved)
                if found.warning:
                    run.warnings.append(found.warning)
                yield plane, run

        return FitRun(runs())


class FitRun:
    """An image being fitted and denoised: an iterator of its finished rows."""

    def __init__(self, runs: Iterator[tuple[int, Run]]) -> None:
        self._runs = runs
        self._reports: list[Report] = []

    def __iter__(self) -> Iterator[tuple[int, int, Pixels]]:
        for first, run in self._runs:
            for plane, top, rows in run:
                yield first + plane, top, rows
            self._reports.append(run.report())

    def report(self) -> Report:
        """Return what was done, once the last rows are out."""
        warnings = (warning for report in self._reports for warning in report.warnings)
        return replace(self._reports[-1], warnings=tuple(dict.fromkeys(warnings)))


class OnePlane:
    """A plane of a stack, read as an image of its own."""

    def __init__(self, reader: Reader, plane: int) -> None:
        self._reader, self._plane = reader, plane
        info = reader.info
        first = info.axes.index("Y")
        self._info = replace(info, shape=info.shape[first:], axes=info.axes[first:])

    @property
    def info(self) -> ImageInfo:
        """What the plane holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:  # noqa: ARG002 - it has one
        """Return rows; see `denoisekit.image.Reader`."""
        return self._reader.read_rows(self._plane, top, bottom)

    def close(self) -> None:
        """Nothing to let go of: the stack's reader is the caller's."""
