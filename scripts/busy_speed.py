"""Measure what other programs cost: a command quiet, and beside programs that only spin.

    python scripts/busy_speed.py photo.png -- --weights aprrd.camera
    python scripts/busy_speed.py photo.png --repeat 5 --source ../before/src -- --method sdap

Prints, as JSON, the median seconds of the whole command when nothing else runs, beside one
spinning program on each of half of the processors, and their ratio. ``--source`` runs another
state of the code. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median


def parse() -> argparse.Namespace:
    """Read the command line; what follows ``--`` is for denoise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--source", type=Path, help="folder with another denoisekit")
    given, _, options = " ".join(sys.argv[1:]).partition(" -- ")
    asked = parser.parse_args(given.split())
    asked.options = options.split()
    return asked


def seconds(image: Path, options: list[str], source: Path | None) -> float:
    """Return how long the command takes."""
    environment = dict(os.environ)
    if source:
        environment["PYTHONPATH"] = str(source.resolve())
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, f"out{image.suffix}")
        command = [sys.executable, "-m", "denoisekit", "denoise", str(image), "-o", str(output)]
        began = time.perf_counter()
        subprocess.run([*command, "--quiet", *options], check=True, env=environment)
        return time.perf_counter() - began


def main() -> None:
    """Measure."""
    asked = parse()

    def run() -> float:
        taken = [seconds(asked.image, asked.options, asked.source) for _ in range(asked.repeat)]
        return round(median(taken), 2)

    quiet = run()
    spin = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(spin) for _ in range(max(1, (os.cpu_count() or 1) // 2))]
    try:
        busy = run()
    finally:
        for program in spinning:
            program.kill()
            program.wait()
    found = {"quiet": quiet, "busy": busy, "ratio": round(busy / quiet, 2)}
    print(json.dumps({"options": asked.options, **found}))


if __name__ == "__main__":
    main()
