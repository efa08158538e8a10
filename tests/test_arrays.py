"""Arrays of every layout and kind: values of the plain array's planes, and the same kind back."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import box_method
import denoisekit
from denoisekit.cli.app import run
from denoisekit.errors import InputError, OutputError, UsageError
from denoisekit.formats import open_image

H, W = 9, 8


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A blur that also mixes colours, so that colours are told from planes that have none."""

    def mixing(box, noisy):
        padded = torch.nn.functional.pad(noisy, (1, 1, 1, 1), mode="replicate")
        return (torch.nn.functional.avg_pool2d(padded, 3, 1) + noisy.mean(1, keepdim=True)) / 2

    monkeypatch.setattr(box_method.Box, "hook", mixing)
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    weights = box_method.write_weights(tmp_path / "w.safetensors")
    return denoisekit.load("box", weights=weights, range=(0, 200))


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(5).integers(0, 200, shape).astype(dtype)


def each(box, planes):
    """Denoise (H, W) or (H, W, 3) arrays one by one, whose layouts nobody could mistake."""
    return np.stack([box(np.ascontiguousarray(plane)) for plane in planes])


def same(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_colours_are_not_planes(box):
    colour = noise(H, W, 3)
    assert (box(colour) != np.moveaxis(each(box, np.moveaxis(colour, -1, 0)), 0, -1)).mean() > 0.5


@pytest.mark.parametrize("rows", [1, 2, H])
def test_samples_come_last(box, rows):
    gray, colour = noise(rows, W), noise(rows, W, 3)
    same(box(gray[..., None]), box(gray)[..., None])
    same(box(gray[None, ..., None]), box(gray)[None, ..., None])
    same(box(colour[None]), box(colour)[None])
    frames = noise(2, 5, rows, W, 3)
    same(box(frames), each(box, frames.reshape(10, rows, W, 3)).reshape(frames.shape))
    gray = noise(4, rows, W, 1)
    same(box(gray), each(box, gray[..., 0])[..., None])
    clear = noise(4, rows, W, 4)
    same(box(clear)[..., :3], each(box, clear[..., :3]))
    same(box(clear)[..., 3], clear[..., 3])
    two = noise(rows, W, 2)
    same(box(two), np.moveaxis(each(box, np.moveaxis(two, -1, 0)), 0, -1))


def test_bands_come_last_where_the_sides_are_far_longer(box):
    bands = noise(40, 48, 5)
    same(box(bands), np.moveaxis(each(box, np.moveaxis(bands, -1, 0)), 0, -1))
    same(box(bands, axes="QYX"), each(box, bands))


@pytest.mark.parametrize(
    ("shape", "axes", "planes"),
    [
        ((3, H, W), "CYX", lambda a: a),
        ((3, H, W), None, lambda a: a),
        ((3, H, W), "SYX", lambda a: a.transpose(1, 2, 0)[None]),
        ((2, 3, H, W), "TSYX", lambda a: a.transpose(0, 2, 3, 1)),
        ((2, 3, H, W), "TCYX", lambda a: a.reshape(6, H, W)),
        ((3, 2, H, W), "STYX", lambda a: a.transpose(1, 2, 3, 0)),
        ((H, W, 3), "YXC", lambda a: a.transpose(2, 0, 1)),
        ((H, 3, W), "YSX", lambda a: a.transpose(0, 2, 1)[None]),
        ((W, H), "XY", lambda a: a.T[None]),
        ((1, 3, H, W), "qsyx", lambda a: a.transpose(0, 2, 3, 1)),
    ],
)
def test_axes_in_any_order(box, shape, axes, planes):
    noisy = noise(*shape, dtype=np.uint16)
    same(planes(box(noisy, axes=axes)), each(box, planes(noisy)))


@pytest.mark.parametrize(("shape", "axes"), [((2, H, W, 3), None), ((3, H, W), "SYX")])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files_have_the_layouts_of_arrays(box, tmp_path, shape, axes, order):
    noisy = noise(*shape, dtype=">u2")
    np.save(tmp_path / "a.npy", np.asarray(noisy, order=order))
    to = tmp_path / "b.npy"
    how = {"method": "box", "weights": tmp_path / "w.safetensors", "range": (0, 200)}
    assert denoisekit.denoise(tmp_path / "a.npy", output=to, axes=axes, **how) == to
    assert np.load(to).dtype == noisy.dtype
    same(np.load(to), box(noisy, axes=axes))


@pytest.mark.parametrize("shape", [(2, H, W, 3), (1, H, W, 3), (H, W, 1), (3, H, W)])
@pytest.mark.parametrize("ending", ["npy", "tif"])
def test_an_array_is_written_to_a_file(box, tmp_path, shape, ending):
    noisy, to = noise(*shape), tmp_path / "new" / f"a.{ending}"
    how = {"method": "box", "weights": tmp_path / "w.safetensors", "range": (0, 200)}
    assert denoisekit.denoise(noisy, output=str(to), **how) == to
    reader = open_image(to)
    planes = [reader.read_rows(plane, 0, H) for plane in range(reader.info.planes)]
    reader.close()
    same(np.stack(planes).ravel(), box(noisy).ravel())
    before = to.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        denoisekit.denoise(noise(H, W), output=to, **how)
    assert to.read_bytes() == before
    denoisekit.denoise(noise(H, W + 1), output=to, overwrite=True, **how)
    assert to.read_bytes() != before


def test_what_a_file_cannot_hold_is_refused_before_any_work(box, tmp_path):
    how = {"method": "box", "weights": tmp_path / "w.safetensors"}
    box_method.CALLS.clear()
    with pytest.raises(OutputError, match="stack of 3"):
        denoisekit.denoise(noise(3, H, W), output=tmp_path / "a.png", **how)
    with pytest.raises(UsageError, match="does not name the file"):
        denoisekit.denoise(noise(H, W), output=tmp_path, **how)
    assert not box_method.CALLS
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_pil_image_is_written_with_what_was_read_beside_it(box, tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "grain"
    Image.fromarray(noise(H, W, 3)).save(tmp_path / "a.jpg", exif=exif, dpi=(300, 300))
    how = {"method": "box", "weights": tmp_path / "w.safetensors"}
    with Image.open(tmp_path / "a.jpg") as noisy:
        denoisekit.denoise(noisy, output=tmp_path / "b.png", **how)
    with Image.open(tmp_path / "b.png") as written:
        assert written.getexif()[0x010E] == "grain"
        assert round(written.info["dpi"][0]) == 300


@pytest.mark.parametrize(
    ("mode", "colours"),
    [
        *(("L", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("RGBX", 3)),
        *(("I;16", 1), ("I;16B", 1), ("I", 1), ("F", 1)),
    ],
)
def test_pil_images_keep_mode_and_opacity(box, mode, colours):
    dtype = {"I": "i4", "F": "f4", "I;16": "<u2", "I;16B": ">u2"}.get(mode, "u1")
    samples = len(Image.new(mode, (1, 1)).getbands())
    values = noise(H, W, *([samples] if samples > 1 else []), dtype=dtype)
    noisy = Image.frombytes(mode, (W, H), values.tobytes())
    noisy.info["dpi"] = (72, 72)
    denoised = box(noisy)
    assert isinstance(denoised, Image.Image)
    assert (denoised.mode, denoised.size, denoised.info) == (mode, (W, H), noisy.info)
    after = np.asarray(denoised).reshape(H, W, samples)
    before = values.reshape(H, W, samples)
    same(after[..., :colours], box(np.squeeze(before[..., :colours])).reshape(H, W, colours))
    same(after[..., colours:], before[..., colours:])
    same(noisy, values)


def test_palettes_become_colours(box):
    colours = noise(H, W, 3)
    palette = Image.fromarray(colours).quantize(64)
    denoised = box(palette)
    assert denoised.mode == "RGB"
    same(denoised, box(np.asarray(palette.convert("RGB"))))
    palette.info["transparency"] = palette.getpixel((0, 0))
    clear = box(palette)
    assert (clear.mode, clear.getpixel((0, 0))[3]) == ("RGBA", 0)
    assert "transparency" not in clear.info
    same(np.asarray(clear)[..., 3], np.asarray(palette.convert("RGBA"))[..., 3])


def test_a_pil_image_that_ends_early(box, tmp_path):
    Image.fromarray(noise(90, 80, 3)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    with (
        Image.open(io.BytesIO(data[: len(data) // 2])) as image,
        pytest.raises(InputError, match="cannot be read"),
    ):
        box(image)


@pytest.mark.parametrize("mode", ["1", "HSV"])
def test_pil_modes_whose_values_are_no_light(box, mode):
    with pytest.raises(InputError, match="mode"):
        box(Image.new(mode, (W, H)))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((H, W), None),
        ((1, H, W), None),
        ((3, H, W), "SYX"),
        ((2, 3, H, W), "QSYX"),
        ((2, 1, H, W), None),
        ((5, H, W), "QYX"),
        ((H, W, 3), None),
        ((4, H, W), "SYX"),
        ((3, 1, W), "SYX"),
        ((4, W, 3), "YXS"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.bfloat16])
def test_tensors_have_their_channels_first(box, shape, axes, dtype):
    values = noise(*shape)
    noisy = torch.from_numpy(values).to(dtype)
    before = noisy.clone()
    denoised = box(noisy)
    assert isinstance(denoised, torch.Tensor)
    assert (denoised.dtype, denoised.shape) == (dtype, noisy.shape)
    plain = {torch.uint8: "u1", torch.int64: "i8"}.get(dtype, "f4")
    expected = box(noisy.double().numpy().astype(plain), axes=axes)
    same(denoised.double(), torch.from_numpy(expected).to(dtype).double())
    assert torch.equal(noisy, before)


def test_the_axes_of_a_tensor_can_be_told(box):
    frames = torch.from_numpy(noise(3, H, W))
    same(box(frames, axes="TYX"), each(box, frames.numpy()))


def test_a_tensor_that_is_learned_from(box):
    noisy = torch.rand(3, H, W, requires_grad=True)
    with torch.inference_mode():
        inside = box(noisy)
    outside = box(noisy.to(memory_format=torch.preserve_format))
    assert not outside.requires_grad
    same(inside, outside)
    with pytest.raises(InputError, match="sparse"):
        box(torch.rand(3, H, W).to_sparse())


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        (("y", "x"), "YX"),
        (("x", "y"), "XY"),
        (("c", "y", "x"), "CYX"),
        (("rgb", "y", "x"), "SYX"),
        (("y", "x", "band"), "YXS"),
        (("y", "x", "time"), "YXT"),
        (("time", "lat", "lon"), "TYX"),
        (("T", "C", "Y", "X"), "TCYX"),
        (("frame", "row", "col", "channel"), "TYXS"),
        (("one", "two"), "YX"),
    ],
)
def test_named_axes(box, dims, axes):
    xarray = pytest.importorskip("xarray")
    values = noise(*(dict(zip("YX", (H, W), strict=True)).get(a, 3) for a in axes))
    coords = {dims[0]: np.arange(values.shape[0]) / 2}
    noisy = xarray.DataArray(values, coords, dims, "light", {"unit": "counts"})
    denoised = box(noisy)
    assert denoised.identical(noisy.copy(data=box(values, axes=axes)))
    assert (denoised != noisy).mean() > 0.5


def test_named_arrays_say_what_is_no_value(box):
    xarray = pytest.importorskip("xarray")
    values = noise(H, W, dtype="f4")
    values[2, 3] = -9999
    values[4, 5] = 1e20
    attrs = {"_FillValue": -9999.0, "missing_value": 1e20}
    noisy = xarray.DataArray(values, dims=("y", "x"), attrs=attrs)
    same(box(noisy), box(np.ma.masked_outside(values, 0, 1000)).data)
    assert box(noisy)[2, 3] == -9999


def test_several_named_arrays_at_once(box):
    xarray = pytest.importorskip("xarray")
    with pytest.raises(UsageError, match="'light'"):
        box(xarray.Dataset({"light": (("y", "x"), noise(H, W))}))


def test_chunked_arrays(box):
    dask_array = pytest.importorskip("dask.array")
    values = noise(4, H, W, 3)
    noisy = dask_array.from_array(values, chunks=(1, 5, W, 3))
    denoised = box(noisy)
    assert isinstance(denoised, dask_array.Array)
    assert (denoised.chunks, denoised.dtype) == (noisy.chunks, noisy.dtype)
    same(denoised.compute(), box(values))
    xarray = pytest.importorskip("xarray")
    named = xarray.DataArray(noisy, dims=("time", "x", "y", "rgb"))
    turned = box(named)
    assert turned.chunks == named.chunks
    same(turned, box(values, axes="TXYS"))


def masked(dtype):
    values = noise(20, 24, 3, dtype=dtype)
    mask = np.zeros(values.shape, bool)
    mask[4:6, 7:9] = True
    mask[15, 3, 1] = True
    return np.ma.MaskedArray(values, mask, fill_value=77)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_masked_values_come_back_masked(box, dtype):
    noisy = masked(dtype)
    denoised = box(noisy)
    assert isinstance(denoised, np.ma.MaskedArray)
    assert denoised.fill_value == 77
    same(denoised.mask, noisy.mask)
    same(denoised.data[noisy.mask], noisy.data[noisy.mask])
    assert (denoised != noisy).mean() > 0.5
    assert box(np.ma.MaskedArray(noisy.data)).mask is np.ma.nomask
    assert box(noisy[4:6, 7:9]).mask.all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_masked_values_disturb_nothing(box, dtype):
    noisy = masked(dtype)
    other = np.ma.MaskedArray(noisy.filled(60000), noisy.mask)
    same(box(other).compressed(), box(noisy).compressed())


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_wide_integers(box, dtype):
    noisy = noise(H, W, dtype=dtype)
    same(box(noisy), box(noisy.astype("u4")))
    assert box(noisy).dtype == dtype


def test_lists(box, tmp_path):
    frames = noise(2, H, W, 3)
    same(box(list(frames)), box(frames))
    with pytest.raises(InputError, match="does not become an array"):
        box([noise(H, W), noise(H, W + 1)])


def test_lists_of_files(box, tmp_path):
    how = {"method": "box", "weights": str(tmp_path / "w.safetensors"), "range": (0, 200)}
    values = {name: noise(H, W + i) for i, name in enumerate("abc")}
    for name, array in values.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "b.npy").write_bytes(b"no array")
    sources = [str(tmp_path / "a.npy"), tmp_path / "c.npy"]
    written = denoisekit.denoise(sources, output=tmp_path / "out", **how)
    assert written == [tmp_path / "out" / "a.npy", tmp_path / "out" / "c.npy"]
    for path in written:
        same(np.load(path), box(values[path.stem]))
    with pytest.raises(OutputError, match="exists"):
        denoisekit.denoise(iter(sources), output=tmp_path / "out", **how)
    with pytest.raises(InputError, match=r"b\.npy"):
        denoisekit.denoise(sorted(tmp_path.glob("?.npy")), output=tmp_path / "again", **how)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["a.npy", "c.npy"]
    with pytest.raises(UsageError, match="cannot all be written"):
        denoisekit.denoise(sources, output=tmp_path / "one.npy", **how)
    with pytest.raises(UsageError, match="empty"):
        denoisekit.denoise([], **how)


def test_names_and_files_are_no_arrays(box, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    how = {"method": "box", "weights": tmp_path / "w.safetensors"}
    with pytest.raises(UsageError, match="name of a file") as caught:
        box(tmp_path / "a.png")
    assert "denoisekit.denoise" in caught.value.hint
    with (tmp_path / "a.png").open("rb") as file:
        for given in (file, io.BytesIO(b""), b"\x89PNG"):
            for call in (box, lambda given: denoisekit.denoise(given, **how)):
                with pytest.raises(UsageError, match="is not an array") as caught:
                    call(given)
                assert "PIL.Image.open" in caught.value.hint


@pytest.mark.parametrize("nothing", [None, object(), {}, "", 3])
def test_what_is_no_array_at_all(box, nothing):
    with pytest.raises(denoisekit.DenoisekitError):
        box(nothing)


@pytest.mark.shared
@pytest.mark.parametrize("command", ["denoise", "fit-single --steps 3 --start none"])
def test_frames_are_frames(shared, tmp_path, capsys, command):
    frames = np.load(shared / "cases" / "frames_nhwc.npy")[:2, :96, :112]
    case, to = tmp_path / "noisy.npy", tmp_path / "clean.npy"
    np.save(case, frames)
    assert run([*command.split(), str(case), "-o", str(to)]) == 0, capsys.readouterr().err
    denoised = np.load(to)
    assert (denoised.shape, denoised.dtype) == (frames.shape, frames.dtype)
    if command == "denoise":
        denoiser = denoisekit.load("aprrd", weights="aprrd.camera")
        whole = denoiser(frames[1]).astype(float)
        assert np.abs(denoised[1] - whole).mean() < 1
