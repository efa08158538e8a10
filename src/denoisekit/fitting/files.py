"""A fit for every image of a batch: what fits and then denoises, where files are written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from denoisekit.engine.denoiser import Report
from denoisekit.engine.device import resolve_device
from denoisekit.engine.run import WriteRows
from denoisekit.errors import UsageError
from denoisekit.fitting.fit import fit
from denoisekit.fitting.result import Fit, Listen
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.options import SHORTEST_FIT, FitOptions, Options
from denoisekit.training.threads import threads_that_help


class Fitter:
    """Fits a network to each image it is given, and denoises that with it.

    Parameters
    ----------
    options : FitOptions
        How to fit.
    each : bool
        Whether every plane of a stack has a network of its own; they share the time.
    on_look : callable, optional
        As for `denoisekit.fitting.fit`.
    began : float, optional
        When the time of the first image began, of `time.monotonic`.

    Attributes
    ----------
    options : Options
        What batches ask for.
    fits : list of Fit
        Those of the last image: one, or one a plane.
    """

    def __init__(
        self,
        options: FitOptions,
        *,
        each: bool = False,
        on_look: Listen | None = None,
        began: float | None = None,
    ) -> None:
        self.options = Options(max_memory=options.max_memory, device=options.device)
        self.fits: list[Fit] = []
        self._fit_options, self._each, self._on_look = options, each, on_look
        self._began = began

    def run(
        self,
        reader: Reader,
        write: WriteRows,
        *,
        on_progress: Callable[[float], None] | None = None,
        reserved: int = 0,
    ) -> Report:
        """Fit to an open image and denoise it; see `denoisekit.engine.denoiser.Denoiser.run`.

        Raises
        ------
        UsageError
            There is too little time for a network a plane.
        """
        with threads_that_help(resolve_device(self.options.device)):
            return self._run(reader, write, on_progress, reserved)

    def _run(
        self,
        reader: Reader,
        write: WriteRows,
        on_progress: Callable[[float], None] | None,
        reserved: int,
    ) -> Report:
        began, self._began = self._began or time.monotonic(), None
        self.fits.clear()
        planes = reader.info.planes
        if not self._each or planes == 1:
            found = fit(reader, self._fit_options, self._on_look, began)
            self.fits.append(found)
            report = found.denoiser.run(reader, write, on_progress=on_progress, reserved=reserved)
            return _warned(report, found)
        seconds = self._fit_options.seconds / planes
        if seconds < SHORTEST_FIT:
            raise UsageError(
                f"{self._fit_options.seconds:g} s are too short for {planes} networks",
                f"give --time {SHORTEST_FIT * planes:g} or more, or --planes shared",
            )
        options = replace(self._fit_options, seconds=seconds)
        size = reader.info.height * reader.info.width
        reports: list[Report] = []
        for plane in range(planes):
            view = OnePlane(reader, plane)
            found = fit(view, options, self._on_look, began if plane == 0 else None)
            self.fits.append(found)

            def put(_: int, top: int, rows: Pixels, plane: int = plane) -> None:
                write(plane, top, rows)

            def tell(done: float, before: int = plane * size) -> None:
                if on_progress is not None:
                    on_progress(before + done)

            report = found.denoiser.run(view, put, on_progress=tell, reserved=reserved)
            reports.append(_warned(report, found))
        warnings = (warning for report in reports for warning in report.warnings)
        return replace(reports[-1], warnings=tuple(dict.fromkeys(warnings)))


def _warned(report: Report, found: Fit) -> Report:
    warning = (found.warning,) if found.warning else ()
    return replace(report, warnings=(*report.warnings, *warning))


class OnePlane:
    """A plane of a stack, read as an image of its own."""

    def __init__(self, reader: Reader, plane: int) -> None:
        self._reader, self._plane = reader, plane
        info = reader.info
        first = info.axes.index("Y")
        self._info = replace(info, shape=info.shape[first:], axes=info.axes[first:])

    @property
    def info(self) -> ImageInfo:
        """What the plane holds."""
        return self._info

    def read_rows(self, plane: int, top: int, bottom: int) -> Pixels:  # noqa: ARG002 - it has one
        """Return rows; see `denoisekit.image.Reader`."""
        return self._reader.read_rows(self._plane, top, bottom)

    def close(self) -> None:
        """Nothing to let go of: the stack's reader is the caller's."""
