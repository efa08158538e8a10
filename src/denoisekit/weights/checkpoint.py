"""Checkpoint files: read without running their code, identified, fit to a network.

A published ``.pth`` is a pickle, and a pickle is a program. PyTorch's
``weights_only`` unpickler builds tensors and plain containers and refuses the
rest; nothing here ever asks for more. What is stored afterwards is safetensors,
which can hold nothing but numbers.

A file may come from anywhere. What its header says of the network goes into sizes and
loops, so each value must be of the kind that the method's own configuration has, and no
larger than any network is; and nothing is built that is far larger than the file.
"""

from __future__ import annotations

import json
import math
import pickle
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoisekit.errors import UsageError, WeightsError
from denoisekit.methods import all_methods
from denoisekit.methods.base import Config, MethodInfo
from denoisekit.weights.manifest import SchemaError, WeightEntry, no_duplicates

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

Shapes = Mapping[str, tuple[int, ...]]

_WRAPPERS = ("params_ema", "params", "model_state_dict", "state_dict", "model_weight", "denoiser")
"""Keys under which training codes keep the weights, the better one first."""

_DEEPEST = 8
"""Wrappers within wrappers that are looked into; real files have two."""

_MOST_REPEATED = 1 << 26
"""Bytes that tensors may claim without holding them: a view may repeat one number endlessly."""

_LONGEST_HEADER = 1 << 24
"""In bytes; the header of a network of 2000 tensors has 200 kB."""

_LONGEST_ID = 64
"""Letters of the name of a method; no real one has 20."""

_MOST_TEXT = 1 << 16
"""Letters of a configuration; the longest of the methods here has 300."""

_MOST_NUMBER = 4096
"""Of a size. The widest published network has 256 features, the longest list 9 items."""

_MOST_ITEMS = 256
"""Of a list."""

_OF_FITS: Mapping[str, Any] = {"range": "0,1", "offset": [0.0]}
"""What the kit itself keeps beside a network's sizes; see `denoisekit.engine.denoiser.Denoiser`."""


