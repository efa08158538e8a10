"""Reading other people's files: every wrapper they use, and nothing that they could hide."""

from __future__ import annotations

import json
import pickle
import subprocess
import zipfile
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from tiny_method import CONFIG, METHOD, official, pickled

from denoisekit.errors import WeightsError
from denoisekit.weights.checkpoint import fit, read_header, read_state

STATE = official()


def as_lists(state):
    return {key: value.tolist() for key, value in state.items()}


def read(tmp_path, data):
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    return read_state(path)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"model_state_dict": STATE},
        {"state_dict": STATE, "epoch": 3},
        {"params": {"worse": torch.zeros(1)}, "params_ema": STATE},
        {"params": STATE},
        {"epoch": 20, "model_weight": {"denoiser": STATE}, "optimizer_weight": {"lr": 1e-4}},
        {f"module.{key}": value for key, value in STATE.items()},
        {"state_dict": {f"module.module.{key}": value for key, value in STATE.items()}},
        {key: torch.nn.Parameter(value) for key, value in STATE.items()},
    ],
)
def test_wrappers_come_off(tmp_path, content):
    assert as_lists(read(tmp_path, pickled(content))) == as_lists(STATE)


def test_file_is_known_by_its_content_not_its_name(tmp_path):
    assert as_lists(read(tmp_path, save(STATE))) == as_lists(STATE)


def test_old_pytorch_format(tmp_path):
    path = tmp_path / "old.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    assert as_lists(read_state(path)) == as_lists(STATE)


class Harmful:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return subprocess.call, (["touch", str(self.file)],)


@pytest.mark.parametrize("writer", [pickled, pickle.dumps])
def test_code_in_a_checkpoint_never_runs(tmp_path, writer):
    mark = tmp_path / "ran"
    harmful = writer({"state_dict": STATE, "extra": Harmful(mark)})
    with pytest.raises(WeightsError) as caught:
        read(tmp_path, harmful)
    assert not mark.exists()
    assert caught.value.hint
    pickle.loads(pickle.dumps(Harmful(mark)))
    assert mark.exists()  # the same object, loaded carelessly, does run


def test_pickled_objects_are_explained(tmp_path):
    with pytest.raises(WeightsError, match="holds more than weights") as caught:
        read(tmp_path, pickled(torch.nn.Linear(1, 1)))
    assert "never runs code" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds no weights"),
        ([torch.zeros(1)], "holds no weights"),
        ({"layer.weight": 1.0}, "'layer.weight' is of type float"),
        ({1: torch.zeros(1)}, "1 is of type Tensor"),
        ({"state_dict": {}}, "holds no weights"),
    ],
)
def test_what_is_no_state_dict(tmp_path, content, words):
    with pytest.raises(WeightsError, match=words):
        read(tmp_path, pickled(content))


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match="there is no file"):
        read_state(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match=r"cannot read .*directory"):
        read_state(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_are_an_error_and_nothing_else(tmp_path_factory, data):
    whole = data.draw(st.sampled_from([pickled({"state_dict": STATE}), save(STATE), b"\x08"]))
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 8)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(damaged)
    read_header(path)
    with suppress(WeightsError):
        fit(read_state(path), METHOD, None, "damaged.pth")


def test_header_of_hostile_length(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    assert read_header(path) is None
    deep = b"[" * 100_000
    path.write_bytes((len(deep) + 1).to_bytes(8, "little") + b"{" + deep)
    assert read_header(path) is None


def test_fit_renames_drops_buffers_and_widens():
    half = {key: value.double() for key, value in STATE.items()} | {"layer.mask": torch.ones(9)}
    state, config = fit(half, METHOD, None, "w")
    assert config == CONFIG
    assert as_lists(state) == {
        "mix.weight": STATE["layer.weight"].tolist(),
        "mix.bias": STATE["layer.bias"].tolist(),
    }
    assert {value.dtype for value in state.values()} == {torch.float32}
    again, _ = fit(state, METHOD, CONFIG, "w")  # our own keys fit as they are
    assert as_lists(again) == as_lists(state)


def test_tensor_saved_under_two_names():
    alias = STATE | {"mix.bias": STATE["layer.bias"].clone()}
    assert as_lists(fit(alias, METHOD, None, "w")[0])["mix.bias"] == STATE["layer.bias"].tolist()
    alias["mix.bias"] = alias["mix.bias"] + 1
    with pytest.raises(WeightsError, match=r"two different tensors are both 'mix\.bias'"):
        fit(alias, METHOD, None, "w")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"layer.weight": STATE["layer.weight"]}, r"1 missing \(mix\.bias \[2\]\)"),
        (STATE | {"more": torch.zeros(3)}, r"1 unexpected \(more \[3\]\)"),
        (STATE | {"layer.bias": torch.zeros(5)}, r"mix\.bias: \[5\] in the file, \[2\] in the net"),
        ({"x": torch.zeros(1)}, r"mix\.weight \[2, 3\], mix\.bias \[2\]\); 1 unexpected \(x \[1\]"),
        (STATE | {"layer.bias": torch.tensor([0.0, torch.nan])}, "not finite"),
        (STATE | {"layer.bias": torch.zeros(0)}, "'layer.bias' is an empty tensor"),
        (STATE | {"layer.bias": torch.zeros(2, dtype=torch.complex64)}, "not a plain dense"),
        (STATE | {"layer.bias": torch.zeros(2).to_sparse()}, "not a plain dense"),
        # Twelve bytes in the file, petabytes if it were unfolded before the shapes are compared.
        (STATE | {"layer.bias": torch.zeros(1).expand(1 << 50)}, "of another shape"),
    ],
)
def test_another_network_is_described(state, words):
    with pytest.raises(WeightsError, match=words):
        fit(state, METHOD, None, "w.pth")


def test_configuration_that_the_method_does_not_know():
    with pytest.raises(WeightsError, match="no network of the configuration"):
        fit(STATE, METHOD, {"net": "huge"}, "w")
    with pytest.raises(WeightsError, match="no network of the configuration"):
        fit(STATE, METHOD, json.loads("{}"), "w")
