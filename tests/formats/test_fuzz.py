"""Truncated and altered files of every format either open or are an expected error."""

from __future__ import annotations

import functools
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import HEIGHT, IDS, WIDTH, XMP, exif, icc, pixels, write

from denoisekit.errors import DenoisekitError
from denoisekit.formats import find_format, open_image
from denoisekit.formats.base import image_info
from denoisekit.image import Metadata


@functools.cache
def healthy(name: str, folder: Path) -> bytes:
    metadata = Metadata(exif=exif(6), xmp=XMP, icc=None if name == "jxl" else icc()[:200])
    info = image_info("none", HEIGHT, WIDTH, 3, "uint8", metadata=metadata)
    path = folder / name
    write(path, find_format(name).check(info), pixels(3))
    return path.read_bytes()


@st.composite
def damages(draw: st.DrawFn) -> tuple[float, list[tuple[float, int]]]:
    """Draw how much of a file stays, and bytes to alter; most of them near the start."""
    place = st.one_of(st.floats(0, 0.1), st.floats(0, 1))
    return (
        draw(st.one_of(st.just(1.0), st.floats(0, 1))),
        draw(st.lists(st.tuples(place, st.integers(1, 255)), max_size=4)),
    )


@pytest.mark.parametrize("name", IDS)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(damage=damages())
def test_damage_is_an_expected_error(tmp_path_factory, name, damage):
    folder = tmp_path_factory.getbasetemp()
    fraction, changes = damage
    data = bytearray(healthy(name, folder))
    for place, change in changes:
        data[int(place * (len(data) - 1))] ^= change
    path = folder / "damaged"
    path.write_bytes(data[: int(fraction * len(data))])
    fault = trouble(path)
    if fault is not None:
        assert "\n" not in fault.message
        assert str(path) in fault.message
        assert fault.hint


def trouble(path: Path) -> DenoisekitError | None:
    """Read a file; return the expected error, if there is one."""
    try:
        with closing(open_image(path)) as reader:
            info = reader.info
            for plane in range(min(info.planes, 3)):
                rows = reader.read_rows(plane, 0, info.height)
                assert rows.shape == (info.height, info.width, info.samples)
                assert rows.dtype == info.dtype
    except DenoisekitError as fault:
        return fault
    return None


@pytest.mark.parametrize("name", IDS)
def test_every_truncation_is_an_error(tmp_path, name):
    """No file that ends early gives half a picture, wherever it ends."""
    data = healthy(name, tmp_path)
    # In a BMP the padding of the last row and the profile follow the pixels.
    last = len(data) - (200 + -WIDTH * 3 % 4 if name == "bmp" else 0)
    for length in np.linspace(0, last - 1, 60).astype(int):
        path = tmp_path / "cut"
        path.write_bytes(data[:length])
        assert trouble(path) is not None, f"{length} of {len(data)} bytes"
