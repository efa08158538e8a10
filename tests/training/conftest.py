"""What all tests of training need."""

from __future__ import annotations

import pytest
import torch
from small_runs import write_pictures

from denoisekit.training import cost, loop


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure no longer than needed, with one thread: the networks are tiny."""
    monkeypatch.setattr(cost, "BELIEVED", 0.0)
    monkeypatch.setattr(loop, "TOLD_STEPS", 1)
    monkeypatch.setattr(loop, "HELD_OUT", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def noisy(tmp_path):
    """A folder of three noisy pictures."""
    return write_pictures(tmp_path / "noisy")
