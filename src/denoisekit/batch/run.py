"""Many files, one after the other, with reading and writing beside the network.

While the network works on a file, the next one is read and the one before is
encoded and written. At most one file is ahead and one behind, and none when files
are large: memory holds pixels, and pixels are what the network needs it for.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from denoisekit.atomic import Claim
from denoisekit.engine.run import Report
from denoisekit.errors import DenoisekitError, OutputError, OutputTaken, as_error
from denoisekit.formats import claim_output, create_image, find_format, open_image
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.options import Options

AHEAD_BYTES = 256 * 2**20
"""Largest plane, in bytes, of a file that is read ahead of its turn."""

POLL_SECONDS = 0.1
"""How soon either end of a queue learns that the other has given up."""


class Running(Iterable[tuple[int, int, Pixels]], Protocol):
    """Plane, top row and finished rows, in order; see `denoisekit.engine.run.Run`."""

    def report(self) -> Report:
        """Return what was done, once the last rows are out."""
        ...


class Runner(Protocol):
    """What denoises the images of a batch: a `Denoiser`, or what makes one for each image."""

    options: Options

    def run(
        self,
        reader: Reader,
        *,
        on_progress: Callable[[float], None] | None = None,
        reserved: int = 0,
    ) -> Running:
        """Denoise an open image; see `denoisekit.engine.denoiser.Denoiser.run`."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One file to denoise.

    Attributes
    ----------
    source, target : Path
        Read from, written to.
    format : str
        Id of the format to write.
    axes : str or None
        What the axes are, where the user knows better than the file.
    overwrite : bool
        Whether an existing target may be replaced.
    skip : bool
        Whether it is no error that the target is there, or that another run writes it.
    """

    source: Path
    target: Path
    format: str
    axes: str | None = None
    overwrite: bool = False
    skip: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a report, with an error, or with neither, because it was skipped.

    Attributes
    ----------
    job : Job
        The job.
    seconds : float
        From the file's turn to the last of its rows; reading ahead and writing behind
        not counted.
    megapixels : float
        Pixels of all planes, in millions.
    report : Report or None
        What was done.
    error : DenoisekitError or None
        Why not; a bug is an `InternalError`.
    """

    job: Job
    seconds: float = 0.0
    megapixels: float = 0.0
    report: Report | None = None
    error: DenoisekitError | None = None


def survey(source: Path, axes: str | None = None) -> ImageInfo:
    """Return what a file holds, without reading its pixels.

    Raises
    ------
    InputError
        It cannot be read.
    """
    reader = open_image(source, axes)
    try:
        return reader.info
    finally:
        reader.close()


def target_info(image: ImageInfo, format: str) -> ImageInfo:
    """Return what a file of that format would hold of an image.

    Raises
    ------
    OutputError
        The format would lose bits, planes or channels.
    """
    if image.format == format:
        return image
    return find_format(format).check(image)


