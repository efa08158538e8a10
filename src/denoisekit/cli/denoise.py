"""``denoisekit denoise``: files in, the same kind of files out, cleaner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from denoisekit.cli import render
from denoisekit.cli.pipes import piped
from denoisekit.cli.plan import Plan
from denoisekit.cli.shared import (
    Axes,
    Device,
    Format,
    Json,
    MaxMemory,
    Output,
    Overwrite,
    Quiet,
    Range,
    Recursive,
    SkipExisting,
    Suffix,
    check_existing,
    end_batch,
    parse_strength,
    worth_telling,
)
from denoisekit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from denoisekit.batch.run import Job, Outcome, Runner
    from denoisekit.engine.denoiser import Denoiser
    from denoisekit.options import HotPixels, Options

EPILOG = (
    "Examples:\n\n"
    "denoisekit denoise photo.jpg\n\n"
    "denoisekit denoise photo.png -o clean.png --strength 0.7\n\n"
    "denoisekit denoise holiday/ --recursive -o clean/\n\n"
    "denoisekit denoise stack.tif --axes TYX\n\n"
    "denoisekit denoise - -o - < photo.png > clean.png"
)


def denoise(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders or patterns; - is stdin.", show_default=False),
    ],
    output: Output = None,
    suffix: Suffix = None,
    format: Format = None,
    recursive: Recursive = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    method: Annotated[
        str | None,
        typer.Option(
            help="Which denoiser, see denoisekit methods; default: that of the weights; without "
            "weights auto, which tries on each image what suits it."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Id, file or hf://USER/REPO/FILE; see denoisekit weights list."),
    ] = None,
    strength: Annotated[
        str | None,
        typer.Option(
            help="Blend with the input: 0 is the input, 1 the full result; auto gives back what "
            "was no noise; default: auto, with files of weights 1."
        ),
    ] = None,
    self_ensemble: Annotated[
        bool,
        typer.Option("--self-ensemble", help="Mean of eight flips and rotations; 8x the work."),
    ] = False,
    set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A setting of the method, see denoisekit methods NAME; may be repeated.",
        ),
    ] = None,
    range: Range = "auto",
    hot_pixels: Annotated[
        str,
        typer.Option(
            help="Single wrong pixels: remove, keep, or auto (removed from photographs, kept in "
            "measured data)."
        ),
    ] = "auto",
    axes: Axes = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Start of the random numbers, for methods that use some: the same seed, the same "
            "result."
        ),
    ] = 0,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    tile: Annotated[
        str, typer.Option(help="Side of a tile in pixels; 0: the whole image; or auto.")
    ] = "auto",
    max_memory: MaxMemory = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Remove the noise from images; each comes back as the same kind of file."""
    from denoisekit.batch.naming import Naming
    from denoisekit.options import DEFAULT_METHOD, Options, parse_memory
    from denoisekit.weights import method_of

    check_existing(overwrite=overwrite, skip_existing=skip_existing)
    named = method if method != "auto" else None
    options = Options(
        method=named or (method_of(weights) if weights else None) or DEFAULT_METHOD,
        weights=weights,
        strength=None if strength is None else parse_strength(strength),
        self_ensemble=self_ensemble,
        settings=parse_settings(set or []),
        seed=seed,
        device=device,
        precision=precision,
        tile=_tile(tile),
        max_memory=None if max_memory is None else parse_memory(max_memory),
        range=range,
        hot_pixels=cast("HotPixels", hot_pixels),
    )
    with piped(inputs, output, as_json=as_json) as (inputs, output):
        plan = Plan(Naming(output, suffix, format), axes, overwrite, skip_existing)
        plan.make(inputs, recursive)
        speaker = _Speaker(quiet, as_json)
        choose = not (named or weights)
        end_batch(speaker.run(plan, options, choose=choose))


def parse_settings(texts: list[str]) -> dict[str, object]:
    """Return the values of ``--set NAME=VALUE``, by name."""
    settings: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text} is not NAME=VALUE", "see denoisekit methods NAME")
        settings[name.strip().replace("-", "_")] = value
    return settings


def _chosen(estimates: Sequence[tuple[str, float]]) -> str:
    """Say what the method auto did."""
    (best, expected), *others = estimates
    rest = ", ".join(f"{name} {decibels:.1f}" for name, decibels in others)
    return f"method auto: {best} does best on such noise, {expected:.1f} dB by estimate; {rest}"


def _returned(share: float) -> str:
    """Say what the strength auto did."""
    if share < 0.005:
        return "strength auto: all that was removed is noise"
    return f"strength auto: {100 * share:.0f} % of what was removed was no noise and is back"


def _tile(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"--tile {text} is not a number of pixels", "write auto, 0 or for instance 512"
        ) from None


