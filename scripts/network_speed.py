"""Time the student network in its plain form and in the forms that run, in one go.

The plain form is the eager float32 forward in the usual NCHW layout. The runs take
turns, so that a machine that slows down slows all of them; medians are printed.

    python scripts/network_speed.py --side 1024 --runs 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from denoisekit.methods.aprrd import Student


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the student network.")
    parser.add_argument("--side", type=int, default=1024, help="of the square image, in pixels")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--variant", default="1.02M")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    noisy = torch.rand(1, 3, arguments.side, arguments.side)
    forms: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
    plain = Student({"variant": arguments.variant})
    forms["plain fp32"] = plain.denoise
    for precision in ("fp32", "bf16"):
        student = Student({"variant": arguments.variant})
        student.load(plain.net.state_dict())
        student.prepare(torch.device("cpu"), precision)
        forms[precision] = student.denoise

    seconds: dict[str, list[float]] = {name: [] for name in forms}
    expected = plain.denoise(noisy)
    for name, form in forms.items():
        error = (form(noisy) - expected).abs().max().item()
        print(f"{name:>10}: largest difference from plain {error:.2g}")
    for _ in range(arguments.runs):
        for name, form in forms.items():
            began = time.perf_counter()
            form(noisy)
            seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds["plain fp32"])
    megapixels = arguments.side**2 / 1e6
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:>10}: {median / megapixels:.2f} s a megapixel, {base / median:.2f} x plain")


if __name__ == "__main__":
    main()
