"""Options that several commands share, each said once; and how a batch ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from denoisekit.errors import UsageError

Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="A file, or a folder (also for one input)."),
]
Format = Annotated[str | None, typer.Option(help="Write another format: png, tiff, jpeg …")]
Recursive = Annotated[
    bool, typer.Option("--recursive", help="Folders of folders too; the tree is mirrored.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave inputs out whose output exists.")
]
Range = Annotated[
    str, typer.Option(help="Black and white: auto, dtype, minmax, percentile or LO,HI.")
]
Axes = Annotated[
    str | None, typer.Option(help="What the axes are, such as TZCYX; overrides the file.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only errors.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a file.")]


def check_existing(*, overwrite: bool, skip_existing: bool) -> None:
    """Refuse to both replace and leave out.

    Raises
    ------
    UsageError
        Both are asked for.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other")


def end_batch(codes: Sequence[int]) -> None:
    """End the program with the exit code of a batch, given those of the files that failed."""
    if codes:
        # One cause for all has its own code; several are "some input failed".
        raise typer.Exit(codes[0] if min(codes) == max(codes) else 1)
