"""What a page does in a browser."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from report_pages import BLUE, DOT, GOLD, GREEN, HEIGHT, RED, WIDTH, numbers, page

from denoisekit.report import render

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def html():
    return render(page(sections=[numbers()]), lossless=True)


def look(tab):
    """Return what the viewer shows, (H, W, 3), when it has drawn it."""
    tab.wait_for_timeout(60)
    tab.wait_for_selector("#viewer[data-ready=yes]")
    source = tab.evaluate("document.getElementById('canvas').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        return np.asarray(image)[..., :3]


def at(picture, across, down):
    """Return the colour at a place given by shares of the width and height."""
    height, width = picture.shape[:2]
    return tuple(picture[round(down * (height - 1)), round(across * (width - 1))].tolist())


def dots(picture):
    """Return left, top and width of the white square in each half, from the half's corner."""
    half = picture.shape[1] // 2
    found = []
    for part in (picture[:, : half - 4], picture[:, half + 4 :]):
        rows, columns = np.nonzero((part > 250).all(2))
        shift = 0 if not found else 4
        found.append((int(columns.min()) + shift, int(rows.min()), int(np.ptp(columns)) + 1))
    return found


def test_the_slider_moves_with_mouse_and_keys(visit, html):
    tab = visit(html)
    picture = look(tab)
    assert at(picture, 0.25, 0.9) == RED
    assert at(picture, 0.6, 0.9) == BLUE
    box = tab.locator("#viewer").bounding_box()
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] / 2, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
    tab.mouse.up()
    picture = look(tab)
    assert at(picture, 0.78, 0.9) == RED
    assert at(picture, 0.82, 0.9) == BLUE
    assert tab.input_value("#divider") == "800"
    tab.focus("#divider")
    for _ in range(2):
        tab.keyboard.press("PageDown")
    moved = int(tab.input_value("#divider"))
    assert moved < 800
    assert at(look(tab), moved / 1000 + 0.02, 0.9) == BLUE
    tab.keyboard.press("Home")
    assert at(look(tab), 0.02, 0.9) == BLUE


def test_any_two_can_be_compared_and_swapped(visit, html):
    tab = visit(html)
    tab.select_option("#left", label="b")
    tab.select_option("#right", label="clean")
    picture = look(tab)
    assert (at(picture, 0.2, 0.9), at(picture, 0.8, 0.9)) == (GOLD, GREEN)
    tab.focus("#viewer")
    tab.keyboard.press("x")
    picture = look(tab)
    assert (at(picture, 0.2, 0.9), at(picture, 0.8, 0.9)) == (GREEN, GOLD)
    assert "left clean, right b" in tab.text_content("#status")


def test_zoom_and_place_are_the_same_on_both_sides(visit, html):
    tab = visit(html)
    tab.select_option("#layout", "beside")
    before = dots(look(tab))
    assert before[0] == pytest.approx(before[1], abs=1)
    tab.focus("#viewer")
    tab.keyboard.press("+")
    tab.keyboard.press("ArrowRight")
    after = dots(look(tab))
    assert after[0] == pytest.approx(after[1], abs=1)
    assert after[0][2] == pytest.approx(1.5 * before[0][2], abs=2)
    assert after[0][0] != before[0][0]
    tab.keyboard.press("1")
    look(tab)
    assert tab.get_attribute("#viewer", "data-zoom") == "1.0000"
    tab.keyboard.press("0")
    assert dots(look(tab)) == before


def test_the_wheel_zooms_where_the_pointer_is(visit, html):
    tab = visit(html)
    tab.select_option("#layout", "beside")
    ((left, top, _), _) = dots(look(tab))
    box = tab.locator("#viewer").bounding_box()
    zoom = float(tab.get_attribute("#viewer", "data-zoom"))
    tab.mouse.move(box["x"] + left, box["y"] + top)
    tab.mouse.wheel(0, -100)  # scrolls the page: the viewer was not asked
    tab.wait_for_timeout(100)
    assert float(tab.get_attribute("#viewer", "data-zoom")) == zoom
    tab.focus("#viewer")
    tab.mouse.wheel(0, -300)
    ((there, down, _), other) = dots(look(tab))
    assert float(tab.get_attribute("#viewer", "data-zoom")) > 1.5 * zoom
    assert (there, down) == pytest.approx((left, top), abs=2)
    assert other[:2] == pytest.approx((left, top), abs=2)


def test_differences_and_what_was_removed(visit, html):
    tab = visit(html)
    tab.select_option("#view", "removed")
    tab.fill("#gain", "2")
    tab.select_option("#left", label="noisy")
    picture = look(tab)
    assert at(picture, 0.25, 0.9) == (128, 128, 128)  # nothing
    # 128 + 2 * (200 - 30, 0, 30 - 200), cut off.
    assert at(picture, 0.6, 0.9) == (255, 128, 0)
    tab.select_option("#view", "difference")
    tab.select_option("#left", label="clean")
    tab.fill("#gain", "1")
    picture = look(tab)
    assert at(picture, 0.25, 0.9) == (0, 0, 0)
    assert at(picture, 0.6, 0.9) == (0, 170, 170)


def test_tables_are_sorted_and_open_pictures(visit, html):
    tab = visit(html)
    names = "table tbody th"
    heads = tab.locator("thead th")
    for column, role, order in (
        (1, "descending", ["b 1", "c 10", "a 2"]),
        (1, "ascending", ["a 2", "c 10", "b 1"]),
        (0, "ascending", ["a 2", "b 1", "c 10"]),
        (2, "ascending", ["c 10", "b 1", "a 2"]),
    ):
        heads.nth(column).get_by_role("button").press("Enter")
        assert heads.nth(column).get_attribute("aria-sort") == role
        assert tab.locator(names).all_inner_texts() == order
    others = [heads.nth(column).get_attribute("aria-sort") for column in (0, 1)]
    assert others == ["none", "none"]
    tab.get_by_role("button", name="c 10").click()
    look(tab)
    assert tab.text_content("#status").startswith("two: ")
    tab.keyboard.press("PageDown")
    look(tab)
    assert tab.text_content("#status").startswith("one: ")


def test_everything_has_a_name_for_those_who_do_not_see_it(visit, html):
    tab = visit(html)
    look(tab)
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll('button, select, input, canvas, [role]')]
        .filter((e) => e.offsetParent !== null)
        .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert "left noisy 1 dB, right a 2 dB" in tab.get_attribute("#canvas", "aria-label")


def luminance(text):
    """Return the relative luminance of a colour as style sheets are asked for it."""
    values = np.array([float(v) for v in text[text.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_read_in_light_and_dark(visit, html, scheme):
    tab = visit(html, color_scheme=scheme)
    for turned in (False, True):
        if turned:
            tab.click("#theme")
        back = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert (back < 0.2) == ((scheme == "dark") != turned)
        for selector in ("body", "header p", "td.best", "thead th", "tbody th button", ".small"):
            colour = tab.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
            one, other = sorted((back, luminance(colour)))
            assert (other + 0.05) / (one + 0.05) > 4.5, selector


def test_a_narrow_screen_is_not_scrolled_sideways(visit, html):
    tab = visit(html, viewport={"width": 360, "height": 640})
    picture = look(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert picture.shape[0] / picture.shape[1] == pytest.approx(HEIGHT / WIDTH, rel=0.05)
    assert DOT[0] < HEIGHT
