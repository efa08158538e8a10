"""``config.toml``: a run as a file that people can read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from denoisekit.errors import InputError
from denoisekit.training.config import Config, Data, Sizes


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
        data: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in content.pop("data").items()
        }
        stages = tuple(Sizes(**stage) for stage in content.pop("stages"))
        return Config(**content, data=Data(**data), stages=stages)
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no run", "name the folder given to --out") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}", "start a new run") from error
