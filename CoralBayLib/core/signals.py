"""How a command ends early: interrupted, terminated, or because nobody reads its output any more."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CLOSED_PIPE_STATUS = 141
"""Exit status of a program whose reader has gone, as shells show it: 128 + SIGPIPE."""


class Interruption:
    """Which signal asked the command to end.

    Attributes:
        status: 130 for SIGINT, 143 for SIGTERM, as shells show them; 0 before any.
    """

    def __init__(self) -> None:
        self.status = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal and end the command; temporary files are removed on the way out."""
        self.status = 128 + number
        raise KeyboardInterrupt


@contextmanager
def handled_signals() -> Iterator[Interruption]:
    """End a command cleanly on SIGINT and SIGTERM, by a KeyboardInterrupt."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # Signals that the caller ignores, as under nohup, stay ignored.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, interruption.handle) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_output_robust() -> None:
    """Print any name on any terminal: characters that its code page lacks become question marks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def close_output() -> None:
    """Let the interpreter end quietly after the reader of stdout has gone."""
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - os.devnull is no path on Windows
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    except (OSError, ValueError):  # no real file, as in a test
        pass
