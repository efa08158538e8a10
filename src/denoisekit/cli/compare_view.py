"""What ``denoisekit compare`` runs, and how its results are told: ranks, a page, JSON."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoisekit.cli import render
from denoisekit.errors import DenoisekitError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from denoisekit.comparing import Choice, Crop, Limits, Part, Result, Skipped
    from denoisekit.image import ImageInfo
    from denoisekit.ranges import Range as Scale


def command_of(choice: Choice, image: Path, limits: Limits, axes: str | None) -> str:
    """Return the command line that denoises all of the image so; empty: there is none."""
    if choice.weights is None:
        return ""
    words = ["denoisekit", "denoise", str(image), "--weights", choice.weights]
    words += ["--range", limits.range] * (limits.range != "auto")
    words += ["--axes", axes] if axes else []
    words += ["--precision", limits.precision] * (limits.precision != "auto")
    words += ["--device", limits.device] * (limits.device != "auto")
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    """Return a word as a shell takes it, also where it holds what cannot be shown."""
    if printable(word) == word:
        return shlex.quote(word)
    return "$'" + printable(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


class Speaker:
    """Runs what is compared, and tells of it."""

    def __init__(
        self, image: Path, info: ImageInfo, part: Part, scale: Scale, silent: bool
    ) -> None:
        from denoisekit.comparing import as_unit
        from denoisekit.ranking import SMALLEST

        crop = part.crop
        if min(crop.width, crop.height) < SMALLEST:
            raise UsageError(
                f"a part of {crop.width}x{crop.height} pixels is too small to judge by",
                f"it must be at least {SMALLEST} pixels high and wide",
            )
        self.image, self.info, self.part, self.scale, self.silent = image, info, part, scale, silent
        self.noisy = as_unit(part.pixels(), info, scale)
        self.noisy_score = 0.0

    def where(self) -> str:
        """Say which part of the image is compared; empty: all of it."""
        crop, info = self.part.crop, self.info
        words = []
        if (crop.width, crop.height) != (info.width, info.height):
            words.append(
                f"{crop.width}x{crop.height} pixels from x {crop.left}, y {crop.top} "
                f"of {info.width}x{info.height}"
            )
        if len(self.part.planes) < info.planes:
            planes = ", ".join(map(str, self.part.planes))
            words.append(f"plane{'s' * (len(self.part.planes) > 1)} {planes} of {info.planes}")
        return "; ".join(words)

    def run(self, choices: Sequence[Choice], limits: Limits) -> tuple[list[Result], list[Skipped]]:
        """Return the results, the best first, and what was left out."""
        from denoisekit.comparing import Result, compare, judge

        if self.where():
            self._say(f"comparing {self.where()}; see --crop" + " and --plane" * self._stack)
        results, skipped = [], []
        with render.progress(self.image.name, len(choices), "results", self.silent) as bar:
            for done, found in enumerate(compare(self.part, choices, self.scale, limits), 1):
                if isinstance(found, Result):
                    results.append(found)
                else:
                    skipped.append(found)
                    bar.note(f"left out {found.choice.id}: {found.reason}")
                bar.update(done)
        for one in skipped:
            if one.bug:
                render.failure(self.image, one.bug, as_json=False)
        if not results:
            if skipped[0].bug:
                raise skipped[0].bug
            hint = "name what to run with --methods or --weights"
            raise DenoisekitError("nothing could be run: " + skipped[0].reason, hint)
        self.noisy_score, results = judge(self.noisy, results)
        if self.noisy_score > results[0].score:
            self._say("note: by the score the noisy image itself is better than any result")
        return results, skipped

    @property
    def _stack(self) -> bool:
        return self.info.planes > 1

    def page(
        self,
        results: Sequence[Result],
        skipped: Sequence[Skipped],
        limits: Limits,
        axes: str | None,
        lossless: bool,
    ) -> str:
        """Return the page."""
        from denoisekit.report.compare_page import Way, compare_page

        scale = self.scale
        ways = [
            Way(
                result.choice.id,
                result.denoised,
                result.score,
                result.seconds,
                result.memory,
                command_of(result.choice, self.image, limits, axes),
                "; ".join(
                    f"{name.replace('_', ' ')} {text}" for name, text in result.facts.items()
                ),
            )
            for result in results
        ]
        about = [
            ("image", f"{self.image.name}, {self.info.width}x{self.info.height} pixels"),
            ("black and white", f"{scale.low:g} and {scale.high:g}"),
            ("noise", _noise(self.noisy[0])),
        ]
        if skipped:
            words = (f"{one.choice.id} ({one.reason})" for one in skipped)
            about.append(("left out", ", ".join(words)))
        where = self.where()
        note = f"{where[:1].upper()}{where[1:]}." if where else ""
        planes = self.part.planes
        name = self.image.name
        return compare_page(
            name,
            ways,
            self.noisy,
            planes,
            about,
            noisy_score=self.noisy_score,
            note=note,
            lossless=lossless,
        )

    def table(
        self, results: Sequence[Result], page: Path, limits: Limits, axes: str | None
    ) -> None:
        """Show the ranks."""
        rows = [
            (
                str(rank),
                result.choice.id,
                f"{result.score:.2f}",
                f"{result.seconds:.1f} s",
                f"{result.memory / 2**20:.0f} MiB",
            )
            for rank, result in enumerate(results, 1)
        ]
        rows.append(("", "noisy", f"{self.noisy_score:.2f}", "", ""))
        render.table(("rank", "result", "score", "time", "memory"), rows, self.image.name)
        render.out(f"page: {page}")
        command = command_of(results[0].choice, self.image, limits, axes)
        if command:
            self._say(f"for the first: {command}")

    def facts(
        self,
        results: Sequence[Result],
        skipped: Sequence[Skipped],
        page: Path,
        limits: Limits,
        axes: str | None,
    ) -> dict[str, Any]:
        """Return all of it as JSON can say it."""
        crop: Crop = self.part.crop
        return {
            "input": self.image,
            "page": page,
            "crop": [crop.left, crop.top, crop.width, crop.height],
            "planes": list(self.part.planes),
            "noisy_score": self.noisy_score,
            "results": [
                {
                    "id": result.choice.id,
                    "method": result.choice.method,
                    "score": result.score,
                    "seconds": round(result.seconds, 3),
                    "memory_bytes": result.memory,
                    "command": command_of(result.choice, self.image, limits, axes),
                    **result.facts,
                }
                for result in results
            ],
            "left_out": [{"id": one.choice.id, "reason": one.reason} for one in skipped],
        }

    def _say(self, text: str) -> None:
        if not self.silent:
            render.err(text)


def _noise(noisy: Any) -> str:
    from denoisekit.noise.estimate import estimate_noise

    found = estimate_noise(noisy)
    if found is None:
        return "not known: the image is too small"
    sigma = math.sqrt(sum(s * s for s in found.sigma) / len(found.sigma))
    kind = "shared by neighbouring pixels" if found.correlated else "of its own in each pixel"
    return f"about {255 * sigma:.2f} of 255 (root mean square), {kind}"
