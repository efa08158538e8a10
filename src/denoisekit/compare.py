"""Several methods on a part of one image of the user's own: as time allows, ranked, on one page.

Each is given a part of the image as `denoise` would read it, and returns what `denoise`
would write.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from denoisekit import report
from denoisekit.baselines import BASELINES
from denoisekit.bench.candidates import check_once, named, through
from denoisekit.bench.speed import measure_call
from denoisekit.engine.denoiser import load
from denoisekit.engine.device import describe_device, resolve_device
from denoisekit.engine.timing import estimate_seconds, measure_work
from denoisekit.errors import InternalError, UsageError, as_error, find_by_id, printable
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.methods import all_methods
from denoisekit.noise.estimate import estimate_noise
from denoisekit.options import Options
from denoisekit.ranges import Floats, Range, fill_nonfinite, to_unit
from denoisekit.ranking import SMALLEST, Denoise, estimate_psnr, spread_crops
from denoisekit.weights import load_manifest, weights_present

SIDE = 1024
"""Longest side of what is compared, unless asked for otherwise."""
PLANES = 3
"""Planes of a stack, as well."""
HOPELESS = 4.0
"""Times the time that is left, from which what is expected is not even loaded to be timed."""
CROPS = 4
"""Most crops of a plane in which results are ranked."""

RANKS = (
    "The score estimates, from the noisy image alone, which result is nearest to the clean image: "
    "PSNR in dB on a test made from this image. Higher is better, small differences mean nothing. "
    "Look before you believe it. What "
    "was removed should look like noise and nothing else: lines and shapes in it are detail "
    "that was lost."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be compared.

    Attributes
    ----------
    id : str
        Its own: of weights, of a file of them, or of a baseline.
    method : str
        Id of the method, or of the baseline.
    weights : str or None
        Id or file; None: a baseline.
    flop : float
        Operations an output pixel takes, where that is known beforehand.
    """

    id: str
    method: str
    weights: str | None
    flop: float = 0.0


def choices_here() -> list[Choice]:
    """Return all weights that are on this machine, the cheapest first."""
    methods = {info.id: info for info in all_methods()}
    found = []
    for entry in load_manifest():
        info = methods.get(entry.method)
        if info is not None and weights_present(entry):
            flop = info.traits(entry.config, info.choose()).flop(SIDE * SIDE)
            found.append(Choice(entry.id, entry.method, entry.id, flop))
    return sorted(found, key=lambda choice: choice.flop)


def choices_named(methods: Sequence[str], weights: Sequence[str]) -> list[Choice]:
    """Return what the user names.

    Parameters
    ----------
    methods : sequence of str
        Ids of methods, each with its best weights that are here, and of baselines.
    weights : sequence of str
        Ids or files.

    Raises
    ------
    UsageError
        There is no such method, it has no weights here, one is named twice, or a file does
        not say its method.
    """
    here = {choice.id: choice for choice in choices_here()} if methods else {}
    defaults = {info.id: info.default_weights for info in all_methods()}
    found = []
    for method, name in named(methods, weights):
        if name is not None:
            found.append(Choice(name, method, name))
        elif method not in defaults:
            found.append(Choice(method, method, None))
        elif best := [here[id] for id in defaults[method] if id in here]:
            found.append(best[0])
        else:
            hint = f"see denoisekit weights list; or name a file: --weights FILE of {method}"
            raise UsageError(f"no weights of '{method}' are here", hint)
    check_once([choice.id for choice in found])
    return found


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"


def parse_crop(text: str, width: int, height: int) -> Crop:
    """Return the part of an image that a user names as ``X,Y,W,H``.

    Raises
    ------
    UsageError
        It is not four whole numbers, or not within the image.
    """
    try:
        crop = Crop(*(int(part) for part in text.split(",")))
    except (TypeError, ValueError):
        raise UsageError(
            f"'{text}' is no part of an image",
            "write x, y, width and height: --crop 100,50,512,512",
        ) from None
    if min(crop.left, crop.top) < 0 or min(crop.width, crop.height) < 1:
        raise UsageError(f"the part {crop} of an image makes no sense", "begin at 0,0 or later")
    if crop.left + crop.width > width or crop.top + crop.height > height:
        raise UsageError(
            f"the part {crop} is not within the image of {width}x{height} pixels",
            "x and y are of its upper left corner",
        )
    return crop


