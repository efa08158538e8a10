"""What all tests of commands need."""

from __future__ import annotations

from functools import cache

import pytest
import typer


@pytest.fixture(scope="session", autouse=True)
def _parsed_once():
    """Build a command line's parser once, not for every call: they are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield
