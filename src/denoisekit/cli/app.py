"""The command line's frame: the commands, and the one place where errors end.

Every command is a function in a module of its own; this module names them and
turns whatever they raise into one or two lines and an exit code.
"""

from __future__ import annotations

import errno
import inspect
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import Field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast, get_args, get_type_hints

import typer

from denoisekit._version import __version__
from denoisekit.cli import (
    bench,
    compare,
    denoise,
    doctor,
    fit_single,
    methods,
    render,
    shared,
    simulate,
    train,
    weights,
)
from denoisekit.cli import inspect as inspect_
from denoisekit.cli.render import DEBUG
from denoisekit.errors import REPORT, DenoisekitError, InternalError, OutOfMemory
from denoisekit.options import declared, flags_of, read_options

USAGE_ERROR = cast(type[Exception], typer.BadParameter.__base__)
"""What Typer raises for a wrong command line; not every version has a public name for it."""

LIGHT = {None, "methods"}
"""Commands that load no large library."""

LEAST_ADDRESSES, THREAD_ADDRESSES = 640 * 2**20, 72 * 2**20
"""Bytes of address space that torch took when it was loaded, and that every thread of it adds:
8 MiB of stack and 64 MiB that glibc sets apart. Measured with torch 2.13 for CPUs on Linux."""

_STARVED = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "failed to map segment",
    "can't start new thread",
    "bad_alloc",
)
"""What libraries say where memory is used up, in lower case."""

EXIT_CODES = {
    0: "all done",
    1: "some input failed; the others are done",
    2: "usage: an unknown name, or options that make no sense",
    3: "weights unavailable",
    4: "out of memory",
    70: "a bug in denoisekit: at least one input met it, the others are done",
    130: "interrupted, by Ctrl-C, SIGTERM or SIGHUP",
    141: "whoever read the output has gone",
}

MEANT = {
    **dict.fromkeys(("--gpu", "--cuda", "-g"), "the GPU: --device cuda (auto takes it by itself)"),
    **dict.fromkeys(("--cpu", "--no-gpu"), "the CPU: --device cpu"),
    **dict.fromkeys(("--verbose", "-v"), "errors in full: denoisekit --debug COMMAND"),
    **dict.fromkeys(("--force", "-f", "-y", "--yes"), "to replace files: --overwrite"),
    **dict.fromkeys(("--outdir", "--output-dir", "--out-dir", "--dest"), "where to: -o"),
    **dict.fromkeys(("--model", "-m"), "which denoiser: --method"),
    **dict.fromkeys(("--checkpoint", "--ckpt", "--model-path"), "which weights: --weights"),
    **dict.fromkeys(("--sigma", "--noise-level"), "how much to remove: --strength, from 0 to 1"),
    **dict.fromkeys(("--recurse", "-R"), "folders of folders too: --recursive"),
}
"""Options that people try, and what is there for it."""

