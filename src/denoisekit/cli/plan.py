"""What a run will read and write, settled before any work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from denoisekit.atomic import remove_dead_parts
from denoisekit.errors import DenoisekitError, InputError, OutputTaken, UsageError, as_error

if TYPE_CHECKING:
    from denoisekit.batch.naming import Naming, Source
    from denoisekit.batch.run import Job
    from denoisekit.errors import DenoisekitError
    from denoisekit.image import ImageInfo


class Plan:
    """Files to work on, and those that cannot be.

    Parameters
    ----------
    naming : Naming
        How outputs are called.
    axes : str or None
        What the axes are, where the user knows better than the files.
    overwrite, skip_existing : bool
        What to do with outputs that exist.

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

    def __init__(
        self, naming: Naming, axes: str | None, overwrite: bool, skip_existing: bool
    ) -> None:
        self.naming, self.axes = naming, axes
        self.overwrite, self.skip_existing = overwrite, skip_existing
        self.jobs: list[Job] = []
        self.images: list[ImageInfo] = []
        self.failures: list[tuple[Path, DenoisekitError]] = []
        self.skipped: list[Path] = []
        self.notes: list[str] = []

    def make(self, inputs: list[str], recursive: bool) -> None:
        """Find the files, look into each, and name its output.

        Raises
        ------
        DenoisekitError
            Two inputs would write one file, or an output would replace an input.
        """
        from denoisekit.batch.naming import (
            check_count,
            check_ending,
            find_sources,
            left_out,
            name_outputs,
        )
        from denoisekit.batch.run import Job, survey, target_info
        from denoisekit.formats import check_output

        naming = self.naming
        if len(inputs) == 1 and not os.path.isdir(inputs[0]):  # noqa: PTH112 - no permission: no
            check_ending(naming.output)
        naming.format_for("")  # a wrong name fails before any file is opened
        ours = naming.suffix or naming.default
        images: dict[Path, ImageInfo] = {}
        readable: list[Source] = []
        sources = find_sources(inputs, recursive=recursive, ours=ours, output=naming.output)
        check_count(naming, len(sources))
        if any(not source.error for source in sources):  # else the error says it
            self.notes = [f"left out: {line}" for line in left_out(inputs, recursive=recursive)]
        for source in sources:
            try:
                if source.error:
                    raise source.error
                images[source.path] = survey(source.path, self.axes)
                readable.append(source)
            except UsageError as error:  # axes that do not fit this file
                self._fail(source.path, InputError(error.message, error.hint))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this file's own
                meant = _meant_as_output(source.path, inputs)
                self._fail(source.path, meant or as_error(error, source.path))

        def format_of(source: Source) -> str:
            return naming.format_for(images[source.path].format)

        pairs = name_outputs(readable, naming, format_of)
        for source, target in pairs:
            image = images[source.path]
            format = format_of(source)
            try:
                check_output(target, overwrite=self.overwrite)
                target_info(image, format)
            except Exception as error:  # noqa: BLE001
                if self.skip_existing and isinstance(error, OutputTaken):
                    self.skipped.append(source.path)
                else:
                    self._fail(source.path, as_error(error, source.path))
                continue
            self.jobs.append(
                Job(source.path, target, format, self.axes, self.overwrite, self.skip_existing)
            )
            self.images.append(image)
        for folder in {target.parent for _, target in pairs}:
            remove_dead_parts(folder)  # also where nothing is left to do

    def _fail(self, path: Path, error: DenoisekitError) -> None:
        self.failures.append((path, error))


def _meant_as_output(path: Path, inputs: list[str]) -> InputError | None:
    """Return the error for the second of two names, where it is that of the result."""
    there = [os.path.lexists(name) for name in inputs]
    if there != [True, False] or str(path) != inputs[1]:
        return None
    return InputError(
        f"{path}: no such file",
        f"all names are of images to read; to name the result: {inputs[0]} -o {path}",
    )
