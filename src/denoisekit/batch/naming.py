"""Which files a batch reads and which it writes, settled before any work.

Nothing here opens an image: names, folders and the formats' suffixes only.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from denoisekit.errors import InputError, UsageError
from denoisekit.formats import FORMATS, find_format, heif
from denoisekit.formats.foreign import counted, kind_named

SUFFIX = "_denoised"
"""Put after the name of an input to name its output beside it."""

UNWRITTEN = frozenset({".gif", ".psd", ".exr", ".pdf", ".svg", ".dng", ".tga"})
"""Endings of picture files that no format here writes; not taken for the names of folders."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to denoise, and where under its folder or pattern it was found.

    Attributes
    ----------
    path : Path
        The file.
    below : Path
        Its folder relative to the folder that the user named; ``.`` for a file
        named itself. Mirrored under an output folder.
    error : InputError or None
        Why there is nothing to denoise at this name.
    """

    path: Path
    below: Path = Path()
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class Naming:
    """How outputs are named.

    Attributes
    ----------
    output : Path or None
        A file, for one input; or a folder; None: beside the input.
    suffix : str or None
        Put after the name; None: `default` beside the input, nothing elsewhere.
    format : str or None
        Id of the format to write; None: the input's own.
    default : str
        What names an output beside its input.
    """

    output: Path | None = None
    suffix: str | None = None
    format: str | None = None
    default: str = SUFFIX

    def __post_init__(self) -> None:
        if self.suffix and any(sign in self.suffix for sign in "/\\\0"):
            raise UsageError(
                f"--suffix {self.suffix} is no part of a name", "folders are named with -o"
            )

    @property
    def file(self) -> Path | None:
        """The file that `output` names; None: a folder, or nothing.

        Raises
        ------
        UsageError
            It looks like the name of a picture in a format that cannot be written.
        """
        if self.output is None or os.path.isdir(self.output):  # noqa: PTH112 - no permission: no
            return None
        suffix = self.output.suffix.lower()
        if suffix in UNWRITTEN:
            raise UsageError(
                f"{self.output}: {suffix} files cannot be written",
                "choose from " + ", ".join(format.suffixes[0] for format in FORMATS),
            )
        return self.output if suffix in _known_suffixes() else None

    def format_for(self, own: str) -> str:
        """Return the id of the format to write for an input of the format ``own``.

        Raises
        ------
        UsageError
            No format has the name asked for, or the output's name says another one.
        """
        named = find_format(self.file.suffix).id if self.file else None
        if self.format is None:
            return named or own
        wanted = find_format(self.format).id
        if named not in (None, wanted):
            raise UsageError(
                f"--format {self.format} and the output {self.output} contradict each other",
                "leave --format out: the name of the output is enough",
            )
        return wanted


def check_ending(output: Path | None) -> None:
    """Refuse an output for one file whose ending looks like that of a format, and is of none.

    Raises
    ------
    UsageError
        ``z.unknown``. A folder that is there may be called so, and one that is not like
        ``out.v2``.
    """
    if output is None or os.path.isdir(output):  # noqa: PTH112 - no permission: no
        return
    suffix = output.suffix.lower()
    looks = re.fullmatch(r"\.[a-z][a-z0-9]{1,9}", suffix) and not re.fullmatch(r"\.v\d+", suffix)
    if looks and suffix not in _known_suffixes() | UNWRITTEN:
        raise UsageError(
            f"{output}: no format is known that ends in {suffix}",
            f"choose from {' '.join(sorted(_known_suffixes()))}; for a folder of that name, "
            "make it first",
        )


def find_sources(
    inputs: Sequence[str],
    *,
    recursive: bool = False,
    ours: str = SUFFIX,
    output: Path | None = None,
) -> list[Source]:
    """Find the files that the user named: files, folders, patterns.

    Parameters
    ----------
    inputs : sequence of str
        Paths or patterns (``*``, ``?``, ``[…]``, ``**``).
    recursive : bool
        Look into the folders of folders too.
    ours : str
        Files of a folder or pattern whose name ends so are results of an earlier run:
        passed over when the file they came from is there too.
    output : Path, optional
        Where results go: a folder of folders is not searched there.

    Returns
    -------
    list of Source
        In the order named, folders sorted by name, each file once. A name with nothing
        behind it is kept, with its error.
    """
    found: dict[str, Source] = {}
    for name in inputs:
        for source in _expand(name, recursive, ours, output):
            found.setdefault(os.path.realpath(source.path), source)
    return list(found.values())


def _expand(name: str, recursive: bool, ours: str, output: Path | None) -> Iterator[Source]:
    path = Path(name)
    try:
        if path.is_dir():
            found, closed = _walk(path, recursive, output)
            yield from (Source(Path(error.filename), error=_unreadable(error)) for error in closed)
            if closed and not found:
                return
            files = [Source(file, file.parent.relative_to(path)) for file in found]
        elif not path.exists() and glob.has_magic(name):
            # A name with brackets may be a file's own; only otherwise is it a pattern.
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - absolute patterns too
            files = [Source(Path(match)) for match in matches if Path(match).is_file()]
        else:
            yield Source(path)
            return
    except OSError as error:  # a loop of links, a name too long, no permission
        error.filename = name
        yield Source(path, error=_unreadable(error))
        return
    if not files:
        what = "no image in the folder" if path.is_dir() else "no file matches"
        deeper = path.is_dir() and not recursive
        hint = "add --recursive to look into its folders" if deeper else "check the name"
        if others := left_out([name], recursive=recursive):
            what, hint = "no image that can be read in the folder", "; ".join(others)
        yield Source(path, error=InputError(f"{what} {name}", hint))
    # Without endings: the result may be of another format than the input.
    names = {(source.path.parent, source.path.stem) for source in files}
    for source in files:
        stem = source.path.stem
        original = source.path.parent, stem.removesuffix(ours)
        if not stem.endswith(ours) or original not in names:
            yield source


def _unreadable(error: OSError) -> InputError:
    return InputError(
        f"cannot read {os.fsdecode(error.filename)}: {error.strerror}",
        "check the name and its permissions",
    )


def _walk(folder: Path, recursive: bool, output: Path | None) -> tuple[list[Path], list[OSError]]:
    """Return the image files of a folder by name, and which folders cannot be looked into.

    Links are followed, loops are not.
    """
    closed: list[OSError] = []
    known = _known_suffixes()
    files: list[Path] = []
    top = os.path.realpath(folder)
    seen = {os.path.realpath(output)} - {top} if output else set()
    for parent, folders, names in os.walk(folder, onerror=closed.append, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if not recursive:
            folders.clear()
        folders.sort()
        files += [Path(parent, n) for n in sorted(names) if Path(n).suffix.lower() in known]
    return [file for file in files if not file.name.startswith(".")], closed


def left_out(inputs: Sequence[str], *, recursive: bool = False) -> list[str]:
    """Say which files of the folders named are of a kind that is not read: a line a kind.

    Parameters
    ----------
    inputs : sequence of str
        As for `find_sources`.
    recursive : bool
        Look into the folders of folders too.
    """
    known = _known_suffixes()
    found: list[Path] = []
    for folder in filter(os.path.isdir, inputs):
        for parent, folders, names in os.walk(folder):
            found += [Path(parent, name) for name in (*names, *folders)]
            # A store that is a folder is one file to its user.
            folders[:] = [f for f in folders if recursive and not kind_named(Path(f))]
    hidden = (path for path in found if path.suffix.lower() not in known)
    return counted(path for path in hidden if not path.name.startswith("."))


def name_outputs(
    sources: Iterable[Source], naming: Naming, format_of: Callable[[Source], str]
) -> list[tuple[Source, Path]]:
    """Name the output of every source, and refuse names that would lose a file.

    Parameters
    ----------
    sources : iterable of Source
        What will be denoised.
    naming : Naming
        What the user asked for.
    format_of : callable
        Id of the format to write for a source.

    Returns
    -------
    list of (Source, Path)
        Each source with its output.

    Raises
    ------
    UsageError
        Two inputs would write one file, an output is an input, or one file was
        named for several inputs.
    """
    sources = list(sources)
    check_count(naming, len(sources))
    pairs = [(source, naming.file or _name(source, naming, format_of)) for source in sources]
    # An input may be named by a link, and the output name what it points to.
    inputs = {_identity(source.path) for source in sources}
    inputs |= {os.path.normcase(os.path.realpath(source.path)) for source in sources}
    taken: dict[str, Path] = {}
    for source, output in pairs:
        identity = _identity(output)
        if identity in inputs:
            raise UsageError(
                f"the output {output} is an input too", "give another -o, or a --suffix"
            )
        if identity in taken:
            raise UsageError(
                f"{taken[identity]} and {source.path} would both be written to {output}",
                "run them apart, or give different folders",
            )
        taken[identity] = source.path
    return pairs


def check_count(naming: Naming, count: int) -> None:
    """Refuse one output file for several inputs, readable or not.

    Raises
    ------
    UsageError
        There are several.
    """
    if naming.file and count > 1:
        raise UsageError(
            f"{count} inputs cannot all be written to the file {naming.file}",
            "give a folder to -o",
        )


def _known_suffixes() -> set[str]:
    known = (f for f in FORMATS if not (f.id == "heif" and heif.missing()))
    return {suffix for format in known for suffix in format.suffixes}


def _name(source: Source, naming: Naming, format_of: Callable[[Source], str]) -> Path:
    path = source.path
    format = find_format(format_of(source))
    ending = path.suffix if path.suffix.lower() in format.suffixes else format.suffixes[0]
    beside = naming.output is None
    suffix = naming.suffix if naming.suffix is not None else (naming.default if beside else "")
    folder = path.parent if naming.output is None else naming.output / source.below
    return folder / f"{path.stem}{suffix}{ending}"


def _identity(path: Path) -> str:
    """Return what tells whether two names are one file, also for a file not yet there."""
    return os.path.normcase(os.path.join(os.path.realpath(path.parent), path.name))  # noqa: PTH118
