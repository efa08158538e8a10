"""The forms that a network is exported in: ONNX and TorchScript. Bytes out, bytes in.

Both writers take a module, an example of its input, and the number that height and width
are multiples of; both keep height and width free.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Run = Callable[[torch.Tensor], torch.Tensor]
    Write = Callable[[torch.nn.Module, torch.Tensor, int, Mapping[str, str]], bytes]

OPSET = 18
"""Version of the ONNX operators; runtimes since 2023 have them."""

FACTS_FILE = "denoisekit.json"
"""Extra file of a TorchScript archive that says where it comes from."""


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
