"""Files in, files out: the list of formats, and the only two doors.

`open_image` finds the format by content and returns a reader of planes and row
bands; `create_image` returns a writer whose file appears whole or not at all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from denoisekit.errors import InputError, OutputError, UsageError, did_you_mean
from denoisekit.formats.base import Format
from denoisekit.image import ImageInfo, Reader, Writer

FORMATS: tuple[Format, ...] = ()
"""Every format, in the order of sniffing. A new one is a module and a line here."""


def find_format(name: str) -> Format:
    """Return the format with this id or suffix (``"png"``, ``".tif"``)."""
    raise NotImplementedError


def open_image(path: Path, axes: str | None = None) -> Reader:
    """Open a file of any known format, recognised by its content."""
    raise NotImplementedError


@contextmanager
def create_image(path: Path, info: ImageInfo, *, overwrite: bool = False) -> Iterator[Writer]:
    """Make a file of ``info.format`` that appears under its name only when complete."""
    raise NotImplementedError
