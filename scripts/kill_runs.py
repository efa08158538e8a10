"""End runs at random moments, and see whether anything wrong or anything left remains.

Every command is run once undisturbed: what it makes is the reference. Then it is begun again and
again, in a folder of its own, and ended at a random moment by SIGKILL, SIGHUP, SIGTERM and
SIGINT. What is there afterwards must be whole; a signal that can be heard must leave no part and
no traceback. Then the next run comes: it must end well, and leave exactly what the reference
has. Runs are forked from this process, which has loaded all libraries, so that the moments fall
into the work. POSIX only.

    OMP_NUM_THREADS=1 python scripts/kill_runs.py --count 40
    python scripts/kill_runs.py --count 10 --only train --seed 3
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from denoisekit.cli import app
from denoisekit.weights import manifest

SIGNALS = (signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)

WAIT = 120.0
"""Seconds after which a run that was told to end counts as hanging."""


@dataclass(frozen=True)
class Command:
    """What is run, in a folder with ``n/`` (noisy) and ``c/`` (clean) pictures.

    ``again`` gives the next run for what is there, ``same`` returns what must be equal in two
    files of one name. ``over`` is what the next run says where nothing is left to do.
    """

    first: list[str]
    again: Callable[[Path], list[str]]
    same: Callable[[Path], object]
    over: str = ""


def digest(path: Path) -> object:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tensors(path: Path) -> object:
    """Return what weights hold, without how long it took."""
    return {key: value.tobytes() for key, value in load_file(path).items()}


def of_weights(path: Path) -> object:
    """Tell results apart where times are among them."""
    if path.suffix == ".safetensors":
        return tensors(path)
    return digest(path) if path.suffix == ".npy" else path.stat().st_size > 0


def of_train(path: Path) -> object:
    return tensors(path) if path.suffix == ".safetensors" else path.stat().st_size > 0


def of_bench(path: Path) -> object:
    if path.name != "results.json":
        return path.stat().st_size > 0
    rows = json.loads(path.read_text())["rows"]
    return json.dumps([{k: v for k, v in row.items() if "second" not in k} for row in rows])


def next_train(folder: Path) -> list[str]:
    run = folder / "run"
    if not (run / "config.toml").exists():
        return COMMANDS["train"].first
    return ["train", "--resume", "run", "--quiet"]


def words(text: str) -> list[str]:
    return text.split()


def repeat(name: str, *more: str) -> Callable[[Path], list[str]]:
    return lambda _: [*COMMANDS[name].first, *more]


COMMANDS = {
    "denoise": Command(
        words("denoise n -o out --skip-existing --quiet"), repeat("denoise"), digest
    ),
    "fit-single": Command(
        words("fit-single n/0.npy -o out.npy --save-weights w.safetensors --report r.png --quiet")
        + words("--start none --width 4 --steps 30"),
        repeat("fit-single", "--overwrite"),
        of_weights,
    ),
    "train": Command(
        words("train sdap n --out run --quiet --steps 6 --save-every 2")
        + words("--width 4 --patch 35 --batch 1"),
        next_train,
        of_train,
        "is complete",
    ),
    "bench": Command(
        words("bench --noisy n --clean c --methods tv,wavelet --out b --quiet"),
        repeat("bench"),
        of_bench,
    ),
    "pull": Command(words("weights pull sdap.sidd --quiet"), repeat("pull"), of_weights),
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=40, help="moments of each signal")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no more after this time")
    return parser.parse_args()


def serve(data: bytes) -> tuple[int, int]:
    """Start a server of one file, slow enough to be interrupted; return its process and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(data) - begin))
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", '"one"')
            self.end_headers()
            with suppress(OSError):
                for at in range(begin, len(data), 1 << 15):
                    self.wfile.write(data[at : at + (1 << 15)])
                    time.sleep(0.02)

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    process = os.fork()
    if process == 0:
        server.serve_forever()
        os._exit(0)
    port: int = server.server_address[1]
    server.server_close()
    socket.create_connection(("127.0.0.1", port)).close()
    return process, port


def prepare(top: Path) -> int:
    """Make pictures and a manifest with weights of the local server; return its process."""
    draw = np.random.default_rng(0)
    for index in range(3):
        y, x = np.mgrid[:150, :160]
        clean = (120 + 60 * np.sin(x / 9 + index) * np.cos(y / 7))[..., None].repeat(3, 2)
        for kind, noise in (("c", 0), ("n", 15)):
            (top / kind).mkdir(exist_ok=True)
            noisy = clean + noise * draw.standard_normal(clean.shape)
            np.save(top / kind / f"{index}.npy", noisy.clip(0, 255).astype(np.uint8))
    path = manifest.manifest_path()
    entries = json.loads(path.read_text("utf-8"))
    file = Path(manifest.__file__).parent / "embedded" / "sdap.camera.safetensors"
    data = save(load_file(file), {"made": "for this script"})  # another hash than the shipped one
    process, port = serve(data)
    own = next(entry for entry in entries if entry["id"] == "sdap.camera")
    offered = {k: v for k, v in own.items() if k != "embedded"}
    offered |= {"id": "sdap.sidd", "sources": [{"url": f"http://127.0.0.1:{port}/w"}]}
    offered |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    entries = [offered if entry["id"] == "sdap.sidd" else entry for entry in entries]
    (top / "manifest.json").write_text(json.dumps(entries), "utf-8")
    manifest.manifest_path = lambda: top / "manifest.json"
    os.environ["no_proxy"] = "127.0.0.1"
    os.environ.pop("DENOISEKIT_OFFLINE", None)
    return process


