"""A network that has seen one noisy image alone denoises it, and says truly what it did."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tifffile
import torch

import denoisekit
from denoisekit.errors import DenoisekitError, UsageError
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.learn import planning
from denoisekit.learn.checkpoint import write_weights
from denoisekit.learn.fit import fit, pyramid
from denoisekit.learn.loop import Budget
from denoisekit.learn.planning import choose_width
from denoisekit.learn.single_image import sample_image
from denoisekit.learn.trainee import new_network
from denoisekit.methods import get_method
from denoisekit.options import OBJECTIVES, FitOptions


def fitted(noisy, axes=None, **options):
    return denoisekit.fit_single(
        noisy, axes=axes, **{"start": "none", "steps": 6, "width": 8, **options}
    )


def error(image, clean):
    return float(np.sqrt(np.square(image - clean).mean()))


def test_independent_noise_becomes_less(picture):
    clean, noisy = picture()
    found = fitted(noisy, steps=160)
    assert found.denoiser.weights.config["pd"] == 1
    assert error(found.denoiser(noisy), clean) < 0.6 * error(noisy, clean)


def test_correlated_noise_becomes_less(picture):
    clean, noisy = picture(correlated=True, height=160, width=160, channels=3)
    found = fitted(noisy, steps=250, width=16, objective="pairs")
    assert found.denoiser.weights.config["pd"] == 2
    assert error(found.denoiser(noisy), clean) < 0.6 * error(noisy, clean)


def test_noise_that_reaches_far_is_learned_in_every_third_pixel(picture):
    clean, _ = picture(height=190, width=160)
    draw = np.random.default_rng(1).standard_normal((192, 162)).astype(np.float32)
    wide = sum(draw[i : i + 190, j : j + 160] for i in range(3) for j in range(3)) / 30
    noisy = clean + wide
    found = fitted(noisy, steps=150, width=16, objective="pairs")
    assert found.denoiser.weights.config["pd"] == 3
    assert np.isfinite(found.score)
    assert error(found.denoiser(noisy), clean) < 0.8 * error(noisy, clean)


def test_a_second_network_at_full_resolution_betters_the_first(picture):
    clean, noisy = picture(height=64, width=64)
    found = fitted(noisy, steps=400)
    assert "recorrupted" in {look.stage for look in found.looks}
    assert "recorrupted" in found.objective
    first = fitted(noisy, steps=140, objective="pairs")
    before = error(first.denoiser(noisy), clean)
    assert error(found.denoiser(noisy), clean) < 0.95 * before


def test_photographs_may_change_their_mean_and_nothing_else(picture):
    _, noisy = picture(correlated=True, channels=3)
    photograph = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)

    def offset(image, **options):
        return fitted(image, objective="pairs", **options).denoiser.offset

    assert offset(photograph) == ()
    assert offset(photograph.astype(np.uint16)) != ()
    assert offset(photograph[..., 0]) != ()
    assert offset(photograph, keep_mean=True) != ()
    assert offset(photograph[..., 0], keep_mean=False) == ()


def test_the_score_is_bounded_by_the_noise_and_rises(picture):
    _, noisy = picture()
    found = fitted(noisy, steps=120)
    # On the scale of the percentiles, which differ from 0..1 by a factor of about 1.
    assert 15 < found.looks[0].score < found.score < 21
    assert found.score == max(look.score for look in found.looks)
    assert [look.best for look in found.looks].count(True) >= 2
    assert found.looks[-1].step == found.steps == 120


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_leaves_a_network_that_can_be_saved_and_used(objective, picture, tmp_path):
    _, noisy = picture(height=64, width=70)
    found = fitted(noisy, objective=objective, steps=2)
    denoised = found.denoiser(noisy)
    assert denoised.shape == noisy.shape
    assert np.isfinite(denoised).all()
    found.save(tmp_path / "fitted.safetensors")
    again = denoisekit.load(weights=str(tmp_path / "fitted.safetensors"))
    np.testing.assert_array_equal(again(noisy), denoised)


def test_a_seed_and_steps_repeat_the_result_and_leave_torch_alone(picture):
    _, noisy = picture(height=64, width=64)
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    first = fitted(noisy, seed=1).denoiser(noisy)
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(fitted(noisy, seed=1).denoiser(noisy), first)
    assert np.abs(fitted(noisy, seed=2).denoiser(noisy) - first).max() > 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_mean_of_every_channel_is_kept(dtype, picture):
    _, noisy = picture(0.15, channels=3)
    # Dark enough that much of the noise is clipped at black.
    noisy = (noisy - 0.3).clip(0, None)
    image = noisy if dtype == np.float32 else np.rint(noisy * np.iinfo(dtype).max).astype(dtype)
    denoised = fitted(image, steps=30).denoiser(image)
    assert denoised.dtype == dtype
    before, after = (pixels.mean((0, 1), np.float64) for pixels in (image, denoised))
    np.testing.assert_allclose(after, before, rtol=1e-3)


def test_other_images_are_read_with_the_same_scale(picture):
    _, noisy = picture(height=64, width=64)
    twelve_bits = np.rint(noisy * 2000 + 600).clip(0, 4095).astype(np.uint16)
    found = fitted(twelve_bits)
    brighter = twelve_bits + np.uint16(500)
    low, high = map(float, found.denoiser.options.range.split(","))
    assert 100 < low < high < 3500
    # A residual network that saw the range of this image anew would take the 500 off again.
    lifted = found.denoiser(brighter).astype(float) - found.denoiser(twelve_bits)
    assert lifted.mean() == pytest.approx(500, rel=0.2)


def test_it_stops_when_asked_and_the_best_so_far_is_there(picture):
    _, noisy = picture(height=64, width=64)
    seen = []

    def listen(look):
        seen.append(look)
        return look.step == 3

    found = fitted(noisy, steps=1000, on_look=listen)
    assert found.stopped
    assert found.steps == 3
    assert np.isfinite(found.denoiser(noisy)).all()
    steps = [look.step for look in seen]
    assert steps == sorted(steps)
    assert all(later.seconds >= before.seconds for before, later in pairwise(seen))


@pytest.mark.parametrize("channels", [1, 3])
def test_where_no_time_is_left_to_learn_the_best_without_is_written(picture, channels):
    clean, noisy = picture(height=96, width=96, channels=channels)
    options = FitOptions(start="none", seconds=5)
    found = fit(ArrayReader(noisy, None), options, None, began=-1e9)
    assert not found.learned
    assert found.objective in found.warning
    assert found.facts["learned"] is False
    assert error(found.denoiser(noisy), clean) < 0.5 * error(noisy, clean)


def test_a_fit_that_comes_to_no_numbers_falls_back_too(picture, monkeypatch):
    _, noisy = picture(height=64, width=64)
    nan = torch.tensor(float("nan"))
    monkeypatch.setattr("denoisekit.learn.trainee.Trainee.step", lambda *_, **__: nan)
    found = fit(ArrayReader(noisy, None), FitOptions(start="none", seconds=6))
    assert not found.learned
    assert np.isfinite(found.denoiser(noisy)).all()


def stars(size=160):
    """Return a dark sky with few bright points, without and with noise: uint16."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    sky = 1000.0 + 0.5 * x
    for _ in range(12):
        row, column, peak = *draw.uniform(4, size - 4, 2), 20000 * draw.random() ** 4
        sky += peak * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 3)
    noisy = draw.poisson(sky) + 15 * draw.standard_normal(sky.shape)
    return sky, noisy.clip(0, 65535).round().astype(np.uint16)


