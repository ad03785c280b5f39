"""What the self-test watches while it walks: dialogs, Slicer's log, and the width of the panel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import slicer

_FAULTS = ("Traceback (most recent call last)", "Unable to find subject hierarchy item", "Oversampling factor")
"""Texts of Slicer's log that name a fault."""


@contextmanager
def error_dialogs() -> Iterator[list[str]]:
    """Collect the errors that would be shown in dialogs, which would wait for somebody to close them."""
    shown: list[str] = []
    display = slicer.util.errorDisplay
    slicer.util.errorDisplay = lambda text, *_args, **_options: shown.append(text)
    try:
        yield shown
    finally:
        slicer.util.errorDisplay = display


class LogWatch:
    """Finds what Slicer's log says of faults since the watch began."""

    def __init__(self) -> None:
        self._path = Path(slicer.app.errorLogModel().filePath)
        self._start = self._path.stat().st_size if self._path.is_file() else 0

    def faults(self) -> list[str]:
        """The lines that name a fault."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._start)
            lines = file.read().decode("utf-8", "replace").splitlines()
        return [line for line in lines if any(fault in line for fault in _FAULTS)]


def panel_width() -> int:
    """Width of the module panel, pixels; 0 without a main window."""
    window = slicer.util.mainWindow()
    return slicer.util.findChild(window, "PanelDockWidget").width if window is not None else 0
