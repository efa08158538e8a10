"""``denoisekit fit-single``: a network for one image, and that image denoised with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoisekit.cli import render
from denoisekit.cli.pipes import piped
from denoisekit.cli.plan import Plan
from denoisekit.cli.shared import (
    RANGE,
    Axes,
    Device,
    Format,
    Json,
    MaxMemory,
    Output,
    Overwrite,
    Quiet,
    SkipExisting,
    Stop,
    Suffix,
    check_existing,
    check_writable,
    end_batch,
    parse_strength,
    started,
    stopping,
)
from denoisekit.errors import UsageError

if TYPE_CHECKING:
    from denoisekit.batch.run import Outcome
    from denoisekit.fitting import Fit, Look
    from denoisekit.fitting.files import Fitter

EPILOG = (
    "Examples:\n\n"
    "denoisekit fit-single noisy.tif\n\n"
    "denoisekit fit-single photo.png --time 60s --report curve.png\n\n"
    "denoisekit fit-single stack.tif --preset best --save-weights microscope.safetensors"
)


def fit_single(
    image: Annotated[
        str, typer.Argument(help="An image or stack; - is stdin.", show_default=False)
    ],
    output: Output = None,
    suffix: Suffix = None,
    format: Format = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    objective: Annotated[
        str,
        typer.Option(
            help="What is learned from: auto (by the noise), pairs, sdap, promptsid, aprrd, ssbsn."
        ),
    ] = "auto",
    start: Annotated[
        str, typer.Option(help="Weights to adapt, id or file; auto: those that are here; none.")
    ] = "auto",
    max_time: Annotated[
        str | None,
        typer.Option(
            "--time",
            help="How long you will wait for the result: 60s, 5m. More time gives a better one, up "
            "to some minutes; a stack may add to it.",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="fast (30 s), balanced (2.5 min) or best (10 min).")
    ] = "balanced",
    steps: Annotated[
        int | None,
        typer.Option(help="So many steps, whatever time they take: the seed then repeats it."),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Features of the network; default: as the time allows.")
    ] = None,
    planes: Annotated[
        str, typer.Option(help="shared: a network for all planes; each: one for every plane.")
    ] = "shared",
    range: Annotated[
        str,
        typer.Option(help=f"{RANGE}. From scratch, auto is percentile."),
    ] = "auto",
    keep_mean: Annotated[
        bool | None,
        typer.Option(
            "--keep-mean/--free-mean",
            help="Whether every channel keeps its mean; default: unless it is a photograph of "
            "8 bits with correlated noise.",
        ),
    ] = None,
    strength: Annotated[
        str | None,
        typer.Option(
            help="Blend with the input, as in denoise; default: auto for photographs of "
            "8 bits with correlated noise, else 1."
        ),
    ] = None,
    axes: Axes = None,
    save_weights: Annotated[
        Path | None, typer.Option(help="Keep the network, for denoise --weights.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Draw how the score developed; a PNG.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Start of the random numbers: with --steps, the same seed gives the same result."
        ),
    ] = 0,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="Of the result: auto, fp32, bf16 or fp16.")] = (
        "auto"
    ),
    max_memory: MaxMemory = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a network to one noisy image, and denoise it: nothing else is needed."""
    began = started()
    from denoisekit.batch.naming import Naming
    from denoisekit.fitting import PRESETS, FitOptions
    from denoisekit.fitting.files import Fitter
    from denoisekit.options import parse_memory, parse_time

    check_existing(overwrite=overwrite, skip_existing=skip_existing)
    _check_choice("--preset", preset, tuple(PRESETS))
    _check_choice("--planes", planes, ("shared", "each"))
    check_writable(save_weights, report, overwrite=overwrite)
    options = FitOptions(
        objective=objective,
        start=start,
        seconds=PRESETS[preset] if max_time is None else parse_time(max_time),
        steps=steps,
        width=width,
        range=range,
        keep_mean=keep_mean,
        strength=None if strength is None else parse_strength(strength),
        seed=seed,
        device=device,
        precision=precision,
        max_memory=None if max_memory is None else parse_memory(max_memory),
    )
    with piped([image], output, as_json=as_json) as (images, output):
        plan = Plan(Naming(output, suffix, format), axes, overwrite, skip_existing)
        plan.make(images, recursive=False)
        if len(plan.jobs) + len(plan.failures) > 1:
            raise UsageError(f"{image} is more than one image", "fit to one at a time")
        with stopping("stopping: the best so far is applied; once more to stop at once") as stop:
            speaker = _Speaker(quiet, as_json, stop)
            fitter = Fitter(options, each=planes == "each", on_look=speaker.hear, began=began)
            failed = speaker.run(plan, fitter, options.seconds)
            if fitter.fits:  # also where the image could not be written: they took the time
                _keep(fitter.fits, save_weights, report, plan.jobs[0].source.name, overwrite)
        end_batch(failed)
    if stop.asked():
        raise typer.Exit(130)


