"""``config.toml``: a run as a file that people can read."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from denoisekit.errors import InputError
from denoisekit.training.config import Config, Data, Sizes

MOST = {"batch": 2**16, "patch": 2**16}
"""Larger ones are damage: no memory holds them."""


def write_toml(config: Config) -> str:
    """Return the text of ``config.toml``."""
    content = asdict(config)
    stages = content.pop("stages")
    tables = {key: content.pop(key) for key in ("network", "data")}
    lines = ["# A run of denoisekit train; --resume goes by it."]
    lines += [_line(key, value) for key, value in content.items()]
    for key, table in tables.items():
        lines += ["", f"[{key}]", *(_line(k, v) for k, v in table.items())]
    for stage in stages:
        lines += ["", "[[stages]]", *(_line(k, v) for k, v in stage.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    return f"{key if key.isidentifier() else json.dumps(key)} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_line(k, v) for k, v in value.items()) + " }"
    # What JSON writes of strings, numbers, lists and truths is TOML too.
    return json.dumps(value, ensure_ascii=False)


def read_toml(path: Path) -> Config:
    """Read a ``config.toml``.

    Raises
    ------
    InputError
        It cannot be read, or is not one of ours.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        data = _read(Data, content.pop("data"))
        stages = tuple(_read(Sizes, stage) for stage in content.pop("stages"))
        if not stages or not data.pictures:
            raise ValueError("it names no stages or no pictures")
        config: Config = _read(Config, {**content, "data": data, "stages": stages})
        return config
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no run", "name the folder given to --out") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}", "start a new run") from error


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int and 0 <= value < 2**63,
    "float": lambda value: type(value) in (int, float) and 0 <= value < math.inf,
    "tuple[str, ...]": lambda value: all(isinstance(item, str) for item in value),
}
"""What a value must be, by the type that its field is declared with."""


def _read(kind: Any, table: Any) -> Any:
    """Return a `Config` or a part of it, each value of the type that its field has."""
    if not isinstance(table, dict):
        raise ValueError(f"{kind.__name__.lower()} is no table")
    types = {field.name: str(field.type) for field in fields(kind)}
    for name, value in table.items():
        if not _KINDS.get(types.get(name, ""), lambda _: True)(value):
            raise ValueError(f"{name} = {value!r:.60} makes no sense")
        if types.get(name, "").startswith("tuple"):
            table[name] = tuple(value)
    for name in {"steps", "batch", "patch", "rate"} & table.keys():
        if not 0 < table[name] <= MOST.get(name, math.inf):
            raise ValueError(f"{name} = {table[name]} makes no sense")
    return kind(**table)