def test_nothing_that_dims_stars_is_written_where_nothing_was_learned():
    clean, noisy = stars()
    found = fit(ArrayReader(noisy, None), FitOptions(start="none", seconds=5), None, began=-1e9)
    assert not found.learned
    bright = clean > 3000
    total = [float(image[bright].sum(dtype=np.float64)) for image in (noisy, found.denoiser(noisy))]
    assert total[1] == pytest.approx(total[0], rel=0.021)


def test_a_sky_is_learned_although_stars_reach_far_above_it():
    clean, noisy = stars()
    found = fitted(noisy, steps=150, width=16)
    scale = [float(number) for number in found.denoiser.options.range.split(",")]
    assert scale[1] < 2000
    denoised = found.denoiser(noisy)
    dark = clean < 1200
    before, after = (np.square(p.astype(float) - clean)[dark].mean() for p in (noisy, denoised))
    assert after < 0.3 * before
    bright = clean > 5000
    assert abs(denoised.astype(float) - clean)[bright].mean() < 2 * np.sqrt(clean[bright]).mean()


def test_a_network_that_learned_no_more_than_an_average_is_not():
    noisy = np.random.default_rng(5).normal(0.5, 0.1, (64, 64)).astype(np.float32)
    found = fitted(noisy, steps=60, range="0,1")
    image = sample_image(ArrayReader(noisy, None), "0,1", 0)
    assert found.score > image.held_out.score_of_mean(image.noise.reach + 1) - 1


