"""A run whose files were damaged: each is an error of one line, and nothing is lost."""

from __future__ import annotations

import io
import itertools
import shutil

import pytest
import torch
from small_runs import run, write_pictures

from denoisekit.errors import DenoisekitError
from denoisekit.learn.train import Machine, resume


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


def test_damaged_values_of_the_configuration(copied):
    path = copied / "config.toml"
    lines = path.read_text().splitlines()
    for key in KEYS + STAGE:
        place = next(i for i, line in enumerate(lines) if line.startswith(f"{key} = "))
        for value in ('"x"', "[1]", "-1", "nan", "true", "{ a = 1 }", "9" * 30):
            if (key, value) not in HARMLESS:
                damaged = [*lines[:place], f"{key} = {value}", *lines[place + 1 :]]
                path.write_text("\n".join(damaged))
                refused(copied)


def test_values_that_are_gone_and_what_is_no_configuration(copied):
    path = copied / "config.toml"
    lines = path.read_text().splitlines()
    for key in ("method", "net", "pictures", "name", "steps", "batch", "patch"):
        path.write_text("\n".join(line for line in lines if not line.startswith(f"{key} = ")))
        refused(copied)
    for text in ("", "[network]", "a" * 1000, "[" * 10_000, "x = {" * 5000, "\0"):
        path.write_text(text)
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


@pytest.mark.parametrize("value", ["x", None, 10**30, [1], torch.zeros(3)], ids=str)
def test_damaged_states(copied, value):
    path = copied / "checkpoints" / "state.pt"
    whole = path.read_bytes()
    for place in PLACES:
        state = inner = torch.load(io.BytesIO(whole), weights_only=True)
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        torch.save(state, path)
        assert "damaged" in refused(copied), place


def test_a_state_cut_short(copied):
    path = copied / "checkpoints" / "state.pt"
    path.write_bytes(path.read_bytes()[:-2000])
    assert "cannot be read" in refused(copied)
