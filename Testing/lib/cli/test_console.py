"""What a person sees while a command works."""

from __future__ import annotations

import io
import re

from CoralBayLib.cli.console import Console


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_message_leaves_the_bar_in_sight(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Console().bar("Embedding") as progress:
        progress(0.5, "Embedding " + "a scan with a long name " * 10)
    half = next(line for line in terminal.getvalue().split("\r") if "50%" in line)
    assert re.search(r"50%\|(#|█){10} {10}\|", half)
    assert len(half) <= 60 and "Embedding a scan" in half
