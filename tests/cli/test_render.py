"""What is printed where, on a terminal and off it."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from denoisekit.cli import render
from denoisekit.errors import InputError, printable


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def test_plain_tables_are_aligned_and_never_cut(capsys):
    long = "x" * 300
    render.table(("id", "title"), [("a", long), ("[bold]b", "写真")], title="Things")
    title, header, first, second = capsys.readouterr().out.splitlines()
    assert title == "Things"
    assert header == "id       title"
    assert first == f"a        {long}"
    assert second == "[bold]b  写真"


def test_a_table_without_headings_has_no_empty_line(capsys):
    render.table(("", ""), [("width", "3")])
    render.table(("", ""), [])
    assert capsys.readouterr().out == "width  3\n"


def test_tables_on_a_terminal_keep_brackets_and_all_the_text(monkeypatch, screen):
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    long = "".join(chr(ord("A") + i % 26) for i in range(100))
    render.table(("id", "title"), [("[red]1", long)])
    shown = screen.getvalue()
    assert "[red]1" in shown
    assert "…" not in shown
    letters = [character for character in shown if character.isupper()]
    assert "".join(letters) == long


@pytest.mark.parametrize("no_color", [False, True])
def test_no_color_is_honoured(monkeypatch, screen, no_color):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", screen)
    with render.progress("a.png", 2.0, "MP") as bar:
        bar.update(1.0)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", screen.getvalue())) == (not no_color)


def test_json_is_one_ascii_line_with_paths_as_strings(capsys):
    render.json_line({"input": Path("a\nb.png"), "seconds": 1.5, "name": "é\udcff"})
    text = capsys.readouterr().out
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text) == {"input": "a\nb.png", "seconds": 1.5, "name": "é\udcff"}


@pytest.mark.parametrize("bad", [float("nan"), object()])
def test_json_refuses_what_json_cannot_hold(bad):
    with pytest.raises((ValueError, TypeError)):
        render.json_line({"x": bad})


def test_a_name_that_the_stream_cannot_show_is_escaped(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", write_through=True))
    render.prepare()
    render.out("夜.png")
    assert raw.getvalue().strip() == b"\\u591c.png"


EVIL = "a\n\x1b[31m\x9b\u202e\udcff.png"
SHOWN = "a\\n\\x1b[31m\\x9b\\u202e\\xff.png"


def test_no_name_reaches_the_terminal_as_more_than_text(capsys, monkeypatch, screen):
    render.out(EVIL)
    render.err(EVIL)
    render.table(("",), [(EVIL,)])
    assert capsys.readouterr() == (f"{SHOWN}\n{SHOWN}\n", f"{SHOWN}\n")
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(sys, "stdout", screen)
    with render.progress(EVIL, 1.0, "MP") as bar:
        bar.describe(EVIL)
        bar.note(EVIL)
        bar.update(1.0)
    render.table(("",), [(EVIL,)])
    assert screen.getvalue().count(SHOWN) >= 3
    assert not any(part in screen.getvalue() for part in ("a\n", "\x1b[31m\x9b", "\u202e"))


def test_printable_keeps_what_people_write():
    text = "夜\u3000a\u202fb \U0001f468\u200d\U0001f469 שלום é\\n.png"
    assert printable(text) == text


def test_closed_streams_are_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    render.out("x")
    render.err("x")
    render.table(("a",), [("b",)])
    with render.progress("a", 1, "MP") as bar:
        bar.update(1)
    render.flush()


def test_quiet_progress_says_nothing_at_all(capsys):
    with render.progress("a.png", 2.0, "MP", quiet=True) as bar:
        bar.describe("b.png")
        bar.update(1.0)
        bar.note("hello")
    assert capsys.readouterr() == ("", "")


def test_plain_progress_speaks_every_ten_seconds_with_the_time_left(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr(render.time, "monotonic", lambda: now)
    with render.progress("a.png", 100.0, "MP") as bar:
        for now in range(40):
            bar.update(now)
        bar.describe("b.png")
        now = 50
        bar.update(75)
        bar.note("done with a")
    assert capsys.readouterr() == (
        "",
        "a.png: 10 % (10.0 of 100.0 MP), about 1 min 30 s left\n"
        "a.png: 20 % (20.0 of 100.0 MP), about 1 min 20 s left\n"
        "a.png: 30 % (30.0 of 100.0 MP), about 1 min 10 s left\n"
        "b.png: 75 % (75.0 of 100.0 MP), about 17 s left\n"
        "done with a\n",
    )


def test_a_terminal_that_goes_away_stops_no_work(monkeypatch, screen):
    def gone(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", screen)
    with render.progress("a.png", 2.0, "MP") as bar:
        bar.update(1.0)
        monkeypatch.setattr(screen, "write", gone)
        bar.note("not seen")
        bar.failure(Path("a"), InputError("not seen either"))
        bar.update(2.0)


def test_short_work_needs_no_line(capsys):
    with render.progress("a.png", 1.0, "MP") as bar:
        bar.update(0.5)
        bar.update(1.0)
    assert capsys.readouterr() == ("", "")


def test_the_bar_of_a_terminal_leaves_a_piped_stdout_alone(monkeypatch, capsys, screen):
    monkeypatch.setattr(sys, "stderr", screen)
    with render.progress("odd [name].png", 3.0, "MP") as bar:
        bar.update(1.5)
        bar.note("a [note]")
        render.out("result")
        bar.describe("other [b].png")
        bar.update(3.0)
    shown = screen.getvalue()
    assert capsys.readouterr().out == "result\n"
    assert "result" not in shown
    assert "a [note]" in shown
    assert "3.0/3.0 MP" in shown
    assert "other [b].png" in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (11400, "3 h 10 min")],
)
def test_duration(seconds, words):
    assert render.duration(seconds) == words
