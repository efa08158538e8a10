"""Fixtures for every test: an own weights cache, no network, fixed seeds."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

# Tests run side by side, a process a core: threads of theirs would only wait for each other.
# Said before torch and its libraries are loaded, which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

# Enough for every run; `pytest --hypothesis-profile thorough` looks longer.
settings.register_profile("quick", max_examples=50)
settings.register_profile("thorough", max_examples=500)
settings.load_profile("quick")

# A script that starts us in the background has it ignored, and so would all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("DENOISEKIT_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not (SHARED / "data").is_dir():
        absent = pytest.mark.skip(reason=f"no third-party data at {SHARED}")
        for item in items:
            if "shared" in item.keywords:
                item.add_marker(absent)


@pytest.fixture
def shared() -> Path:
    """The folder of third-party pictures and weights; the test carries ``@pytest.mark.shared``."""
    return SHARED


@pytest.fixture(scope="session")
def homes(tmp_path_factory) -> Iterator[Path]:
    """Folders that nobody has made yet: few tests write one, and each costs time."""
    above = tmp_path_factory.mktemp("homes")
    return (above / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def isolated(homes, monkeypatch):
    """Keep every test away from the user's cache, settings and network."""
    monkeypatch.setenv("DENOISEKIT_HOME", str(next(homes)))
    for name in ("DENOISEKIT_OFFLINE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    random.seed(2812)
    np.random.seed(2812)  # noqa: NPY002 - libraries under test use the global state

    connect = socket.socket.connect

    def local_only(self, address):
        if isinstance(address, tuple) and address[0] not in {"127.0.0.1", "localhost", "::1"}:
            raise OSError(f"tests reach no network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
