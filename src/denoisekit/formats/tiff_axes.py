"""Which axis of a TIFF lies where: between its pages, or inside one.

A page is an array (separate samples, depth, rows, columns, samples of a pixel).
A file's axes are spread over the pages and over these five; planes and their
samples are found again through the `Geometry`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from denoisekit.errors import UsageError

Role = Literal["page", "separate", "depth", "row", "column", "sample", "single"]
IN_PAGE: tuple[Role, ...] = ("separate", "depth", "row", "column", "sample")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where one sample of a plane, or all samples together, are found."""

    page: int
    separate: int
    depth: int
    sample: int | None
    """One sample of the pixels, or all of them."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The axes of a file in their order.

    Attributes
    ----------
    letters : str
        One letter an axis; ``Y`` rows, ``X`` columns, ``S`` samples of a pixel;
        all others number the planes.
    sizes : tuple of int
        Their lengths.
    roles : tuple of str
        Where each axis lies.
    """

    letters: str
    sizes: tuple[int, ...]
    roles: tuple[Role, ...]

    @property
    def axes(self) -> str:
        """The axes as planes are counted: all others first, then ``YX`` or ``YXS``."""
        others = "".join(letter for letter in self.letters if letter not in "YXS")
        return others + ("YXS" if "S" in self.letters else "YX")

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of `axes`."""
        of = dict(zip(self.letters, self.sizes, strict=True))
        return (*self._iterated_sizes(), *(of[a] for a in "YXS" if a in of))

    @property
    def sample_role(self) -> Role | None:
        """Where the samples of a pixel lie."""
        return self.roles[self.letters.index("S")] if "S" in self.letters else None

    @property
    def pages(self) -> int:
        """Number of pages."""
        return math.prod(self._sizes_of("page"))

    @property
    def page_is_plane(self) -> bool:
        """Whether every page is one whole plane, and in the same order."""
        inside = {"separate", "depth", "sample"} - {self.sample_role}
        spread = any(
            role in inside and size > 1 for role, size in zip(self.roles, self.sizes, strict=True)
        )
        return not spread and self.sample_role != "page"

    def spots(self, plane: int) -> Iterator[Spot]:
        """Yield where the samples of a plane lie, one by one unless they lie together."""
        index = dict.fromkeys(range(len(self.letters)), 0)
        for axis in reversed([i for i, a in enumerate(self.letters) if a not in "YXS"]):
            plane, index[axis] = divmod(plane, self.sizes[axis])
        together = self.sample_role not in ("page", "separate")
        for sample in range(1 if together else self.sizes[self.letters.index("S")]):
            if not together:
                index[self.letters.index("S")] = sample
            yield self._spot(index)

    def _spot(self, index: dict[int, int]) -> Spot:
        page, inside = 0, {"separate": 0, "depth": 0, "sample": 0}
        for axis, role in enumerate(self.roles):
            if role == "page":
                page = page * self.sizes[axis] + index[axis]
            elif role in inside:
                inside[role] = index[axis]
        alone = "sample" in self.roles and self.sample_role != "sample"
        return Spot(page, inside["separate"], inside["depth"], inside["sample"] if alone else None)

    def _iterated_sizes(self) -> list[int]:
        pairs = zip(self.letters, self.sizes, strict=True)
        return [size for letter, size in pairs if letter not in "YXS"]

    def _sizes_of(self, role: Role) -> list[int]:
        return [size for r, size in zip(self.roles, self.sizes, strict=True) if r == role]


def aligned(axes: str, shape: tuple[int, ...], page: tuple[int, ...]) -> Geometry:
    """Return which axis lies where.

    Parameters
    ----------
    axes : str
        The file's axes, one letter each.
    shape : tuple of int
        Their lengths.
    page : tuple of int
        Lengths of a page's five axes.

    Raises
    ------
    ValueError
        The lengths contradict each other.
    """
    roles: list[Role] = ["page"] * len(axes)
    i = len(axes) - 1
    for role, size in reversed(list(zip(IN_PAGE, page, strict=True))):
        plain = role in ("row", "column")
        if size == 1 and not plain:
            continue
        while i >= 0 and shape[i] == 1 and (size != 1 or (plain and axes[i] == "S")):
            roles[i] = "single"
            i -= 1
        if i < 0 or shape[i] != size:
            raise ValueError(f"axes {axes} {shape} do not match pages of {page}")
        roles[i] = role
        i -= 1
    letters = [_letter(*pair) for pair in zip(axes, roles, strict=True)]
    return Geometry("".join(letters), tuple(shape), tuple(roles))


def _letter(letter: str, role: Role) -> str:
    # Samples stored with a pixel stay with it, whatever the file calls them: the
    # written file then has the same layout.
    fixed = {"row": "Y", "column": "X", "separate": "S", "sample": "S"}.get(role)
    if fixed or (letter == "S" and role == "single"):
        return fixed or letter
    return "Q" if letter in "YXS" else letter


def renamed(geometry: Geometry, asked: str, name: str) -> Geometry:
    """Return the geometry with the axes called as the user says.

    Parameters
    ----------
    geometry : Geometry
        Of the file.
    asked : str
        One letter an axis; axes of length 1 may be left out together.
    name : str
        The file, for the message.

    Raises
    ------
    UsageError
        The letters cannot be the axes of this file.
    """
    asked = asked.upper()
    sizes = "×".join(str(n) for n in geometry.sizes)
    hint = f"the file has axes {geometry.letters} of {sizes}"
    fixed = [i for i, role in enumerate(geometry.roles) if role in ("row", "column")]
    if len(asked) != len(geometry.letters):
        long = [i for i, n in enumerate(geometry.sizes) if n > 1 or i in fixed]
        geometry = _only(geometry, long)
        fixed = [i for i, role in enumerate(geometry.roles) if role in ("row", "column")]
    if len(asked) != len(geometry.letters):
        raise UsageError(f"{name}: axes '{asked}' do not fit", hint)
    if not asked.isalpha() or len(set(asked)) != len(asked) or not {"Y", "X"} <= set(asked):
        raise UsageError(f"axes '{asked}' must be different letters with Y and X among them", hint)
    if [asked[i] for i in fixed] != ["Y", "X"]:
        raise UsageError(f"{name}: axes '{asked}' do not put Y and X on the rows and columns", hint)
    return replace(geometry, letters=asked)


def _only(geometry: Geometry, axes: list[int]) -> Geometry:
    return Geometry(
        "".join(geometry.letters[i] for i in axes),
        tuple(geometry.sizes[i] for i in axes),
        tuple(geometry.roles[i] for i in axes),
    )
