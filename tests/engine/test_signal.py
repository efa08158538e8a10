"""What of an image's values is signal: no unit, offset, padding or wrong pixel changes a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import box_method
import denoisekit
from denoisekit.engine.denoiser import Denoiser
from denoisekit.engine.signal import find_signal
from denoisekit.engine.view import View, count_wrong
from denoisekit.formats import open_image
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.options import Options
from denoisekit.ranges import parse_range
from helpers import finished


@pytest.fixture(scope="module")
def shipped() -> Denoiser:
    """The default of a fresh machine."""
    return denoisekit.load(weights="aprrd.camera", strength=None)


def micrograph(height=160, width=144, seed=0):
    """Return counts of a camera with an offset: what is there, and what was measured."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cells = sum(
        np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * r * r))
        for cy, cx, r in rng.uniform([0, 0, 5], [height, width, 16], (9, 3))
    )
    clean = 100 + 10 + 120 * np.minimum(cells, 2)
    noisy = rng.poisson(clean - 100) + 100 + rng.normal(0, 2, clean.shape)
    return clean, np.rint(noisy).clip(0)


def error(one, other):
    return float(np.sqrt(np.square(one - np.asarray(other, float)).mean()))


# --- the unit does not matter ------------------------------------------------------------------


def test_low_counts_come_out_right_and_alike_in_every_type(shipped):
    clean, noisy = micrograph()
    left = {}
    for dtype in ("uint16", "int16", "int32", "uint32", "float32", "float64"):
        denoised = shipped(noisy.astype(dtype))
        assert denoised.dtype == dtype
        left[dtype] = error(denoised, clean)
        assert abs(denoised.mean() / noisy.mean() - 1) < 0.002
    assert max(left.values()) < 0.5 * error(noisy, clean)
    assert max(left.values()) < 1.02 * min(left.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("gain", "offset"), [(1e-6, 0), (1e-6, 1e-3), (0.37, -40), (1, 1e4), (1e3, -1e5), (1e6, 1e8)]
)
def test_unit_and_offset_do_not_matter(shipped, gain, offset, dtype):
    _, noisy = micrograph(96, 80)
    removed = noisy - shipped(noisy)
    other = (gain * noisy + offset).astype(dtype)
    again = (other.astype(float) - shipped(other).astype(float)) / gain
    # What float32 cannot tell apart at that offset is no fault of the result.
    lost = float(np.spacing(np.abs(other).max())) / gain
    assert error(again, removed) < 0.01 * error(removed, 0) + lost


def test_integers_of_another_gain_are_the_same_picture(shipped):
    _, noisy = micrograph(96, 80)
    removed = noisy - shipped(noisy)
    other = (150 * noisy + 700).astype(np.uint16)
    again = (other.astype(float) - shipped(other)) / 150
    assert error(again, removed) < 0.01 * error(removed, 0)


def test_each_channel_has_its_own_range(shipped):
    _, noisy = micrograph(96, 80)
    stack = np.stack([noisy, 1e-3 * noisy + 5])
    denoised = shipped(stack, axes="CYX")
    removed = stack - denoised
    assert error(removed[1] * 1e3, removed[0]) < 0.01 * error(removed[0], 0)


@pytest.mark.parametrize("samples", [3, 4])
def test_photographs_of_8_bits_are_taken_as_they_are(samples):
    dim = np.random.default_rng(0).integers(10, 40, (40, 50, samples), np.uint8)
    signal = find_signal(parse_range("auto"), ArrayReader(dim, None))
    assert (signal.scale.low, signal.scale.high, signal.measured) == (0, 255, False)
    assert signal.line() is None


@pytest.mark.parametrize(("white", "measured"), [(65535, False), (40000, False), (16383, True)])
def test_deep_photographs_are_too_where_they_use_their_range(white, measured):
    deep = np.random.default_rng(0).integers(0, white, (64, 64, 3), np.uint16)
    signal = find_signal(parse_range("auto"), ArrayReader(deep, None))
    assert signal.measured == measured
    assert (signal.scale.high == 65535) == (not measured)
    assert (signal.line() is not None) == measured


