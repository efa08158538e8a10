"""A run whose files were damaged: each is an error of one line, and nothing is lost."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from small_runs import run, write_pictures

from denoisekit.errors import DenoisekitError
from denoisekit.training.run import Machine, resume


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a run that was stopped after two steps."""
    folder = tmp_path_factory.mktemp("run")
    pictures = write_pictures(folder / "pictures", count=1)
    asked = itertools.count()
    done, _ = run(
        "aprrd", pictures, folder / "run", machine=Machine(workers=1, stop=lambda: next(asked) > 0)
    )
    assert not done
    return folder / "run"


@pytest.fixture
def copied(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def refused(folder):
    with pytest.raises(DenoisekitError) as caught:
        resume(folder, Machine(workers=1, stop=lambda: True, tell=lambda _: None))
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value.message


KEYS = ("method", "seed", "clip", "save_every", "net", "channels", "width", "pictures", "range")
STAGE = ("name", "steps", "batch", "patch", "rate", "limit")


HARMLESS = {("net", '"x"'), ("pictures", '"x"')} | {
    (key, "9" * 30) for key in ("clip", "rate", "limit")
}
WRONG = [
    (key, value)
    for key in KEYS + STAGE
    for value in ('"x"', "[1]", "-1", "nan", "true", "{ a = 1 }", "9" * 30)
    if (key, value) not in HARMLESS
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_damaged_values_of_the_configuration(copied, key, value):
    path = copied / "config.toml"
    lines = path.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith(f"{key} = "))
    path.write_text("\n".join([*lines[:place], f"{key} = {value}", *lines[place + 1 :]]))
    refused(copied)


@pytest.mark.parametrize("key", ["method", "net", "pictures", "name", "steps", "batch", "patch"])
def test_values_that_are_gone(copied, key):
    path = copied / "config.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} = ")]
    path.write_text("\n".join(lines))
    refused(copied)


@pytest.mark.parametrize("text", ["", "[network]", "a" * 1000, "[" * 10_000, "x = {" * 5000, "\0"])
def test_what_is_no_configuration(copied, text):
    (copied / "config.toml").write_text(text)
    assert "config.toml is damaged" in refused(copied)


PLACES = [
    ("stage",),
    ("step",),
    ("net",),
    ("average",),
    ("adam",),
    ("adam", "state"),
    ("adam", "state", 0, "exp_avg"),
    ("adam", "param_groups"),
    ("adam", "param_groups", 0, "betas"),
    ("scaler",),
]
VALUES = {"text": "x", "nothing": None, "huge": 10**30, "list": [1], "tensor": torch.zeros(3)}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: "-".join(map(str, place)))
@pytest.mark.parametrize("value", VALUES)
def test_damaged_states(copied, place, value):
    path = copied / "checkpoints" / "state.pt"
    state = inner = torch.load(path, weights_only=True)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = VALUES[value]
    torch.save(state, path)
    assert "damaged" in refused(copied)


def test_a_state_cut_short(copied):
    path = copied / "checkpoints" / "state.pt"
    path.write_bytes(path.read_bytes()[:-2000])
    assert "cannot be read" in refused(copied)