def middle_crop(width: int, height: int, side: int = SIDE) -> Crop:
    """Return all of an image, or its middle where it is large."""
    wide, tall = min(width, side), min(height, side)
    if width * height <= side * side:
        wide, tall = width, height
    # On a coarse grid, so that blocks of a camera or of JPEG lie as they did.
    return Crop((width - wide) // 32 * 16, (height - tall) // 32 * 16, wide, tall)


def spread_planes(count: int, most: int = PLANES) -> tuple[int, ...]:
    """Return some of the planes of a stack, from the first to the last."""
    if count <= most:
        return tuple(range(count))
    return tuple(round(i * (count - 1) / (most - 1)) for i in range(most))


class Part:
    """A part of some planes of an open image, read as if it were a file of its own.

    Parameters
    ----------
    reader : Reader
        The image.
    crop : Crop
        Within it.
    planes : sequence of int
        Which of its planes.
    """

    def __init__(self, reader: Reader, crop: Crop, planes: Sequence[int]) -> None:
        self.whole, self.crop, self.planes = reader.info, crop, tuple(planes)
        self._reader = reader
        samples = (self.whole.samples,) if self.whole.axes.endswith("S") else ()
        stack = (len(planes),) if self.whole.planes > 1 else ()
        self._info = replace(
            self.whole,
            shape=(*stack, crop.height, crop.width, *samples),
            axes="Z" * len(stack) + "YX" + "S" * len(samples),
        )

    @property
    def info(self) -> ImageInfo:
        """What it holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:
        """Return rows of a plane; see `denoisekit.image.Reader`."""
        crop = self.crop
        rows = self._reader.read_rows(self.planes[plane], crop.top + top, crop.top + bottom)
        return rows[:, crop.left : crop.left + crop.width]

    def close(self) -> None:
        """Nothing to let go of: the image is the caller's."""

    def __str__(self) -> str:
        """Say which part of the image it is; empty: all of it."""
        crop, whole = self.crop, self.whole
        words = []
        if (crop.width, crop.height) != (whole.width, whole.height):
            words.append(
                f"{crop.width}x{crop.height} pixels from x {crop.left}, y {crop.top} "
                f"of {whole.width}x{whole.height}"
            )
        if len(self.planes) < whole.planes:
            planes = ", ".join(map(str, self.planes))
            words.append(f"plane{'s' * (len(self.planes) > 1)} {planes} of {whole.planes}")
        return "; ".join(words)


@dataclass(frozen=True, slots=True)
class Result:
    """What one of them did.

    Attributes
    ----------
    choice : Choice
        Which.
    denoised : tuple of numpy.ndarray
        The planes, (H, W, C) float32 on 0..1.
    seconds : float
        It took, all planes together, loading not counted.
    memory : int
        Bytes it took at most, beside those taken before.
    again : callable
        Does the same to any (H, W, C) float32 image on 0..1.
    facts : dict
        ``weights_sha256``, ``device``, ``precision`` of a network.
    score : float
        What `Comparison.rank` estimates, PSNR in dB; not a number before.
    """

    choice: Choice
    denoised: tuple[Floats, ...]
    seconds: float
    memory: int
    again: Denoise
    facts: dict[str, Any]
    score: float = math.nan


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not run, and why, in a few words; the error, where it is a bug."""

    choice: Choice
    reason: str
    bug: InternalError | None = None


class Comparison:
    """Several methods on a part of an image: run, ranked, and shown.

    Parameters
    ----------
    image : pathlib.Path
        Its name.
    part : Part
        Of it.
    scale : Range
        File values of black and white, those of the whole image.
    seconds : float, optional
        Until all are done, about; the first is run whatever it takes. Without, all are run.
    device, precision, range : str
        As in `denoisekit.options.Options`.
    axes : str, optional
        As the user says them.

    Attributes
    ----------
    noisy : list of numpy.ndarray
        The planes of the part, (H, W, C) float32 on 0..1.
    results : list of Result
        After `rank` the best first.
    skipped : list of Skipped
        What was left out.
    noisy_score : float
        Estimated PSNR in dB of a noisy image like this one, after `rank`.

    Raises
    ------
    UsageError
        The part is too small to rank by.
    """

    def __init__(
        self,
        image: Path,
        part: Part,
        scale: Range,
        *,
        seconds: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        range: str = "auto",
        axes: str | None = None,
    ) -> None:
        crop = part.crop
        if min(crop.width, crop.height) < SMALLEST:
            raise UsageError(
                f"a part of {crop.width}x{crop.height} pixels is too small to judge by",
                f"it must be at least {SMALLEST} pixels high and wide",
            )
        self.image, self.part, self.scale, self.seconds = image, part, scale, seconds
        self.device, self.precision, self.range, self.axes = device, precision, range, axes
        rows = [part.read_rows(index, 0, crop.height) for index, _ in enumerate(part.planes)]
        self.noisy = self._on_unit(np.stack(rows))
        self.results: list[Result] = []
        self.skipped: list[Skipped] = []
        self.noisy_score = math.nan

    def _on_unit(self, planes: Pixels) -> list[Floats]:
        """Return planes as methods see them: black 0 and white 1, no alpha."""
        colours = self.part.info.samples - self.part.info.alpha
        return [to_unit(fill_nonfinite(plane[..., :colours]), self.scale) for plane in planes]

    def run(
        self, choices: Sequence[Choice], clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Result | Skipped]:
        """Run one after the other, as long as time allows.

        Parameters
        ----------
        choices : sequence of Choice
            What is compared; with a time, the cheapest should come first.
        clock : callable
            Gives seconds.

        Yields
        ------
        Result or Skipped
            For each in its turn.

        Raises
        ------
        DenoisekitError
            One that was asked for cannot be run.
        """
        began, rate, limit = clock(), 0.0, self.seconds
        pixels = self.part.crop.width * self.part.crop.height * len(self.part.planes)
        for choice in choices:
            left = math.inf
            if limit is not None and self.results:
                left = limit - (clock() - began)
            guess = choice.flop * pixels / rate if rate else 0.0
            if left <= 0 or guess > HOPELESS * left:
                found: Result | Skipped = Skipped(choice, _too_long(guess))
            else:
                try:
                    found = self._run(choice, left)
                except Exception as error:
                    told = as_error(error, choice.id)
                    bug = told if isinstance(told, InternalError) else None
                    if bug is None and limit is None:
                        raise told from error
                    found = Skipped(choice, told.message, bug)
            if isinstance(found, Result):
                self.results.append(found)
                rate = max(rate, choice.flop * pixels / max(found.seconds, 1e-3))
            else:
                self.skipped.append(found)
            yield found

    def _run(self, choice: Choice, left: float) -> Result | Skipped:
        """Denoise, unless that would take longer than the time that is left."""
        info = self.part.info
        if choice.weights is None:
            baseline = find_by_id("baseline", choice.method, BASELINES)

            def again(noisy: Floats) -> Floats:
                return np.asarray(baseline.run(noisy, 0), np.float32)

            def denoise() -> list[Floats]:
                return [again(plane) for plane in self.noisy]

            device = resolve_device("cpu")
            about = {"device": describe_device(device)}
        else:
            options = Options(
                method=choice.method,
                weights=choice.weights,
                strength=None,
                range=self.range,
                device=self.device,
                precision=self.precision,
            )
            denoiser = load(options, allow_download=False)
            if denoiser.options.range == self.range:
                # Weights fitted to one image bring their own; else that of the whole image.
                text = f"{self.scale.low!r},{self.scale.high!r}"
                denoiser.options = replace(denoiser.options, range=text)
            if left < math.inf:
                expected = estimate_seconds(denoiser, measure_work(denoiser, [info])) or 0.0
                if expected > left:
                    return Skipped(choice, _too_long(expected))

            def again(noisy: Floats) -> Floats:
                return through(denoiser.on_unit(), noisy, colour=info.colour == "rgb")

            def denoise() -> list[Floats]:
                shape = (info.planes, info.height, info.width, info.samples)
                pixels = np.empty(shape, info.dtype)
                for plane, top, rows in denoiser.run(self.part):
                    pixels[plane, top : top + len(rows)] = rows
                return self._on_unit(pixels)

            device = denoiser.device
            about = {
                "device": describe_device(device),
                "precision": denoiser.precision,
                "weights_sha256": denoiser.weights.sha256,
            }
        denoised, seconds, memory = measure_call(device, denoise)
        return Result(choice, tuple(denoised), seconds, memory, again, about)

    def rank(self) -> None:
        """Estimate how good results are, each run on a few crops more, and sort them."""
        places = [
            (index, where)
            for index, plane in enumerate(self.noisy)
            for where in spread_crops(plane.shape[0], plane.shape[1], CROPS)
        ]
        self.noisy_score, scores = estimate_psnr(
            [self.noisy[index][where] for index, where in places],
            [[one.denoised[index][where] for index, where in places] for one in self.results],
            [one.again for one in self.results],
        )
        both = zip(self.results, scores, strict=True)
        scored = [replace(result, score=score) for result, score in both]
        self.results = sorted(scored, key=lambda result: -result.score)

    def command(self, choice: Choice) -> str:
        """Return the command line that denoises all of the image so; empty: there is none."""
        if choice.weights is None:
            return ""
        words = ["denoisekit", "denoise", str(self.image), "--weights", choice.weights]
        for name in ("range", "axes", "precision", "device"):
            value = getattr(self, name)
            words += [f"--{name}", value] if value not in (None, "auto") else []
        return " ".join(map(_quoted, words))

    def facts(self) -> dict[str, Any]:
        """Return all of it as JSON can say it."""
        crop = self.part.crop
        return {
            "crop": [crop.left, crop.top, crop.width, crop.height],
            "planes": list(self.part.planes),
            "noisy_score": self.noisy_score,
            "results": [
                {
                    "id": result.choice.id,
                    "method": result.choice.method,
                    "score": result.score,
                    "seconds": round(result.seconds, 3),
                    "memory_bytes": result.memory,
                    "command": self.command(result.choice),
                    **result.facts,
                }
                for result in self.results
            ],
            "left_out": [{"id": one.choice.id, "reason": one.reason} for one in self.skipped],
        }

    def page(self, *, lossless: bool = False) -> str:
        """Return the page, HTML that loads nothing; `lossless` keeps every value."""
        scale, words = report.scale_of(np.stack(self.noisy))
        where, planes, whole = str(self.part), self.part.planes, self.part.whole
        note = f"{where[:1].upper()}{where[1:]}." if where else ""
        notes = ["", *(f"rank {rank}" for rank in range(1, len(self.results) + 1))]
        exhibits = [
            report.Exhibit(
                f"plane {plane}" if len(planes) > 1 else self.image.name,
                [report.eight_bits(image, scale) for image in versions],
                notes,
                f"{note}{words}".strip(),
            )
            for plane, *versions in zip(
                planes, self.noisy, *(result.denoised for result in self.results), strict=True
            )
        ]
        about = [
            ("image", f"{self.image.name}, {whole.width}x{whole.height} pixels"),
            ("black and white", f"{self.scale.low:g} and {self.scale.high:g}"),
            ("noise", _noise_in_words(self.noisy[0])),
        ]
        if self.skipped:
            left_out = (f"{one.choice.id} ({one.reason})" for one in self.skipped)
            about.append(("left out", ", ".join(left_out)))
        for result in self.results:
            how = (f"{name.replace('_', ' ')} {text}" for name, text in result.facts.items())
            about.append((result.choice.id, "; ".join(how)))
        count = len(self.results)
        page = report.Page(
            title=f"denoisekit compare: {self.image.name}",
            summary=f"{count} result{'s' * (count > 1)}, the one with the best score first",
            layers=["noisy", *(result.choice.id for result in self.results)],
            exhibits=exhibits,
            start=(0, 1),
            chooser="Plane",
            sections=[
                report.section("Ranks", self._ranks(), report.paragraph(RANKS)),
                report.section("How this was made", report.facts(about)),
            ],
        )
        return report.render(page, lossless=lossless)

    def _ranks(self) -> str:
        megapixels = sum(plane.shape[0] * plane.shape[1] for plane in self.noisy) / 1e6
        rows: list[list[report.Cell | str]] = []
        for rank, result in enumerate(self.results, 1):
            removed = np.stack(self.noisy) - np.stack(result.denoised)
            command = self.command(result.choice)
            rows.append(
                [
                    result.choice.id,
                    report.number(rank, 0),
                    report.number(
                        result.score, 2, best=rank == 1 and result.score > self.noisy_score
                    ),
                    report.number(255 * math.sqrt(float(np.square(removed).mean())), 2),
                    report.number(result.seconds, 1),
                    report.number(result.seconds / megapixels, 1),
                    report.number(result.memory / 2**20, 0),
                    report.Cell(command, kind="command") if command else "-",
                ]
            )
        best = all(result.score <= self.noisy_score for result in self.results)
        own = report.number(self.noisy_score, 2, best=best)
        rows.append(["noisy", "-", own, report.number(0, 2), *["-"] * 4])
        columns = ["result", "rank", "score, dB", "removed, of 255", "seconds", "s/megapixel"]
        return report.table("All results", [*columns, "memory, MiB", "command"], rows)


def _too_long(seconds: float) -> str:
    return f"would take about {seconds:.0f} s" if seconds >= 1 else "no time was left"


def _quoted(word: str) -> str:
    """Return a word as a shell takes it, also where it holds what cannot be shown."""
    if printable(word) == word:
        return shlex.quote(word)
    return "$'" + printable(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def _noise_in_words(noisy: Floats) -> str:
    found = estimate_noise(noisy)
    if found is None:
        return "not known: the image is too small"
    sigma = math.sqrt(sum(s * s for s in found.sigma) / len(found.sigma))
    kind = "shared by neighbouring pixels" if found.correlated else "of its own in each pixel"
    return f"about {255 * sigma:.2f} of 255 (root mean square), {kind}"
