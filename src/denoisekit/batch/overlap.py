"""Files read ahead of the network and written behind it, in threads of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from denoisekit.atomic import Claim
from denoisekit.errors import OutputError
from denoisekit.formats import create_image, open_image
from denoisekit.image import ImageInfo, Pixels, Reader

AHEAD_BYTES = 256 * 2**20
"""Largest plane, in bytes, of a file that is read ahead of its turn."""

POLL_SECONDS = 0.1
"""How soon either end of a queue learns that the other has given up."""


class Ahead:
    """Opens and decodes each file while the network is busy with the one before.

    Parameters
    ----------
    files : sequence of (Path, str or None)
        In their order; with the axes, where the user knows better than the file.
    largest : int
        Largest plane, in bytes, that is decoded ahead.
    max_memory : int, optional
        Most bytes that decoding a file may take.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path, str | None]],
        largest: int,
        max_memory: int | None = None,
    ) -> None:
        self._files, self._max_memory = files, max_memory
        self._largest = largest
        self._thread = ThreadPoolExecutor(1, "read")
        self._coming: Future[Reader] | None = None

    def __enter__(self) -> Ahead:
        return self

    def take(self, index: int) -> Reader:
        """Return the reader of a file, and go on to the one after it."""
        coming, self._coming = self._coming, None
        try:
            reader = coming.result() if coming else self._open(*self._files[index])
        except Exception:
            self._go_on(index + 1)
            raise
        if reader.info.plane_bytes <= AHEAD_BYTES:
            self._go_on(index + 1)
        return reader

    def _go_on(self, index: int) -> None:
        if index < len(self._files):
            self._coming = self._thread.submit(self._open, *self._files[index])

    def _open(self, path: Path, axes: str | None) -> Reader:
        reader = open_image(path, axes, self._max_memory)
        if reader.info.plane_bytes <= self._largest:
            try:
                reader.read_rows(0, 0, 1)  # formats that decode a plane as a whole do it now
            except BaseException:
                reader.close()
                raise
        return reader

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        if self._coming and not self._coming.exception():
            self._coming.result().close()


class _Aborted(Exception):
    """The rows will not come: the file is abandoned."""


class Sink:
    """Rows on their way from the network to the thread that writes them."""

    def __init__(self) -> None:
        self._rows: queue.Queue[tuple[int, int, Pixels] | None] = queue.Queue(2)
        self._stopped = threading.Event()  # nobody takes rows any more
        self._aborted = threading.Event()  # no more rows will come

    def put(self, plane: int, top: int, rows: Pixels) -> None:
        """Hand over rows, waiting where the writer is two bands behind."""
        self._push((plane, top, rows))

    def finish(self) -> None:
        """Say that these were all the rows."""
        self._push(None)

    def abort(self) -> None:
        """Give the file up; never waits."""
        self._aborted.set()

    def _push(self, item: tuple[int, int, Pixels] | None) -> None:
        while not self._stopped.is_set():
            try:
                self._rows.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return
        raise OutputError("the result could not be written")

    def _pull(self) -> tuple[int, int, Pixels] | None:
        while not self._aborted.is_set():
            try:
                return self._rows.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
        raise _Aborted

    def write_all(self, claim: Claim, target: ImageInfo, overwrite: bool) -> None:
        """Write the file whose place is claimed; runs in a thread of its own."""
        try:
            with create_image(claim.path, target, overwrite=overwrite, claim=claim) as writer:
                while (item := self._pull()) is not None:
                    writer.write_rows(*item)
        except _Aborted:
            pass
        finally:
            self._stopped.set()
