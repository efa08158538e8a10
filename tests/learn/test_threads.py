"""As many threads as are fastest now, and as before afterwards."""

from __future__ import annotations

import pytest
import torch

from denoisekit.learn import planning

BUSY = {8: 0.5, 4: 0.1, 2: 0.03, 1: 0.02}
QUIET = {8: 0.004, 4: 0.007, 2: 0.012, 1: 0.02}
EQUAL = {8: 0.02, 4: 0.02, 2: 0.02, 1: 0.02}


@pytest.mark.parametrize(("takes", "best"), [(BUSY, 1), (QUIET, 8), (EQUAL, 1)])
def test_those_that_are_fastest_are_used_and_no_more(monkeypatch, takes, best):
    set_to = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(planning, "seconds_of_layer", takes.__getitem__)
    with planning.fastest_threads(torch.device("cpu")):
        assert set_to == [best]
    assert set_to == [best, 8]


def test_the_measure_is_of_work():
    before = torch.get_num_threads()
    assert planning.seconds_of_layer(1) > 0
    torch.set_num_threads(before)
