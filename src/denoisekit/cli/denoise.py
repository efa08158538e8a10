"""``denoisekit denoise``: files in, the same kind of files out, cleaner."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from denoisekit.cli import render
from denoisekit.cli.shared import FileRun, Inputs, Json, Quiet, Recursive, piped, worth_telling
from denoisekit.options import FileOptions, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from denoisekit.batch.run import Outcome
    from denoisekit.engine.denoiser import Denoiser
    from denoisekit.image import ImageInfo

EPILOG = (
    "Examples:\n\n"
    "denoisekit denoise photo.jpg\n\n"
    "denoisekit denoise photo.png -o clean.png --strength 0.7\n\n"
    "denoisekit denoise holiday/ --recursive -o clean/\n\n"
    "denoisekit denoise stack.tif --axes TYX\n\n"
    "denoisekit denoise - -o - < photo.png > clean.png"
)


def denoise(
    inputs: Inputs,
    files: FileOptions,
    options: Options,
    recursive: Recursive = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Remove the noise from images; each comes back as the same kind of file."""
    from denoisekit.auto import Chooser
    from denoisekit.batch.plan import plan_inputs
    from denoisekit.batch.run import run_batch
    from denoisekit.engine.denoiser import load

    report = render.Reporter(quiet, as_json)
    with piped(inputs, files.output, as_json=as_json) as (names, output):
        plan = plan_inputs(names, replace(files, output=output), recursive=recursive)
        run = FileRun(plan, report)
        if plan.jobs:
            with report.progress("fetching the weights", 1, "MB"):
                denoiser = load(options, progress=lambda n, of: report.update(n / max(of, 1)))
            if not quiet:
                _announce(denoiser, plan.images, run.megapixels, report)
            runner = Chooser(denoiser) if options.choose else denoiser
            with report.progress(plan.jobs[0].source.name, run.megapixels, "MP"):
                for outcome in run_batch(plan.jobs, runner, run.progress):
                    if run.done(outcome):
                        _tell(outcome, denoiser, report)
        run.end()


def _announce(
    denoiser: Denoiser, images: Sequence[ImageInfo], megapixels: float, report: render.Reporter
) -> None:
    """Say what will be done, and how long it takes."""
    from denoisekit.engine.device import describe_device
    from denoisekit.engine.timing import LONG, cheaper, estimate_seconds, measure_work

    for warning in denoiser.weights.warnings:
        report.note(f"warning: {warning}")
    if better := worth_telling(denoiser.weights):
        report.note(f"note: {better}")
    work = measure_work(denoiser, images)
    seconds = estimate_seconds(denoiser, work) if denoiser.strength else None
    time = "a few seconds" if seconds is None else f"about {render.duration(seconds)}"
    report.note(
        f"{denoiser.info.id} with {denoiser.weights.id} on {describe_device(denoiser.device)}, "
        f"{denoiser.precision}; {megapixels:.3g} megapixels, {time}"
    )
    if seconds is not None and seconds > LONG and denoiser.device.type == "cpu":
        found = cheaper(denoiser, work, seconds)
        ways = [f"{option} (about {render.duration(less)})" for option, less in found]
        if ways:
            report.note(f"warning: this takes long on a CPU; cheaper: {', or '.join(ways)}")


def _tell(outcome: Outcome, denoiser: Denoiser, report: render.Reporter) -> None:
    """Say how a file was denoised."""
    assert outcome.report is not None
    job, done = outcome.job, outcome.report
    if not report.as_json:
        for warning in done.warnings:
            report.note(f"warning: {job.source}: {warning}")
        for note in done.notes:
            report.note(f"{job.source}: {note}")
        if done.estimates:
            (best, expected), *others = done.estimates
            rest = ", ".join(f"{name} {decibels:.1f}" for name, decibels in others)
            report.note(
                f"{job.source}: method auto: {best} does best on such noise, "
                f"{expected:.1f} dB by estimate; {rest}"
            )
        if done.returned is not None:
            what = f"{100 * done.returned:.0f} % of what was removed was no noise and is back"
            if done.returned < 0.005:
                what = "all that was removed is noise"
            report.note(f"{job.source}: strength auto: {what}")
    report.result(
        f"{job.source} -> {job.target}  "
        f"{outcome.megapixels:.3g} megapixels in {outcome.seconds:.1f} s",
        {
            "input": job.source,
            "output": job.target,
            "method": denoiser.info.id,
            "weights": done.weights,
            "weights_sha256": done.weights_sha256,
            "estimates": dict(done.estimates) or None,
            "device": str(denoiser.device),
            "precision": denoiser.precision,
            "tile": done.tile,
            "tiles": done.tiles,
            "range": done.range,
            "returned": done.returned,
            "seconds": round(outcome.seconds, 3),
            "megapixels": outcome.megapixels,
            "warnings": done.warnings,
            "notes": done.notes,
        },
    )
