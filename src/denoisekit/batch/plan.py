"""What a run over files will read and write, settled before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from denoisekit.atomic import remove_dead_parts
from denoisekit.batch.naming import (
    SUFFIX,
    Naming,
    Source,
    check_count,
    check_ending,
    find_sources,
    left_out,
    name_outputs,
)
from denoisekit.batch.run import Job, survey, target_info
from denoisekit.errors import DenoisekitError, InputError, OutputTaken, UsageError, as_error
from denoisekit.formats import check_output
from denoisekit.image import ImageInfo
from denoisekit.options import FileOptions


@dataclass(slots=True)
class Plan:
    """Files to work on, and those that cannot be.

    Attributes
    ----------
    jobs : list of Job
        What will be done.
    images : list of ImageInfo
        What each job's file holds.
    failures : list of (Path, DenoisekitError)
        Files that cannot be read or written, and why.
    skipped : list of Path
        Files whose output exists.
    notes : list of str
        What the folders hold beside the files to work on.
    """

    jobs: list[Job] = field(default_factory=list)
    images: list[ImageInfo] = field(default_factory=list)
    failures: list[tuple[Path, DenoisekitError]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_inputs(
    inputs: Sequence[str], files: FileOptions, *, recursive: bool = False, default: str = SUFFIX
) -> Plan:
    """Find files, folders and patterns, look into each file, and name its output.

    Parameters
    ----------
    inputs : sequence of str
        As the user named them.
    files : FileOptions
        How to read and write.
    recursive : bool
        Look into the folders of folders too.
    default : str
        What names an output beside its input.

    Raises
    ------
    DenoisekitError
        Two inputs would write one file, or an output would replace an input.
    """
    if len(inputs) == 1 and not os.path.isdir(inputs[0]):  # noqa: PTH112 - no permission: no
        check_ending(files.output)
    naming = Naming(files.output, files.suffix, files.format, default)
    naming.format_for("")  # a wrong name fails before any file is opened
    ours = naming.suffix or naming.default
    sources = find_sources(inputs, recursive=recursive, ours=ours, output=naming.output)
    plan = plan_files(sources, naming, files, inputs)
    if any(not source.error for source in sources):  # else the error says it
        plan.notes = [f"left out: {line}" for line in left_out(inputs, recursive=recursive)]
    return plan


def plan_files(
    sources: Sequence[Source], naming: Naming, files: FileOptions, inputs: Sequence[str] = ()
) -> Plan:
    """Look into files, and name the output of each; see `plan_inputs`."""
    plan = Plan()
    check_count(naming, len(sources))
    images: dict[Path, ImageInfo] = {}
    readable: list[Source] = []
    for source in sources:
        try:
            if source.error:
                raise source.error
            images[source.path] = survey(source.path, files.axes)
            readable.append(source)
        except UsageError as error:  # axes that do not fit this file
            plan.failures.append((source.path, InputError(error.message, error.hint)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this file's own
            meant = _meant_as_output(source.path, inputs)
            plan.failures.append((source.path, meant or as_error(error, source.path)))
    formats = {source.path: naming.format_for(images[source.path].format) for source in readable}
    pairs = name_outputs(readable, naming, lambda source: formats[source.path])
    for source, target in pairs:
        path, format = source.path, formats[source.path]
        try:
            check_output(target, overwrite=files.overwrite)
            target_info(images[path], format)
        except Exception as error:  # noqa: BLE001
            if files.skip_existing and isinstance(error, OutputTaken):
                plan.skipped.append(path)
            else:
                plan.failures.append((path, as_error(error, path)))
            continue
        skip = files.skip_existing
        plan.jobs.append(Job(path, target, format, files.axes, files.overwrite, skip))
        plan.images.append(images[path])
    for folder in {target.parent for _, target in pairs}:
        remove_dead_parts(folder)  # also where nothing is left to do
    return plan


def _meant_as_output(path: Path, inputs: Sequence[str]) -> InputError | None:
    """Return the error for the second of two names, where it is that of the result."""
    there = [os.path.lexists(name) for name in inputs]
    if there != [True, False] or str(path) != inputs[1]:
        return None
    return InputError(
        f"{path}: no such file",
        f"all names are of images to read; to name the result: {inputs[0]} -o {path}",
    )
