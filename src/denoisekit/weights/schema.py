"""What data may look like: checks of JSON that name the entry and the key that break a rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


class SchemaError(ValueError):
    """A rule is broken; the message names the entry and the key."""


def check_keys(
    item: Any,
    required: Mapping[str, tuple[type, ...]],
    optional: Mapping[str, tuple[type, ...]],
    where: str,
) -> None:
    """Refuse what is no object, lacks a key, has another one, or one of a wrong type."""
    if not isinstance(item, dict):
        raise SchemaError(f"{where}: an object is expected, not {type(item).__name__}")
    for key, value in item.items():
        types = required.get(key) or optional.get(key)
        if types is None:
            raise SchemaError(f"{where}: unknown key '{key}'")
        # JSON's true is an int to Python.
        if not isinstance(value, types) or isinstance(value, bool):
            raise SchemaError(f"{where}: '{key}' has the wrong type {type(value).__name__}")
        if value == "":
            raise SchemaError(f"{where}: '{key}' is empty")
    for key in required:
        if key not in item:
            raise SchemaError(f"{where}: '{key}' is missing")


def check(condition: object, where: str, key: str, expected: str) -> None:
    """Refuse an entry unless a condition holds for its key."""
    if not condition:
        raise SchemaError(f"{where}: '{key}' must be: {expected}")


def check_url(url: str, where: str, key: str) -> None:
    """Refuse what is no address of the web."""
    parts = urlsplit(url)
    legal = re.fullmatch(r"[!-~]+", url) and parts.scheme in {"http", "https"} and parts.hostname
    check(legal, where, key, "an http(s) address, percent-encoded")


def distinct(values: list[str], what: str) -> None:
    """Refuse two of the same."""
    for value in values:
        if values.count(value) > 1:
            raise SchemaError(f"the {what} '{value}' is there twice")


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON whose keys are distinct; for `json.loads`."""
    keys = [key for key, _ in pairs]
    distinct(keys, "key")
    return dict(pairs)
