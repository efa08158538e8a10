"""Weights as a file for other programs: ONNX or TorchScript.

Exported is all that the method does with one image, in float32: for SDAP its
down-sampling and its second pass too. Height and width stay free. The file is compared
with the original on images of several sizes before it gets its name.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from denoisekit._version import __version__
from denoisekit.atomic import write_whole
from denoisekit.draws import Draws
from denoisekit.errors import OutputError, UsageError, WeightsError, did_you_mean, pip_install
from denoisekit.export.forms import FORMS
from denoisekit.methods import get_method
from denoisekit.methods.base import MethodInfo, Settings, Traits
from denoisekit.weights import LoadedWeights, file_of, find_entry, is_path, load_manifest
from denoisekit.weights.checkpoint import guesses, read_header, read_state, shapes_of

if TYPE_CHECKING:
    import torch

    from denoisekit.export.forms import Run

TOLERANCE = 1e-4
"""Largest difference from the original that is accepted, as a part of the output's range."""

_LEAST, _LARGEST = 32, 224
"""Sides of the images that are shown and compared, in pixels."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
        The file.
    difference : float
        Largest difference from the original, as a part of the output's range.
    sizes : tuple of (int, int)
        Heights and widths that were compared.
    facts : mapping of str to str
        What the file says of itself.
    """

    path: Path
    difference: float
    sizes: tuple[tuple[int, int], ...]
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of weights before they are read.

    Attributes
    ----------
    method : MethodInfo
        Whose they are.
    licence : str
        As stated.
    bytes : int
        To fetch, at most; 0 where that is not known.
    """

    method: MethodInfo
    licence: str = "not known"
    bytes: int = 0


def export(
    weights: LoadedWeights,
    method: MethodInfo,
    path: Path,
    *,
    kind: str,
    settings: Mapping[str, object] | None = None,
    licence: str = "not known",
    overwrite: bool = False,
) -> Exported:
    """Write a network and its weights for other programs, and compare it with the original.

    Parameters
    ----------
    weights : LoadedWeights
        What to export.
    method : MethodInfo
        Their method; one that is local.
    path : Path
        The file to write. It is there whole, or not at all.
    kind : {'onnx', 'torchscript'}
        Form of the file. Input ``noisy`` and output ``denoised`` are (1, C, H, W) float32.
    settings : mapping, optional
        The method's settings.
    licence : str
        Of the weights; noted in the file.
    overwrite : bool
        Replace a file.

    Raises
    ------
    UsageError
        The method cannot be exported, the kind is unknown, or a package is missing.
    OutputError
        The file exists, cannot be written, or does not compute what the original does.
    """
    chosen = method.choose(settings or {})
    traits = method.traits(weights.config, chosen)
    check(method, traits, path, kind=kind, overwrite=overwrite)
    form = FORMS[kind]
    module = _procedure(weights, method, chosen)
    facts = {**_facts(weights, method, chosen, traits, licence), **dict(form.facts)}
    # Sizes of 1 would be taken for constants.
    least = max(4, _least_blocks(traits.limits.multiple_of))
    example = _image(traits, method.scale, (least, least + 2))
    try:
        data = form.write(module, example, traits.limits.multiple_of, facts)
        difference, sizes = _compare(module, form.load(data), traits, method.scale)
    except Exception as error:  # the exporters raise anything
        reason = str(error).strip().partition("\n")[0]
        raise OutputError(
            f"the network of {method.id} cannot be written as {kind}: "
            f"{type(error).__name__}: {reason}",
            "try another form, or other versions of the packages it needs",
        ) from error
    if not difference <= TOLERANCE:
        raise OutputError(
            f"the exported network differs from the original by {difference:.1g} of its range, "
            f"more than {TOLERANCE:g}; nothing was written",
            "try another form, or other versions of the packages it needs",
        )
    _install(path, data)
    return Exported(path, difference, sizes, facts)


def check(method: MethodInfo, traits: Traits, path: Path, *, kind: str, overwrite: bool) -> None:
    """Refuse what cannot be exported, before any work.

    Raises
    ------
    UsageError
        The method is not local, the kind is unknown or not for this network, or a package is
        missing.
    OutputError
        The file exists.
    """
    if kind not in FORMS:
        raise UsageError(f"there is no form '{kind}'", did_you_mean(kind, list(FORMS)))
    if traits.limits.native is not None or traits.studies:
        raise UsageError(
            f"{method.id} cannot be exported: it is not local, so one network call is not its "
            "whole result",
            "use denoisekit denoise, or weights of a local method, such as aprrd.sidd",
        )
    if traits.scripted and kind != "torchscript":
        raise UsageError(f"this network cannot be written as {kind}", "use --to torchscript")
    missing = [name for name in FORMS[kind].needs if not importlib.util.find_spec(name)]
    if missing:
        raise UsageError(
            f"writing {kind} needs packages that are not installed: {', '.join(missing)}",
            pip_install("export"),
        )
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists already", "add --overwrite, or give another name")


def look_up(name: str) -> Source:
    """Say what weights are: of which method, under which licence.

    Parameters
    ----------
    name : str
        An id from the manifest, or a file: of denoisekit, or an official checkpoint.

    Raises
    ------
    UsageError
        No weights have this id.
    WeightsError
        The file cannot be read, or it is not clear of which method it is.
    """
    if not is_path(name):
        entry = find_entry(name, load_manifest())
        return Source(get_method(entry.method), entry.licence, entry.bytes or 0)
    path = file_of(name)
    shapes = shapes_of(read_state(path))
    header = read_header(path) or {}
    if "method" in header:
        return Source(get_method(header["method"]), header.get("licence", "not known"))
    found = guesses(shapes)
    if len(found) != 1:
        raise WeightsError(
            f"{path} is of no network that is known here, or of several",
            "import it first: denoisekit weights import FILE --as ID",
        )
    return Source(found[0].method)


def _procedure(weights: LoadedWeights, method: MethodInfo, settings: Settings) -> torch.nn.Module:
    from torch import Tensor, nn

    loaded = method.build(weights.config, settings)
    loaded.load(weights.state)
    net = getattr(loaded, "net", None)
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"{method.id} cannot be exported: what its build returns has no module 'net'",
            "its authors can add it",
        )

    class Procedure(nn.Module):
        """All of `denoise`, before `prepare`: the form that is fast has fixed sizes."""

        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, noisy: Tensor) -> Tensor:
            return loaded.denoise(noisy, draws=Draws())

    return Procedure().eval().requires_grad_(False)


def _facts(
    weights: LoadedWeights, method: MethodInfo, settings: Settings, traits: Traits, licence: str
) -> dict[str, str]:
    limits = traits.limits
    return {
        "method": method.id,
        "weights": weights.id,
        "source_sha256": weights.sha256,
        "config": json.dumps(dict(weights.config), sort_keys=True),
        "settings": json.dumps(dict(settings), sort_keys=True),
        "white": f"{method.scale:g}",
        "channels": str(traits.channels),
        "multiple_of": str(limits.multiple_of),
        "align": str(limits.align),
        "halo": str(limits.halo),
        "licence": licence,
        "citation": method.citation,
        "warnings": "; ".join(weights.warnings),
        "exporter": f"denoisekit {__version__}",
    }


def _image(traits: Traits, scale: float, blocks: tuple[int, int]) -> torch.Tensor:
    import torch

    height, width = (count * traits.limits.multiple_of for count in blocks)
    generator = torch.Generator().manual_seed(height * 10_007 + width)
    return torch.rand(1, traits.channels, height, width, generator=generator) * scale


def _least_blocks(multiple_of: int) -> int:
    return -(-_LEAST // multiple_of)


def _some_blocks(multiple_of: int) -> Iterator[tuple[int, int]]:
    """Yield sizes in units of what the network takes: a small square, and random ones."""
    dice, least = random.Random(multiple_of), _least_blocks(multiple_of)
    yield least, least
    choices = range(least, max(least + 2, _LARGEST // multiple_of + 1))
    for _ in range(4):
        height, width = dice.sample(choices, 2)
        yield height, width


def _compare(
    module: Run, run: Run, traits: Traits, scale: float
) -> tuple[float, tuple[tuple[int, int], ...]]:
    """Return the largest difference on several images, and their sizes."""
    import torch

    images = [_image(traits, scale, blocks) for blocks in _some_blocks(traits.limits.multiple_of)]
    with torch.inference_mode():
        differences = [_difference(run(image), module(image)) for image in images]
    return max(differences), tuple((image.shape[2], image.shape[3]) for image in images)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    spread = (expected.max() - expected.min()).clamp_min(1e-12)
    difference = ((found - expected).abs().max() / spread).item()
    # `max` would lose a NaN among numbers.
    return difference if math.isfinite(difference) else math.inf


def _install(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
