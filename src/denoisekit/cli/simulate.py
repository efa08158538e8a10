"""``denoisekit simulate``: clean files in, the same kind of files out, with noise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from denoisekit.cli import render
from denoisekit.cli.shared import FileRun, Json, Quiet, Range, Recursive, piped
from denoisekit.errors import OutputTaken, as_error
from denoisekit.options import FileOptions

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
    files: FileOptions,
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
    range: Range = "auto",
    recursive: Recursive = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put the noise of a camera or a microscope on clean images."""
    import numpy as np

    from denoisekit.batch.plan import plan_inputs
    from denoisekit.batch.run import Outcome
    from denoisekit.batch.simulate import Strength, file_rng, simulate_file
    from denoisekit.noise import choose_strength, find_model, read_strength
    from denoisekit.ranges import parse_range

    model = find_model(camera)
    numbers: dict[str, float] = {}
    for name, text in (("gain", gain), ("sigma", sigma), ("peak", peak)):
        if text is not None:
            numbers[name], full = read_strength(model, text, f"--{name}")
            if full != text:
                render.err(f"note: --{name} {text} is taken as {full}")
    strength = Strength(**numbers)
    # What no file could have is refused before any is opened.
    choose_strength(model, np.random.default_rng(0), **numbers)
    parse_range(range)
    report = render.Reporter(quiet, as_json)
    seen: Counter[str] = Counter()
    with piped(inputs, files.output, as_json=as_json) as (names, output):
        files = replace(files, output=output)
        run = FileRun(plan_inputs(names, files, recursive=recursive, default=SUFFIX), report)
        with report.progress("noise", run.megapixels, "MP"):
            for job in run.plan.jobs:
                rng = file_rng(seed, job.source, seen[job.source.name])
                seen[job.source.name] += 1
                try:
                    progress = partial(run.progress, job)
                    done = simulate_file(job, model, rng, strength, range, progress)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this file's own
                    needless = job.skip and isinstance(error, OutputTaken)
                    run.done(Outcome(job, error=None if needless else as_error(error, job.source)))
                    continue
                for warning in () if as_json else done.warnings:
                    report.note(f"warning: {job.source}: {warning}")
                report.result(
                    f"{job.source} -> {job.target}  "
                    f"{model.id}, {model.strength} {done.strength:.3g}",
                    {
                        "input": job.source,
                        "output": job.target,
                        "camera": model.id,
                        model.strength: done.strength,
                        "seed": seed,
                        "range": done.range,
                        "megapixels": done.megapixels,
                        "warnings": done.warnings,
                    },
                )
        run.end()
