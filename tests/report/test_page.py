"""Pages as text: their size, what is in them, and that nothing breaks out of them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from report_pages import data_of, decode, flat, numbers, page

from denoisekit import report as page_module
from denoisekit.report import (
    Exhibit,
    Page,
    eight_bits,
    encode_alike,
    facts,
    quality_against_time,
    render,
    scale_of,
    section,
    table,
)


def noise(side, count=2, sigma=40):
    """Return versions of a picture: very noisy, and less and less so."""
    draw = np.random.default_rng(0).standard_normal((side, side, 3))
    y = np.mgrid[:side, :side][0][..., None] / side
    levels = [(0.5 + 0.3 * np.sin(9 * y) + sigma / 255 * draw / (n + 1)) for n in range(count)]
    return [eight_bits(level) for level in levels]


def test_lossless_pictures_are_as_they_were():
    draw = np.random.default_rng(1)
    colours = draw.integers(0, 256, (17, 23, 3), np.uint8)
    gray = draw.integers(0, 256, (17, 23), np.uint8)
    for picture in (colours, gray):
        (source,), how = encode_alike([picture], 0, lossless=True)
        again = decode(source)
        np.testing.assert_array_equal(again if picture.ndim == 3 else again[..., 0], picture)
        assert how == "without loss"


def test_all_versions_are_kept_in_one_way_as_good_as_fits():
    pictures = noise(96, 3)
    sizes, errors = [], []
    for most in (1e6, 20_000, 8_000):
        sources, how = encode_alike(pictures, most)
        assert len({source.partition(";")[0] for source in sources}) == 1
        assert sum(map(len, sources)) <= most, how
        sizes.append(sum(map(len, sources)))
        error = decode(sources[0]).astype(float) - pictures[0]
        errors.append(float(np.sqrt((error**2).mean())))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 8


def test_a_page_is_no_larger_than_allowed(monkeypatch):
    monkeypatch.setattr(page_module, "MOST_LETTERS", 95_000)
    exhibits = [Exhibit(str(n), noise(96, 2), ("", "")) for n in range(3)]
    html = render(Page("t", "s", ("noisy", "a"), exhibits, (0, 1)))
    assert len(html) <= 95_000
    whole = render(Page("t", "s", ("noisy", "a"), exhibits, (0, 1)), lossless=True)
    assert len(whole) > 150_000


@pytest.mark.slow
def test_ten_pictures_of_a_megapixel_take_less_than_five_megabytes():
    versions = noise(1024, 5)
    exhibits = [Exhibit(str(n), versions, [""] * 5) for n in range(10)]
    html = render(Page("t", "s", tuple("nabcd"), exhibits, (0, 1)))
    assert 1e6 < len(html.encode()) < 5e6


def test_names_cannot_break_out_of_the_page():
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp;'
    exhibit = Exhibit(evil, [flat((1, 2, 3))] * 2, (evil, evil), evil)
    html = render(
        Page(
            evil,
            evil,
            [evil, evil],
            [exhibit],
            (0, 1),
            sections=[section(evil, facts([(evil, evil)]))],
        )
    )
    assert html.count("</script>") == 2
    assert "<img" not in html
    assert data_of(html)["pictures"][0]["name"] == evil
    assert data_of(html)["layers"] == [evil, evil]


def test_a_page_loads_nothing():
    html = render(page(sections=[numbers()]))
    assert "default-src 'none'" in html
    for found in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert found.startswith("data:")
    assert not re.findall(r"https?://", html)
    assert "{{" not in html


def test_numbers_are_sorted_by_their_values_not_their_words():
    html = numbers()
    assert 'data-value="9.5">9.50<' in html
    assert 'data-value="Infinity">inf<' in html
    assert re.search(r'class="n best"[^>]*>inf<', html)
    assert '<th scope="row" data-picture="1">c 10</th>' in html
    assert table("c", ("a",), []).count("<tr>") == 1


def test_dark_and_stretched_pictures_are_shown_as_wide_as_they_are():
    draw = np.random.default_rng(2)
    assert scale_of(draw.random((32, 32, 3))) == ((0, 1), "")
    dark = 0.01 + 0.02 * draw.random((64, 64, 1))
    (low, high), words = scale_of(dark)
    assert words.startswith(f" Shown from {low:.3g} to")
    assert (low, high) == pytest.approx((0.01, 0.03), abs=1e-3)
    shown = eight_bits(dark, (low, high))
    assert shown.shape == (64, 64)
    assert (shown.min(), shown.max()) == (0, 255)
    assert scale_of(np.full((8, 8, 1), 0.1))[0] == (0.1, 1.1)
    assert eight_bits(np.array([[[-1.0, 0.5, 2.0]]])).tolist() == [[[0, 128, 255]]]


def test_the_plot_is_true():
    svg = quality_against_time([("fast", 0.1, 30), ("good", 10, 36)], ("noisy", 28), "dB")
    (x1, y1), (x2, y2) = sorted(
        (float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    )
    noisy = float(re.search(r'class="noisy"[^>]* y1="([\d.]+)"', svg)[1])
    marks = {
        float(text): float(x)
        for x, text in re.findall(r'<text x="([\d.]+)"[^>]*middle"[^>]*>([\d.]+)<', svg)
    }
    assert marks[0.1] == x1
    assert marks[10] == x2
    assert (y1 - y2) / (noisy - y1) == pytest.approx(6 / 2, abs=0.02)
    assert "fast: 30.00 dB in 0.1 s a megapixel" in svg
    assert quality_against_time([("a&b", 0, 30)], None, "dB").count("a&amp;b") == 2
