"""One line of progress: the last one in a log, none where it was quick, plain text in a notebook."""

from __future__ import annotations

import io
import sys
import types

from fraudlab.progress import progress_line


def test_progress_outside_a_terminal_is_the_last_line(capsys):
    with progress_line("tuning") as say:
        say("one")
        say("two")
    assert capsys.readouterr().out == "two\n"


def test_what_is_quick_says_nothing(capsys):
    with progress_line("explaining", after=60) as say:
        say("one")
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_the_line_in_place_and_keeps_the_last_one(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    with progress_line("explaining") as say:
        say("explained 1 of 2")
        say("explained 2 of 2")
    assert screen.getvalue().endswith("explained 2 of 2\n")


def test_a_notebook_shows_plain_text_that_is_replaced(monkeypatch, capsys):
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            shown.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert list(data) == ["text/plain"]
        assert raw
        assert display_id
        shown.append(data["text/plain"])
        return Handle()

    python = types.ModuleType("IPython")
    python.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", python)
    fake = types.ModuleType("IPython.display")
    fake.display = display
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    with progress_line("explaining") as say:
        say("one")
        say("two")
    assert shown == ["one", "two"]
    assert capsys.readouterr().out == ""