def read_header(path: Path) -> dict[str, str] | None:
    """Return the metadata of a safetensors file, without its tensors and without torch.

    Parameters
    ----------
    path : Path
        Any file.

    Returns
    -------
    dict of str to str or None
        None if this is no safetensors file.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= _LONGEST_HEADER or file.read(1) != b"{":
            return None
        try:
            header = json.loads(b"{" + file.read(size - 1))
            metadata = header.get("__metadata__", {})
        except (ValueError, AttributeError, RecursionError):
            return None
    if not isinstance(metadata, dict):
        return None
    told = {str(key): str(value) for key, value in metadata.items()}
    if "method" in told:  # it is compared with those that there are
        told["method"] = told["method"][:_LONGEST_ID]
    return told


def read_config(path: Path, header: Mapping[str, str], method: MethodInfo) -> dict[str, Any]:
    """Return the configuration of a network that the header of a file says.

    Raises
    ------
    WeightsError
        It is missing, is not JSON, or says what no network of the method has.
    """
    try:
        if "config" not in header:
            raise SchemaError("it is missing")
        if len(header["config"]) > _MOST_TEXT:
            raise SchemaError(f"it is {len(header['config'])} letters long")
        try:
            config: dict[str, Any] = json.loads(header["config"], object_pairs_hook=no_duplicates)
        except (ValueError, RecursionError) as error:
            twice = isinstance(error, SchemaError)
            raise SchemaError(str(error) if twice else "it cannot be read") from None
        check_config(config, method)
    except SchemaError as error:
        raise WeightsError(
            f"{path}: its header does not say the network's configuration: {error}",
            "the file is damaged, made by hand, or by a newer denoisekit",
        ) from None
    return config


def check_config(config: object, method: MethodInfo) -> None:
    """Refuse a configuration with keys, kinds of values or sizes that no network has.

    Raises
    ------
    SchemaError
        The message names the key.
    """
    if not isinstance(config, Mapping):
        raise SchemaError("it is not a table of keys and values")
    known = {**method.config, **_OF_FITS}
    for key, value in config.items():
        if key not in known:
            raise SchemaError(f"unknown key '{str(key)[:40]}'")
        _check_value(key, value, known[key])
    if "range" in config:
        from denoisekit.ranges import parse_range  # numpy, which a list of weights needs not

        try:
            parse_range(config["range"])
        except UsageError as error:
            raise SchemaError(error.message) from None


def _check_value(key: str, value: object, example: object) -> None:
    if isinstance(example, list | tuple):
        if not isinstance(value, list | tuple):
            raise SchemaError(f"'{key}' must be a list, not {_kind(value)}")
        if len(value) > _MOST_ITEMS:
            raise SchemaError(f"'{key}' has {len(value)} items, more than any network")
        for item in value:
            _check_value(key, item, example[0])
        return
    # Python takes true for a number.
    fits = type(value) is type(example) or (type(example) is float and type(value) is int)
    if not fits:
        raise SchemaError(f"'{key}' must be {_kind(example)}, not {_kind(value)}")
    if isinstance(value, str) and len(value) > _MOST_ITEMS:
        raise SchemaError(f"'{key}' is {len(value)} letters long")
    if isinstance(value, int | float) and not -_MOST_NUMBER <= value <= _MOST_NUMBER:  # nor NaN
        raise SchemaError(f"'{key}' is larger than any network has it")
    if type(example) is int and isinstance(value, int) and value < 0:
        raise SchemaError(f"'{key}' is below 0")


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    return kinds.get(type(value), "a list" if isinstance(value, list | tuple) else "a table")


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
    import torch

    try:
        if read_header(path) is not None:
            from safetensors.torch import load

            # By their content: neither library takes a name that is not UTF-8.
            state: State = load(path.read_bytes())
            return state
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                held = sum(info.file_size for info in archive.infolist())
            if held > path.stat().st_size:
                raise WeightsError(
                    f"{path} is compressed, and would be {held / 1e6:.0f} MB",
                    "PyTorch's own files are not; save it again with torch.save",
                )
        with path.open("rb") as file:
            # Asked for by name: a default that changes must not turn pickles on.
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no file {path}", "check the path") from error
    except WeightsError:
        raise
    except Exception as error:  # a malformed file may raise anything
        if isinstance(error, OSError) and error.strerror:
            raise WeightsError(f"cannot read {path}: {error.strerror}") from error
        if isinstance(error, pickle.UnpicklingError):
            with path.open("rb") as file:
                start = file.read(2)
            if start in {b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}:
                raise WeightsError(
                    f"{path} holds more than weights (pickled objects or code) and was not loaded",
                    "ask its author for a state dict or a safetensors file; "
                    "denoisekit never runs code from weights",
                ) from error
        raise WeightsError(
            f"{path} is not a readable checkpoint, or is damaged",
            "expected a PyTorch state dict (.pth) or a safetensors file; download it again",
        ) from error
    return _unwrap(content, path)


def _unwrap(content: Any, path: Path) -> State:
    """Return the tensors inside of what a training code has saved."""
    import torch

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
    dense = [value for value in content.values() if value.layout == torch.strided]
    storages = (value.untyped_storage() for value in dense)
    held = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if claimed > max(held, _MOST_REPEATED):
        raise WeightsError(
            f"{path} claims {claimed / 1e6:.0f} MB of numbers and holds {held / 1e6:.0f} MB",
            "this is not what training leaves",
        )
    state = dict(content)
    while all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


@dataclass(frozen=True, slots=True)
class Guess:
    """A network that a checkpoint is of, by its keys and shapes."""

    method: MethodInfo
    config: Config

    def fits(self, entry: WeightEntry) -> bool:
        """Return whether these weights have the same keys and shapes."""
        return entry.method == self.method.id and self.same(entry.config)

    def same(self, config: Config) -> bool:
        """Return whether the method's network of another configuration has them too."""
        try:
            one, other = (_shapes_of_network(self.method, c) for c in (config, self.config))
        except Exception:  # noqa: BLE001 - a configuration that this version does not know
            return False
        return one == other


def guesses(shapes: Shapes, methods: Iterable[MethodInfo] | None = None) -> tuple[Guess, ...]:
    """Return the networks that know an official checkpoint with these keys and shapes."""
    found = []
    for method in all_methods() if methods is None else methods:
        try:
            config = method.infer_config(shapes)
        except Exception:  # noqa: BLE001 - a file that a method stumbles over is none of its own
            continue
        if config is not None:
            found.append(Guess(method, config))
    return tuple(found)


