"""What a user can ask for: every option is declared here, once.

An option is a field of a frozen dataclass, made by `option`: its name, type, default, help and
flags. The command line, the signatures and documentation of the Python functions, and the tables
in the docs are made from it. Nothing large is imported before an option has a value to check.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, cast, get_args, get_type_hints

from denoisekit.errors import UsageError, did_you_mean

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])

HotPixels = Literal["auto", "remove", "keep"]

Strength = float | Literal["auto"]
"""A blend with the input, or one that follows from the image."""

DEFAULT_METHOD = "aprrd"
"""Where neither a method nor weights say which."""

PRESETS = MappingProxyType({"fast": 30.0, "balanced": 150.0, "best": 600.0})
"""Seconds of a fit."""

OBJECTIVES = ("auto", "pairs", "sdap", "promptsid", "aprrd", "ssbsn")

SHORTEST_FIT = 5.0
"""Seconds below which nothing is learned."""

RANGE = (
    "Which values of the file are black and white: auto (decides by the file); two numbers such as "
    "0,4095; minmax (its least and largest); percentile (the same without outliers); dtype (all "
    "that the type of file can hold)"
)
DEVICE = "auto, cpu, cuda, cuda:N or mps."
PRECISION = "auto, fp32, bf16 or fp16."
MAX_MEMORY = "Most memory to take, such as 4GiB."


# How options are declared


def option(
    default: Any,
    help: str,
    *flags: str,
    metavar: str | None = None,
    read: Callable[[Any, str], Any] | None = None,
    typed: Any = None,
    shown: Any = ...,
) -> Any:
    """Declare an option: a field of a frozen dataclass.

    Parameters
    ----------
    default : object
        Of the field, and of Python's keyword.
    help : str
        For the command line, Python and the docs alike.
    *flags : str
        On the command line; none: the field's name with dashes.
    metavar : str, optional
        Stands for the value in ``--help``.
    read : callable, optional
        Returns the field's value, given what was typed or given in Python, and the name by
        which an error calls the option. May raise UsageError.
    typed : type, optional
        As which the command line reads it; none: the field's type, where that is text, a
        number, a path or a switch, otherwise text.
    shown : object, optional
        Default of the command line, where it is another.
    """
    metadata = {
        "help": help,
        "flags": flags,
        "metavar": metavar,
        "read": read,
        "typed": typed,
        "shown": default if shown is ... else shown,
    }
    if isinstance(default, Mapping):
        return field(default_factory=dict, metadata={**metadata, "shown": None})
    return field(default=default, metadata=metadata)


def declared(kind: Any) -> Iterator[tuple[Field[Any], Any]]:
    """Yield the options of a dataclass, each with its type."""
    types = get_type_hints(kind)
    return ((each, types[each.name]) for each in fields(kind) if each.metadata)


def flags_of(each: Field[Any]) -> tuple[str, ...]:
    """Return how an option is called on the command line."""
    return each.metadata["flags"] or ("--" + each.name.replace("_", "-"),)


def read_options(kind: type[T], given: Mapping[str, Any], *, flags: bool = False) -> T:
    """Return the options of a dataclass, given by the names of its fields.

    Parameters
    ----------
    kind : type
        The dataclass.
    given : mapping
        What the user gave; fields that are not there have their default.
    flags : bool
        Errors speak of ``--name``, as on the command line, and not of ``name``.

    Raises
    ------
    UsageError
        A value makes no sense.
    """
    values = dict(given)
    for each, type_ in declared(kind):
        if each.name not in values:
            continue
        value, read = values[each.name], each.metadata["read"]
        if value is None and type(None) not in get_args(type_):
            del values[each.name]
        elif value is not None and read is not None:
            values[each.name] = read(value, flags_of(each)[-1] if flags else each.name)
    return kind(**values)


def takes(keywords: Any, *kinds: Any, **defaults: object) -> Callable[[Function], Function]:
    """Complete a function that takes options as keywords: its signature and documentation.

    ``{options}`` in its docstring becomes the documentation of all of them.

    Parameters
    ----------
    keywords : type
        A TypedDict with the types that Python takes, of the options that the function has.
    *kinds : type
        The dataclasses that declare them.
    **defaults : object
        Of this function, where they differ from those declared.
    """

    def complete(function: Function) -> Function:
        signature = inspect.signature(function)
        rest = inspect.Parameter.VAR_KEYWORD
        own = [each for each in signature.parameters.values() if each.kind is not rest]
        types = {each.name: each.annotation for each in own}
        told = []
        for each, type_, default in keyword_options(keywords, *kinds, **defaults):
            types[each.name] = type_
            keyword = inspect.Parameter.KEYWORD_ONLY
            own.append(inspect.Parameter(each.name, keyword, default=default, annotation=type_))
            told.append(f"{each.name} : {in_words(type_)}, default {default!r}")
            told += textwrap.wrap(
                each.metadata["help"], 92, initial_indent="    ", subsequent_indent="    "
            )
        completed = cast(Any, function)
        completed.__signature__ = signature.replace(parameters=own)
        completed.__annotations__ = {**types, "return": signature.return_annotation}
        if function.__doc__:  # python -OO has none
            text = "\n    ".join(told)
            function.__doc__ = function.__doc__.replace("{options}", text)
        return function

    return complete


def keyword_options(
    keywords: Any, *kinds: Any, **defaults: object
) -> Iterator[tuple[Field[Any], str, object]]:
    """Yield the options of a Python function, each with its type and default; see `takes`."""
    types = {name: hint.__forward_arg__ for name, hint in keywords.__annotations__.items()}
    for each in (each for kind in kinds for each, _ in declared(kind)):
        if each.name in types:
            default = None if each.default is MISSING else each.default
            yield each, types[each.name], defaults.get(each.name, default)


def in_words(type_: str) -> str:
    """Return a type as documentation names it: ``float or "auto" or None``."""
    return re.sub(r"Literal\[(.*?)\]", r"\1", type_).replace(" | ", " or ")


# What is typed, or given in Python, and what a field holds of it


def parse_time(text: str) -> float:
    """Return the seconds of ``90m``, ``12h``, ``1h30m``, ``2d`` or a number of seconds.

    Raises
    ------
    UsageError
        It is no time.
    """
    match = re.fullmatch(
        r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", text.strip().lower()
    )
    try:
        parts = [float(part or 0) for part in match.groups()] if match else []
    except ValueError:
        parts = []
    seconds = sum(part * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds > 0:
        raise UsageError(f"'{text}' is not a time", "write for instance 90m, 12h or 2d")
    return seconds


def parse_memory(text: str) -> int:
    """Return the bytes of ``4GiB``, ``500MB``, ``1.5 g`` or a plain number.

    Raises
    ------
    UsageError
        Not a positive amount.
    """
    match = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?)(i?b?)\s*", text.lower())
    try:
        amount = float(match[1]) if match else 0.0
    except ValueError:
        amount = 0.0
    if match is None or not 0 < amount < 2**60:
        raise UsageError(f"'{text}' is not an amount of memory", "write for instance 4GiB or 800MB")
    step = 1000 if match[3] == "b" and match[2] else 1024
    return int(amount * step ** " kmgt".index(match[2] or " "))


def parse_settings(given: Mapping[str, object] | Sequence[str], name: str) -> dict[str, object]:
    """Return the values of ``NAME=VALUE``, by name.

    Raises
    ------
    UsageError
        There is no ``=``.
    """
    if isinstance(given, Mapping):
        return dict(given)
    settings: dict[str, object] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{name} {text} is not NAME=VALUE", "see denoisekit methods NAME")
        settings[key.strip().replace("-", "_")] = value
    return settings


def _seconds(given: float | str, name: str) -> float:  # noqa: ARG001 - as all that read
    return parse_time(given) if isinstance(given, str) else given


def _bytes(given: int | str, name: str) -> int:  # noqa: ARG001
    return parse_memory(given) if isinstance(given, str) else given


def _path(given: str | os.PathLike[str], name: str) -> str:  # noqa: ARG001
    return os.fspath(given)


def _text(given: object, name: str) -> str:  # noqa: ARG001
    return str(given)


def _strength(given: Strength | str, name: str) -> Strength:
    try:
        return "auto" if given == "auto" else float(given)
    except ValueError:
        hint = "write auto, or a number from 0 to 1"
        raise UsageError(f"{name} {given} is not a number", hint) from None


def _side(given: int | str, name: str) -> int | None:
    try:
        return None if given == "auto" else int(given)
    except ValueError:
        hint = "write auto, 0 or for instance 512"
        raise UsageError(f"{name} {given} is not a number of pixels", hint) from None


def _range(given: str | Sequence[float], name: str) -> str:
    if isinstance(given, str):
        return given
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError):
        hint = f"write it like {name}=(0, 4095)"
        raise UsageError(f"{name} {given!r} is not two numbers", hint) from None
    return f"{low!r},{high!r}"


def _sizes(given: Mapping[str, Any] | Sequence[str], name: str) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)
    sizes: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{name} {text} is not KEY=VALUE", "for instance width=32")
        try:
            sizes[key.strip()] = json.loads(value)
        except ValueError:
            sizes[key.strip()] = value
    return sizes


def _full_paths(given: Sequence[str], name: str) -> tuple[str, ...]:  # noqa: ARG001
    """Return names in full, so that a run can be resumed from anywhere."""
    return tuple(os.path.abspath(each) for each in given)  # noqa: PTH100 - also patterns


def _weights_in_full(given: str, name: str) -> str:  # noqa: ARG001
    """Return an id as it is, and a file's path in full."""
    from denoisekit.weights import is_hub, is_path

    local = given and is_path(given) and not is_hub(given)
    return os.path.abspath(given) if local else given  # noqa: PTH100