def enter(top: Path, folder: Path) -> None:
    """Make a folder to run in, and go there."""
    folder.mkdir()
    for kind in ("n", "c"):
        shutil.copytree(top / kind, folder / kind)
    os.chdir(folder)
    os.environ["DENOISEKIT_HOME"] = str(folder / "home")


def begin(arguments: list[str], log: Path) -> int:
    """Run the command line in a process forked from this one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # while Python itself forks
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return process
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = ["denoisekit", *arguments]
        app.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    finally:
        os._exit(code)


def ended(process: int, seconds: float) -> int | None:
    """Return the exit code of a process, negative for a signal; None: it still runs."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.002)


def results(folder: Path, same: Callable[[Path], object]) -> dict[str, object]:
    """Return what a run made, and what each file holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        where = path.relative_to(folder)
        if path.is_file() and where.parts[0] not in ("n", "c") and path.suffix != ".lock":
            found[str(where)] = same(path)
    return found


def parts(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob(".denoisekit-*")]


def judge(
    command: Command, folder: Path, wanted: dict[str, object], number: int, code: int | None
) -> list[str]:
    """Say what is wrong after a run was ended, and after the next."""
    log = folder.with_suffix(".log")
    wrong = []
    if code is None:
        wrong.append("it hangs")
    elif code not in (0, 130, -number):
        wrong.append(f"exit {code}")
    if number != signal.SIGKILL and parts(folder):
        wrong.append(f"left {parts(folder)}")
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP) and command.same is digest:
        there = {k: v for k, v in results(folder, digest).items() if ".denoisekit-" not in k}
        wrong += [f"{name} is not whole" for name, held in there.items() if held != wanted[name]]
    code = ended(begin(command.again(folder), log), WAIT)
    said = log.read_text(errors="replace")
    if code != 0 and not (command.over and command.over in said):
        wrong.append(f"the next run: exit {code}")
    if "Traceback" in said or "bug" in said:
        wrong.append("a traceback or a bug")
    if left := parts(folder):
        wrong.append(f"left after the next run: {left}")
    found = results(folder, command.same)
    names = {name for name in wanted.keys() ^ found.keys() if "previews" not in name}
    differ = [name for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    wrong += [f"more or less than wanted: {sorted(names)}"] * bool(names)
    wrong += [f"other than wanted: {sorted(differ)}"] * bool(differ)
    return wrong + ([said[-2000:]] if wrong else [])


def timed(command: Command, top: Path, name: str, wanted: dict[str, object], index: int) -> float:
    """Return the seconds of an undisturbed run, which must make the same again."""
    folder = top / f"{name}_timed{index}"
    enter(top, folder)
    began = time.monotonic()
    code = ended(begin(command.first, folder.with_suffix(".log")), WAIT)
    seconds = time.monotonic() - began
    assert code == 0, f"{name}: exit {code}"
    assert results(folder, command.same) == wanted, f"{name} does not make the same again"
    return seconds


def main() -> int:
    """Run all; return how many moments showed something wrong."""
    asked, draw = parse(), random.Random()
    draw.seed(asked.seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    until = time.monotonic() + 60 * asked.minutes
    top = Path(tempfile.mkdtemp(prefix="kill_runs_"))
    server, faults = prepare(top), 0
    try:
        for name in asked.only:
            command = COMMANDS[name]
            enter(top, top / name)
            first = app.run(command.first)  # in this process: what it loads is there for all
            wanted = results(top / name, command.same)
            assert first == 0, f"{name}: exit {first}"
            assert wanted, name
            seconds = min(timed(command, top, name, wanted, k) for k in range(2))
            tally = dict.fromkeys(SIGNALS, 0)
            early, bad = 0, 0
            for index in range(asked.count * len(SIGNALS)):
                if time.monotonic() > until:
                    break
                number = SIGNALS[index % len(SIGNALS)]
                folder = top / f"{name}_{index}"
                enter(top, folder)
                process = begin(command.first, folder.with_suffix(".log"))
                moment = draw.uniform(0, 1.05 * seconds)
                code = ended(process, moment)
                early += code is not None
                if code is None:
                    os.kill(process, number)
                    code = ended(process, WAIT)
                wrong = judge(command, folder, wanted, number, code)
                tally[number] += 1
                if wrong:
                    bad += 1
                    print(
                        f"{name}, {number.name} after {moment:.3f} s:",
                        *wrong,
                        sep="\n  ",
                        flush=True,
                    )
                else:
                    os.chdir(top)
                    shutil.rmtree(folder)
            counts = ", ".join(f"{number.name} {count}" for number, count in tally.items())
            print(
                f"{name} ({seconds:.2f} s): {counts}; {early} had ended before; {bad} wrong",
                flush=True,
            )
            faults += bad
    finally:
        os.kill(server, signal.SIGTERM)
        os.chdir("/")
        if not faults:
            shutil.rmtree(top, ignore_errors=True)
    return faults


if __name__ == "__main__":
    sys.exit(min(main(), 1))
