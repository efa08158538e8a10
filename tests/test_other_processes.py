"""A loaded denoiser copied, pickled, and used in processes however they were started."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import denoisekit
from denoisekit.auto import Chooser
from denoisekit.learn.result import Fit
from denoisekit.options import FitOptions
from processes import CONTEXT, launch

NOISY = np.random.default_rng(3).integers(0, 200, (40, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def denoiser():
    """Loaded and used."""
    loaded = denoisekit.load("aprrd", weights="aprrd.camera", range=(0, 255))
    loaded(NOISY)
    return loaded


@pytest.mark.parametrize(
    "another", [lambda d: pickle.loads(pickle.dumps(d)), copy.deepcopy, copy.copy]
)
def test_copies_do_the_same(denoiser, another):
    other = another(denoiser)
    np.testing.assert_array_equal(other(NOISY), denoiser(NOISY))
    assert (other.options, other.weights.id) == (denoiser.options, denoiser.weights.id)
    assert dict(other.weights.config) == dict(denoiser.weights.config)
    for key, tensor in denoiser.weights.state.items():
        assert other.weights.state[key].equal(tensor)


def test_a_copy_by_value_shares_nothing_that_changes(denoiser):
    expected = denoiser(NOISY)
    other = copy.deepcopy(denoiser)
    for tensor in other.weights.state.values():
        tensor.zero_()
    np.testing.assert_array_equal(copy.deepcopy(denoiser)(NOISY), expected)


def test_trying_on_parts_takes_no_second_network(denoiser):
    assert denoiser.on_unit().network is denoiser.network


def test_what_holds_a_denoiser_is_copied_too(denoiser):
    fitted = Fit(denoiser, FitOptions(), "pairs", "", 1.0, 1, (), False)
    other = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(other.denoiser(NOISY), denoiser(NOISY))
    chooser = copy.deepcopy(Chooser(denoiser))
    np.testing.assert_array_equal(chooser(NOISY[:9, :9]), denoiser(NOISY[:9, :9]))


def _denoise(denoiser, noisy, sent):
    sent.send(denoiser(noisy))


def test_handed_to_a_process_that_was_not_forked_from_this_one(denoiser, tmp_path):
    got, sent = CONTEXT.Pipe(duplex=False)
    process = launch(_denoise, denoiser, NOISY, sent, log=tmp_path / "log")
    try:
        assert got.poll(60), (tmp_path / "log").read_text()
        np.testing.assert_array_equal(got.recv(), denoiser(NOISY))
    finally:
        process.terminate()
        process.join()


FORKS = """
import multiprocessing, sys
import numpy as np, torch
import denoisekit

torch.set_num_threads(2)
noisy = np.random.default_rng(3).integers(0, 200, (40, 48, 3), dtype=np.uint8)
how = dict(method="aprrd", weights="aprrd.camera", range=(0, 255))
denoiser = denoisekit.load(**how)
expected = denoiser(noisy)  # starts the threads that no fork copies

def used(sent):
    sent.send(denoiser(noisy))

def loaded(sent):
    sent.send(denoisekit.load(**how)(noisy))

class Frames(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return denoiser(noisy)

fork = multiprocessing.get_context("fork")
for work in (used, loaded):
    got, sent = fork.Pipe(duplex=False)
    process = fork.Process(target=work, args=(sent,), daemon=True)
    process.start()
    if not got.poll(60):
        process.kill()
        sys.exit(f"{work.__name__}: no answer")
    assert np.array_equal(got.recv(), expected), work
    process.join()
with fork.Pool(1) as pool:
    (result,) = pool.map(denoiser, [noisy])
    assert np.array_equal(result, expected)
frames = torch.utils.data.DataLoader(
    Frames(), batch_size=None, num_workers=1, multiprocessing_context=fork
)
for frame in frames:
    assert np.array_equal(frame, expected)
assert torch.get_num_threads() == 2
print("as expected")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_in_a_process_that_was_forked_after_its_use():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment,
    )
    assert done.stdout == "as expected\n", done.stderr
