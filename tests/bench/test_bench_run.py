"""A run's numbers depend on pictures, weights and protocol, and on nothing else."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import box_method
from bench_box import candidates, material, write_pairs
from denoisekit.bench.candidates import Candidate, gather
from denoisekit.bench.images import paired_images
from denoisekit.bench.run import ROWS, read_results, run
from denoisekit.errors import DenoisekitError, InputError, UsageError
from denoisekit.methods.base import Setting
from denoisekit.metrics import SRGB, find_protocol, psnr


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "set")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setattr("denoisekit.methods.METHODS", (box_method.METHOD,))
    monkeypatch.setattr(box_method.Box, "hook", None)
    return box_method.write_weights(tmp_path / "box.safetensors")


def timeless(results):
    """Leave out what does not repeat."""
    results = copy.deepcopy(results)
    for row in results["rows"]:
        del row["seconds"]
    for mean in results["means"].values():
        del mean["seconds_per_megapixel"]
    return results


def test_numbers_are_those_of_denoise_and_the_protocol(folder, weights, tmp_path):
    measure = replace(SRGB, border=4)  # the box is dark at the border
    results = run(material(folder), candidates(weights), measure, tmp_path / "out")
    assert read_results(tmp_path / "out") == results
    names = [candidate["id"] for candidate in results["candidates"]]
    assert names == ["noisy", "box.safetensors"]
    assert [(r["candidate"], r["picture"]) for r in results["rows"]] == [
        (name, str(index)) for name in names for index in range(6)
    ]
    for row in results["rows"]:
        noisy, clean = (
            np.load(folder / side / f"{row['picture']}.npy").astype(float)
            for side in ("noisy", "clean")
        )
        if row["candidate"] != "noisy":
            padded = np.pad(noisy, ((1, 1), (1, 1), (0, 0)), mode="reflect")
            parts = [padded[i : i + 24, j : j + 30] for i in range(3) for j in range(3)]
            noisy = np.rint(np.mean(parts, 0))
        inner = np.s_[4:-4, 4:-4]
        wanted = psnr(clean[inner] / 255, noisy[inner] / 255)
        assert row["psnr"] == pytest.approx(wanted, abs=0.01)
    for name in names:
        mean = np.mean([row["psnr"] for row in results["rows"] if row["candidate"] == name])
        assert results["means"][name]["psnr"] == pytest.approx(mean, abs=1e-5)
    assert results["means"][names[1]]["psnr"] > results["means"]["noisy"]["psnr"] + 3
    (_, facts) = results["candidates"]
    assert (facts["device"], facts["precision"]) == (
        f"CPU, {torch.get_num_threads()} threads",
        "fp32",
    )
    assert len(facts["weights_sha256"]) == 64
    assert results["protocol"] == measure.facts()
    assert results["versions"]["torch"] == torch.__version__


def test_order_and_workers_change_nothing(folder, weights, tmp_path):
    first = run(material(folder), candidates(weights), SRGB, tmp_path / "a", workers=1)
    turned = material(folder)
    turned.items = turned.items[::-1]
    run(turned, candidates(weights), SRGB, tmp_path / "b", workers=4)
    # Rows are in another order now; asked for again, they are the first run's.
    again = run(material(folder), candidates(weights), SRGB, tmp_path / "b")
    assert timeless(again) == timeless(first)


def test_what_is_measured_is_not_measured_again(folder, weights, tmp_path):
    place = tmp_path / "out"
    first = run(material(folder), candidates(weights), SRGB, place)
    box_method.CALLS.clear()
    assert run(material(folder), candidates(weights), SRGB, place) == first
    assert not box_method.CALLS
    again = run(material(folder), candidates(weights), SRGB, place, overwrite=True)
    assert len(box_method.CALLS) == 6
    assert timeless(again) == timeless(first)


def test_a_killed_run_goes_on_and_gives_the_same(folder, weights, tmp_path):
    out, left = tmp_path / "out", tmp_path / "left"

    def slow(noisy):
        if len(box_method.CALLS) == 3:  # what is on the disk when it is killed now
            shutil.copytree(out, left)
        return box.run(noisy)

    nothing, box = candidates(weights)
    chosen = [nothing, Candidate(box.id, box.facts, slow)]
    box_method.CALLS.clear()
    whole = run(material(folder), chosen, SRGB, out, workers=1)
    rows = left / ROWS
    kept = rows.read_text()
    assert kept.count("\n") - 1 == 7
    assert not (left / "results.json").exists()
    # As if it had died within a line.
    rows.write_text(kept + kept.splitlines()[1][:20])
    box_method.CALLS.clear()
    again = run(material(folder), candidates(weights), SRGB, left)
    assert timeless(again) == timeless(whole)
    assert len(box_method.CALLS) == 3
    assert all(json.loads(line) for line in rows.read_text().splitlines())


def test_a_damaged_line_is_named(folder, weights, tmp_path):
    run(material(folder), candidates(weights), SRGB, tmp_path)
    path = tmp_path / ROWS
    rows = path.read_text().splitlines()
    for line in ("", "{", "[]", "3", "\x00", '{"candidate": "noisy"}', "[" * 100_000, "{}"):
        path.write_text("\n".join([*rows[:3], line, *rows[4:], ""]))
        with pytest.raises(InputError, match=r"rows\.jsonl is damaged in line 4"):
            run(material(folder), candidates(weights), SRGB, tmp_path)
        path.write_text(f"{line}\n")
        with pytest.raises(UsageError, match="another run"):
            run(material(folder), candidates(weights), SRGB, tmp_path)


def test_another_run_is_not_mixed_in(folder, weights, tmp_path):
    chosen = candidates(weights)
    run(material(folder), chosen, SRGB, tmp_path)
    before = (tmp_path / ROWS).read_text()
    for change, pictures, others, measure in (
        ("protocol", material(folder), chosen, find_protocol("sdap")),
        ("set", material(folder, range="0,200"), chosen, SRGB),
        ("candidates", material(folder), chosen[:1], SRGB),
    ):
        with pytest.raises(UsageError, match=f"another run: other {change}") as caught:
            run(pictures, others, measure, tmp_path)
        assert "--overwrite" in caught.value.hint
        assert (tmp_path / ROWS).read_text() == before


def test_squares_are_denoised_on_their_own(folder, weights, tmp_path):
    cut = replace(SRGB, tile=16)
    box_method.CALLS.clear()
    parts = run(material(folder), candidates(weights, cut), cut, tmp_path / "a")
    assert len(box_method.CALLS) == 6 * 4
    whole = run(material(folder), candidates(weights), SRGB, tmp_path / "b")
    assert parts["means"]["noisy"]["psnr"] == whole["means"]["noisy"]["psnr"]
    assert parts["rows"][-1]["psnr"] != whole["rows"][-1]["psnr"]


def test_the_colours_of_a_mosaic_are_denoised_apart(weights, tmp_path):
    raw = find_protocol("raw")
    (_, box) = candidates(weights, raw)
    noisy = np.random.default_rng(0).random((24, 32, 1), np.float32)
    box_method.CALLS.clear()
    denoised = box.run(noisy)
    (_, plain) = candidates(weights)
    for top in (0, 1):
        for left in (0, 1):
            plane = np.ascontiguousarray(noisy[top::2, left::2])
            np.testing.assert_array_equal(denoised[top::2, left::2], plain.run(plane))
    # A picture of four planes, not four pictures; those who have no weights see it too.
    (_, tv) = gather(["tv"], [], raw)
    assert tv.run(noisy).shape == noisy.shape
    for shape in ((23, 32, 1), (24, 32, 3)):
        with pytest.raises(InputError, match="no mosaic"):
            box.run(np.zeros(shape, np.float32))


def test_settings_hold_for_the_methods_that_have_them(weights, tmp_path, monkeypatch):
    knob = Setting("passes", 1, "How often.", minimum=1, maximum=9)
    method = replace(box_method.METHOD, settings=(knob,))
    monkeypatch.setattr("denoisekit.methods.METHODS", (method,))
    (_, tv, box) = gather(["tv"], [str(weights)], SRGB, settings={"passes": "3"})
    assert box.facts["settings"] == {"passes": 3}
    assert "settings" not in tv.facts
    with pytest.raises(UsageError, match="passes"):
        gather([], [str(weights)], SRGB, settings={"passes": "10"})
    with pytest.raises(UsageError, match="no method here has a setting 'pases'") as caught:
        gather([], [str(weights)], SRGB, settings={"pases": "1"})
    assert "passes" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        gather(["tv"], [], SRGB, settings={"passes": "1"})
    assert "none" in caught.value.hint


def test_noise_is_the_same_for_every_candidate(folder, weights, tmp_path):
    clean = material(folder).items
    seen = []

    def spy(noisy):
        seen.append(noisy.copy())
        return noisy

    files = [item.clean.file for item in clean]
    made = paired_images("x", [], files, noise="gaussian:0.1", seed=3)
    spies = [Candidate(name, {"id": name}, spy) for name in "ab"]
    results = run(made, spies, SRGB, tmp_path / "out", workers=1)
    for one, other in zip(seen[::2], seen[1::2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert results["set"]["noise"] == "gaussian:0.1"
    assert results["set"]["noise_seed"] == 3


def test_without_clean_pictures_there_are_no_numbers_but_times(folder, weights, tmp_path):
    kept = []
    noisy = paired_images("x", [item.noisy.file for item in material(folder).items], [])
    results = run(
        noisy,
        candidates(weights),
        SRGB,
        tmp_path / "out",
        keep=lambda candidate, item, denoised: kept.append((candidate.id, item.name)),
    )
    assert not noisy.known
    assert all("psnr" not in row for row in results["rows"])
    assert sorted(kept) == [("box.safetensors", str(index)) for index in range(6)]


def test_a_failure_keeps_what_is_done(folder, weights, tmp_path):
    def fail(noisy):
        raise InputError("too dark")

    def spoil(noisy):
        return noisy * np.nan

    good = candidates(weights)
    for name, function in (("fails", fail), ("spoils", spoil)):
        place = tmp_path / name
        bad = Candidate(name, {"id": name}, function)
        with pytest.raises(DenoisekitError, match=r"too dark|not numbers"):
            run(material(folder), [*good, bad], SRGB, place, workers=1)
        assert (place / ROWS).read_text().count("\n") >= 3
        assert not (place / "results.json").exists()


def test_what_is_asked_for_must_be_known_and_once(weights):
    with pytest.raises(UsageError) as caught:
        gather(["bux"], [], SRGB)
    assert "box" in caught.value.hint
    with pytest.raises(UsageError, match="twice"):
        gather([], [str(weights), str(weights)], SRGB)
    assert [candidate.id for candidate in gather(["tv", "noisy"], [], SRGB)] == ["noisy", "tv"]


def test_baselines_need_no_weights(folder, tmp_path):
    chosen = gather(["wavelet"], [], SRGB)
    results = run(material(folder), chosen, SRGB, tmp_path / "out")
    assert results["means"]["wavelet"]["psnr"] > results["means"]["noisy"]["psnr"] + 1
    assert "Chang" in results["candidates"][1]["citation"]
    (_, cut) = gather(["wavelet"], [], replace(SRGB, tile=16))
    noisy, _ = material(folder).read(material(folder).items[0])
    np.testing.assert_array_equal(cut.run(noisy)[16:, :16], chosen[1].run(noisy[16:, :16]))


def test_pictures_of_other_channels(weights, tmp_path):
    (_, box) = candidates(weights)
    for channels in (1, 2, 4):
        noisy = np.random.default_rng(0).random((20, 24, channels), np.float32) * 3 - 1
        denoised = box.run(noisy)
        assert denoised.shape == noisy.shape
        mean = noisy[4:7, 5:8].mean((0, 1))
        np.testing.assert_allclose(denoised[5, 6], mean, atol=1e-5)
