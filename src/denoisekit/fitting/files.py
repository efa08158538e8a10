"""A fit for every image of a batch: what fits and then denoises, where files are written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from denoisekit.engine.device import resolve_device
from denoisekit.engine.run import Report, Run
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
        *,
        on_progress: Callable[[float], None] | None = None,
        reserved: int = 0,
    ) -> FitRun:
        """Fit to an open image and denoise it; see `denoisekit.engine.denoiser.Denoiser.run`.

        Raises
        ------
        UsageError
            There is too little time for a network a plane.
        """
        began, self._began = self._began or time.monotonic(), None
        self.fits.clear()
        planes = reader.info.planes if self._each else 1
        seconds = self._fit_options.seconds / planes
        if planes > 1 and seconds < SHORTEST_FIT:
            raise UsageError(
                f"{self._fit_options.seconds:g} s are too short for {planes} networks",
                f"give --time {SHORTEST_FIT * planes:g} or more, or --planes shared",
            )
        options = replace(self._fit_options, seconds=seconds)

        def runs() -> Iterator[tuple[int, Run]]:
            size = reader.info.height * reader.info.width
            for plane in range(planes):
                view = OnePlane(reader, plane) if planes > 1 else reader
                with threads_that_help(resolve_device(self.options.device)):
                    found = fit(view, options, self._on_look, began if plane == 0 else None)
                self.fits.append(found)

                def tell(done: float, before: int = plane * size) -> None:
                    if on_progress is not None:
                        on_progress(before + done)

                run = found.denoiser.run(view, on_progress=tell, reserved=reserved)
                if found.warning:
                    run.warnings.append(found.warning)
                yield plane, run

        return FitRun(runs())


class FitRun:
    """An image being fitted and denoised: an iterator of its finished rows."""

    def __init__(self, runs: Iterator[tuple[int, Run]]) -> None:
        self._runs = runs
        self._reports: list[Report] = []

    def __iter__(self) -> Iterator[tuple[int, int, Pixels]]:
        for first, run in self._runs:
            for plane, top, rows in run:
                yield first + plane, top, rows
            self._reports.append(run.report())

    def report(self) -> Report:
        """Return what was done, once the last rows are out."""
        warnings = (warning for report in self._reports for warning in report.warnings)
        return replace(self._reports[-1], warnings=tuple(dict.fromkeys(warnings)))


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
