"""What a person sees while a command works."""

from __future__ import annotations

import io
import re

from CoralBayLib.cli.console import Console


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_long_message_leaves_the_bar_in_sight(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Console().bar("Embedding") as progress:
        progress(0.5, "Embedding " + "a scan with a long name " * 10)
    # What follows the bar is cut at the end of the terminal's line.
    assert re.search(r"\r 50%\|(#|█){10} {10}\| .*Embedding a scan", terminal.getvalue())