# The checks that several kinds of options share


def check_strength(strength: Strength | None) -> None:
    """Refuse what is no strength.

    Raises
    ------
    UsageError
        It is neither ``auto`` nor on 0..1.
    """
    if isinstance(strength, str):
        if strength != "auto":
            raise UsageError(f"strength '{strength}' is not a number", "or write auto")
    elif strength is not None and not 0 <= strength <= 1:
        raise UsageError(f"strength {strength} is not between 0 and 1")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**63:
        raise UsageError(f"a seed of {seed} makes no sense", "it is 0 or a whole number")


def _check_range(text: str) -> None:
    from denoisekit.ranges import parse_range

    parse_range(text)


# The options


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Where results go, and how the files that are read are understood."""

    output: Path | None = option(
        None, "A file, or a folder (also for one input).", "-o", "--output"
    )
    suffix: str | None = option(
        None, "Put after the name; default: _denoised, of simulate _noisy, beside the input."
    )
    format: str | None = option(None, "Write another format: png, tiff, jpeg …")
    overwrite: bool = option(False, "Replace outputs that exist.")
    skip_existing: bool = option(False, "Leave inputs out whose output exists.")
    axes: str | None = option(None, "What the axes are, such as TZCYX; overrides the file.")

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing exclude each other")


@dataclass(frozen=True, slots=True)
class Options:
    """How to denoise.

    Attributes
    ----------
    choose : bool
        Whether neither a method nor weights were named: then the image may decide; see
        `denoisekit.auto`. ``method`` is the default then, or that of the weights.
    """

    method: str = option(
        None,
        "Which denoiser, see denoisekit methods; default: that of the weights; without "
        "weights auto, which tries on each image what suits it.",
    )
    weights: str | None = option(
        None, "Id, file or hf://USER/REPO/FILE; see denoisekit weights list.", read=_path
    )
    strength: Strength | None = option(
        1.0,
        "Blend with the input: 0 is the input, 1 the full result; auto gives back what "
        "was no noise; default of denoise: auto, with files of weights 1.",
        read=_strength,
        shown=None,
    )
    self_ensemble: bool = option(False, "Mean of eight flips and rotations; 8x the work.")
    settings: Mapping[str, object] = option(
        {},
        "A setting of the method, see denoisekit methods NAME; may be repeated.",
        "--set",
        metavar="NAME=VALUE",
        read=parse_settings,
        typed=list[str],
    )
    seed: int = option(
        0,
        "Start of the random numbers, for methods that use some: the same seed, the same result.",
    )
    device: str = option("auto", DEVICE, read=_text)
    precision: str = option("auto", PRECISION)
    tile: int | None = option(
        None,
        "Side of a tile in pixels; 0: the whole image; or auto.",
        read=_side,
        typed=str,
        shown="auto",
    )
    max_memory: int | None = option(None, MAX_MEMORY, read=_bytes, typed=str)
    threads: int | None = option(
        None, "Processors to use; default: $DENOISEKIT_THREADS, or all that may be used."
    )
    range: str = option("auto", f"{RANGE}.", read=_range)
    hot_pixels: HotPixels = option(
        "auto",
        "Single wrong pixels: remove, keep, or auto (removed from photographs, kept in "
        "measured data).",
    )
    choose: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        from denoisekit.methods import get_method

        if self.method in (None, "auto"):
            method = DEFAULT_METHOD
            if self.weights:
                from denoisekit.weights import method_of

                method = method_of(self.weights) or method
            object.__setattr__(self, "method", method)
            object.__setattr__(self, "choose", not self.weights)
        check_strength(self.strength)
        if self.tile is not None and self.tile < 0:
            raise UsageError(
                f"a tile of {self.tile} pixels makes no sense", "0 means the whole image"
            )
        if self.threads is not None and not 1 <= self.threads <= 4096:
            raise UsageError(f"{self.threads} threads make no sense", "give 1 or more")
        _check_seed(self.seed)
        get_method(self.method).choose(self.settings)
        _check_range(self.range)
        if self.hot_pixels not in get_args(HotPixels):
            raise UsageError(
                f"hot pixels '{self.hot_pixels}' makes no sense", "write auto, remove or keep"
            )


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit a network to one image."""

    objective: str = option(
        "auto",
        "What is learned from: auto (by the noise), pairs, sdap, promptsid, aprrd, ssbsn.",
    )
    start: str = option(
        "auto", "Weights to adapt, id or file; auto: those that are here; none.", read=_path
    )
    seconds: float = option(
        None,
        "How long you will wait for the result: 60s, 5m. More time gives a better one, up "
        "to some minutes; a stack may add to it.",
        "--time",
        read=_seconds,
        typed=str,
    )
    preset: str = option("balanced", "fast (30 s), balanced (2.5 min) or best (10 min).")
    steps: int | None = option(
        None, "So many steps, whatever time they take: the seed then repeats it."
    )
    width: int | None = option(None, "Features of the network; default: as the time allows.")
    range: str = option("auto", f"{RANGE}. From scratch, auto is percentile.", read=_range)
    keep_mean: bool | None = option(
        None,
        "Whether every channel keeps its mean; default: unless it is a photograph of "
        "8 bits with correlated noise.",
        "--keep-mean/--free-mean",
    )
    strength: Strength | None = option(
        None,
        "Blend with the input, as in denoise; default: auto for photographs of 8 bits with "
        "correlated noise, else 1.",
        read=_strength,
    )
    seed: int = option(
        0, "Start of the random numbers: with --steps, the same seed gives the same result."
    )
    device: str = option("auto", DEVICE, read=_text)
    precision: str = option("auto", f"Of the result: {PRECISION}")
    max_memory: int | None = option(None, MAX_MEMORY, read=_bytes, typed=str)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            hint = did_you_mean(self.objective, OBJECTIVES)
            raise UsageError(f"there is no objective '{self.objective}'", hint)
        if self.preset not in PRESETS:
            hint = f"choose from {', '.join(PRESETS)}"
            raise UsageError(f"--preset {self.preset} is not known", hint)
        if self.seconds is None:
            object.__setattr__(self, "seconds", PRESETS[self.preset])
        if not self.seconds >= SHORTEST_FIT:
            raise UsageError(
                f"{self.seconds:g} s is too short for a fit", f"give {SHORTEST_FIT:g} s or more"
            )
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"{self.steps} steps make no sense", "give 1 or more")
        if self.width is not None and not 4 <= self.width <= 256:
            raise UsageError(f"a width of {self.width} makes no sense", "give 4 to 256")
        check_strength(self.strength)
        _check_seed(self.seed)
        _check_range(self.range)


