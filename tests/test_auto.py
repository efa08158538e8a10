"""What `denoise` chooses where it is not told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import box_method
import denoisekit
from denoisekit import auto
from denoisekit.auto import Chooser
from denoisekit.cli import app as frame
from denoisekit.engine.denoiser import Denoiser
from denoisekit.errors import UsageError, WeightsError
from denoisekit.formats.raw_array import ArrayReader
from denoisekit.options import Options
from denoisekit.weights import LoadedWeights, find_entry, load_manifest
from helpers import finished


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(box_method.Box, "hook", None)


def box(factor, **options) -> Denoiser:
    """Return a box blur that makes the picture darker by a factor."""
    state = {"weight": torch.tensor([float(factor)])}
    weights = LoadedWeights(
        state, box_method.CONFIG, f"box.{factor}", "0" * 64, "box", strength="auto"
    )
    return Denoiser(box_method.METHOD, weights, Options(**options))


def chooser(*factors, **options) -> Chooser:
    made = Chooser(box(factors[0], **options))
    made.measured = None
    made.candidates = [made.default, *(box(factor, **options) for factor in factors[1:])]
    return made


def picture(*shape, dtype=np.uint8):
    """Return a smooth noisy picture, of integers."""
    noise = 12 * np.random.default_rng(0).standard_normal(shape)
    slope = np.linspace(60, 190, shape[-2])[:, None]
    white = np.iinfo(dtype).max
    return ((slope + noise) * white / 255).clip(0, white).astype(dtype)


def test_what_keeps_the_picture_is_chosen_and_does_it_as_it_does_alone():
    made, noisy = chooser(0.7, 1.0, 1.1), picture(96, 120, 3)
    reports = [finished(made.run(ArrayReader(noisy, None)))[1] for _ in range(2)]
    names = [[name for name, _ in report.estimates] for report in reports]
    assert names[0] == names[1] == ["box.1.0", "box.1.1", "box.0.7"]
    assert reports[0].weights == "box.1.0"
    assert reports[0].estimates == reports[1].estimates
    np.testing.assert_array_equal(made(noisy), box(1.0)(noisy))
    assert box(1.0, range="0,1").run(ArrayReader(noisy, None)).estimates == ()


@pytest.mark.parametrize(
    ("noisy", "options"),
    [
        (picture(64, 64), {}),
        (picture(3, 64, 64, dtype=np.uint16), {}),
        (picture(64, 64, 5), {}),
        (picture(20, 64, 3), {}),
        (picture(64, 64, 3), {"strength": 0.0}),
    ],
)
def test_only_colour_pictures_are_tried(noisy, options):
    made = chooser(0.7, 1.0, **options)
    axes = "YXS" if noisy.shape[-1] == 5 else None
    _, report = finished(made.run(ArrayReader(noisy, axes)))
    assert (report.weights, report.estimates) == ("box.0.7", ())


@pytest.mark.parametrize("noisy", [picture(64, 64), picture(3, 40, 64, dtype=np.uint16)])
def test_grey_measured_data_has_weights_of_its_own(noisy):
    made, own = chooser(0.7, 1.0), box(0.9)
    made.measured = own
    _, report = finished(made.run(ArrayReader(noisy, None)))
    assert (report.weights, report.estimates) == ("box.0.9", ())
    assert report.notes[0] == "method auto: box.0.9 was made for such data"
    np.testing.assert_array_equal(made(noisy), own(noisy))
    _, colour = finished(made.run(ArrayReader(picture(64, 64, 3), None)))
    assert colour.weights == "box.1.0"
    assert not any("was made for" in note for note in colour.notes)


def test_a_grey_picture_without_noise_has_the_default_weights():
    made = chooser(0.7)
    made.measured = box(0.9)
    smooth = np.tile(np.linspace(20, 230, 64), (64, 1)).astype(np.uint8)
    for noisy in (smooth, np.full((40, 40), 7, np.uint16)):
        _, report = finished(made.run(ArrayReader(noisy, None)))
        assert report.weights == "box.0.7"


def test_every_use_has_its_weights(monkeypatch):
    entry = find_entry("aprrd.camera", load_manifest())
    entries = [
        replace(entry, id=f"box.{use}", method="box", use=use)
        for use in ("any", "measured", "named")
    ]
    monkeypatch.setattr(auto, "load_manifest", lambda: entries)
    monkeypatch.setattr(auto, "weights_present", lambda one: True)
    monkeypatch.setattr(auto, "load", lambda options, **_: options.weights)
    made = Chooser(box(1.0))
    assert made.candidates == [made.default, "box.any"]
    assert made.measured == "box.measured"


def test_where_there_is_one_nothing_is_tried():
    box_method.CALLS.clear()
    _, report = finished(chooser(0.7).run(ArrayReader(picture(64, 64, 3), None)))
    assert (report.weights, report.estimates) == ("box.0.7", ())
    assert len(box_method.CALLS) == 1


def test_trying_stays_within_a_third_of_a_large_picture():
    noisy = picture(1000, 1000, 3)
    box_method.CALLS.clear()
    made = chooser(1.0, 0.9, tile=0)
    made.estimates(ArrayReader(noisy, None))
    tried = sum(height * width for _, _, height, width in box_method.CALLS)
    assert 0.1 * 1000**2 < tried < 1000**2 / 3


def test_a_stack_is_tried_on_some_planes(monkeypatch):
    read = []
    stack = ArrayReader(picture(16, 300, 300, 3), "ZYXS")
    real = stack.read_rows
    monkeypatch.setattr(
        stack, "read_rows", lambda plane, *rows: read.append(plane) or real(plane, *rows)
    )
    assert chooser(0.7, 1.0).estimates(stack)[0][0].weights.id == "box.1.0"
    assert {2, 8, 13} <= set(read) <= set(range(16))


def test_candidates_are_here_of_the_method_and_about_as_fast(monkeypatch):
    entry = find_entry("aprrd.camera", load_manifest())
    entries = [replace(entry, id=f"box.{name}", method="box") for name in ("a", "away", "spoilt")]
    entries += [entry, replace(entry, id="box.1.0", method="box")]
    monkeypatch.setattr(auto, "load_manifest", lambda: entries)
    monkeypatch.setattr(auto, "weights_present", lambda one: one.id != "box.away")

    def load(options, *, allow_download):
        assert not allow_download
        if options.weights == "box.spoilt":
            raise WeightsError("spoilt")
        return options.weights

    monkeypatch.setattr(auto, "load", load)
    made = Chooser(box(1.0))
    assert made.candidates == [made.default, "box.a"]
    slow = replace(made.default.traits, flop_per_pixel=1.0)
    made = Chooser(box(1.0))
    made.default.traits = slow
    assert made.candidates == [made.default]


@pytest.mark.parametrize("asked", [0.5, None])
def test_candidates_are_asked_for_the_same_strength(asked, monkeypatch):
    entry = find_entry("aprrd.camera", load_manifest())
    monkeypatch.setattr(auto, "load_manifest", lambda: [replace(entry, id="box.a", method="box")])
    monkeypatch.setattr(auto, "weights_present", lambda one: True)
    monkeypatch.setattr(auto, "load", lambda options, **_: (options.weights, options.strength))
    default = box(1.0, strength=asked)
    assert Chooser(default).candidates == [default, ("box.a", asked)]


def test_auto_cannot_be_loaded_without_an_image():
    with pytest.raises(UsageError, match="auto"):
        denoisekit.load("auto")


@pytest.fixture
def choices(tmp_path, monkeypatch):
    """Let the command choose among box blurs."""
    default = replace(box_method.METHOD, id="aprrd")
    monkeypatch.setattr("denoisekit.methods.METHODS", (default,))
    monkeypatch.setattr(
        "denoisekit.engine.denoiser.load", lambda options, **_: box(0.7, strength=options.strength)
    )
    made = []

    def candidates(self):
        made.append(self.options)
        others = [box(factor, strength=self.options.strength) for factor in (1.0, 1.1)]
        return [self.default, *others]

    monkeypatch.setattr(Chooser, "candidates", property(candidates))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(64, 64, 3)).save("a.png")
    return made


def test_the_command_says_what_it_chose(choices, capsys):
    # With the strength auto what a box darkened would come back, and all would be alike.
    command = ["denoise", "a.png", "--strength", "1"]
    assert frame.run(command) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "a.png: method auto: box.1.0 does best on such noise, " in err
    assert frame.run([*command, "--overwrite", "--json", "--method", "auto"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weights"] == "box.1.0"
    assert list(told["estimates"]) == ["box.1.0", "box.1.1", "box.0.7"]


def test_a_name_or_a_number_turns_it_off(choices, capsys):
    command = ["denoise", "a.png", "--overwrite", "--json"]
    for more in (["--method", "aprrd"], ["--weights", "box.0.7", "--method", "aprrd"]):
        assert frame.run([*command, *more, "--strength", "1"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["weights"], told["estimates"], told["returned"]) == ("box.0.7", None, None)
    assert choices == []