def test_strong_noise_is_shown_no_stronger_than_networks_know():
    noise = np.random.default_rng(0).normal(1000, 100, (128, 128))
    scale = find_signal(parse_range("auto"), ArrayReader(noise, None)).scale
    assert 100 / scale.span == pytest.approx(0.1, rel=0.1)


def test_a_range_in_numbers_still_forces():
    _, noisy = micrograph()
    reader = ArrayReader(noisy.astype(np.uint16), None)
    signal = find_signal(parse_range("0,4095"), reader)
    assert (signal.scale.low, signal.scale.high) == (0, 4095)


# --- what is no measurement ---------------------------------------------------------------------


@pytest.mark.parametrize("times", [1e3, 1e4, 1e6])
def test_one_absurd_pixel_stays_and_disturbs_nothing(shipped, times):
    _, noisy = micrograph()
    odd = noisy.astype(np.float32)
    odd[70, 71] = times * np.ptp(noisy)
    before, after = shipped(noisy.astype(np.float32)), shipped(odd)
    assert after[70, 71] == odd[70, 71]
    rest = np.ones(noisy.shape, bool)
    rest[70, 71] = False
    assert error(after[rest], before[rest]) < 0.02 * error(noisy[rest], before[rest])


@pytest.mark.parametrize("value", [np.nan, np.inf, -9999.0, -3.4e38, 1e20])
def test_holes_come_back_bit_for_bit_and_leave_no_trace(shipped, value):
    clean, noisy = micrograph()
    holes = np.zeros(noisy.shape, bool)
    holes[:30, 100:], holes[80:84, 20:60], holes[::17, ::13] = True, True, True
    odd = np.where(holes, value, noisy).astype(np.float32)
    denoised = shipped(odd)
    assert denoised[holes].tobytes() == odd[holes].tobytes()
    assert error(denoised[~holes], clean[~holes]) < 0.5 * error(noisy[~holes], clean[~holes])
    assert abs(denoised[~holes].mean() / noisy[~holes].mean() - 1) < 0.002


def test_the_value_that_a_geotiff_declares_is_no_measurement(tmp_path, shipped):
    _, noisy = micrograph()
    height = noisy.astype(np.int16)
    height[40:, :50] = 77  # not far from the others: only the tag says it
    tag = (42113, "s", 0, "77", True)
    tifffile.imwrite(tmp_path / "a.tif", height, extratags=[tag])
    reader = open_image(tmp_path / "a.tif")
    assert reader.info.nodata == 77
    reader.close()
    denoised = tifffile.imread(denoisekit.denoise(tmp_path / "a.tif"))
    assert (denoised[40:, :50] == 77).all()
    assert (denoised[:40] != height[:40]).mean() > 0.5


def test_padding_stays_and_disturbs_little(shipped):
    clean, noisy = micrograph(256, 256)
    mosaic = np.zeros((400, 400), np.uint16)
    mosaic[60:316, 40:296] = noisy
    denoised, alone = shipped(mosaic), shipped(noisy.astype(np.uint16))
    outside = mosaic == 0
    assert (denoised[outside] == 0).all()
    assert error(alone, clean) < 0.5 * error(noisy, clean)
    assert error(denoised[60:316, 40:296], clean) < 1.3 * error(alone, clean)


def test_masked_rows_do_not_depend_on_how_an_image_is_cut():
    _, noisy = micrograph(200, 90)
    noisy[50:120, 30:60] = 0
    noisy[10, 10] = 1e7
    reader = ArrayReader(noisy, None)
    signal = find_signal(parse_range("auto"), reader)
    whole = View(reader, signal).unit(0, 0, 200)
    for top, bottom in [(0, 64), (63, 130), (130, 131), (190, 200)]:
        np.testing.assert_array_equal(View(reader, signal).unit(0, top, bottom), whole[top:bottom])