def run_batch(
    jobs: Sequence[Job],
    denoiser: Runner,
    on_progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Outcome]:
    """Denoise files; yield how each ended, in order.

    No error of one file, expected or not, stops the others. Closing the iterator, or an
    exception in it, leaves no partial file.

    Parameters
    ----------
    jobs : sequence of Job
        What to do.
    denoiser : Runner
        With what.
    on_progress : callable, optional
        Called with the job under way and its pixels done so far.

    Yields
    ------
    Outcome
        One a job.
    """
    limit = denoiser.options.max_memory
    largest = AHEAD_BYTES if limit is None else min(AHEAD_BYTES, limit // 16)
    with ThreadPoolExecutor(1, "read") as ahead, ThreadPoolExecutor(1, "write") as behind:
        coming: Future[Reader] | None = None
        written: Future[Outcome] | None = None
        try:
            for index, job in enumerate(jobs):
                try:
                    reader = coming.result() if coming else _open(job, largest, limit)
                    small = reader.info.plane_bytes <= AHEAD_BYTES
                except Exception as error:  # noqa: BLE001 - whatever it is, it is this file's own
                    reader, small = None, True
                    current = _settled(Outcome(job, error=as_error(error, job.source)))
                coming = None
                if small and index + 1 < len(jobs):
                    coming = ahead.submit(_open, jobs[index + 1], largest, limit)
                if reader:
                    if written and not small:
                        wait([written])
                    current = _denoise(job, reader, denoiser, behind, on_progress)
                if written:
                    yield written.result()
                written = current
            if written:
                yield written.result()
        finally:
            if coming and not coming.exception():
                coming.result().close()


def _open(job: Job, largest: int, max_memory: int | None) -> Reader:
    """Open a file, and decode it where that is done as a whole and a plane is small enough."""
    reader = open_image(job.source, job.axes, max_memory)
    if reader.info.plane_bytes <= largest:
        try:
            reader.read_rows(0, 0, 1)
        except BaseException:
            reader.close()
            raise
    return reader


def _denoise(
    job: Job,
    reader: Reader,
    denoiser: Runner,
    behind: ThreadPoolExecutor,
    on_progress: Callable[[Job, float], None] | None,
) -> Future[Outcome]:
    """Run the network; return the outcome, which is there when the file is written."""
    began = time.perf_counter()
    image, rows = reader.info, _Rows()
    claim: Claim | None = None
    writing: Future[None] | None = None
    try:
        target = target_info(image, job.format)
        claim = claim_output(job.target, overwrite=job.overwrite)
        held = 0 if find_format(job.format).streams else 2 * target.plane_bytes
        reader.read_rows(0, 0, 1)  # what it decodes as a whole is held from here on
        writing = behind.submit(_write, rows, claim, target, job.overwrite)
        running = denoiser.run(
            reader,
            on_progress=None if on_progress is None else lambda done: on_progress(job, done),
            reserved=held,
        )
        for band in running:
            rows.put(band)
        rows.put(None)
        report = running.report()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this file's own
        rows.abandoned.set()
        # Where the writer failed first, its error is the one that explains.
        cause = (writing.exception() if writing else None) or error
        if not isinstance(cause, Exception):
            raise cause from None
        return _settled(_failed(Outcome(job), as_error(cause, job.source)))
    except BaseException:  # an interruption: the writer must not wait for more rows
        rows.abandoned.set()
        raise
    finally:
        reader.close()
        if claim and not writing:  # who writes lets go of it too
            claim.close()
    notes = tuple(dict.fromkeys((*report.warnings, *target.warnings)))
    report = replace(report, warnings=notes)
    megapixels = image.planes * image.height * image.width / 1e6
    outcome = Outcome(job, time.perf_counter() - began, megapixels, report)
    done: Future[Outcome] = Future()

    def settle(finished: Future[None]) -> None:
        error = finished.exception()
        if error is None:
            done.set_result(outcome)
        elif isinstance(error, Exception):
            done.set_result(_failed(outcome, as_error(error, job.source)))
        else:
            done.set_exception(error)

    writing.add_done_callback(settle)
    return done


class _Abandoned(Exception):
    """The rows will not come."""


class _Rows:
    """Rows on their way from the network to the thread that writes them: two bands at most."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[int, int, Pixels] | None] = queue.Queue(2)
        self.abandoned = threading.Event()  # no more rows will come
        self.stopped = threading.Event()  # nobody takes rows any more

    def put(self, band: tuple[int, int, Pixels] | None) -> None:
        """Hand over rows; None: these were all."""
        while not self.stopped.is_set():
            try:
                self._queue.put(band, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return
        raise OutputError("the result could not be written")

    def __iter__(self) -> Iterator[tuple[int, int, Pixels]]:
        while not self.abandoned.is_set():
            try:
                band = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if band is None:
                return
            yield band
        raise _Abandoned


def _write(rows: _Rows, claim: Claim, target: ImageInfo, overwrite: bool) -> None:
    """Write the file whose place is claimed; runs in a thread of its own."""
    try:
        with create_image(claim.path, target, overwrite=overwrite, claim=claim) as writer:
            for plane, top, band in rows:
                writer.write_rows(plane, top, band)
    except _Abandoned:
        pass
    finally:
        rows.stopped.set()


def _failed(outcome: Outcome, error: DenoisekitError) -> Outcome:
    """Return how a job ended that failed, or that need not be done."""
    needless = outcome.job.skip and isinstance(error, OutputTaken)
    return replace(outcome, report=None, error=None if needless else error)


def _settled(outcome: Outcome) -> Future[Outcome]:
    done: Future[Outcome] = Future()
    done.set_result(outcome)
    return done
