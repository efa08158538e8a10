"""The error boundary, start-up, completion: what holds for every command."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer

import denoisekit
from denoisekit.cli import app as frame
from denoisekit.cli import render
from denoisekit.cli.render import out
from denoisekit.errors import InputError, OutOfMemory, UsageError, WeightsError
from processes import launch

HEAVY = ("torch", "imagecodecs", "tifffile", "huggingface_hub", "safetensors")


@pytest.fixture
def failing(monkeypatch):
    """Put a command in place that raises what the test says; return a function that runs it."""
    monkeypatch.delenv(frame.DEBUG, raising=False)

    def run(error: BaseException, *options: str) -> int:
        program = typer.Typer(callback=frame.root, pretty_exceptions_enable=False)

        @program.command()
        def work() -> None:
            raise error

        monkeypatch.setattr(frame, "app", program)
        return frame.run([*options, "work"])

    return run


def command_line(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "denoisekit", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def loaded_modules(*commands: str, **environment: str) -> set[str]:
    """Run command lines in a new Python and return the modules it has imported at its end."""
    program = """
import atexit, sys
atexit.register(lambda: print("\\nMODULES", *sys.modules, file=sys.stderr))
from denoisekit.cli.app import main, run
codes = [run(line.split()) for line in sys.argv[1:]]
sys.exit(max(codes)) if codes else main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *commands],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("MODULES")[2].split())


def run_with_streams(arguments: list[str], streams: dict[int, str | None], folder: Path) -> None:
    """Run a command line whose streams are files, the pipe of a reader that has gone, or closed."""
    os.chdir(folder)
    for number, path in streams.items():
        opened = None
        if path is None:
            os.close(number)
        elif path == "gone":
            read, write = os.pipe()
            os.close(read)
            os.dup2(write, number)
        else:
            os.dup2(os.open(path, os.O_WRONLY), number)
        if path is not None:
            opened = open(number, "w", closefd=False)  # noqa: SIM115
        setattr(sys, ("stdin", "stdout", "stderr")[number], opened)
    sys.argv = ["denoisekit", *arguments]
    frame.main()


def ended(
    arguments: list[str], streams: dict[int, str | None], folder: Path
) -> tuple[int | None, str]:
    """Return the exit code of such a run, and what it says on the streams that it has."""
    process = launch(run_with_streams, arguments, streams, folder, log=folder / "log")
    process.join(timeout=60)
    return process.exitcode, (folder / "log").read_text()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("cannot read a.png", "is it an image?"), 1),
        (UsageError("no method 'x'", "known: aprrd"), 2),
        (WeightsError("no weights", "pull them"), 3),
        (OutOfMemory("no tile is small enough", "close something"), 4),
    ],
)
def test_an_expected_error_is_two_lines_and_its_code(failing, capsys, error, code):
    assert failing(error) == code
    assert capsys.readouterr() == ("", f"error: {error.message}\nhint: {error.hint}\n")


def test_an_error_without_hint_is_one_line_even_if_its_message_is_not(failing, capsys):
    failing(InputError("cannot read a\nb\x1b[2J.png: bad\tchunk"))
    assert capsys.readouterr().err == "error: cannot read a\\nb\\x1b[2J.png: bad\\tchunk\n"
    failing(ZeroDivisionError("of\n  a library"))
    assert "ZeroDivisionError: of a library\n" in capsys.readouterr().err


def test_what_the_machine_refuses_is_no_bug(failing, capsys):
    assert failing(PermissionError(13, "Permission denied", "/somewhere")) == 1
    assert capsys.readouterr().err.startswith("error: /somewhere: Permission denied\n")


def test_an_unexpected_error_is_called_a_bug_and_shows_no_traceback(failing, capsys):
    assert failing(ZeroDivisionError("division by zero")) == 70
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: this is a bug in denoisekit: ZeroDivisionError: division by zero"
    assert "DENOISEKIT_DEBUG=1" in second


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), InputError("oops")])
def test_debug_adds_the_traceback_and_keeps_the_code(failing, capsys, monkeypatch, error):
    plain = failing(error)
    capsys.readouterr()
    monkeypatch.setenv(frame.DEBUG, "0")  # so that monkeypatch restores what --debug sets
    assert failing(error, "--debug") == plain
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv(frame.DEBUG, "1")
    failing(error)
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interruption_that_a_library_turns_into_an_error_is_one(failing, capsys, monkeypatch):
    monkeypatch.setattr(frame, "_asked", [])
    with pytest.raises(KeyboardInterrupt):
        frame._interrupt(signal.SIGTERM, None)
    assert failing(WeightsError("the file is damaged")) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_command_chooses_its_code_by_typer_exit(failing, capsys):
    assert failing(typer.Exit(1)) == 1
    assert capsys.readouterr() == ("", "")


