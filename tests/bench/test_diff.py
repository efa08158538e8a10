"""Two files of results: what changed, and whether chance could have done it."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from denoisekit.bench.run import (
    RESULTS,
    Row,
    changes,
    complete,
    facts_of,
    read_results,
    sign_flip,
)
from denoisekit.errors import InputError, UsageError


def results(numbers, version="1", number="psnr"):
    """A file with these numbers of every candidate, one a picture."""
    facts = facts_of({"id": "x"}, [{"id": name, "v": version} for name in numbers], {"id": "p"})
    rows = [
        Row(name, f"{index}", {number: value, "megapixels": 1.0}, 1.0)
        for name, values in numbers.items()
        for index, value in enumerate(values)
    ]
    return complete(facts, rows)


def test_few_pictures_are_tested_with_all_flips():
    for count in (1, 5, 9):
        values = np.random.default_rng(count).normal(0.5, 1, count)
        sums = [abs(np.dot(signs, values)) for signs in product((1, -1), repeat=count)]
        wanted = np.mean([total >= abs(values.sum()) - 1e-9 for total in sums])
        assert sign_flip(values) == pytest.approx(wanted)
        assert sign_flip(np.zeros(count)) == 1


def test_many_pictures_are_tested_about_as_by_student():
    for shift in (0.0, 0.15, 0.3):
        values = np.random.default_rng(1).normal(shift, 1, 200)
        found = sign_flip(values)
        assert found == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.015)
        assert sign_flip(values) == found


def test_a_change_on_every_picture_counts_and_noise_does_not():
    draw = np.random.default_rng(0)
    base = draw.normal(30, 5, 40)
    before = results({"a": base, "b": base})
    after = results({"a": base + 0.1 + 0.01 * draw.normal(size=40), "b": base[::-1]})
    sure, unsure = changes(before, after)[0]
    assert (sure.before, sure.number, sure.pictures, sure.better) == ("a", "psnr", 40, 40)
    assert sure.change == pytest.approx(0.1, abs=0.01)
    assert sure.words == "significant"
    assert unsure.change == pytest.approx(0, abs=1e-5)
    assert unsure.words in ("may be chance", "nothing changed")
    assert changes(before, before)[0][0].words == "nothing changed"


def test_only_what_both_have_is_compared():
    before = results({"noisy": [20.0, 21.0, 22.0], "a": [30.0, float("inf"), 32.0]})
    after = results({"noisy": [20.0, 21.0], "b": [31.0, 40.0]})
    of_noisy, change = changes(before, after)[0]
    assert of_noisy.pictures == 2
    # One candidate each: they are compared; where nothing differs there is no PSNR.
    assert (change.before, change.after, change.pictures) == ("a", "b", 1)
    assert change.means == (30.0, 31.0)
    with pytest.raises(UsageError, match="in common"):
        changes(before, results({"a": [0.9]}, number="ssim_uniform"))


def test_what_else_differs_is_told():
    before, after = results({"a": [1.0]}), results({"a": [1.0]}, version="2")
    after["versions"]["torch"] = "0.1"
    after["protocol"]["id"] = "q"
    notes = changes(before, after)[1]
    assert "a, v: 1 -> 2" in notes
    assert "protocol, id: p -> q" in notes
    assert any(note.startswith("versions, torch: ") for note in notes)
    assert changes(before, before)[1] == []


def test_what_is_no_file_of_results_is_said(tmp_path):
    deep = "[" * 100_000
    wrong = ("", "[]", "{}", "no json", '{"format": 9, "rows": [], "protocol": {}}', deep)
    for text in wrong:
        (tmp_path / RESULTS).write_text(text)
        with pytest.raises(InputError, match=r"no file of results|of another version"):
            read_results(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_results(tmp_path / "none.json")


DAMAGES = {
    "a row has no candidate": ("rows", [{"picture": "0", "seconds": 1, "megapixels": 1}]),
    "rows are a table": ("rows", {"a": 1}),
    "rows are numbers": ("rows", [1]),
    "rows nest": ("rows", [[[]]]),
    "a name is a list": ("rows", [{"candidate": ["a"], "picture": "0", "seconds": 1}]),
    "no number": ("rows", [{"candidate": "a", "picture": "0", "seconds": 1, "megapixels": "x"}]),
    "numbers differ": (
        "rows",
        [
            {"candidate": "a", "picture": "0", "seconds": 1, "megapixels": 1, "psnr": 3},
            {"candidate": "a", "picture": "1", "seconds": 1, "megapixels": 1},
        ],
    ),
    "protocol is a text": ("protocol", "srgb"),
    "set is a list": ("set", []),
    "versions are a number": ("versions", 3),
    "candidates are gone": ("candidates", None),
    "candidates have no names": ("candidates", [{}]),
    "candidates are numbers": ("candidates", [3]),
}


def test_damaged_files_are_said(tmp_path):
    sound = results({"a": [1.0, 2.0]})
    for key, value in DAMAGES.values():
        (tmp_path / RESULTS).write_text(json.dumps({**sound, key: value}))
        with pytest.raises(InputError, match=r"damaged|no file of results|not all the same"):
            read_results(tmp_path)
