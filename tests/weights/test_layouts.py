"""Every layout of official checkpoints, for every network: all keys, all shapes, no other network.

The keys are the reference's (``tests/golden/*_keys.json``). The numbers are one per tensor
of ours, so that a tensor in another's place shows; a stride of zero keeps the files small.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
import torch
from tiny_method import entry_for

from denoisekit.errors import WeightsError
from denoisekit.methods import METHODS
from denoisekit.weights import (
    choose_entry,
    find,
    import_file,
    load_manifest,
    load_weights,
    loading,
    store,
)
from denoisekit.weights.checkpoint import guesses, read_state
from golden_weights import GOLDEN, shapes_of

KEYS = {path.stem.removesuffix("_keys"): path for path in sorted(GOLDEN.glob("*_keys.json"))}
NETWORKS = {name: shapes_of(path.with_name(f"{name}.safetensors")) for name, path in KEYS.items()}
PUBLISHED = {method.id for method in METHODS} - {"single"}
OF = {name: guesses(shapes, METHODS) for name, shapes in NETWORKS.items()}

each_network = pytest.mark.parametrize("name", NETWORKS)


def checkpoint(name):
    """The tensors of an official checkpoint, and what our network should get of them."""
    (guess,) = OF[name]
    ours = {}
    state = {}
    for number, (key, shape) in enumerate(NETWORKS[name].items()):
        place = guess.method.map_key(key, guess.config)
        value = ours.setdefault(place, number + 0.5) if place else -1.0
        state[key] = torch.tensor(value).expand(shape)
    ours.pop("", None)
    return state, ours


def optimizer(state):
    """What an optimizer would leave beside the weights."""
    one = {"step": 3, "exp_avg": torch.zeros(2)}
    group = {"lr": 1e-4, "betas": (0.9, 0.99), "params": list(range(len(state)))}
    return {"state": dict.fromkeys(range(len(state)), one), "param_groups": [group]}


def prefixed(state):
    return {f"module.{key}": value for key, value in state.items()}


LAYOUTS = {
    "bare": lambda state: state,
    "model_state_dict": lambda state: {
        "epoch": 9,
        "model_state_dict": state,
        "optimizer_state_dict": optimizer(state),
    },
    "params_ema": lambda state: {
        "params": {key: value - 7 for key, value in state.items()},
        "params_ema": state,
    },
    "model_weight": lambda state: {
        "epoch": 20,
        "model_weight": {"denoiser": state},
        "optimizer_weight": {"denoiser": optimizer(state)},
    },
}
WRAPPED = {
    **LAYOUTS,
    **{f"{k}, module.": lambda state, wrap=v: wrap(prefixed(state)) for k, v in LAYOUTS.items()},
}


def kinds(shapes):
    """The last key of every kind: of "blocks.3.weight" and "blocks.4.weight" the second."""
    return {re.sub(r"\d+", "#", key): key for key in shapes}.values()


@pytest.fixture
def save(tmp_path):
    def write(content):
        path = tmp_path / "downloaded.pth"
        torch.save(content, path)
        return path

    return write


def test_every_method_has_keys_and_they_are_recognised_by_it_alone():
    assert all(len(found) == 1 for found in OF.values()), OF
    assert {found[0].method.id for found in OF.values()} == PUBLISHED
    networks = [(found[0].method.id, json.dumps(dict(found[0].config))) for found in OF.values()]
    assert len(set(networks)) == len(networks)


@each_network
def test_every_layout_holds_the_same_tensors(save, name):
    state, _ = checkpoint(name)
    state = {key: state[key] for key in kinds(state)}
    for layout in WRAPPED.values():
        found = read_state(save(layout(state)))
        assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in state.items()}
        assert [first(value) for value in found.values()] == [first(v) for v in state.values()]


def first(value):
    # Nothing of a tensor that takes no room need be compared but its one number.
    assert not any(value.stride())
    return value[(0,) * value.ndim].item()


def spread(value):
    return value.min().item(), value.max().item()


@each_network
def test_every_key_and_shape_arrives_at_its_place(save, name):
    state, ours = checkpoint(name)
    (guess,) = OF[name]
    loaded = load_weights(save(WRAPPED["model_weight, module."](state)), guess.method)
    assert guess.same(loaded.config)
    network = guess.method.build(loaded.config, guess.method.choose())
    assert {k: tuple(v.shape) for k, v in loaded.state.items()} == dict(network.shapes())
    found = {key: spread(value) for key, value in loaded.state.items()}
    assert found == {key: (value, value) for key, value in ours.items()}
    network.load(loaded.state)


def unpinned(name):
    (guess,) = OF[name]
    changes = {"method": guess.method.id, "config": guess.config, "bytes": None, "sha256": None}
    page = "https://example.org/"
    return entry_for(b"", name=f"{guess.method.id}.{name.replace('_', '-')}", page=page, **changes)


@each_network
def test_import_keeps_what_the_file_held(save, name, monkeypatch):
    state, ours = checkpoint(name)
    entry = unpinned(name)
    monkeypatch.setattr(loading, "load_manifest", lambda: (entry,))
    path = save(LAYOUTS["model_weight"](prefixed(state)))
    # It is the only one without a hash that the keys fit.
    pinned = entry_for(b"", name=f"{entry.method}.pinned", method=entry.method, config=entry.config)
    assert choose_entry(path, [pinned, entry], None) == entry
    assert not import_file(path, entry, OF[name][0].method).verified
    loaded = load_weights(entry.id, OF[name][0].method)
    found = {key: spread(value) for key, value in loaded.state.items()}
    assert found == {key: (value, value) for key, value in ours.items()}
    assert loaded.warnings == (f"{entry.id} was imported from an unverified source",)


@pytest.mark.parametrize(("name", "wanted"), [*pairwise([*NETWORKS, next(iter(NETWORKS))])])
def test_another_network_is_named(save, name, wanted, monkeypatch):
    entries = tuple(unpinned(network) for network in NETWORKS)
    monkeypatch.setattr(store, "load_manifest", lambda: entries)
    (entry,) = (e for e in entries if e.id == unpinned(wanted).id)
    method, other = OF[wanted][0].method, OF[name][0].method
    state, _ = checkpoint(name)
    with pytest.raises(WeightsError) as caught:
        import_file(save(state), entry, method)
    message = caught.value.message
    named = re.search(r"missing \((\S+) \[|of another shape \((\S+):", message)
    assert {named[1], named[2]} & method.build(entry.config, method.choose()).shapes().keys()
    assert f"; it looks like a checkpoint of {other.id}" in message
    assert "\n" not in message
    assert caught.value.hint == f"try --as {unpinned(name).id}"
    assert find(entry) is None


def test_the_right_method_is_named_where_a_file_is_used_directly(save):
    for name, (guess,) in OF.items():
        path = save(checkpoint(name)[0])
        for method in METHODS:
            if method.id != guess.method.id:
                with pytest.raises(WeightsError, match=f"looks like .* of {guess.method.id}$") as e:
                    load_weights(path, method)
                assert e.value.hint == f"try --method {guess.method.id}"


@each_network
def test_one_key_too_few_or_too_many_is_an_error(save, name):
    state, _ = checkpoint(name)
    (guess,) = OF[name]
    method = guess.method
    places = [method.map_key(key, guess.config) for key in state]
    key = next(k for k, p in reversed([*zip(state, places, strict=True)]) if places.count(p) == 1)
    missing = method.map_key(key, guess.config)
    with pytest.raises(WeightsError, match="1 missing") as caught:
        load_weights(save({k: v for k, v in state.items() if k != key}), method)
    assert missing in caught.value.message
    assert "looks like" not in caught.value.message
    with pytest.raises(WeightsError, match=r"1 unexpected \(extra\.weight \[1\]\)"):
        load_weights(save({**state, "extra.weight": torch.zeros(1)}), method)
    with pytest.raises(WeightsError, match=f"1 of another shape \\({missing}: "):
        load_weights(save({**state, key: torch.zeros(*state[key].shape, 2)}), method)


@pytest.mark.parametrize("shape", [(), (3,), (0, 0, 0, 0)])
def test_odd_shapes_break_neither_recognition_nor_loading(save, shape):
    for shapes in NETWORKS.values():
        for key in kinds(shapes):
            guesses({**shapes, key: shape}, METHODS)
            guesses({key: shape}, METHODS)
        path = save({key: torch.zeros(shape) for key in kinds(shapes)})
        for method in METHODS:
            with pytest.raises(WeightsError):
                load_weights(path, method)


def test_entries_of_the_manifest_fit_the_published_keys():
    entries = [entry for entry in load_manifest() if not entry.embedded]
    for (guess,) in OF.values():
        fitting = [entry.id for entry in entries if guess.fits(entry)]
        assert fitting or guess.method.id == "promptsid"
    known = {guess.method.id for (guess,) in OF.values()}
    for entry in entries:
        if entry.method in known:
            assert sum(guess.fits(entry) for (guess,) in OF.values()) == 1, entry.id
