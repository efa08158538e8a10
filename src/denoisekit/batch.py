"""Many files, one after the other, with reading and writing beside the network.

While the network works on a file, the next one is read and the one before is
encoded and written. At most one file is ahead and one behind, and none when files
are large: memory holds pixels, and pixels are what the network needs it for.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from denoisekit.errors import DenoisekitError, InputError
from denoisekit.formats import create_image, find_format, open_image
from denoisekit.image import ImageInfo, Pixels, Reader
from denoisekit.pipeline import Denoiser, Report

AHEAD_BYTES = 256 * 2**20
"""Largest plane, in bytes, of a file that is read ahead of its turn."""


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
    """

    source: Path
    target: Path
    format: str
    axes: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a report, or with an error.

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
        Why not.
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
    denoiser: Denoiser,
    on_progress: Callable[[Job, float], None] | None = None,
) -> Iterator[Outcome]:
    """Denoise files; yield how each ended, in order.

    An error of one file does not stop the others. Closing the iterator, or an
    exception in it, leaves no partial file.

    Parameters
    ----------
    jobs : sequence of Job
        What to do.
    denoiser : Denoiser
        With what.
    on_progress : callable, optional
        Called with the job under way and its pixels done so far.

    Yields
    ------
    Outcome
        One a job.
    """
    with ThreadPoolExecutor(1, "read") as ahead, ThreadPoolExecutor(1, "write") as behind:
        coming = ahead.submit(_open, jobs[0]) if jobs else None
        written: Future[Outcome] | None = None
        for index, job in enumerate(jobs):
            opened = coming
            try:
                reader = opened.result() if opened else _open(job)
            except DenoisekitError as error:
                failed = Outcome(job, error=error)
                reader = None
            following = jobs[index + 1] if index + 1 < len(jobs) else None
            large = reader is not None and reader.info.plane_bytes > AHEAD_BYTES
            if written and large:
                yield written.result()
                written = None
            coming = ahead.submit(_open, following) if following and not large else None
            if reader is None:
                current: Future[Outcome] = Future()
                current.set_result(failed)
            else:
                current = _denoise(job, reader, denoiser, behind, on_progress)
            if written:
                yield written.result()
            written = current
        if written:
            yield written.result()


def _open(job: Job) -> Reader:
    reader = open_image(job.source, job.axes)
    if reader.info.plane_bytes <= AHEAD_BYTES:
        reader.read_rows(0, 0, 1)  # formats that decode a plane as a whole do it now
    return reader


def _denoise(
    job: Job,
    reader: Reader,
    denoiser: Denoiser,
    behind: ThreadPoolExecutor,
    on_progress: Callable[[Job, float], None] | None,
) -> Future[Outcome]:
    """Run the network; return the outcome, which is there when the file is written."""
    began = time.perf_counter()
    sink = _Sink()
    image = reader.info
    megapixels = image.planes * image.height * image.width / 1e6
    try:
        target = target_info(image, job.format)
        held = 0 if find_format(job.format).streams else 2 * target.plane_bytes
        writing = behind.submit(sink.write_all, job, target)
        try:
            reader.read_rows(0, 0, 1)
            report = denoiser.run(
                reader,
                sink.put,
                on_progress=None if on_progress is None else lambda done: on_progress(job, done),
                reserved=held,
            )
        except BaseException:
            sink.abort()
            # Where the writer failed first, its error is the one that explains.
            if isinstance(failure := writing.exception(), DenoisekitError):
                raise failure from None
            raise
        sink.finish()
    except DenoisekitError as error:
        failed: Future[Outcome] = Future()
        failed.set_result(Outcome(job, error=error))
        return failed
    finally:
        reader.close()
    outcome = Outcome(job, time.perf_counter() - began, megapixels, report)
    return _when_written(writing, outcome)


def _when_written(writing: Future[None], outcome: Outcome) -> Future[Outcome]:
    done: Future[Outcome] = Future()

    def settle(finished: Future[None]) -> None:
        error = finished.exception()
        if error is None:
            done.set_result(outcome)
        elif isinstance(error, DenoisekitError):
            done.set_result(replace(outcome, report=None, error=error))
        else:
            done.set_exception(error)

    writing.add_done_callback(settle)
    return done


class _Aborted(Exception):
    """The rows will not come: the file is abandoned."""


class _Sink:
    """Rows on their way from the network to the thread that writes them."""

    def __init__(self) -> None:
        self._rows: queue.Queue[tuple[int, int, Pixels] | None] = queue.Queue(2)
        self._stopped = threading.Event()
        self._aborted = False

    def put(self, plane: int, top: int, rows: Pixels) -> None:
        self._push((plane, top, rows))

    def finish(self) -> None:
        self._push(None)

    def abort(self) -> None:
        self._aborted = True
        self._push(None)

    def _push(self, item: tuple[int, int, Pixels] | None) -> None:
        # The writer may have failed with the queue full: then nobody will take this.
        while not self._stopped.is_set():
            try:
                self._rows.put(item, timeout=0.1)
            except queue.Full:
                continue
            return
        if item is not None:
            raise InputError("the result could not be written")

    def write_all(self, job: Job, target: ImageInfo) -> None:
        """Write the file; runs in a thread of its own."""
        try:
            with create_image(job.target, target, overwrite=job.overwrite) as writer:
                while (item := self._rows.get()) is not None:
                    writer.write_rows(*item)
                if self._aborted:
                    raise _Aborted
        except _Aborted:
            pass
        finally:
            self._stopped.set()