def test_memory_error_is_out_of_memory(failing, capsys):
    assert failing(MemoryError()) == 4
    assert "--max-memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["metods"], ["metods", "'methods'"]),
        (["methods", "--jsn"], ["--jsn", "--json"]),
        (["methods", "aprrd", "surplus"], ["surplus"]),
    ],
)
def test_usage_errors_are_one_line_and_a_hint(capsys, arguments, expected):
    assert frame.run(arguments) == 2
    output, errors = capsys.readouterr()
    first, second = errors.splitlines()
    assert output == ""
    assert first.startswith("error: ")
    assert all(word in first for word in expected)
    assert second.startswith("hint: see 'denoisekit")


def test_version_and_python_m():
    done = command_line("--version")
    assert (done.returncode, done.stdout) == (0, f"denoisekit {denoisekit.__version__}\n")


def test_no_arguments_show_the_help(capsys):
    said = []
    for arguments in ([], ["--help"]):
        assert frame.run(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        said.append([line.strip() for line in lines if line.strip()])
    assert said[0] == said[1]
    assert any("denoise " in line for line in said[0])


def test_every_command_has_examples_in_its_help():
    def walk(command, path):
        children = getattr(command, "commands", {})
        if not children:
            yield path, command
        for name, child in children.items():
            yield from walk(child, [*path, name])

    leaves = list(walk(typer.main.get_command(frame.app), []))
    assert ["methods"] in [path for path, _ in leaves]
    for path, command in leaves:
        title, _, examples = (command.epilog or "").partition("\n\n")
        assert title == "Examples:", path
        assert command.help, path
        for line in examples.split("\n\n"):
            assert line.strip().startswith(f"denoisekit {' '.join(path)}"), line


def test_light_commands_import_nothing_heavy():
    loaded = loaded_modules("--help", "--version", "methods", "methods --help", "denoise --help")
    assert "denoisekit.cli.app" in loaded
    assert not loaded & set(HEAVY)


def test_completion_works_and_imports_nothing_heavy():
    completion = {
        "_DENOISEKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "denoisekit met",
        "COMP_CWORD": "1",
    }
    assert command_line(**completion).stdout == "methods\n"
    assert not loaded_modules(**completion) & set(HEAVY)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes and signals")
def test_a_reader_that_leaves_ends_the_command_quietly():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "denoisekit", "methods"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("arguments", [["--help"], ["denoise", "--help"], ["--version"]])
def test_help_ends_like_the_rest_where_nobody_reads_it(tmp_path, arguments):
    for stream, code in (("gone", 141), ("/dev/full", 1)):
        found, said = ended(arguments, {1: stream}, tmp_path)
        assert found == code
        assert ("error: " in said) == (code == 1)
        assert "Traceback" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_behind_stdout_is_an_error_not_a_traceback():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "denoisekit", "methods"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to <stdout>: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_what_cannot_be_said_stops_no_work(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((20, 20, 3), np.uint8))
    command = ["simulate", "a.npy", "b.npy", "none.npy", "--camera", "phone", "-o"]
    code, output = ended([*command, "x"], {2: "/dev/full"}, tmp_path)
    assert (code, len(output.splitlines())) == (1, 2)
    code, errors = ended([*command, "y"], {1: "/dev/full"}, tmp_path)
    assert code == 1
    assert "none.npy" in errors
    for folder in ("x", "y"):
        assert {path.name for path in (tmp_path / folder).iterdir()} == {"a.npy", "b.npy"}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes and signals")
@pytest.mark.parametrize("closed", [(0, 1, 2), (1,), (2,)])
def test_closed_streams_do_not_get_into_files(tmp_path, closed):
    np.save(tmp_path / "a.npy", np.zeros((20, 20, 3), np.uint8))
    command = ["simulate", "a.npy", "--camera", "phone", "-o", "b.npy"]
    assert ended(command, dict.fromkeys(closed), tmp_path)[0] == 0
    assert np.load(tmp_path / "b.npy").shape == (20, 20, 3)


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp850", "latin-1"])
def test_letters_that_a_terminal_lacks_are_written_out(tmp_path, monkeypatch, encoding):
    monkeypatch.chdir(tmp_path)
    np.save("写 é.npy", np.zeros((20, 20, 3), np.uint8))
    raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in raw.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding, write_through=True))
    render.prepare()
    assert frame.run(["simulate", "写 é.npy", "none é", "--camera", "phone"]) == 1
    assert "\\u5199" in raw["stdout"].getvalue().decode(encoding)
    assert raw["stderr"].getvalue().decode(encoding).startswith("error: none ")
    assert (tmp_path / "写 é_noisy.npy").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v of Linux")
