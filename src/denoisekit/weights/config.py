"""What the header of weights may say of their network: checked before anything is built of it.

A file of weights may come from anywhere. Its configuration goes into sizes and loops, so
each value must be of the kind that the method's own configuration has, and no larger than
any network is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from denoisekit.errors import UsageError
from denoisekit.methods.base import MethodInfo
from denoisekit.weights.schema import SchemaError, no_duplicates

MOST_TEXT = 1 << 16
"""Letters of a configuration; the longest of the methods here has 300."""

MOST_NUMBER = 4096
"""Of a size. The widest published network has 256 features, the longest list 9 items."""

MOST_ITEMS = 256
"""Of a list."""

_OF_FITS: Mapping[str, Any] = {"range": "0,1", "offset": [0.0]}
"""What the kit itself keeps beside a network's sizes; see `denoisekit.engine.denoiser.Denoiser`."""


def read_config(text: str, method: MethodInfo) -> dict[str, Any]:
    """Return the configuration that a header says.

    Parameters
    ----------
    text : str
        JSON.
    method : MethodInfo
        Whose network it describes.

    Raises
    ------
    SchemaError
        It is not JSON, or says what no network of the method has.
    """
    if len(text) > MOST_TEXT:
        raise SchemaError(f"it is {len(text)} letters long")
    try:
        config = json.loads(text, object_pairs_hook=no_duplicates)
    except SchemaError:
        raise
    except (ValueError, RecursionError):
        raise SchemaError("it cannot be read") from None
    check_config(config, method)
    found: dict[str, Any] = config
    return found


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
        if len(value) > MOST_ITEMS:
            raise SchemaError(f"'{key}' has {len(value)} items, more than any network")
        for item in value:
            _check_value(key, item, example[0])
        return
    # Python takes true for a number.
    fits = type(value) is type(example) or (type(example) is float and type(value) is int)
    if not fits:
        raise SchemaError(f"'{key}' must be {_kind(example)}, not {_kind(value)}")
    if isinstance(value, str) and len(value) > MOST_ITEMS:
        raise SchemaError(f"'{key}' is {len(value)} letters long")
    if isinstance(value, int | float) and not -MOST_NUMBER <= value <= MOST_NUMBER:  # nor NaN
        raise SchemaError(f"'{key}' is larger than any network has it")
    if type(example) is int and isinstance(value, int) and value < 0:
        raise SchemaError(f"'{key}' is below 0")


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}
    return kinds.get(type(value), "a list" if isinstance(value, list | tuple) else "a table")
