"""``denoisekit train``: a network of one's own, from one's own pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denoisekit.cli import train_view
from denoisekit.cli.shared import Device, Quiet, noise_in_full, started, stopping
from denoisekit.errors import UsageError

if TYPE_CHECKING:
    from denoisekit.options import TrainData, TrainOptions
    from denoisekit.training.run import Machine

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
    clean: Annotated[
        list[str] | None, typer.Option(help="Clean pictures of the same names: supervised.")
    ] = None,
    simulate: Annotated[
        str,
        typer.Option(
            metavar="CAMERA",
            help="DATA is clean; add this noise: phone, phone,dslr, gaussian:25 (of 255) …",
        ),
    ] = "",
    val_noisy: Annotated[
        list[str] | None, typer.Option(help="Noisy pictures to validate on.")
    ] = None,
    val_clean: Annotated[
        list[str] | None, typer.Option(help="The same, clean: validated by PSNR.")
    ] = None,
    range: Annotated[str, typer.Option(help="As for denoisekit denoise.")] = "auto",
    max_time: Annotated[
        str | None,
        typer.Option(
            help="Until the weights are there: 90m, 12h, 2d. Plans the steps, and what is not "
            "given of network, patch and batch."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of all stages together.")] = None,
    batch: Annotated[int | None, typer.Option(help="Patches a step, of all processes.")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of a patch in pixels.")] = None,
    lr: Annotated[float | None, typer.Option(help="Rate of Adam at the start.")] = None,
    width: Annotated[int | None, typer.Option(help="The same as --config width=N.")] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A size of the network; may be repeated."),
    ] = None,
    weights: Annotated[str, typer.Option(help="Id or file to start from.")] = "",
    teacher: Annotated[
        str, typer.Option(help="Id or file of the teacher, so that only the student is trained.")
    ] = "",
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0: any.")] = 0.0,
    precision: Annotated[str, typer.Option(help="auto (fp32), fp32, bf16 or fp16.")] = "auto",
    device: Device = "auto",
    seed: Annotated[
        int, typer.Option(help="Start of the random numbers: the same seed, the same run.")
    ] = 0,
    save_every: Annotated[int, typer.Option(help="Steps; 0: every five minutes.")] = 0,
    val_every: Annotated[int, typer.Option(help="Steps; 0: up to twenty times a stage.")] = 0,
    preview_every: Annotated[int, typer.Option(help="Steps; 0: up to twenty times a stage.")] = 0,
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
    from denoisekit.options import TrainData, TrainOptions, parse_time
    from denoisekit.training.run import Machine

    if method is not None:
        _check_trainable(method)
    with (
        train_view.board(quiet or as_json) as board,
        stopping("stopping after this step; once more to stop at once") as stop,
    ):
        listener = train_view.Listener(board, as_json)
        machine = Machine(
            device, _workers(workers), tensorboard, stop.asked, listener.hear, started()
        )
        if resume is not None:
            _only_resume(context)
            done = _resume(resume, machine)
        elif method is None or not data or out is None:
            raise UsageError(
                "a method, data and --out are needed", "or --resume RUN to go on with a run"
            )
        else:
            told = TrainData(
                pictures=_full(data),
                clean=_full(clean),
                simulate=noise_in_full(simulate) if simulate else "",
                range=range,
                val_noisy=_full(val_noisy),
                val_clean=_full(val_clean),
            )
            asked = TrainOptions(
                steps=steps,
                batch=batch,
                patch=patch,
                rate=lr,
                network=_sizes(config or [], width),
                seed=seed,
                precision="fp32" if precision == "auto" else precision,
                clip=clip,
                save_every=save_every,
                validate_every=val_every,
                preview_every=preview_every,
                weights=_place(weights),
                teacher=_place(teacher),
                limit=0.0 if max_time is None else parse_time(max_time),
            )
            done = _start(method, told, out, asked, machine)
    if not done and stop.asked():
        raise typer.Exit(130)


def _check_trainable(name: str) -> None:
    """Say what to do where a method is not trained on a folder."""
    from denoisekit.methods import get_method

    method = get_method(name)
    if method.recipe is None:
        raise UsageError(
            f"the method {name} is not trained on a folder of pictures",
            method.without_weights or "choose another: see denoisekit methods",
        )


def _workers(asked: int | None) -> int:
    """Return two, or on a machine of many cores more: a GPU wants much in a second."""
    if asked is None:
        return min(12, max(2, (os.cpu_count() or 2) - 2))
    if asked < 1:
        raise UsageError(f"--workers {asked} makes no sense", "give 1 or more")
    return asked


def _start(method: str, data: TrainData, out: Path, asked: TrainOptions, machine: Machine) -> bool:
    from denoisekit.methods import get_method
    from denoisekit.training.run import start

    return start(get_method(method), data, out, asked, machine)


def _resume(out: Path, machine: Machine) -> bool:
    from denoisekit.training.run import resume

    return resume(out, machine)


def _only_resume(context: typer.Context) -> None:
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _WITH_RESUME and source is not None and source.name == "COMMANDLINE":
            option = {"method": "METHOD", "data": "DATA"}.get(name, f"--{name.replace('_', '-')}")
            raise UsageError(
                f"--resume and {option} exclude each other",
                "a run goes on as it began; its folder knows how",
            )


def _full(names: list[str] | None) -> tuple[str, ...]:
    """Return names in full, so that the run can be taken up again from anywhere."""
    return tuple(os.path.abspath(name) for name in names or [])  # noqa: PTH100 - also patterns


def _sizes(texts: list[str], width: int | None) -> dict[str, Any]:
    sizes: dict[str, Any] = {} if width is None else {"width": width}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--config {text} is not KEY=VALUE", "for instance width=32")
        try:
            sizes[name.strip()] = json.loads(value)
        except ValueError:
            sizes[name.strip()] = value
    return sizes


def _place(name: str) -> str:
    """Return an id as it is, and a file's path in full."""
    from denoisekit.weights import is_hub, is_path

    local = name and is_path(name) and not is_hub(name)
    return str(Path(name).absolute()) if local else name
