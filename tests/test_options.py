"""What a user can ask for, declared once."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing

import numpy as np
import pytest
import torch
import typer

import denoisekit
from denoisekit import api
from denoisekit.cli.app import app
from denoisekit.errors import UsageError
from denoisekit.options import (
    FileOptions,
    FitOptions,
    Options,
    TrainData,
    TrainOptions,
    declared,
    flags_of,
    parse_memory,
    parse_time,
    read_options,
)

COMMANDS = {
    "denoise": (FileOptions, Options),
    "fit-single": (FileOptions, FitOptions),
    "simulate": (FileOptions,),
    "train": (TrainData, TrainOptions),
}
FUNCTIONS = (
    (api.load, api.LoadKeywords, Options, {"method"}),
    (api.denoise, api.DenoiseKeywords, Options, set()),
    (api.fit_single, api.FitKeywords, FitOptions, set()),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_declared_option_is_one_of_its_command(command):
    known = {each.name: each for each in typer.main.get_command(app).commands[command].params}
    for kind in COMMANDS[command]:
        for each, _ in declared(kind):
            flags = [text for flag in flags_of(each) for text in flag.split("/")]
            assert [*known[each.name].opts, *known[each.name].secondary_opts] == flags
            assert known[each.name].help == each.metadata["help"]
            assert each.metadata["help"].endswith((".", "…"))


def members(type_):
    return {*typing.get_args(type_)} if isinstance(type_, types.UnionType) else {type_}


@pytest.mark.parametrize(("function", "keywords", "kind", "named"), FUNCTIONS)
def test_every_declared_option_is_a_typed_keyword_of_its_function(function, keywords, kind, named):
    taken, stored = typing.get_type_hints(keywords), typing.get_type_hints(kind)
    assert {each.name for each, _ in declared(kind)} == ({*taken} & {*stored}) | named
    parameters = inspect.signature(function).parameters
    assert {*taken} <= {*parameters}
    hints = typing.get_type_hints(function, localns={"torch": torch})
    for name in {*taken} & {*stored}:
        # Python takes at least what the field holds.
        assert members(stored[name]) <= members(taken[name])
        assert name in function.__doc__.partition("Returns")[0]
        assert hints[name] == taken[name]
    for each in dataclasses.fields(kind):
        if each.name in taken and each.default is not dataclasses.MISSING:
            assert parameters[each.name].default in (each.default, None)


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="strenth"):
        denoisekit.denoise(np.zeros((8, 8)), strenth=0.5)


def test_options_as_typed_and_as_given_in_python_are_the_same():
    typed = {"settings": ["a=1"], "tile": "auto", "strength": "0.5", "max_memory": "1KB"}
    read = read_options(Options, {**typed, "settings": None, "range": "0,1"}, flags=True)
    given = {"settings": {}, "tile": None, "strength": 0.5, "max_memory": 1000, "range": (0, 1)}
    same = read_options(Options, {**given, "range": "0,1"})
    assert read == same
    assert read_options(Options, given).range == "0.0,1.0"
    for flags, name in ((True, "--tile"), (False, "tile")):
        with pytest.raises(UsageError, match=f"^{name} big is not"):
            read_options(Options, {"tile": "big"}, flags=flags)


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
