"""What errors say to do."""

from __future__ import annotations

import json
from importlib import metadata
from types import SimpleNamespace

import pytest

from denoisekit.errors import pip_install

FOLDER = {"url": "file:///home/me/a%20b/kit", "dir_info": {}}
EDITABLE = {**FOLDER, "dir_info": {"editable": True}}
ARCHIVE = {"url": "https://host/kit.whl", "archive_info": {}}


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, 'pip install "denoisekit[bench]"'),
        ("no json", 'pip install "denoisekit[bench]"'),
        ([], 'pip install "denoisekit[bench]"'),
        (ARCHIVE, 'pip install "denoisekit[bench]"'),
        (FOLDER, 'pip install "/home/me/a b/kit[bench]"'),
        (EDITABLE, 'pip install -e "/home/me/a b/kit[bench]"'),
    ],
)
def test_the_command_is_that_of_the_installation(monkeypatch, origin, command):
    text = origin if origin is None or isinstance(origin, str) else json.dumps(origin)
    found = SimpleNamespace(read_text=lambda name: text if name == "direct_url.json" else None)
    monkeypatch.setattr(metadata, "distribution", lambda _: found)
    assert pip_install("bench") == command


def test_without_an_installation_it_is_that_of_an_index(monkeypatch):
    def absent(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "distribution", absent)
    assert pip_install() == 'pip install "denoisekit"'
    assert pip_install("", "--no-deps") == 'pip install --no-deps "denoisekit"'
