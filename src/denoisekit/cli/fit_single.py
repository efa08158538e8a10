"""``denoisekit fit-single``: a network for one image, and that image denoised with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoisekit.cli import render
from denoisekit.cli.shared import (
    FileRun,
    Json,
    Quiet,
    check_writable,
    piped,
    started,
    stopping,
)
from denoisekit.errors import UsageError
from denoisekit.options import FileOptions, FitOptions

if TYPE_CHECKING:
    from denoisekit.batch.run import Outcome
    from denoisekit.learn.result import Fit, Look

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
    files: FileOptions,
    options: FitOptions,
    planes: Annotated[
        str, typer.Option(help="shared: a network for all planes; each: one for every plane.")
    ] = "shared",
    save_weights: Annotated[
        Path | None, typer.Option(help="Keep the network, for denoise --weights.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Draw how the score developed; a PNG.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a network to one noisy image, and denoise it: nothing else is needed."""
    began = started()
    from denoisekit.batch.plan import plan_inputs
    from denoisekit.batch.run import run_batch
    from denoisekit.learn.fit import Fitter

    if planes not in ("shared", "each"):
        raise UsageError(f"--planes {planes} is not known", "choose from shared, each")
    check_writable(save_weights, report, overwrite=files.overwrite)
    told = render.Reporter(quiet, as_json)
    with (
        piped([image], files.output, as_json=as_json) as (names, output),
        stopping("stopping: the best so far is applied; once more to stop at once") as stop,
    ):
        plan = plan_inputs(names, replace(files, output=output))
        if len(plan.jobs) + len(plan.failures) > 1:
            raise UsageError(f"{image} is more than one image", "fit to one at a time")
        run = FileRun(plan, told)
        name, score = "".join(job.source.name for job in plan.jobs), ""

        def hear(look: Look) -> bool:
            nonlocal score
            told.update(min(look.seconds, look.total))
            if look.score is not None:
                score = f" {look.score:.2f} dB"
                best = ", the best so far" if look.best else ""
                where = f"{look.seconds:.0f} s, {look.stage}, step {look.step}"
                told.note(f"{where}: score {look.score:.2f} dB{best}")
            told.describe(name + score)
            return stop.asked()

        def applied(_: object, pixels: float) -> None:
            share = 100 * pixels / (1e6 * run.megapixels)
            told.describe(f"{name}{score}, denoising {share:.0f} %")

        fitter = Fitter(options, each=planes == "each", on_look=hear, began=began)
        if plan.jobs:
            with told.progress(name, options.seconds, "s"):
                for outcome in run_batch(plan.jobs, fitter, applied):
                    if run.done(outcome):
                        _tell(outcome, fitter.fits, told)
        # Also where the image could not be written: the networks took the time.
        _keep(fitter.fits, save_weights, report, name, files.overwrite)
        run.end()
    if stop.asked():
        raise typer.Exit(130)


def _keep(
    fits: list[Fit], weights: Path | None, report: Path | None, title: str, overwrite: bool
) -> None:
    """Write weights and curve; of several planes each under a name of its own."""
    from denoisekit.learn.result import write_curve

    for index, fit in enumerate(fits):
        number = f"_{index:03d}" if len(fits) > 1 else ""
        if weights is not None:
            fit.save(weights.with_stem(weights.stem + number))
        if report is not None:
            path = report.with_stem(report.stem + number)
            write_curve(path, fit, title + number, overwrite=overwrite)


def _tell(outcome: Outcome, fits: list[Fit], told: render.Reporter) -> None:
    """Say how an image was fitted and denoised."""
    assert outcome.report is not None
    job, done = outcome.job, outcome.report
    if not told.as_json:
        for warning in done.warnings:
            told.note(f"warning: {job.source}: {warning}")
        for fit in fits[:1]:
            if fit.learned:
                told.note(_learned(fit))
    curves = [
        [(round(k.seconds, 2), k.step, k.score) for k in fit.looks if k.score is not None]
        for fit in fits
    ]
    told.result(
        f"{job.source} -> {job.target}  in {outcome.seconds:.1f} s",
        {
            "input": job.source,
            "output": job.target,
            "seconds": round(outcome.seconds, 3),
            "range": done.range,
            "warnings": done.warnings,
            "fits": [
                {**fit.facts, "stopped": fit.stopped, "curve": curve}
                for fit, curve in zip(fits, curves, strict=True)
            ],
        },
    )


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
