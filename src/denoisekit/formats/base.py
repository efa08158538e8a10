"""What a file format provides. The list of formats is in `denoisekit.formats`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from denoisekit.image import ImageInfo, Reader, Writer


@dataclass(frozen=True, slots=True)
class Format:
    """One file format, described; its functions import their library when called.

    Attributes
    ----------
    id, title : str
        Short name (``"png"``) and the name people know.
    suffixes : tuple of str
        File name endings, lower case with the dot; the first is the usual one.
    sniff : callable
        ``sniff(head)`` tells from a file's first 64 bytes whether it is of this
        format. The content decides, never the name.
    open : callable
        ``open(path, axes)`` returns a `Reader`; ``axes`` overrides what the file
        says (None: believe the file). Raises InputError.
    create : callable
        ``create(path, info)`` returns a `Writer` to a file of this format. ``path``
        is a temporary name; the caller renames it.
    check : callable
        ``check(info)`` returns the `ImageInfo` of what this format would store for
        that description (metadata of another format's container dropped …), and
        raises OutputError with a hint where it would lose bits, planes or channels.
    streams : bool
        Whether its writer keeps only the rows it was given last, and not a whole plane
        and then its encoded form.
    """

    id: str
    title: str
    suffixes: tuple[str, ...]
    sniff: Callable[[bytes], bool]
    open: Callable[[Path, str | None], Reader]
    create: Callable[[Path, ImageInfo], Writer]
    check: Callable[[ImageInfo], ImageInfo]
    streams: bool = False
