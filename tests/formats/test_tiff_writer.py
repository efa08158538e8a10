"""The writer takes rows as they come, holds few of them, and gives up cleanly."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiff_copies import copy, read_all, save

from denoisekit.errors import OutputError
from denoisekit.formats import create_image, tiff_write
from denoisekit.formats.tiff import TIFF
from denoisekit.image import ImageInfo


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_bands_make_the_same_file(tmp_path, data):
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 40))
    planes, samples = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "u2", "f4"])))
    info = ImageInfo("npy", (planes, height, width, samples), "ZYXS", dtype, "channels")
    layout = TIFF.check(info).metadata.container["tiff"]
    layout = replace(
        layout,
        order=data.draw(st.sampled_from("<>")),
        big=data.draw(st.booleans()),
        planar=data.draw(st.booleans()) and samples > 1,
        compression=data.draw(st.sampled_from([1, 5, 8, 32773])),
        predictor=1,
        tile=data.draw(st.sampled_from([None, (16, 16), (32, 16)])),
        strip_rows=data.draw(st.integers(1, 64)),
        kind="plain",
    )
    metadata = replace(info.metadata, container={"tiff": layout})
    info = replace(info, metadata=metadata)
    pixels = np.random.default_rng(0).integers(0, 200, info.shape).astype(dtype)
    save(tmp_path / "whole.tif", info, pixels)
    cuts = [
        sorted({0, height, *data.draw(st.lists(st.integers(0, height), max_size=6))})
        for _ in range(planes)
    ]
    writer = TIFF.create(tmp_path / "bands.tif", info)
    for plane in range(planes):
        for top, bottom in itertools.pairwise(cuts[plane]):
            writer.write_rows(plane, top, pixels[plane, top:bottom])
    writer.finish()
    writer.close()
    assert (tmp_path / "bands.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    np.testing.assert_array_equal(read_all(tmp_path / "bands.tif")[1], pixels)


def gray(planes=2):
    return ImageInfo("npy", (planes, 8, 9), "ZYX", np.dtype("u2"))


def test_rows_out_of_order_or_of_another_kind_are_refused(tmp_path):
    def write():
        with create_image(tmp_path / "a.tif", TIFF.check(gray())) as writer:
            refuse(writer)

    with pytest.raises(ValueError, match="missing"):
        write()


def refuse(writer):
    rows = np.zeros((4, 9, 1), np.uint16)
    for plane, top, wrong in [
        (0, 4, rows),
        (1, 0, rows),
        (0, 0, rows.astype(np.uint8)),
        (0, 0, rows[:, :8]),
        (0, 0, np.zeros((9, 9, 1), np.uint16)),
    ]:
        with pytest.raises(ValueError, match="rows"):
            writer.write_rows(plane, top, wrong)
    writer.write_rows(0, 0, rows)


def packed(compression, shape=(2, 8000, 90)):
    info = TIFF.check(replace(gray(), shape=shape))
    layout = replace(info.metadata.container["tiff"], compression=compression, strip_rows=8)
    return replace(info, metadata=replace(info.metadata, container={"tiff": layout}))


def write_noise(path, info, stop=None):
    rows = np.random.default_rng(0).integers(0, 60000, (*info.shape[1:], 1)).astype(np.uint16)
    with create_image(path, info) as writer:
        writer.write_rows(0, 0, rows)
        writer.write_rows(1, 0, rows[:5])
        if stop is not None:
            raise stop
        writer.write_rows(1, 5, rows[5:])


@pytest.mark.parametrize("compression", [1, 8])
def test_abort_leaves_no_file_and_no_thread(tmp_path, compression):
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        write_noise(tmp_path / "a.tif", packed(compression), KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


@pytest.mark.parametrize("compression", [1, 8])
def test_a_full_disk_is_an_output_error(tmp_path, monkeypatch, compression):
    start = tiff_write.TiffWriter._start

    def on_a_full_disk(writer):
        start(writer)
        writer._file.close()
        writer._file = open("/dev/full", "wb")  # noqa: SIM115, PTH123

    monkeypatch.setattr(tiff_write.TiffWriter, "_start", on_a_full_disk)
    with pytest.raises(OutputError, match="no space left"):
        write_noise(tmp_path / "a.tif", packed(compression))
    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_fails_reaches_the_caller(tmp_path, monkeypatch):
    def broken(coding, block):
        raise RuntimeError("codec broke")

    threads = threading.active_count()
    monkeypatch.setattr(tiff_write.Coding, "encode", broken)
    with pytest.raises(OutputError, match="codec broke"):
        write_noise(tmp_path / "a.tif", packed(8))
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_beyond_the_reach_of_32_bits(tmp_path, monkeypatch):
    """Plain stacks become BigTIFF; ImageJ's become one block behind one directory."""
    monkeypatch.setattr(tiff_write, "CLASSIC_LIMIT", 3000)
    stack = np.arange(24 * 9 * 11, dtype=np.uint16).reshape(24, 9, 11)
    for name, options in {"plain": {}, "imagej": {"imagej": True}}.items():
        source, target = tmp_path / f"{name}.tif", tmp_path / f"{name}_b.tif"
        tifffile.imwrite(
            source, stack, photometric="minisblack", metadata={"axes": "ZYX"}, **options
        )
        copy(source, target)
        with tifffile.TiffFile(target) as tif:
            assert tif.is_bigtiff == (name == "plain")
            assert len(tif.pages) == (24 if name == "plain" else 1)
            assert tif.series[0].axes == "ZYX"
            np.testing.assert_array_equal(tif.series[0].asarray(), stack)
        np.testing.assert_array_equal(read_all(target)[1][..., 0], stack)


@pytest.mark.parametrize("imagej", [False, True])
def test_one_directory_for_all_planes_stays_one(tmp_path, imagej):
    stack = np.arange(24 * 9 * 11, dtype=np.uint16).reshape(24, 9, 11)
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(
        source, stack, photometric="minisblack", imagej=imagej, truncate=True,
        metadata={"axes": "ZYX"},
    )  # fmt: skip
    copy(source, target)
    with tifffile.TiffFile(target) as tif:
        assert len(tif.pages) == 1
        assert tif.series[0].axes == "ZYX"
        np.testing.assert_array_equal(tif.series[0].asarray(), stack)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_memory_does_not_grow_with_the_stack(tmp_path, compression):
    peaks = []
    for planes in (2, 40):
        source = tmp_path / f"{planes}.tif"
        stack = np.random.default_rng(0).integers(0, 200, (planes, 256, 256)).astype(np.uint16)
        tifffile.imwrite(source, stack, photometric="minisblack", compression=compression)
        del stack
        if not peaks:
            copy(source, tmp_path / "out.tif", band=64)  # what is imported counts for nothing
        tracemalloc.start()
        copy(source, tmp_path / "out.tif", band=64)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Forty planes are 5 MiB; holding even four would show.
    assert peaks[1] - peaks[0] < 2**19