class _Speaker:
    """Runs a plan and says what happens, for people or as JSON."""

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self.quiet, self.as_json = quiet, as_json

    def run(self, plan: Plan, options: Options, *, choose: bool) -> list[int]:
        """Return the exit codes of the files that failed."""
        from denoisekit.auto import Chooser

        for path, error in plan.failures:
            render.failure(path, error, self.as_json)
        failed = [error.exit_code for _, error in plan.failures]
        for note in plan.notes:
            self._say(note)
        if plan.skipped:
            self._say(f"skipped {len(plan.skipped)} whose output exists")
        if plan.jobs:
            denoiser = self._load(options)
            self._announce(plan, denoiser)
            runner = Chooser(denoiser) if choose else denoiser
            failed += self._work(plan, denoiser, runner)
        total = len(plan.failures) + len(plan.jobs)
        if failed and total > 1:
            self._say(f"{total - len(failed)} done, {len(failed)} failed")
        return failed

    def _load(self, options: Options) -> Denoiser:
        from denoisekit.engine.denoiser import load

        with render.progress("fetching the weights", 1, "MB", self.quiet) as bar:

            def fetched(done: int, total: int) -> None:
                bar.update(done / max(total, 1))

            denoiser = load(options, progress=fetched)
        for warning in denoiser.weights.warnings:
            self._say(f"warning: {warning}")
        return denoiser

    def _announce(self, plan: Plan, denoiser: Denoiser) -> None:
        from denoisekit.engine.device import describe_device
        from denoisekit.engine.timing import LONG, cheaper, estimate_seconds, measure_work

        if self.quiet:
            return
        if better := worth_telling(denoiser.weights):
            self._say(f"note: {better}")
        megapixels = sum(i.planes * i.height * i.width for i in plan.images) / 1e6
        work = measure_work(denoiser, plan.images)
        seconds = estimate_seconds(denoiser, work) if denoiser.strength else None
        self._say(
            f"{denoiser.info.id} with {denoiser.weights.id} on "
            f"{describe_device(denoiser.device)}, {denoiser.precision}; "
            f"{megapixels:.3g} megapixels, "
            + ("a few seconds" if seconds is None else f"about {render.duration(seconds)}")
        )
        if seconds is not None and seconds > LONG and denoiser.device.type == "cpu":
            ways = [
                f"{option} (about {render.duration(less)})"
                for option, less in cheaper(denoiser, work, seconds)
            ]
            if ways:
                self._say(f"warning: this takes long on a CPU; cheaper: {', or '.join(ways)}")

    def _work(self, plan: Plan, denoiser: Denoiser, runner: Runner) -> list[int]:
        from denoisekit.batch.run import run_batch

        before = {}
        total = 0.0
        for job, image in zip(plan.jobs, plan.images, strict=True):
            before[job.source] = total
            total += image.planes * image.height * image.width / 1e6
        failed = []
        title = plan.jobs[0].source.name
        with render.progress(title, total, "MP", self.quiet) as bar:

            def progress(job: Job, done: float) -> None:
                bar.describe(job.source.name)
                bar.update(before[job.source] + done / 1e6)

            for outcome in run_batch(plan.jobs, runner, progress):
                if outcome.error:
                    failed.append(outcome.error.exit_code)
                    render.failure(outcome.job.source, outcome.error, self.as_json, bar)
                elif outcome.report is None:
                    bar.note(render.skipped(outcome.job.source))
                else:
                    self._success(outcome, denoiser, bar)
        return failed

    def _success(self, outcome: Outcome, denoiser: Denoiser, bar: render.Progress) -> None:
        assert outcome.report is not None
        job, report = outcome.job, outcome.report
        if self.as_json:
            render.json_line(
                {
                    "input": job.source,
                    "output": job.target,
                    "method": denoiser.info.id,
                    "weights": report.weights,
                    "weights_sha256": report.weights_sha256,
                    "estimates": dict(report.estimates) or None,
                    "device": str(denoiser.device),
                    "precision": denoiser.precision,
                    "tile": report.tile,
                    "tiles": report.tiles,
                    "range": report.range,
                    "returned": report.returned,
                    "seconds": round(outcome.seconds, 3),
                    "megapixels": outcome.megapixels,
                    "warnings": report.warnings,
                    "notes": report.notes,
                }
            )
            return
        if not self.quiet:
            for warning in report.warnings:
                bar.note(f"warning: {job.source}: {warning}")
            for note in report.notes:
                bar.note(f"{job.source}: {note}")
            if report.estimates:
                bar.note(f"{job.source}: {_chosen(report.estimates)}")
            if report.returned is not None:
                bar.note(f"{job.source}: {_returned(report.returned)}")
            render.out(
                f"{job.source} -> {job.target}  "
                f"{outcome.megapixels:.3g} megapixels in {outcome.seconds:.1f} s"
            )

    def _say(self, text: str) -> None:
        if not self.quiet:
            render.err(text)