def _check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{option} {value} is not known", f"choose from {', '.join(known)}")


def _keep(
    fits: list[Fit], weights: Path | None, report: Path | None, title: str, overwrite: bool
) -> None:
    """Write weights and curve; of several planes each under a name of its own."""
    from denoisekit.fitting.report import write_curve

    for index, fit in enumerate(fits):
        number = f"_{index:03d}" if len(fits) > 1 else ""
        if weights is not None:
            fit.save(weights.with_stem(weights.stem + number))
        if report is not None:
            path = report.with_stem(report.stem + number)
            write_curve(path, fit, title + number, overwrite=overwrite)


class _Speaker:
    """Says what happens, for people or as JSON."""

    def __init__(self, quiet: bool, as_json: bool, stop: Stop) -> None:
        self.quiet, self.as_json, self.stop = quiet, as_json, stop
        self._bar: render.Progress | None = None
        self._name, self._score = "", ""

    def hear(self, look: Look) -> bool:
        """Take a look; return whether to stop."""
        if self._bar is not None:
            self._bar.update(min(look.seconds, look.total))
            if look.score is not None:
                self._score = f" {look.score:.2f} dB"
                best = ", the best so far" if look.best else ""
                where = f"{look.seconds:.0f} s, {look.stage}, step {look.step}"
                self._bar.note(f"{where}: score {look.score:.2f} dB{best}")
            self._bar.describe(self._name + self._score)
        return self.stop.asked()

    def run(self, plan: Plan, fitter: Fitter, seconds: float) -> list[int]:
        """Fit and denoise; return the exit codes of what failed."""
        from denoisekit.batch.run import run_batch

        for path, error in plan.failures:
            render.failure(path, error, self.as_json)
        failed = [error.exit_code for _, error in plan.failures]
        for note in () if self.quiet else plan.notes:
            render.err(note)
        if plan.skipped and not self.quiet:
            render.err(f"skipped {len(plan.skipped)} whose output exists")
        if not plan.jobs:
            return failed
        self._name = plan.jobs[0].source.name
        pixels = plan.images[0].planes * plan.images[0].height * plan.images[0].width
        with render.progress(self._name, seconds, "s", self.quiet) as bar:
            self._bar = bar

            def applied(_: object, done: float) -> None:
                bar.describe(f"{self._name}{self._score}, denoising {100 * done / pixels:.0f} %")

            for outcome in run_batch(plan.jobs, fitter, applied):
                if outcome.error:
                    failed.append(outcome.error.exit_code)
                    render.failure(outcome.job.source, outcome.error, self.as_json, bar)
                elif outcome.report is None:
                    bar.note(render.skipped(outcome.job.source))
                else:
                    self._success(outcome, fitter.fits, bar)
        return failed

    def _success(self, outcome: Outcome, fits: list[Fit], bar: render.Progress) -> None:
        assert outcome.report is not None
        job, report = outcome.job, outcome.report
        if self.as_json:
            render.json_line(
                {
                    "input": job.source,
                    "output": job.target,
                    "seconds": round(outcome.seconds, 3),
                    "range": report.range,
                    "warnings": report.warnings,
                    "fits": [_told(fit) for fit in fits],
                }
            )
            return
        if self.quiet:
            return
        for warning in report.warnings:
            bar.note(f"warning: {job.source}: {warning}")
        for fit in fits[:1]:
            if fit.learned:
                bar.note(_learned(fit))
        render.out(f"{job.source} -> {job.target}  in {outcome.seconds:.1f} s")


def _learned(fit: Fit) -> str:
    """Say what the result comes of, and what would help where nothing was learned."""
    if not fit.start or fit.objective != fit.start:
        began = f", which began with {fit.start}" if fit.start else ""
        return f"learned by {fit.objective}{began}, {fit.steps} steps"
    why = "there was no time to learn"
    if fit.steps:
        why = f"what was learned in {fit.steps} steps was no better"
    how = ["averaged over flips and turns"] * fit.denoiser.options.self_ensemble
    how += ["fine texture given back"] * (fit.denoiser.strength == "auto")
    more = max(60, 4 * round(fit.options.seconds))
    return (
        f"{why}: {fit.start} was applied as it is{', ' if how else ''}{' and '.join(how)}; "
        f"more time lets it learn this image: --time {more}s"
    )


def _told(fit: Fit) -> dict[str, object]:
    curve = [(round(k.seconds, 2), k.step, k.score) for k in fit.looks if k.score is not None]
    return {**fit.facts, "stopped": fit.stopped, "curve": curve}
