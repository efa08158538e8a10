"""Checkpoint files: read without running their code, fit to a network, store.

A published ``.pth`` is a pickle, and a pickle is a program. PyTorch's
``weights_only`` unpickler builds tensors and plain containers and refuses the
rest; nothing here ever asks for more. What is stored afterwards is safetensors,
which can hold nothing but numbers.
"""

from __future__ import annotations

import math
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from denoisekit.errors import WeightsError
from denoisekit.methods.base import MethodInfo, Traits
from denoisekit.weights.advice import Guess, Misfit, Shapes, recognised
from denoisekit.weights.header import read_header

State = dict[str, torch.Tensor]

_WRAPPERS = ("params_ema", "params", "model_state_dict", "state_dict", "model_weight", "denoiser")
"""Keys under which training codes keep the weights, the better one first."""

_DEEPEST = 8
"""Wrappers within wrappers that are looked into; real files have two."""

_MOST_REPEATED = 1 << 26
"""Bytes that tensors may claim without holding them: a view may repeat one number endlessly."""


def read_state(path: Path) -> State:
    """Read the tensors of a checkpoint by the keys its authors gave them.

    Wrappers (``state_dict``, ``params_ema`` …) and ``module.`` prefixes are taken off.

    Parameters
    ----------
    path : Path
        A safetensors file or a PyTorch checkpoint, told apart by content.

    Returns
    -------
    dict of str to torch.Tensor
        On the CPU, as stored.

    Raises
    ------
    WeightsError
        The file cannot be read, is damaged, holds code, or holds no weights.
    """
    try:
        if read_header(path) is not None:
            from safetensors.torch import load

            # By their content: neither library takes a name that is not UTF-8.
            state: State = load(path.read_bytes())
            return state
        _check_archive(path)
        with path.open("rb") as file:
            # Asked for by name: a default that changes must not turn pickles on.
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {path}", "check the path") from error
    except WeightsError:
        raise
    except Exception as error:  # a malformed file may raise anything
        raise _unreadable(path, error) from error
    return _unwrap(content, path)


def _check_archive(path: Path) -> None:
    """Refuse an archive that becomes larger than its file; PyTorch compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        held = sum(info.file_size for info in archive.infolist())
    if held > path.stat().st_size:
        raise WeightsError(
            f"{path} is compressed, and would be {held / 1e6:.0f} MB",
            "PyTorch's own files are not; save it again with torch.save",
        )


def fit(
    state: Mapping[str, torch.Tensor],
    method: MethodInfo,
    config: Mapping[str, Any] | None,
    name: str,
) -> tuple[State, Mapping[str, Any]]:
    """Bring tensors under the keys of a method's network, strictly.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        Under the official checkpoint's keys, or already under ours.
    method : MethodInfo
        Whose network.
    config : mapping or None
        Configuration that the weights must have; None takes the one their keys show, or
        the published one where they show none.
    name : str
        What to call them in an error.

    Returns
    -------
    state : dict of str to torch.Tensor
        Our keys; float tensors as contiguous float32.
    config : mapping
        The network's configuration.

    Raises
    ------
    Misfit
        They belong to another network: names the first keys and shapes that differ.
    WeightsError
        They hold values that are not finite, or there is no network of `config`.
    """
    shapes = shapes_of(state)
    empty = next((key for key, shape in shapes.items() if 0 in shape), None)
    if empty is not None:
        hint = "this is not what training leaves"
        raise WeightsError(f"{name}: '{empty}' is an empty tensor", hint)
    if config is None:
        config = recognised(shapes, method) or method.config
    expected = _expected(method, config, name, shapes)
    if shapes.keys() != expected.keys():
        state = _rename(state, method, config, name)
    differences = _differences(shapes_of(state), expected)
    if differences:
        message = f"{name} does not fit the network of {method.id}: {differences}"
        raise Misfit(message, shapes, Guess(method, config))
    return plain(state, name), config


def shapes_of(state: Mapping[str, torch.Tensor]) -> Shapes:
    """Return the shapes of tensors, by key."""
    return {key: tuple(value.shape) for key, value in state.items()}


def plain(state: Mapping[str, torch.Tensor], name: str) -> State:
    """Return dense tensors with memory of their own, float ones as float32.

    Raises
    ------
    WeightsError
        One is sparse, quantised, complex or not finite.
    """
    return {key: _plain(key, value, name) for key, value in state.items()}


def to_safetensors(state: State, metadata: Mapping[str, str]) -> bytes:
    """Return the file that holds these tensors and this header."""
    from safetensors.torch import save

    data: bytes = save(state, metadata=dict(metadata))
    return data


def _unreadable(path: Path, error: Exception) -> WeightsError:
    import pickle

    if isinstance(error, OSError) and error.strerror:
        return WeightsError(f"cannot read {path}: {error.strerror}")
    if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
        return WeightsError(
            f"{path} holds more than weights (pickled objects or code) and was not loaded",
            "ask its author for a state dict or a safetensors file; "
            "denoisekit never runs code from weights",
        )
    return WeightsError(
        f"{path} is not a readable checkpoint, or is damaged",
        "expected a PyTorch state dict (.pth) or a safetensors file; download it again",
    )


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}


def _unwrap(content: Any, path: Path) -> State:
    hint = "expected a state dict: a mapping of names to tensors"
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        wrapped = (content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
        inner = next(wrapped, None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no weights", hint)
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            kind = type(value).__name__
            raise WeightsError(f"{path}: {key!r:.100} is of type {kind}, not a tensor", hint)
    claimed = sum(value.nbytes for value in content.values())
    held = sum(
        {
            _storage(value): value.untyped_storage().nbytes()
            for value in content.values()
            if value.layout == torch.strided
        }.values()
    )
    if claimed > max(held, _MOST_REPEATED):
        raise WeightsError(
            f"{path} claims {claimed / 1e6:.0f} MB of numbers and holds {held / 1e6:.0f} MB",
            "this is not what training leaves",
        )
    state = dict(content)
    while all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _storage(value: torch.Tensor) -> int:
    return value.untyped_storage().data_ptr()


def _expected(method: MethodInfo, config: Mapping[str, Any], name: str, shapes: Shapes) -> Shapes:
    settings = method.choose()
    with _no_such_network(method, config, name):
        with _no_larger(shapes):
            built = method.build(config, settings)
        _check_traits(config, method.traits(config, settings))
        return built.shapes()


@contextmanager
def _no_such_network(method: MethodInfo, config: Mapping[str, Any], name: str) -> Iterator[None]:
    """Say so where a method's own functions stumble over a configuration."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty tensors, which fit nothing
            yield
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = f": {error}" if isinstance(error, _Oversized) else ""
        raise WeightsError(
            f"{name}: the method {method.id} has no network of the configuration "
            f"{dict(config)}{reason}",
            "a newer denoisekit may know it",
        ) from error