@dataclass(frozen=True, slots=True)
class TrainData:
    """What a run learns from and is validated on: files, folders or patterns.

    Attributes
    ----------
    pictures : tuple of str
        Noisy; with ``simulate``, clean.
    """

    pictures: tuple[str, ...] = ()
    clean: tuple[str, ...] = option(
        (),
        "Clean pictures of the same names: supervised.",
        read=_full_paths,
        typed=list[str],
        shown=None,
    )
    simulate: str = option(
        "",
        "DATA is clean; add this noise: phone, phone,dslr, gaussian:25 (of 255) …",
        metavar="CAMERA",
    )
    range: str = option("auto", "As for denoisekit denoise.")
    val_noisy: tuple[str, ...] = option(
        (), "Noisy pictures to validate on.", read=_full_paths, typed=list[str], shown=None
    )
    val_clean: tuple[str, ...] = option(
        (),
        "The same, clean: validated by PSNR.",
        read=_full_paths,
        typed=list[str],
        shown=None,
    )

    def __post_init__(self) -> None:
        if self.clean and self.simulate:
            raise UsageError("--clean and --simulate exclude each other")
        if self.val_clean and not self.val_noisy:
            raise UsageError("--val-clean needs --val-noisy")

    @property
    def paired(self) -> bool:
        """Whether clean pictures are known."""
        return bool(self.clean or self.simulate)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """What shall differ from a method's recipe; None, empty or 0: nothing."""

    limit: float = option(
        0.0,
        "Until the weights are there: 90m, 12h, 2d. Plans the steps, and what is not "
        "given of network, patch and batch.",
        "--max-time",
        read=_seconds,
        typed=str,
        shown=None,
    )
    steps: int | None = option(None, "Of all stages together.")
    batch: int | None = option(None, "Patches a step, of all processes.")
    patch: int | None = option(None, "Side of a patch in pixels.")
    rate: float | None = option(None, "Rate of Adam at the start.", "--lr")
    width: int | None = option(None, "The same as --config width=N.")
    network: Mapping[str, Any] = option(
        {},
        "A size of the network; may be repeated.",
        "--config",
        metavar="KEY=VALUE",
        read=_sizes,
        typed=list[str],
    )
    weights: str = option("", "Id or file to start from.", read=_weights_in_full)
    teacher: str = option(
        "",
        "Id or file of the teacher, so that only the student is trained.",
        read=_weights_in_full,
    )
    clip: float = option(0.0, "Largest norm of the gradient; 0: any.")
    precision: str = option("auto", "auto (fp32), fp32, bf16 or fp16.")
    seed: int = option(0, "Start of the random numbers: the same seed, the same run.")
    save_every: int = option(0, "Steps; 0: every five minutes.")
    validate_every: int = option(0, "Steps; 0: up to twenty times a stage.", "--val-every")
    preview_every: int = option(0, "Steps; 0: up to twenty times a stage.")

    def __post_init__(self) -> None:
        if self.width is not None:
            object.__setattr__(self, "network", {"width": self.width, **self.network})
        if self.precision == "auto":
            object.__setattr__(self, "precision", "fp32")
        for name in ("steps", "batch", "patch", "rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{name} {value} makes no sense", "it is above 0")
        for name in ("seed", "clip", "save_every", "validate_every", "preview_every", "limit"):
            if not 0 <= getattr(self, name) < 2**63:
                raise UsageError(f"{name} {getattr(self, name)} makes no sense", "it is 0 or more")
