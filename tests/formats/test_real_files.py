"""Real photographs and microscopy pass through unchanged."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from samples import read, write

FOLDERS = ("polyu50", "kodak24", "sidd_val5", "fluorescence", "noisy_only", "train_cc0")


def kept(metadata):
    """What must come back: all but the quantisation tables, which may become finer."""
    container = {name: value for name, value in metadata.container.items() if name != "tables"}
    return replace(metadata, container=container)


@pytest.mark.shared
@pytest.mark.parametrize("folder", FOLDERS)
def test_real_files_come_back(tmp_path, shared, folder):
    files = sorted(
        p
        for p in (shared / "data" / folder).rglob("*")
        if p.suffix.lower() in (".png", ".jpg", ".jpeg")
    )
    assert files
    for path in sorted(files, key=lambda path: path.stat().st_size)[:2]:
        info, seen = read(path, band=512)
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.mode not in ("L", "RGB") or np.array_equal(
                np.asarray(image).reshape(seen.shape), seen
            )
        write(tmp_path / "copy", info, seen, band=512)
        again, twice = read(tmp_path / "copy", band=512)
        assert kept(again.metadata) == kept(info.metadata)
        if info.format == "png":
            assert np.array_equal(twice, seen)
        else:  # one more generation of JPEG
            assert np.abs(twice.astype(int) - seen).mean() < 1