def test_what_lies_far_outside_passes_by_the_network():
    reader = ArrayReader(micrograph()[1], None)
    signal = find_signal(parse_range("auto"), reader)
    bright = reader.read_rows(0, 0, 64).astype(float)
    bright[20:40, 20:40] *= 50
    view = View(ArrayReader(bright[..., 0], None), signal)
    unit = view.unit(0, 0, 64)
    assert unit.max() == 1.5
    np.testing.assert_allclose(view.file_values(0, 0, unit), bright, rtol=1e-6)


# --- grey, constant, hot -------------------------------------------------------------------------


def test_grey_stays_grey(shipped):
    _, noisy = micrograph()
    grey = np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    denoised = shipped(grey)
    assert (denoised == denoised[..., :1]).all()
    stamped = grey.copy()
    stamped[20:40, 20:40] = (200, 30, 30)
    coloured = shipped(stamped)
    assert (coloured[60:] == coloured[60:, :, :1]).all()
    assert (coloured[24:36, 24:36, 0] > coloured[24:36, 24:36, 1] + 100).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3), (3, 40, 50)])
def test_constant_images_come_back_constant(shipped, dtype, shape):
    flat = np.full(shape, 77, dtype)
    np.testing.assert_array_equal(shipped(flat), flat)


def hot_photograph():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :150]
    shade = 90 + 60 * np.sin(x / 40) * np.cos(y / 31)
    image = shade[..., None] + 4 * rng.standard_normal((120, 150, 3))
    image = image.clip(0, 255).astype(np.uint8)
    hot = np.zeros((120, 150), bool)
    hot[7::23, 5::19] = True
    image[hot] = 255
    return image, hot, shade


@pytest.mark.parametrize("hot_pixels", ["auto", "remove", "keep"])
def test_hot_pixels_of_photographs_go_unless_told(hot_pixels):
    image, hot, shade = hot_photograph()
    options = Options(weights="aprrd.camera", hot_pixels=hot_pixels)
    made = Denoiser(box_method.METHOD, box_method.WEIGHTS, options)
    denoised, report = finished(made.run(ArrayReader(image, None)))
    done = "left as they are" if hot_pixels == "keep" else "removed"
    assert f"{hot.sum()} hot or dead pixels, {done}" in " ".join(report.notes)
    if hot_pixels == "keep":
        assert (denoised[hot] == 255).all()
    inner = hot.copy()
    inner[[0, -1]] = inner[:, [0, -1]] = False
    if hot_pixels != "keep":
        assert np.abs(denoised[inner].astype(float) - shade[inner][:, None]).max() < 20


def test_hot_pixels_of_measured_data_are_counted_and_kept(shipped):
    _, noisy = micrograph()
    data = noisy.astype(np.uint16)
    hot = np.zeros(data.shape, bool)
    hot[8::40, 8::40] = True
    data[hot] = np.random.default_rng(1).integers(700, 3000, hot.sum())
    reader = ArrayReader(data, None)
    signal = find_signal(parse_range("auto"), reader)
    assert count_wrong(reader, signal)[:2] == (hot.sum(), 0)
    np.testing.assert_array_equal(shipped(data)[hot], data[hot])


# --- clean pictures --------------------------------------------------------------------------


def halftone(period, angle):
    y, x = np.mgrid[:160, :160]
    tone = 0.2 + 0.6 * x / 160
    u = 2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle))
    v = 2 * np.pi / period * (y * np.cos(angle) - x * np.sin(angle))
    return (tone > (np.cos(u) + np.cos(v)) / 4 + 0.5).astype(float)


