"""The fixtures of the two blind-spot methods, loaded into our networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from denoisekit.methods.base import MethodInfo
from golden_weights import fixture, formula_weights

BOTH_FORMS = [False, True]
"""Whether the network is prepared for inference."""


@dataclass(frozen=True)
class Case:
    """A method with the weights of a fixture, and the fixture."""

    method: Any
    tensors: Mapping[str, torch.Tensor]
    names: Mapping[str, str]
    """The reference's name of every parameter, and ours."""

    def expect_gradients(self, loss: torch.Tensor) -> None:
        """Fail unless every parameter's gradient is as long as the reference's."""
        loss.backward()
        ours = dict(self.method.net.named_parameters())
        assert sorted(self.names.values()) == sorted(ours)
        for name, key in self.names.items():
            expected = self.tensors[f"grad_norm.{name}"].item()
            found = ours[key].grad.double().norm().item()
            assert abs(found - expected) <= 1e-4 * expected, name


def narrow(fixtures: list[Path]) -> list[Path]:
    """Return those that are not of the published size, whose parts are the same code."""
    return [path for path in fixtures if not path.stem.endswith("_full")]


def slow_where_full(fixtures: list[Path]) -> list[Any]:
    """Mark those of the published size: a backward pass of it takes seconds."""
    return [
        pytest.param(path, id=path.stem, marks=[] if path in narrow(fixtures) else pytest.mark.slow)
        for path in fixtures
    ]


def settings_of(path: Path) -> dict[str, Any]:
    """The reference's own configuration."""
    return json.loads(fixture(path)[1]["config"])


def load_case(
    path: Path, info: MethodInfo, config: Mapping[str, Any], prepared: bool = False, **settings: Any
) -> Case:
    """Build the network of a fixture and give it the fixture's weights."""
    tensors, about = fixture(path)
    norms = [key for key in tensors if key.startswith("grad_norm.")]
    names = {norm.removeprefix("grad_norm."): "" for norm in norms}
    names = {name: info.map_key(name, config) for name in names}
    method = info.build(config, info.choose(settings))
    shapes = method.shapes()
    weights = formula_weights(
        {name: shapes[key] for name, key in names.items()}, int(about["seed"])
    )
    assert (
        info.infer_config({name: tuple(value.shape) for name, value in weights.items()}) == config
    )
    method.load({names[name]: value for name, value in weights.items()})
    if prepared:
        method.prepare(torch.device("cpu"), "fp32")
    return Case(method, tensors, names)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two outputs agree, relative to the range of the second."""
    spread = (expected.max() - expected.min()).item()
    return bool((found - expected).abs().max().item() <= tolerance * spread)
