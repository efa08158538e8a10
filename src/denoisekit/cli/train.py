"""``denoisekit train``: a network of one's own, from one's own images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denoisekit.cli import render
from denoisekit.cli.shared import Device, Quiet, noise_in_full, started, stopping
from denoisekit.errors import UsageError
from denoisekit.options import TrainData, TrainOptions

if TYPE_CHECKING:
    from denoisekit.learn.checkpoint import Record

EPILOG = (
    "Examples:\n\n"
    "denoisekit train aprrd noisy/ --out run --max-time 12h\n\n"
    "denoisekit train aprrd clean/ --simulate phone,dslr --out run\n\n"
    "denoisekit train sdap noisy/ --out run --width 64 --val-noisy a/ --val-clean b/\n\n"
    "denoisekit train --resume run"
)

_WITH_RESUME = {"resume", "device", "workers", "tensorboard", "quiet", "as_json"}
"""Options that change nothing of what a run comes to."""


def train(
    context: typer.Context,
    told: TrainData,
    options: TrainOptions,
    method: Annotated[
        str | None, typer.Argument(help="See denoisekit methods.", show_default=False)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Noisy pictures: files, folders, patterns, sets in .mat or .h5 (FILE.mat:NAME).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; a new one.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run, exactly.")
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(help="Threads that prepare patches (processes, to simulate for a GPU)."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write RUN/tensorboard too.")
    ] = False,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="The log as JSON lines.")] = False,
) -> None:
    """Train a method on your own pictures; RUN/weights.safetensors is the result."""
    from denoisekit.learn import train as run
    from denoisekit.methods import get_method

    info = None if method is None else get_method(method)
    if info is not None and info.recipe is None:
        raise UsageError(
            f"the method {info.id} is not trained on a folder of pictures",
            info.without_weights or "choose another: see denoisekit methods",
        )
    if workers is None:  # a GPU wants much in a second
        workers = min(12, max(2, (os.cpu_count() or 2) - 2))
    if workers < 1:
        raise UsageError(f"--workers {workers} makes no sense", "give 1 or more")
    report = render.Reporter(quiet or as_json, as_json)
    with (
        report.progress("", 0, "steps"),
        stopping("stopping after this step; once more to stop at once") as stop,
    ):
        listener = _Listener(report)
        machine = run.Machine(device, workers, tensorboard, stop.asked, listener.hear, started())
        if resume is not None:
            _check_resume(context)
            done = run.resume(resume, machine)
        elif info is None or not data or out is None:
            raise UsageError(
                "a method, data and --out are needed", "or --resume RUN to go on with a run"
            )
        else:
            # In full, so that the run can be resumed from anywhere.
            pictures = tuple(os.path.abspath(name) for name in data)  # noqa: PTH100
            simulate = noise_in_full(told.simulate) if told.simulate else ""
            told = replace(told, pictures=pictures, simulate=simulate)
            done = run.start(info, told, out, options, machine)
    if not done and stop.asked():
        raise typer.Exit(130)


def _check_resume(context: typer.Context) -> None:
    """Refuse options with which a run would not go on as it began."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in _WITH_RESUME and source is not None:
            if source.name != "COMMANDLINE":
                continue
            argument = parameter.param_type_name == "argument"
            name = (parameter.name or "").upper() if argument else parameter.opts[0]
            raise UsageError(
                f"--resume and {name} exclude each other",
                "a run goes on as it began; its folder knows how",
            )


class _Listener:
    """Says what a run tells: with a bar for people, or as JSON lines on stdout."""

    def __init__(self, report: render.Reporter) -> None:
        self._report, self._score = report, ""

    def hear(self, record: Record) -> None:
        """Take a record; see `denoisekit.learn.checkpoint`."""
        if self._report.as_json:
            render.json_line(record)
        elif record["event"] == "step":
            facts = f"loss {record['loss']:.4g}, rate {record['rate']:.2g}"
            speed = f"{record['patches_per_second']:.3g} patches/s"
            self._report.describe(f"{record['stage']}: {facts}, {speed}{self._score}")
            self._report.update(record["step"], record["steps"])
        else:
            for line in _lines(record):
                self._report.note(line)
            if record["event"] == "validation":
                if "psnr" in record:
                    self._score = f", PSNR {record['psnr']:.2f} dB"
                else:
                    self._score = f", held out {record['held_out_loss']:.4g}"


def _score(record: Record) -> str:
    if "psnr" in record:
        text = f"PSNR {record['psnr']:.2f} dB (noisy {record['noisy_psnr']:.2f})"
    else:
        text = f"loss of held-out batches {record['held_out_loss']:.5g}"
    return text + (", the best so far" if record["best"] else "")


def _lines(record: Record) -> Iterator[str]:
    match record["event"]:
        case "data":
            noise = f", noise of {record['simulate']}" if record["simulate"] else ""
            kind = "pairs" if record["pairs"] else "pictures"
            yield f"{record['pictures']} {kind}, {record['megapixels']} megapixels{noise}"
            yield from (f"warning: {warning}" for warning in record["warnings"])
        case "plan":
            processes = f", {record['processes']} processes" if record["processes"] > 1 else ""
            yield f"{record['method']} on {record['device']}, {record['precision']}{processes}"
            for stage in record["stages"]:
                size = stage["bytes"]
                memory = f"{size / 2**30:.1f} GiB"
                if size < 2**30:
                    memory = f"{max(1, size >> 20)} MiB"
                yield (
                    f"{stage['stage']}: {stage['parameters'] / 1e6:.3g} M parameters, "
                    f"{stage['steps']} steps of {stage['batch']} patches of {stage['patch']}²; "
                    f"about {render.duration(stage['seconds'])} and {memory}"
                )
        case "resumed":
            yield f"going on with {record['stage']} after step {record['step']}"
        case "validation":
            yield f"{record['stage']}, step {record['step']}: {_score(record)}"
        case "late":
            where = f"step {record['step']} of {record['steps']}"
            yield f"the time of {record['stage']} is over at {where}"
        case "stopped":
            yield f"stopped at step {record['step']} of {record['steps']} of {record['stage']}"
        case "done":
            ended = f"in {render.duration(record['seconds'])}: {record['weights']}"
            if record.get("learned", True):
                yield f"done {ended}"
            else:
                yield (
                    f"did not learn {ended} makes pictures worse than they were, PSNR "
                    f"{record['psnr']:.2f} dB (noisy {record['noisy_psnr']:.2f}); "
                    "give it more --max-time, or more pictures"
                )
