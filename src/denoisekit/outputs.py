"""Which files a batch reads and which it writes, settled before any work.

Nothing here opens an image: names, folders and the formats' suffixes only.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.formats import FORMATS, find_format

SUFFIX = "_denoised"
"""Put after the name of an input to name its output beside it."""


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
        Put after the name; None: `SUFFIX` beside the input, nothing elsewhere.
    format : str or None
        Id of the format to write; None: the input's own.
    """

    output: Path | None = None
    suffix: str | None = None
    format: str | None = None


def find_sources(
    inputs: Sequence[str], *, recursive: bool = False, ours: str = SUFFIX
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

    Returns
    -------
    list of Source
        In the order named, folders sorted by name, each file once. A name with nothing
        behind it is kept, with its error.
    """
    found: dict[str, Source] = {}
    for name in inputs:
        for source in _expand(name, recursive, ours):
            found.setdefault(os.path.realpath(source.path), source)
    return list(found.values())


def _expand(name: str, recursive: bool, ours: str) -> Iterator[Source]:
    path = Path(name)
    try:
        if path.is_dir():
            files = [Source(file, file.parent.relative_to(path)) for file in _walk(path, recursive)]
        elif not path.exists() and glob.has_magic(name):
            # A name with brackets may be a file's own; only otherwise is it a pattern.
            matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - absolute patterns too
            files = [Source(Path(match)) for match in matches if Path(match).is_file()]
        else:
            yield Source(path)
            return
    except OSError as error:  # a loop of links, a name too long, no permission
        yield Source(path, error=InputError(f"cannot read {name}: {error.strerror}"))
        return
    if not files:
        what = "no image in the folder" if path.is_dir() else "no file matches"
        hint = None if recursive else "add --recursive to look into its folders"
        yield Source(path, error=InputError(f"{what} {name}", hint if path.is_dir() else None))
    names = {source.path for source in files}
    for source in files:
        stem = source.path.stem
        original = source.path.with_stem(stem.removesuffix(ours)) if stem != ours else source.path
        if not stem.endswith(ours) or original not in names or original == source.path:
            yield source


def _walk(folder: Path, recursive: bool) -> list[Path]:
    """Return the image files of a folder by name; links are followed, loops are not."""
    known = {suffix for format in FORMATS for suffix in format.suffixes}
    files: list[Path] = []
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if not recursive:
            folders.clear()
        folders.sort()
        files += [Path(parent, n) for n in sorted(names) if Path(n).suffix.lower() in known]
    return [file for file in files if not file.name.startswith(".")]


def name_outputs(
    sources: Iterable[Source], naming: Naming, format_of: Callable[[Source], str]
) -> list[tuple[Source, Path]]:
    """Name the output of every source, and refuse names that would lose a file.

    Parameters
    ----------
    sources : iterable of Source
        Without errors.
    naming : Naming
        What the user asked for.
    format_of : callable
        Id of the format that a source is in.

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
    single = naming.output is not None and _is_file_name(naming.output)
    if single and len(sources) > 1:
        raise UsageError(
            f"{len(sources)} inputs cannot all be written to the file {naming.output}",
            "give a folder to -o, ending in a slash",
        )
    pairs = [
        (source, naming.output if single and naming.output else _name(source, naming, format_of))
        for source in sources
    ]
    inputs = {_identity(source.path) for source in sources}
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
                "denoise them apart, or give different folders",
            )
        taken[identity] = source.path
    return pairs


def _is_file_name(output: Path) -> bool:
    known = {suffix for format in FORMATS for suffix in format.suffixes}
    return output.suffix.lower() in known and not output.is_dir()


def _name(source: Source, naming: Naming, format_of: Callable[[Source], str]) -> Path:
    path = source.path
    format = find_format(naming.format or format_of(source))
    ending = path.suffix if path.suffix.lower() in format.suffixes else format.suffixes[0]
    beside = naming.output is None
    suffix = naming.suffix if naming.suffix is not None else (SUFFIX if beside else "")
    folder = path.parent if naming.output is None else naming.output / source.below
    return folder / f"{path.stem}{suffix}{ending}"


def _identity(path: Path) -> str:
    """Return what tells whether two names are one file, also for a file not yet there."""
    return os.path.normcase(os.path.join(os.path.realpath(path.parent), path.name))  # noqa: PTH118


def check_free(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists, unless it may be overwritten.

    Raises
    ------
    OutputError
        It exists.
    """
    if output.is_dir():
        raise OutputError(f"{output} is a folder", "give -o a file name, or end it in a slash")
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already", "add --overwrite or --skip-existing")
