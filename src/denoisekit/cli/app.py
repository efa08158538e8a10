"""The command line's frame: the commands, and the one place where errors end.

Every command is a function in a module of its own; this module names them and
turns whatever they raise into one or two lines and an exit code.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, cast

import typer

from denoisekit._version import __version__
from denoisekit.cli import (
    bench,
    compare,
    denoise,
    doctor,
    fit_single,
    inspect,
    methods,
    render,
    shared,
    simulate,
    train,
    weights,
)
from denoisekit.cli.render import DEBUG
from denoisekit.errors import REPORT, DenoisekitError, InternalError

USAGE_ERROR = cast(type[Exception], typer.BadParameter.__base__)
"""What Typer raises for a wrong command line; not every version has a public name for it."""

EXIT_CODES = {
    0: "all done",
    1: "some input failed; the others are done",
    2: "usage: an unknown name, or options that make no sense",
    3: "weights unavailable",
    4: "out of memory",
    70: "a bug in denoisekit: at least one input met it, the others are done",
    130: "interrupted, by Ctrl-C or SIGTERM",
    141: "whoever read the output has gone",
}

app = typer.Typer(
    name="denoisekit",
    help="Remove noise from your own images with self-supervised deep learning.",
    epilog="Examples:\n\ndenoisekit denoise photo.png\n\n"
    "denoisekit denoise holiday/ --recursive -o clean/\n\n"
    "denoisekit COMMAND --help",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show the traceback of an error (also {DEBUG}=1).")
    ] = False,
) -> None:
    """Remove noise from your own images with self-supervised deep learning."""
    if debug:
        os.environ[DEBUG] = "1"
    if version:
        render.out(f"denoisekit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        render.out(context.get_help())  # Rich may have shown it already: then this is empty


app.command("denoise", epilog=denoise.EPILOG)(denoise.denoise)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("fit-single", epilog=fit_single.EPILOG)(fit_single.fit_single)
app.command("simulate", epilog=simulate.EPILOG)(simulate.simulate)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("inspect", epilog=inspect.EPILOG)(inspect.inspect)
app.command("methods", epilog=methods.EPILOG)(methods.methods)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.add_typer(bench.app, name="bench")
app.add_typer(weights.app, name="weights")


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; nothing but an exit leaves this function.

    Parameters
    ----------
    arguments : sequence of str
        What follows ``denoisekit`` on the command line.

    Returns
    -------
    int
        The exit code.
    """
    try:
        return _run(arguments)
    except render.OutputClosed:
        return 141


def _run(arguments: Sequence[str]) -> int:
    try:
        # Typer returns the code of a typer.Exit, and 130 after Ctrl-C.
        code = app(list(arguments), prog_name="denoisekit", standalone_mode=False)
        render.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except DenoisekitError as error:
        return _fail(error.message, error.hint, error.exit_code)
    except USAGE_ERROR as error:
        return _usage(error)
    except MemoryError:
        return _fail("not enough memory", "try --max-memory with a smaller value", 4)
    except render.OutputClosed:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence
        what = f"this is a bug in denoisekit: {type(error).__name__}: {error}"
        return _fail(what, REPORT, InternalError.exit_code)
    if code == 130:
        render.err("interrupted")
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is already on the screen
        return 2
    path = error.ctx.command_path if error.ctx else "denoisekit"
    return _fail(error.format_message(), f"see '{path} --help'", 2)


def _fail(message: str, hint: str | None, code: int) -> int:
    if render.debugging():
        render.err(traceback.format_exc())
    # One line each, whatever a library put into its message.
    render.err("error: " + " ".join(message.split()))
    if hint:
        render.err("hint: " + " ".join(hint.split()))
    return code


def _interrupt(number: int, frame: Any) -> NoReturn:  # noqa: ARG001 - a signal's handler
    raise KeyboardInterrupt


def main() -> NoReturn:
    """Entry point of the ``denoisekit`` command."""
    shared.begin()
    # By itself Python ends at once there, and leaves half-written files.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))
