"""Several methods on one image of the user's own: those that a time allows, and what each did.

Each is given a part of the image as `denoise` would read it, and returns what `denoise`
would write.
"""

from denoisekit.comparing.choices import Choice, choices_here, choices_named
from denoisekit.comparing.part import (
    Crop,
    Part,
    as_unit,
    middle_crop,
    parse_crop,
    spread_planes,
)
from denoisekit.comparing.run import Limits, Result, Skipped, compare, judge

__all__ = [
    "Choice",
    "Crop",
    "Limits",
    "Part",
    "Result",
    "Skipped",
    "as_unit",
    "choices_here",
    "choices_named",
    "compare",
    "judge",
    "middle_crop",
    "parse_crop",
    "spread_planes",
]
