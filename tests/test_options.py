"""What a user can ask for, declared once."""

from __future__ import annotations

import pytest

from denoisekit.errors import UsageError
from denoisekit.options import parse_memory, parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GiB", 4 * 2**30),
        ("500MB", 500 * 10**6),
        ("1.5 g", 3 * 2**29),
        ("2kib", 2048),
        ("12345", 12345),
        ("1T", 2**40),
    ],
)
def test_amounts_of_memory(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1GB", "GB", "1.2.3", ".", "4 PB", "nan", "9" * 400])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(UsageError, match="amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1h30m", 5400), ("2d", 172800), ("45", 45), ("0.5h", 1800)],
)
def test_times(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "h", "-1h", "1.2.3h", "1 week"])
def test_what_is_no_time(text):
    with pytest.raises(UsageError):
        parse_time(text)