@pytest.mark.shared
def test_the_noise_of_a_star_field_goes_and_its_sky_stays(shared):
    noisy = tifffile.imread(shared / "cases" / "starfield_uint16.tif")
    found = fitted(noisy, steps=400, width=16)
    removed = noisy.astype(float) - found.denoiser(noisy)
    sky = noisy < 1300
    assert abs(removed[sky].mean()) < 2
    # Its noise is 25: most of it is taken away, and no more.
    assert 17 < removed[sky].std() < 28
    assert abs(removed[noisy > 3000].mean()) < 0.01 * noisy[noisy > 3000].mean()


def test_a_photograph_gets_what_was_no_noise_back_and_nothing_else_does(picture):
    _, noisy = picture(correlated=True, height=160, width=160, channels=3)
    photograph = np.round(noisy.clip(0, 1) * 255).astype(np.uint8)
    _, independent = picture(height=64, width=64)

    def strength(image, **options):
        return fitted(image, objective="pairs", **options).denoiser.options.strength

    assert strength(photograph) == "auto"
    assert strength(photograph, strength=0.5) == 0.5
    assert strength(noisy) == 1
    assert strength(independent) == 1


def test_images_of_any_size_kind_and_value():
    draw = np.random.default_rng(0)
    for shape, dtype in [((1, 1), np.uint8), ((3, 200), np.uint16), ((2, 3, 40, 30), np.float64)]:
        image = (draw.random(shape) * 200).astype(dtype)
        assert fitted(image, steps=1).denoiser(image).shape == shape
    for value in (0, 7.5):
        flat = np.full((50, 60), value, np.float32)
        np.testing.assert_allclose(fitted(flat, steps=1).denoiser(flat), value, atol=1e-3)
    holes = draw.random((50, 60)).astype(np.float32)
    holes[3, 4] = np.nan
    denoised = fitted(holes, steps=1).denoiser(holes)
    assert np.isnan(denoised).sum() == 1


def test_what_makes_no_sense_is_said():
    noisy = np.zeros((40, 40), np.uint8)
    for options, message in [
        ({"objective": "sdpa"}, "sdpa"),
        ({"seconds": 1}, "too short"),
        ({"seconds": float("nan")}, "too short"),
        ({"steps": 0}, "0 steps"),
        ({"seed": -1}, "seed"),
        ({"range": "wide"}, "wide"),
        ({"start": "sdap.sidd"}, "cannot be adapted"),
    ]:
        with pytest.raises(UsageError, match=message):
            fitted(noisy, **options)
    with pytest.raises(DenoisekitError, match="no file"):
        fitted(noisy, start="nothing.safetensors")


