"""Small pages whose pictures are easily told apart, and what is in a page."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
from PIL import Image

from denoisekit.report import Cell, Exhibit, Page, number, section, table

RED, GREEN, BLUE, GOLD = (200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)
HEIGHT, WIDTH = 96, 128
DOT = (40, 60)
"""Row and column of a white square of 4x4 pixels."""


def flat(colour, *, dot=True):
    picture = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    if dot:
        picture[DOT[0] : DOT[0] + 4, DOT[1] : DOT[1] + 4] = 255
    return picture


def page(names=("one", "two"), sections=()):
    """Return a page with a picture of each name: noisy red, clean green, a blue, b gold."""
    exhibits = [
        Exhibit(name, [flat(c) for c in (RED, GREEN, BLUE, GOLD)], ("1 dB", "", "2 dB", ""))
        for name in names
    ]
    return Page(
        "A title",
        "in short",
        ["noisy", "clean", "a", "b"],
        exhibits,
        (0, 2),
        1,
        "Picture",
        sections,
    )


def numbers():
    """Return a section with a table: b has the largest number, a the smallest."""
    rows = [
        [Cell("c 10", exhibit=1), number(9.5, 2), Cell("x")],
        [Cell("a 2"), number(-1, 2), Cell("z")],
        [Cell("b 1"), number(float("inf"), 2, best=True), Cell("y")],
    ]
    return section("Numbers", table("All of them", ("name", "dB", "word"), rows))


def data_of(html):
    """Return what a page tells its viewer."""
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])


def decode(source):
    """Return the picture that a page holds as text."""
    kind, _, text = source.removeprefix("data:image/").partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.format.lower() == kind
        return np.asarray(image)