@pytest.mark.parametrize("allowed", [200_000, 600_000])
def test_too_little_address_space_is_out_of_memory(allowed):
    command = f"ulimit -v {allowed}; exec {sys.executable} -m denoisekit denoise none.png"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: only {allowed >> 10} MiB of address space are allowed")
    assert "ulimit -v" in hint


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        ImportError("libtorch.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_libraries_say_without_memory_is_no_bug(failing, capsys, error):
    assert failing(error) == 4
    assert capsys.readouterr().err.startswith("error: not enough memory\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes and signals")
@pytest.mark.parametrize(("ignored", "code"), [(False, 130), (True, 0)])
def test_a_closed_terminal_ends_it_unless_that_is_ignored(ignored, code):
    program = (
        "import signal, sys, time\n"
        f"if {ignored}: signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from denoisekit.cli import app as frame\n"
        "def wait():\n    print('ready', flush=True)\n    sys.stdin.read()\n"
        "frame.app.command('wait')(wait)\n"
        "sys.argv = ['denoisekit', 'wait']\nframe.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        waiting.send_signal(signal.SIGHUP)
        _, errors = waiting.communicate(timeout=30)
    assert (waiting.returncode, errors) == (code, "interrupted\n" * (not ignored))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes and signals")
def test_a_real_ctrl_c_is_130():
    program = (
        "import sys, time, typer\n"
        "from denoisekit.cli import app as frame\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "frame.app.command('wait')(wait)\n"
        "sys.exit(frame.run(['wait']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=30)
    assert (waiting.returncode, errors) == (130, "interrupted\n")


def test_ctrl_c_while_it_is_being_loaded_shows_no_traceback():
    program = (
        "import runpy, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "runpy.run_module('denoisekit', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interruption_that_python_must_ignore_comes_again():
    program = (
        "import os, signal, sys, time\n"
        "from denoisekit.cli import app as frame\n"
        "class Gone:\n    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "def wait():\n    gone = Gone()\n    del gone\n    time.sleep(60)\n"
        "frame.app.command('wait')(wait)\n"
        "sys.argv = ['denoisekit', 'wait']\nframe.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_the_exit_code_of_an_interruption_is_ours_wherever_it_came(tmp_path):
    (tmp_path / "begin.py").write_text(
        "import os, runpy, signal, sys\n"
        "from denoisekit.cli import app as frame\n"
        "def wait():\n    exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "frame.app.command('wait')(wait)\n"
        "sys.argv = ['denoisekit', 'wait']\n"
        "runpy.run_module('denoisekit', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "begin"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_methods_json_holds_one_object_a_method(capsys):
    from denoisekit.methods import METHODS

    assert frame.run(["methods", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [info.id for info in METHODS]
    student = next(line for line in lines if line["id"] == "aprrd")
    # 0.41 MFLOP per pixel: what the authors' network costs.
    assert student["tflop_per_megapixel"] == pytest.approx(0.41, rel=0.02)
    assert student["halo"] == 160


def test_methods_table_names_each_method(capsys):
    assert frame.run(["methods"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert "best for" in header
    assert any(row.startswith("aprrd ") for row in rows)


def test_out_reaches_stdout_only(capsys):
    out("result")
    assert capsys.readouterr() == ("result\n", "")