def fit(
    state: Mapping[str, torch.Tensor],
    method: MethodInfo,
    config: Config | None,
    name: str,
    entries: Sequence[WeightEntry] | None = None,
) -> tuple[State, Config]:
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
    entries : sequence of WeightEntry, optional
        Where a file is imported: what it may be imported as, for the hint.

    Returns
    -------
    state : dict of str to torch.Tensor
        Our keys; float tensors as contiguous float32.
    config : mapping
        The network's configuration.

    Raises
    ------
    WeightsError
        They belong to another network: names the first keys and shapes that differ, and what
        they look like instead. They hold values that are not finite; or there is no network
        of `config`.
    """
    shapes = shapes_of(state)
    empty = next((key for key, shape in shapes.items() if 0 in shape), None)
    if empty is not None:
        hint = "this is not what training leaves"
        raise WeightsError(f"{name}: '{empty}' is an empty tensor", hint)
    if config is None:
        config = next((guess.config for guess in guesses(shapes, (method,))), method.config)
    with _no_such_network(method, config, name):
        expected = _shapes_of_network(method, config, shapes)
    if shapes.keys() != expected.keys():
        state = _map_keys(state, method, config, name)
    differences = _differences(shapes_of(state), expected)
    if differences:
        message = f"{name} does not fit the network of {method.id}: {differences}"
        raise _misfit(message, shapes, Guess(method, config), entries)
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
    import torch

    found = {}
    for key, value in state.items():
        dense = value.layout == torch.strided and value.device.type == "cpu"
        if not dense or value.is_quantized or value.is_complex():
            raise WeightsError(f"{name}: '{key}' is not a plain dense tensor ({value.dtype})")
        if not value.is_floating_point():
            found[key] = value.contiguous()
            continue
        value = value.detach().to(torch.float32).contiguous()
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"{name}: '{key}' holds values that are not finite", "training diverged, or damage"
            )
        # Two keys may share one storage; a file cannot.
        found[key] = value.clone()
    return found


def to_safetensors(state: State, metadata: Mapping[str, str]) -> bytes:
    """Return the file that holds these tensors and this header."""
    from safetensors.torch import save

    data: bytes = save(state, metadata=dict(metadata))
    return data


class _Oversized(ValueError):
    """A configuration asks for far more than the file holds."""


@contextmanager
def _no_such_network(method: MethodInfo, config: Config, name: str) -> Iterator[None]:
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


_built: dict[tuple[object, str], Shapes] = {}


def _shapes_of_network(method: MethodInfo, config: Config, file: Shapes | None = None) -> Shapes:
    """Return the keys and shapes of a network, which is built once to see them.

    Building is stopped where the network is far larger than the file with the shapes ``file``.
    Some room is left: whose file lacks a part hears which. 16 million numbers, and 2000 layers,
    are built in a fraction of a second.
    """
    key = method.build, json.dumps(dict(config), sort_keys=True)
    if key in _built:
        return _built[key]
    from torch.nn.modules.module import register_module_parameter_registration_hook

    numbers = max(16_000_000, 4 * sum(math.prod(shape) for shape in (file or {}).values()))
    layers = max(2000, 4 * len(file or {}))
    here = threading.get_ident()

    def count(_module: object, _name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal numbers, layers
        if parameter is None or threading.get_ident() != here:
            return
        numbers, layers = numbers - parameter.numel(), layers - 1
        if numbers < 0 or layers < 0:
            raise _Oversized("its network would be far larger than the file")

    settings = method.choose()
    # Called before the memory of the parameter is first touched.
    handle = register_module_parameter_registration_hook(count)
    try:
        built = method.build(config, settings)
    finally:
        handle.remove()
    # What only running the network would show.
    traits, offset = method.traits(config, settings), config.get("offset", ())
    limits = traits.limits
    if limits.multiple_of < 1 or limits.align < 1 or limits.halo < 0 or traits.channels < 1:
        raise ValueError("no tile fits it")
    if len(offset) not in (0, traits.channels):
        raise ValueError("its offset has another number of channels")
    return _built.setdefault(key, dict(built.shapes()))


def _map_keys(
    state: Mapping[str, torch.Tensor], method: MethodInfo, config: Config, name: str
) -> State:
    """Return tensors under the network's keys, by the method's mapping of official ones."""
    mapped: State = {}
    for key, value in state.items():
        with _no_such_network(method, config, name):
            ours = method.map_key(key, config)
        if not ours:  # a buffer that we compute
            continue
        # A module registered twice is saved twice; the same values are no conflict.
        if ours in mapped and not mapped[ours].equal(value):
            raise WeightsError(f"{name}: two different tensors are both '{ours}' (one is '{key}')")
        mapped.setdefault(ours, value)
    return mapped


def _differences(found: Shapes, expected: Shapes) -> str:
    def some(keys: list[str], shapes: Shapes) -> str:
        named = [f"{key} {list(shapes[key])}" for key in keys]
        return ", ".join(named[:2]) + (" …" if len(named) > 2 else "")

    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    wrong = [key for key in expected if key in found and found[key] != expected[key]]
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({some(missing, expected)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({some(unexpected, found)})")
    if wrong:
        first = wrong[0]
        parts.append(
            f"{len(wrong)} of another shape ({first}: {list(found[first])} in the file, "
            f"{list(expected[first])} in the network)"
        )
    return "; ".join(parts)


def _misfit(
    message: str, shapes: Shapes, wanted: Guess, entries: Sequence[WeightEntry] | None
) -> WeightsError:
    """Return the error for weights of another network, with what they look like instead."""
    for guess in guesses(shapes):
        looks = guess.method.id
        if looks == wanted.method.id:
            if guess.same(wanted.config):
                continue
            looks += f" ({', '.join(f'{key} {value}' for key, value in guess.config.items())})"
        hint = f"try --method {guess.method.id}"
        if entries is not None:
            ids = [entry.id for entry in entries if not entry.embedded and guess.fits(entry)]
            itself = f"use the file itself: --method {guess.method.id} --weights FILE"
            hint = f"try --as {' or '.join(ids)}" if ids else itself
        return WeightsError(f"{message}; it looks like a checkpoint of {looks}", hint)
    return WeightsError(
        message, "it is a checkpoint of another network, or of another variant of this one"
    )
