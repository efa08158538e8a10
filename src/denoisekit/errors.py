"""Every error the library raises on purpose.

::

    DenoisekitError            exit code 1
    ├── InputError             a file or array that cannot be denoised
    ├── OutputError            a result that cannot be written
    │   └── OutputTaken        it is there already, or another run is writing it
    ├── UsageError         2   a request that makes no sense, whatever the files hold
    ├── WeightsError       3   weights that are absent, damaged or of another network
    ├── OutOfMemory        4   no tile is small enough
    └── InternalError     70   a bug of ours, at work on one file of several

In a batch whatever is not expected becomes one of these too, see `as_error`: it is the error of
its file, and the others are done.

The command line prints ``message`` and ``hint`` on one line each and leaves with
``exit_code``; nothing else in the package prints an error or ends the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Protocol, TypeVar

_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, turns of direction, and halves of characters."""


class DenoisekitError(Exception):
    """An expected failure, told in words a user can act on.

    Parameters
    ----------
    message : str
        One line: what failed, naming the file, option or value.
    hint : str, optional
        One line: what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(DenoisekitError):
    """A file or array that cannot be read or denoised."""


class OutputError(DenoisekitError):
    """A result that cannot be written where, or in the form, it was asked for."""


class OutputTaken(OutputError):
    """A result whose file is there already, or is being written by another run."""


class UsageError(DenoisekitError):
    """A request that no input could satisfy: an unknown name, options that contradict."""

    exit_code = 2


class WeightsError(DenoisekitError):
    """Weights that are absent, cannot be fetched, are damaged, or fit another network."""

    exit_code = 3


class OutOfMemory(DenoisekitError):
    """Not even the smallest tile fits in the memory allowed."""

    exit_code = 4


class InternalError(DenoisekitError):
    """A bug in denoisekit; raised ``from`` what was not expected."""

    exit_code = 70


def as_error(error: Exception, name: object) -> DenoisekitError:
    """Return what to tell of an exception that was met at work on one file of several.

    Parameters
    ----------
    error : Exception
        Anything; an error raised on purpose comes back as it is.
    name : object
        The file, or what else the work was on.
    """
    if isinstance(error, DenoisekitError):
        return error
    told: DenoisekitError
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _FULL):
        told = OutOfMemory(f"{name}: not enough memory", "try a smaller --max-memory")
    elif isinstance(error, OSError):
        told = DenoisekitError(f"{name}: {error.strerror or error}")
    else:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        told = InternalError(f"{name}: this is a bug in denoisekit: {what}", REPORT)
    told.__cause__ = error
    return told


_FULL = ("out of memory", "can't allocate memory")
"""What torch says in a RuntimeError when memory is used up."""

REPORT = (
    "please report it where you got denoisekit, with the traceback that DENOISEKIT_DEBUG=1 shows "
    "and what denoisekit doctor says"
)
"""What to do about a bug."""


def did_you_mean(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return a hint that names the closest known names, or all of them.

    Parameters
    ----------
    name : str
        What the user typed.
    known : sequence of str
        The names that would have been accepted.

    Returns
    -------
    str
        ``did you mean 'x'?`` or ``known: a, b, c``.
    """
    import difflib

    close = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "known: " + ", ".join(known)


class HasId(Protocol):
    """What has a name of its own."""

    @property
    def id(self) -> str:
        """The name."""
        ...


Named = TypeVar("Named", bound=HasId)


def find_by_id(kind: str, name: str, known: Iterable[Named]) -> Named:
    """Return the one of several things whose ``id`` is a name.

    Parameters
    ----------
    kind : str
        What they are, for the error: ``protocol``, ``set`` …
    name : str
        What the user typed.
    known : iterable
        The things.

    Raises
    ------
    UsageError
        None is called so; the hint names the closest.
    """
    by_id = {one.id: one for one in known}
    if name not in by_id:
        raise UsageError(f"there is no {kind} '{name}'", did_you_mean(name, list(by_id)))
    return by_id[name]


def printable(text: str) -> str:
    r"""Return a text as one line that no terminal takes for anything but text.

    Names of files, metadata, weights and plugins may hold escape sequences, ends of lines,
    or bytes that are no UTF-8.

    Parameters
    ----------
    text : str
        Of any origin.

    Returns
    -------
    str
        With ``\n``, ``\x1b``, ``\u202e`` … written out; bytes that are no UTF-8 as ``\xff``.
    """
    return _UNSHOWN.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps the bytes of a name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match[0])[1:-1]


def pip_install(extra: str = "", *options: str) -> str:
    """Return the command that installs denoisekit as it was installed here, with an extra.

    What an index does not know by that name is installed from its folder.

    Parameters
    ----------
    extra : str
        Of ``pyproject.toml``, such as ``bench``.
    *options : str
        Of pip.

    Returns
    -------
    str
        Right for every shell: in double quotes.
    """
    import json
    from contextlib import suppress
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    what, more = "denoisekit", list(options)
    with suppress(metadata.PackageNotFoundError, OSError, ValueError, LookupError, TypeError):
        origin = json.loads(metadata.distribution("denoisekit").read_text("direct_url.json") or "")
        folder = origin["dir_info"]  # of a checkout; a wheel or an archive has none
        what = url2pathname(urlsplit(origin["url"]).path)
        more += ["-e"] * bool(folder.get("editable"))
    named = f"{what}[{extra}]" if extra else what
    return " ".join(["pip install", *more, f'"{named}"'])
