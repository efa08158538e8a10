"""What `simulate` promises, and how near its cameras come to real noise."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from PIL import Image

from denoisekit.errors import InputError, UsageError
from denoisekit.noise import CAMERAS, choose_strength, in_full, noise_of, prepare, simulate
from denoisekit.noise.camera import DSLR, PHONE, PITCH, coarse, draw_settings, photograph
from denoisekit.noise.models import Detector, start_detector
from helpers import load_script

measure_noise = load_script("pair_noise").measure_noise


def rng(seed=0):
    return np.random.default_rng(seed)


def flat(level, side=128, channels=3):
    return np.full((side, side, channels), level, np.float32)


@pytest.fixture(scope="module")
def scene():
    """A clean picture with shades and edges, of colours as muted as most things are."""
    y, x = np.mgrid[:192, :192] / 192
    shades = np.stack([0.15 + 0.4 * x, 0.18 + 0.35 * x, 0.2 + 0.3 * x], -1)
    levels = rng(4).uniform(0.12, 0.55, (4, 4, 1)) + rng(5).uniform(-0.04, 0.04, (4, 4, 3))
    patches = levels.repeat(48, 0).repeat(48, 1)
    return np.where((x + y < 1)[..., None], shades, patches).astype(np.float32)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_same_generator_gives_the_same_and_another_another(camera, scene):
    before = scene.copy()
    first, again, other = (simulate(scene, camera, rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(scene, before)
    assert first.dtype == np.float32


@pytest.mark.parametrize("camera", CAMERAS)
def test_any_size_and_extreme_values(camera):
    for shape in [(1, 1, 3), (2, 5, 3), (7, 3, 3)]:
        for level in (0.0, 1.0):
            noisy = simulate(np.full(shape, level, np.float32), camera, rng())
            assert noisy.shape == shape
            assert np.isfinite(noisy).all()


@pytest.mark.parametrize("camera", ["phone", "dslr", "fluorescence"])
def test_sensors_clip_at_black_and_white(camera):
    clean = np.concatenate([flat(0.02), flat(0.98), flat(-0.5), flat(1.5)])
    noisy = simulate(clean, camera, rng(), gain=0.04)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert np.array_equal(noisy, simulate(clean.clip(0, 1), camera, rng(), gain=0.04))


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    noisy = simulate(flat(0.99), "gaussian", rng(), sigma=25 / 255)
    assert (noisy - 0.99).std() == pytest.approx(25 / 255, rel=0.02)
    assert noisy.max() > 1.2
    assert np.array_equal(simulate(flat(0.5), "gaussian", rng(), sigma=0), flat(0.5))


@pytest.mark.parametrize("level", [0.1, 1.0])
def test_poisson_noise_counts_photons(level):
    noisy = simulate(flat(level), "poisson", rng(), peak=30)
    assert np.allclose(noisy * 30, np.round(noisy * 30), atol=1e-4)
    assert noisy.mean() == pytest.approx(level, abs=5 * np.sqrt(level / 30 / noisy.size))
    assert noisy.var() == pytest.approx(level / 30, rel=0.05)


def test_fluorescence_is_shot_and_read_noise():
    model = dataclasses.replace(
        CAMERAS["fluorescence"],
        start=partial(start_detector, Detector(read=(0.5, 0.5001), smooth=0.0)),
    )
    for level in (0.2, 0.6):
        noisy = simulate(flat(level, channels=1), model, rng(), gain=0.01)
        assert noisy.mean() == pytest.approx(level, abs=0.002)
        assert noisy.var() == pytest.approx(0.01 * level + 0.005**2, rel=0.05)


def test_channels_of_a_microscope_have_gains_of_their_own():
    noise = simulate(flat(0.5, channels=5), "fluorescence", rng(), gain=0.01) - 0.5
    deviations = noise.std((0, 1))
    assert deviations.max() > 1.15 * deviations.min()  # read noise alone would give 1.04
    assert np.median(deviations) == pytest.approx(np.sqrt(0.01 * 0.5), rel=0.1)
    shared = np.corrcoef(noise.reshape(-1, 5).T) - np.eye(5)
    assert np.abs(shared).max() < 0.05


def test_planes_of_a_stack_share_the_camera_and_not_the_noise(scene):
    generator = rng(5)
    noise = prepare("phone", 3, generator, gain=0.02)
    first, second = (noise(scene, generator) - scene for _ in range(2))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    assert first.std() == pytest.approx(second.std(), rel=0.03)


@pytest.mark.parametrize("camera", ["phone", "dslr"])
def test_more_gain_is_more_noise_down_to_almost_none(camera, scene):
    def deviation(gain):
        return (simulate(scene, camera, rng(3), gain=gain, bits=None) - scene).std()

    low, high = CAMERAS[camera].drawn
    deviations = [deviation(gain) for gain in np.geomspace(low, high, 5)]
    assert deviations == sorted(deviations)
    assert deviations[0] < 0.5 / 255
    assert deviations[-1] > {"phone": 20, "dslr": 5}[camera] / 255


def test_eight_bits_are_steps_of_one_and_no_rounding_is_none(scene):
    noisy = simulate(scene, "phone", rng(), gain=1e-3)
    assert np.allclose(noisy * 255, np.round(noisy * 255), atol=1e-3)
    deep = simulate(scene, "dslr", rng(), gain=1e-3, bits=None)
    assert len(np.unique(deep)) > 10_000


def test_strengths_are_drawn_over_the_whole_range():
    model = CAMERAS["phone"]
    generator = rng()
    drawn = np.log([choose_strength(model, generator) for _ in range(400)])
    edges = np.linspace(*np.log(model.drawn), 5)
    shares = np.histogram(drawn, edges)[0] / 400
    assert shares.sum() == 1
    assert shares.min() > 0.18


def test_what_makes_no_sense_is_refused(scene):
    with pytest.raises(UsageError, match="no camera is called 'phon'"):
        simulate(scene, "phon", rng())
    with pytest.raises(UsageError, match="phone noise has no sigma"):
        simulate(scene, "phone", rng(), sigma=0.1)
    with pytest.raises(UsageError, match="gain 0 makes no sense"):
        simulate(scene, "phone", rng(), gain=0)
    with pytest.raises(UsageError, match="sigma nan makes no sense"):
        simulate(scene, "gaussian", rng(), sigma=float("nan"))
    with pytest.raises(InputError, match="needs 3 channels, not 1"):
        simulate(scene[..., :1], "dslr", rng())
    with pytest.raises(InputError, match="not an image"):
        simulate(scene[..., 0], "gaussian", rng())
    with pytest.raises(InputError, match="not finite"):
        simulate(np.full_like(scene, np.nan), "gaussian", rng())


def test_statistics_of_known_noise():
    white = rng().standard_normal((256, 256, 3)) * np.array([0.1, 0.2, 0.1])
    found = measure_noise(flat(0.5, 256), flat(0.5, 256) + white)
    assert found.deviation[0] == pytest.approx(0.2, rel=0.02)
    assert np.abs(found.along_rows).max() < 0.02
    assert np.abs(found.between_colours).max() < 0.02
    assert np.isfinite(found.by_level).sum() == 1
    assert found.coarse == pytest.approx(np.ones((3, 3)), abs=0.3)
    shared = np.repeat(white[..., :1] + np.roll(white[..., :1], 1, 1), 3, -1)
    found = measure_noise(flat(0.5, 256), flat(0.5, 256) + shared * [1, 2, 1])
    assert found.between_colours == pytest.approx([1, 1, 1])
    assert found.along_rows[0] == pytest.approx([0.5, 0, 0, 0], abs=0.02)
    assert found.coarse == pytest.approx(np.full((3, 3), 2**0.5), abs=0.4)


def test_coarse_noise_has_the_deviation_of_one_and_spans_tens_of_pixels():
    field = np.concatenate([coarse((3, 200, 310), rng(seed)) for seed in range(20)])
    assert field.shape == (60, 200, 310)
    assert field.std() == pytest.approx(1, rel=0.1)
    pairs = field[:, :, :-PITCH].ravel(), field[:, :, PITCH:].ravel()
    assert np.corrcoef(*pairs)[0, 1] < 0.4
    assert np.corrcoef(field[:, :, :-4].ravel(), field[:, :, 4:].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("camera", "gain", "slope"), [(PHONE, 4e-3, 1.53), (DSLR, 1e-4, 1.24)])
def test_read_noise_follows_the_gain_as_measured(camera, gain, slope):
    def mean(gain):
        drawn = [draw_settings(camera, gain, rng(n), jpeg=False).read for n in range(200)]
        return 2 * np.log(drawn).mean()

    assert mean(100 * gain) - mean(gain) == pytest.approx(slope * np.log(100))
    assert np.exp(mean(4e-3)) == pytest.approx({1.53: 6.4e-5, 1.24: 4e-5}[slope], rel=0.25)


def medians(clean, noise, draws):
    found = [measure_noise(clean, noise(seed)) for seed in range(draws)]
    return (
        np.median([one.along_rows for one in found], 0),
        np.median([one.between_colours for one in found], 0),
    )


# Medians of the pairs of SIDD (smartphones, strong noise) and PolyU (cameras' own JPEGs):
# autocorrelation of green, brightness, red - green; then correlation of the colours.
REAL = {
    "phone": ([[0.33, -0.01], [0.34, -0.07], [0.66, 0.26]], [0.27, 0.55, 0.18]),
    "dslr": ([[0.66, 0.30], [0.65, 0.28], [0.91, 0.83]], [0.73, 0.65, 0.66]),
}


def test_a_phone_without_smoothing_has_the_statistics_of_real_ones(scene):
    raw = dataclasses.replace(PHONE, chroma=0, luma=0, sharpen=0, jpeg=0)

    def noise(seed):
        generator = rng(seed)
        return photograph(draw_settings(raw, 8e-3, generator, jpeg=True), 8, scene, generator)

    along, between = medians(scene, noise, 24)
    wanted_along, wanted_between = REAL["phone"]
    np.testing.assert_allclose(along[:, :2], wanted_along, atol=0.05)
    np.testing.assert_allclose(between, wanted_between, atol=0.17)


def test_a_dslr_has_the_statistics_of_real_ones(scene):
    def noise(seed):
        return simulate(scene, "dslr", rng(seed), gain=2e-3)

    along, between = medians(scene, noise, 40)
    wanted_along, wanted_between = REAL["dslr"]
    np.testing.assert_allclose(along[:, :2], wanted_along, atol=0.15)
    np.testing.assert_allclose(between, wanted_between, atol=0.2)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("camera", "pattern", "pairing", "gain"),
    [
        ("phone", "sidd_val32/noisy/*_N.png", ("_N.", "_CL."), 5e-3),
        ("dslr", "polyu50/*_real.JPG", ("_real", "_mean"), 3e-3),
    ],
)
def test_simulated_noise_is_near_that_of_real_pairs(shared, camera, pattern, pairing, gain):
    def load(path):
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))[:256, :256].astype(np.float32) / 255

    real, simulated = [], []
    for index, path in enumerate(sorted((shared / "data").glob(pattern))[::4]):
        folder = path.parent.parent / "clean" if path.parent.name == "noisy" else path.parent
        clean = load(folder / path.name.replace(*pairing))
        real.append(measure_noise(clean, load(path)))
        generate = partial(simulate, clean, camera, gain=gain)
        simulated += [measure_noise(clean, generate(rng(100 * index + n))) for n in range(3)]

    def both(name):
        ours, theirs = ([getattr(one, name) for one in found] for found in (simulated, real))
        return np.median(ours, 0), np.median(theirs, 0)

    np.testing.assert_allclose(*both("along_rows"), atol=0.15)
    np.testing.assert_allclose(*both("between_colours"), atol=0.25)
    np.testing.assert_allclose(*both("deviation"), rtol=0.5)


@pytest.mark.parametrize(
    ("text", "sigma"),
    [("25", 25 / 255), ("25/255", 25 / 255), ("0.1", 0.1), ("1", 1), ("255", 1), ("2", 2 / 255)],
)
def test_a_sigma_above_1_is_of_8_bits(text, sigma):
    clean = flat(0.5)
    wanted = simulate(clean, "gaussian", rng(), sigma=sigma)
    found = noise_of(f"gaussian:{text}")(clean, rng())
    assert found.std() == pytest.approx(wanted.std(), rel=0.02)


def test_strengths_are_written_in_full():
    assert in_full("phone, gaussian:25,gaussian:0.1,poisson:30") == (
        "phone,gaussian:25/255,gaussian:0.1,poisson:30"
    )
    for text in ("gaussian:256", "gaussian:x", "gaussian:1/0", "gauss:25"):
        with pytest.raises(UsageError):
            in_full(text)
