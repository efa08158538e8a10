"""``denoisekit simulate``: clean files in, the same kind of files out, with noise."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from denoisekit.cli import render
from denoisekit.cli.pipes import piped
from denoisekit.cli.plan import Plan
from denoisekit.cli.shared import (
    Axes,
    Format,
    Json,
    Output,
    Overwrite,
    Quiet,
    Range,
    Recursive,
    SkipExisting,
    check_existing,
    end_batch,
)
from denoisekit.errors import OutputTaken, as_error

if TYPE_CHECKING:
    from denoisekit.batch.run import Job
    from denoisekit.batch.simulate import Simulated, Strength
    from denoisekit.noise import NoiseModel

SUFFIX = "_noisy"

EPILOG = (
    "Examples:\n\n"
    "denoisekit simulate photo.png --camera phone\n\n"
    "denoisekit simulate clean/ --recursive -o noisy/ --camera dslr --seed 7\n\n"
    "denoisekit simulate photo.png --camera gaussian --sigma 25/255\n\n"
    "denoisekit simulate cells.tif --camera fluorescence --gain 0.05 --range percentile"
)


def simulate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="CLEAN...", help="Files, folders or patterns; - is stdin.", show_default=False
        ),
    ],
    camera: Annotated[
        str,
        typer.Option(
            help="Kind of noise: phone, dslr, fluorescence, gaussian or poisson.",
            show_default=False,
        ),
    ],
    gain: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="For phone, dslr, fluorescence: signal of one photon; white is 1. "
            "Without it each file draws one.",
        ),
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="For gaussian: deviation on 0..1, such as 0.1 or 25/255; 25 is taken as 25/255. "
            "Without it each file draws one.",
        ),
    ] = None,
    peak: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="For poisson: photons of white. Without it each file draws one.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Start of the random numbers: the same seed and names, the same noise."
        ),
    ] = 0,
    output: Output = None,
    suffix: Annotated[
        str | None, typer.Option(help="Put after the name; default _noisy beside the input.")
    ] = None,
    format: Format = None,
    recursive: Recursive = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    range: Range = "auto",
    axes: Axes = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put the noise of a camera or a microscope on clean images."""
    from denoisekit.batch.naming import Naming
    from denoisekit.batch.simulate import Strength
    from denoisekit.noise import find_model
    from denoisekit.ranges import parse_range

    check_existing(overwrite=overwrite, skip_existing=skip_existing)
    model = find_model(camera)
    strength = Strength(
        _number("--gain", gain, model),
        _number("--sigma", sigma, model),
        _number("--peak", peak, model),
    )
    _check_strength(model, strength)
    parse_range(range)
    with piped(inputs, output, as_json=as_json) as (inputs, output):
        plan = Plan(Naming(output, suffix, format, SUFFIX), axes, overwrite, skip_existing)
        plan.make(inputs, recursive)
        end_batch(_Speaker(quiet, as_json).run(plan, model, strength, seed, range))


def _number(option: str, text: str | None, model: NoiseModel) -> float | None:
    """Read a number or a fraction, such as 25/255; say what it is taken for."""
    from denoisekit.noise import read_strength

    if text is None:
        return None
    value, full = read_strength(model, text, option)
    if full != text:
        render.err(f"note: {option} {text} is taken as {full}")
    return value


def _check_strength(model: NoiseModel, strength: Strength) -> None:
    """Refuse a strength that no file could have, before any is opened."""
    import numpy as np

    from denoisekit.noise import choose_strength

    rng = np.random.default_rng(0)
    choose_strength(model, rng, gain=strength.gain, sigma=strength.sigma, peak=strength.peak)


class _Speaker:
    """Runs a plan and says what happens, for people or as JSON."""

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self.quiet, self.as_json = quiet, as_json

    def run(
        self, plan: Plan, model: NoiseModel, strength: Strength, seed: int, range_: str
    ) -> list[int]:
        """Return the exit codes of the files that failed."""
        from denoisekit.batch.simulate import file_rng, simulate_file

        failed = [error.exit_code for _, error in plan.failures]
        for path, error in plan.failures:
            render.failure(path, error, self.as_json)
        for note in plan.notes:
            self._say(note)
        if plan.skipped:
            self._say(f"skipped {len(plan.skipped)} whose output exists")
        sizes = [image.planes * image.height * image.width / 1e6 for image in plan.images]
        done = 0.0
        seen: Counter[str] = Counter()
        with render.progress("noise", sum(sizes), "MP", self.quiet) as bar:
            for job, size in zip(plan.jobs, sizes, strict=True):
                bar.describe(job.source.name)

                def progress(pixels: float, before: float = done) -> None:
                    bar.update(before + pixels / 1e6)

                rng = file_rng(seed, job.source, seen[job.source.name])
                seen[job.source.name] += 1
                try:
                    result = simulate_file(job, model, rng, strength, range_, progress)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this file's own
                    if job.skip and isinstance(error, OutputTaken):
                        bar.note(render.skipped(job.source))
                    else:
                        told = as_error(error, job.source)
                        failed.append(told.exit_code)
                        render.failure(job.source, told, self.as_json, bar)
                else:
                    self._success(job, model, result, seed, bar)
                done += size
        total = len(plan.failures) + len(plan.jobs)
        if failed and total > 1:
            self._say(f"{total - len(failed)} done, {len(failed)} failed")
        return failed

    def _success(
        self, job: Job, model: NoiseModel, result: Simulated, seed: int, bar: render.Progress
    ) -> None:
        if self.as_json:
            render.json_line(
                {
                    "input": job.source,
                    "output": job.target,
                    "camera": model.id,
                    model.strength: result.strength,
                    "seed": seed,
                    "range": result.range,
                    "megapixels": result.megapixels,
                    "warnings": result.warnings,
                }
            )
        elif not self.quiet:
            for warning in result.warnings:
                bar.note(f"warning: {job.source}: {warning}")
            render.out(
                f"{job.source} -> {job.target}  {model.id}, {model.strength} {result.strength:.3g}"
            )

    def _say(self, text: str) -> None:
        if not self.quiet:
            render.err(text)
