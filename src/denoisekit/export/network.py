"""Weights as a file for other programs: ONNX or TorchScript.

Exported is all that the method does with one image, in float32: for SDAP its
down-sampling and its second pass too. Height and width stay free. The file is compared
with the original on images of several sizes before it gets its name.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoisekit._version import __version__
from denoisekit.atomic import write_whole
from denoisekit.draws import Draws
from denoisekit.errors import OutputError, UsageError, WeightsError, did_you_mean, pip_install
from denoisekit.methods import get_method
from denoisekit.methods.base import MethodInfo, Settings, Traits
from denoisekit.weights import LoadedWeights, file_of, find_entry, is_path, load_manifest
from denoisekit.weights.checkpoint import guesses, read_header, read_state, shapes_of

if TYPE_CHECKING:
    import torch

    Run = Callable[[torch.Tensor], torch.Tensor]
    Write = Callable[[torch.nn.Module, torch.Tensor, int, Mapping[str, str]], bytes]

OPSET = 18
"""Version of the ONNX operators; runtimes since 2023 have them."""

FACTS_FILE = "denoisekit.json"
"""Extra file of a TorchScript archive that says where it comes from."""

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


@dataclass(frozen=True, slots=True)
class Form:
    """A form of file.

    Attributes
    ----------
    write : callable
        ``write(module, example, multiple_of, facts)`` gives the file's content.
    load : callable
        ``load(content)`` gives a function from image to image that runs it.
    needs : tuple of str
        Packages beside denoisekit's own.
    facts : mapping of str to str
        What the file says of its form.
    """

    write: Write
    load: Callable[[bytes], Run]
    needs: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


def _write_onnx(
    module: torch.nn.Module, example: torch.Tensor, multiple_of: int, facts: Mapping[str, str]
) -> bytes:
    import onnx
    import torch

    sides = {axis: torch.export.Dim(name, min=1, max=2**20) for axis, name in ((2, "h"), (3, "w"))}
    free = {axis: multiple_of * side if multiple_of > 1 else side for axis, side in sides.items()}
    with _quiet():
        program = torch.export.export(module, (example,), dynamic_shapes=(free,), strict=False)
        exported: Any = torch.onnx.export(
            program,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["noisy"],
            output_names=["denoised"],
            verbose=False,
        )
        model = exported.model_proto
    _tidy(model)
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _tidy(model: Any) -> None:
    """Name the free sides, and take out the exporter's notes, such as this computer's paths."""
    graph = model.graph
    del graph.value_info[:]
    parts = (*graph.node, *graph.input, *graph.output, *graph.initializer, *model.functions)
    for part in (graph, *parts, *(node for f in model.functions for node in f.node)):
        if "metadata_props" in part.DESCRIPTOR.fields_by_name:
            del part.metadata_props[:]
        part.doc_string = ""
    for value in (*graph.input, *graph.output):
        for axis, name in ((2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name


def _load_onnx(data: bytes) -> Run:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(image: torch.Tensor) -> torch.Tensor:
        (found,) = session.run(["denoised"], {"noisy": image.numpy()})
        return torch.from_numpy(found)

    return run


def _write_script(
    module: torch.nn.Module,
    example: torch.Tensor,
    multiple_of: int,  # noqa: ARG001 - tracing follows sizes whatever they are
    facts: Mapping[str, str],
) -> bytes:
    file, jit = io.BytesIO(), _jit()
    with _quiet():
        # Tracing's own check would run the module again; the file is compared afterwards.
        traced = jit.trace(module, (example,), check_trace=False)
        jit.save(traced, file, _extra_files={FACTS_FILE: json.dumps(dict(facts))})
    return file.getvalue()


def _load_script(data: bytes) -> Run:
    with _quiet():
        run: Run = _jit().load(io.BytesIO(data), map_location="cpu")
    return run


def _jit() -> Any:
    import torch

    return torch.jit  # its functions have no types


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' talk from the user: they log and warn of what happens inside.

    TorchScript warns that `torch.export` replaces it; other programs cannot read that. What a
    trace does not follow shows in the comparison at other sizes.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            tracer = _jit().TracerWarning
            for kind in (DeprecationWarning, FutureWarning, UserWarning, tracer):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        log.setLevel(level)


FORMS: Mapping[str, Form] = {
    "onnx": Form(
        _write_onnx,
        _load_onnx,
        ("onnx", "onnxscript", "onnxruntime"),
        (("opset", str(OPSET)),),
    ),
    "torchscript": Form(_write_script, _load_script),
}