app = typer.Typer(
    name="denoisekit",
    help="Remove noise from your own images with self-supervised deep learning.",
    epilog="Examples:\n\ndenoisekit denoise photo.png\n\n"
    "denoisekit denoise holiday/ --recursive -o clean/\n\n"
    "denoisekit COMMAND --help",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("-v", "-V", "--version", help="Show the version.")
    ] = False,
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
    if context.invoked_subcommand not in LIGHT:
        _check_address_space()
    if context.invoked_subcommand is None:
        # Rich may have shown it already: then it is empty.
        for line in context.get_help().split("\n"):
            render.out(line)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function for Typer: in place of a dataclass of options it takes each of them."""
    hints = get_type_hints(function, include_extras=True)
    kinds: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = []
    for own in inspect.signature(function).parameters.values():
        if own.name in kinds:
            parameters += [_parameter(*each) for each in declared(kinds[own.name])]
        else:
            keyword = inspect.Parameter.KEYWORD_ONLY
            parameters.append(own.replace(kind=keyword, annotation=hints[own.name]))
    names = {name: [each.name for each, _ in declared(kind)] for name, kind in kinds.items()}

    def call(**given: Any) -> None:
        for name, kind in kinds.items():
            own = {each: given.pop(each) for each in names[name]}
            given[name] = read_options(kind, own, flags=True)
        function(**given)

    told: Any = call
    told.__doc__ = function.__doc__
    told.__signature__ = inspect.Signature(parameters)
    told.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def _parameter(option: Field[Any], type_: Any) -> inspect.Parameter:
    """Return an option as Typer understands it."""
    told = option.metadata
    parts = {*(get_args(type_) or (type_,))} - {type(None)}
    plain = len(parts) == 1 and parts <= {str, int, float, bool, Path}
    typed = told["typed"] or (parts.pop() if plain else str)
    info = typer.Option(*flags_of(option), help=told["help"], metavar=told["metavar"])
    annotation = typed | None if told["shown"] is None else typed
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=told["shown"],
        annotation=Annotated[annotation, info],
    )


app.command("denoise", epilog=denoise.EPILOG)(command(denoise.denoise))
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("fit-single", epilog=fit_single.EPILOG)(command(fit_single.fit_single))
app.command("simulate", epilog=simulate.EPILOG)(command(simulate.simulate))
app.command("train", epilog=train.EPILOG)(command(train.train))
app.command("inspect", epilog=inspect_.EPILOG)(inspect_.inspect)
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
        try:
            # Typer returns the code of a typer.Exit, and 130 after Ctrl-C.
            code = app(list(arguments), prog_name="denoisekit", standalone_mode=False)
        except render.OutputClosed:
            raise
        except BaseException as error:  # noqa: BLE001 - the last line of defence
            code = _ended(error)
        if code == 130:
            render.err("interrupted")
        lost = render.flush()
    except render.OutputClosed:
        return 141
    code = code if isinstance(code, int) else 0
    return code or (_fail(lost, None, 1) if lost else 0)


def _ended(error: BaseException) -> int:
    """Say why a command ended with an exception, and return its exit code."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return 130
    if isinstance(error, DenoisekitError):
        return _fail(error.message, error.hint, error.exit_code)
    if isinstance(error, USAGE_ERROR):
        return _usage(error)
    if isinstance(error, SystemExit):  # Rich ends so when the reader of a help page has gone
        if isinstance(error.__context__, BrokenPipeError):
            raise render.OutputClosed from None
        raise error
    text = " ".join(str(error).split())  # whatever a library put there
    no_memory = isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM
    if no_memory or any(words in text.lower() for words in _STARVED):
        return _fail("not enough memory", "try --max-memory with a smaller value", 4)
    if isinstance(error, OSError):  # the machine's, not ours: a disk, a permission
        files = [os.fsdecode(each) for each in (error.filename, error.filename2) if each]
        told = ": ".join([*dict.fromkeys(files), error.strerror or str(error)])
        return _fail(told, "see whether it is there, and whether you may use it", 1)
    what = f"this is a bug in denoisekit: {type(error).__name__}: {text}"
    return _fail(what, REPORT, InternalError.exit_code)


def _check_address_space() -> None:
    """Refuse what would end in a library, without a word or with a crash."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    least = LEAST_ADDRESSES + (os.cpu_count() or 1) * THREAD_ADDRESSES
    if most != resource.RLIM_INFINITY and most < least:
        raise OutOfMemory(
            f"only {most >> 20} MiB of address space are allowed, and {least >> 20} are needed",
            f"allow more: ulimit -v {least >> 10}",
        )


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is already on the screen
        return 2
    path = error.ctx.command_path if error.ctx else "denoisekit"
    meant = MEANT.get(getattr(error, "option_name", ""))
    hint = f"{meant}; see '{path} --help'" if meant else f"see '{path} --help'"
    return _fail(" ".join(error.format_message().split()), hint, 2)


def _fail(message: str, hint: str | None, code: int) -> int:
    if _asked:  # a library may have made an error of its own of the interruption
        return 130
    if render.debugging():
        for line in traceback.format_exc().splitlines():
            render.err(line)
    render.err(f"error: {message}")
    if hint:
        render.err(f"hint: {hint}")
    return code


_asked: list[int] = []
"""Signals that asked the program to end."""


def _interrupt(number: int, frame: Any) -> NoReturn:  # noqa: ARG001 - a signal's handler
    _asked.append(number)
    raise KeyboardInterrupt


def _come_again(lost: Any) -> None:
    """Repeat an interruption that came where Python can only ignore it, as in a ``__del__``."""
    known = hasattr(signal, "pthread_kill") and isinstance(lost.exc_value, KeyboardInterrupt)
    if not known or not _asked:
        sys.__unraisablehook__(lost)
        return
    # From another thread and later: at once, it would be lost in here.
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, _asked[-1]))
    timer.daemon = True
    timer.start()


def main() -> NoReturn:
    """Entry point of the ``denoisekit`` command."""
    shared.begin()
    render.prepare()
    sys.unraisablehook = _come_again
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # SIGHUP: the terminal has gone; Windows has none
        number = getattr(signal, name, None)
        # By itself Python ends at once there, and leaves half-written files. What is ignored,
        # as nohup does it, stays so.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    code = run(sys.argv[1:])
    if code == 130:  # files are cleared away; a worker may be long at a tile that nobody wants
        for child in multiprocessing.active_children():
            child.terminate()
        os._exit(code)
    sys.exit(code)