def test_budgets_follow_the_clock_or_the_steps(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 10)
    by_clock, by_steps, both = Budget(None, 20), Budget(4), Budget(4, 20)
    for now, share in ((10, 0), (15, 0.25), (30, 1), (50, 2)):
        monkeypatch.setattr("time.monotonic", lambda now=now: now)
        assert by_clock.progress(999) == share
        assert by_steps.progress(1) == both.progress(1) == 0.25
        assert (by_clock.over(1), by_steps.over(1), both.over(1)) == (share >= 1, False, share >= 1)
    assert both.over(4)
    assert by_steps.over(4)
    assert Budget(None, 0).over(0)


def test_more_time_makes_the_network_larger_and_then_several():
    widths = (16, 32, 64)

    def chosen(time):
        return choose_width(widths, 32, 0.1, time)[:2]

    needed = 0.1 * planning.WANTED_STEPS
    assert chosen(0.01 * needed) == (16, 1)
    assert chosen(1.01 * needed) == (32, 1)
    assert chosen(1.01 * needed * 2**planning.WIDTH_COST) == (64, 1)
    assert chosen(2.01 * needed * 2**planning.WIDTH_COST) == (64, 2)
    assert chosen(1e9) == (64, planning.MEMBERS)


def student(tmp_path, channels=3):
    """Weights of a small student that lets the image through, and some noise with it."""
    info = get_method("aprrd")
    config = {**info.config, "width": 4, "channels": channels}
    net = new_network(info, config, 0)
    write_weights(tmp_path / "start.safetensors", info, config, net.state_dict(), {})
    return str(tmp_path / "start.safetensors")


def test_weights_are_adapted_and_never_left_worse(picture, tmp_path):
    _, noisy = picture(channels=3, correlated=True)
    image = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    start = student(tmp_path)
    adapted = fitted(image, start=start, steps=4, width=None)
    assert adapted.start == "start.safetensors"
    (first,) = (look for look in adapted.looks if look.stage == "start.safetensors")
    assert adapted.score >= first.score
    assert adapted.score == max(look.score for look in adapted.looks)
    # It works on the range of the weights that it began with.
    assert adapted.denoiser.options.range == "auto"
    kept = fitted(image, start=start, steps=10**6, width=None, on_look=lambda look: True)
    assert kept.score == pytest.approx(first.score, abs=1e-6)


def test_weights_are_kept_where_time_was_too_short_for_anything_else(picture, tmp_path):
    _, noisy = picture(channels=3, correlated=True)
    image = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
    info = get_method("single")
    config, path = pyramid(3, 8), tmp_path / "identity.safetensors"
    write_weights(path, info, config, new_network(info, config, 0).state_dict(), {})
    kept = fitted(image, start=str(path), steps=2, width=16, range="0,255")
    # Two steps make nothing of an image; the identity that was given is better.
    assert error(kept.denoiser(image) / 255, image / 255) < 0.02


def test_a_network_of_one_image_goes_on_with_another(picture, tmp_path):
    _, noisy = picture(height=64, width=64)
    fitted(noisy, steps=20, objective="pairs").save(tmp_path / "one.safetensors")
    _, other = picture(height=64, width=64, seed=1)
    more = fitted(other, start=str(tmp_path / "one.safetensors"), width=None, steps=20)
    assert {"pairs", "recorrupted"} <= {look.stage for look in more.looks}
    assert more.score >= more.looks[0].score
    info = get_method("single")
    both = {**info.config, "channels": 1, "width": 8, "full": 8, "levels": 16}
    write_weights(
        tmp_path / "both.safetensors", info, both, new_network(info, both, 0).state_dict(), {}
    )
    assert fitted(other, start=str(tmp_path / "both.safetensors"), steps=4).start
    with pytest.raises(DenoisekitError, match="1 channels, and the image has 3"):
        fitted(np.stack([noisy] * 3, -1), start=str(tmp_path / "one.safetensors"))
    with pytest.raises(UsageError, match="from scratch"):
        fitted(noisy, start=str(tmp_path / "one.safetensors"), objective="sdap")