def stripes(width, axis):
    place = np.mgrid[:160, :160][axis]
    return (place // width % 2).astype(float)


def mesh():
    y, x = np.mgrid[:160, :160]
    return np.where((x % 5 < 1) | (y % 5 < 1), 0.2, 0.7)


CLEAN = {
    "halftone": halftone(5, 0),
    "turned halftone": halftone(6.3, 0.26),
    "one pixel": stripes(1, 1),
    "two pixels": stripes(2, 0),
    "mesh": mesh(),
    "chequered": (stripes(2, 0) + stripes(2, 1)) % 2,
}


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("kind", ["grey", "colour", "float"])
def test_fine_detail_without_noise_is_left_alone(shipped, name, kind):
    picture = CLEAN[name]
    if kind == "float":
        clean, span = (picture * 3.7 + 10).astype(np.float32), 3.7
    else:
        clean, span = np.rint(picture * 255).astype(np.uint8), 255.0
    if kind == "colour":
        clean = np.stack([clean, 255 - clean, clean // 2 + 60], -1)
    lost = error(shipped(clean).astype(float), clean) / span
    assert lost < 10 ** (-42 / 20)


def test_one_line_says_that_there_was_no_noise(shipped):
    clean = np.rint(CLEAN["mesh"] * 255).astype(np.uint8)
    _, report = finished(shipped.run(ArrayReader(clean, None)))
    assert any("no noise to speak of" in note for note in report.notes)
    _, noisy = micrograph()
    _, report = finished(shipped.run(ArrayReader(noisy, None)))
    assert not any("no noise" in note for note in report.notes)


# --- the cases that were wrong ---------------------------------------------------------------


def denoised_case(cases: Path, name: str, out: Path):
    path = denoisekit.denoise(cases / name, output=out / name)
    read = tifffile.imread if name.endswith(".tif") else lambda p: np.asarray(Image.open(p))
    return read(cases / name), read(path)


@pytest.mark.shared
def test_cases_of_values(shared, tmp_path):
    cases = shared / "cases"

    def run(name):
        return denoised_case(cases, name, tmp_path)

    noisy, denoised = run("lowcount_uint16.tif")
    assert abs(denoised.mean() / noisy.mean() - 1) < 0.002
    assert 8 < error(noisy, denoised) < 14  # the noise is 13

    noisy, denoised = run("rgb_14in16.tif")
    assert denoised.max() <= 16383
    assert abs(denoised.mean() / noisy.mean() - 1) < 0.002

    noisy, denoised = run("starfield_uint16.tif")
    sky = noisy < np.quantile(noisy, 0.6)
    assert abs(denoised[sky].mean() - noisy[sky].mean()) < 10  # the noise is 25
    stars = noisy > 3000
    assert abs(denoised[stars].mean() / noisy[stars].mean() - 1) < 0.01

    noisy, denoised = run("hot1000.tif")
    assert denoised[noisy == 1000] == 1000
    assert error(np.where(noisy == 1000, 0, noisy), np.where(noisy == 1000, 0, denoised)) < 0.1

    noisy, denoised = run("dem9999.tif")
    valid = noisy != -9999
    assert (denoised[~valid] == -9999).all()
    assert abs((denoised - noisy)[valid].mean()) < 0.2

    noisy, denoised = run("lineart_clean.png")
    assert error(noisy, denoised) < 255 * 10 ** (-42 / 20)

    noisy, denoised = run("gray_as_rgb.png")
    assert (denoised == denoised[..., :1]).all()
    assert error(noisy, denoised) > 2

    noisy, denoised = run("zero_border_u16.tif")
    border = np.ones(noisy.shape[:2], bool)
    border[60:, 40:] = False
    assert (noisy[border] == 0).all()
    assert (denoised[border] == 0).all()

    noisy, denoised = run("hotpixels_1pct.png")
    hot = (noisy == 255).all(-1)
    assert (denoised[hot] > 240).all(-1).mean() < 0.05


@pytest.mark.shared
@pytest.mark.parametrize("name", ["u2_lowcount.tif", "int32_0_255.tif", "float_1e-6.tif"])
def test_dim_cases_with_the_strength_auto(shared, tmp_path, name):
    noisy, denoised = denoised_case(shared / "cases/faults", name, tmp_path)
    assert noisy.dtype == denoised.dtype
    assert abs(denoised.mean() / noisy.mean() - 1) < 0.02