class _Oversized(ValueError):
    """A configuration asks for far more than the file holds."""


@contextmanager
def _no_larger(shapes: Shapes) -> Iterator[None]:
    """Stop building where the network has far more numbers than the file.

    Some room is left: whose file lacks a part hears which. 16 million numbers, and 2000 layers,
    are built in a fraction of a second.
    """
    numbers = max(16_000_000, 4 * sum(math.prod(shape) for shape in shapes.values()))
    layers = max(2000, 4 * len(shapes))
    here = threading.get_ident()

    def count(_module: torch.nn.Module, _name: str, parameter: torch.nn.Parameter) -> None:
        nonlocal numbers, layers
        if parameter is None or threading.get_ident() != here:
            return
        numbers, layers = numbers - parameter.numel(), layers - 1
        if numbers < 0 or layers < 0:
            raise _Oversized("its network would be far larger than the file")

    # Called before the memory of the parameter is first touched.
    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _check_traits(config: Mapping[str, Any], traits: Traits) -> None:
    """Refuse what only running the network would show."""
    limits, offset = traits.limits, config.get("offset", ())
    if limits.multiple_of < 1 or limits.align < 1 or limits.halo < 0 or traits.channels < 1:
        raise ValueError("no tile fits it")
    if len(offset) not in (0, traits.channels):
        raise ValueError("its offset has another number of channels")


def _rename(
    state: Mapping[str, torch.Tensor], method: MethodInfo, config: Mapping[str, Any], name: str
) -> State:
    renamed: State = {}
    for key, value in state.items():
        with _no_such_network(method, config, name):
            ours = method.rename(key, config)
        if not ours:  # a buffer that we compute
            continue
        # A module registered twice is saved twice; the same values are no conflict.
        if ours in renamed and not torch.equal(renamed[ours], value):
            raise WeightsError(f"{name}: two different tensors are both '{ours}' (one is '{key}')")
        renamed.setdefault(ours, value)
    return renamed


def _differences(found: Shapes, expected: Shapes) -> str:
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({_some(missing, expected)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({_some(unexpected, found)})")
    if wrong:
        first = wrong[0]
        parts.append(
            f"{len(wrong)} of another shape ({first}: {list(found[first])} in the file, "
            f"{list(expected[first])} in the network)"
        )
    return "; ".join(parts)


def _some(keys: Iterable[str], shapes: Shapes) -> str:
    named = [f"{key} {list(shapes[key])}" for key in keys]
    return ", ".join(named[:2]) + (" …" if len(named) > 2 else "")


def _plain(key: str, value: torch.Tensor, name: str) -> torch.Tensor:
    dense = value.layout == torch.strided and value.device.type == "cpu"
    if not dense or value.is_quantized or value.is_complex():
        raise WeightsError(f"{name}: '{key}' is not a plain dense tensor ({value.dtype})")
    if not value.is_floating_point():
        return value.contiguous()
    value = value.detach().to(torch.float32).contiguous()
    if not bool(torch.isfinite(value).all()):
        raise WeightsError(
            f"{name}: '{key}' holds values that are not finite", "training diverged, or damage"
        )
    # Two keys may share one storage; a file cannot.
    return value.clone()
