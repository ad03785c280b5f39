"""How a command ends early: interrupted, terminated, or because nobody reads its output any more."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import time
from contextlib import contextmanager

TYPE_CHECKING = False  # the command line imports this first, so it imports little
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType
    from typing import Any

CLOSED_PIPE_STATUS = 141
"""Exit status of a program whose reader has gone, as shells show it: 128 + SIGPIPE."""
_SAME_S = 1.0
"""Seconds in which several signals count as one."""
_AGAIN_S = 0.05


class Interruption:
    """Which signal asked the command to end.

    Attributes:
        status: 130 for SIGINT, 143 for SIGTERM, as shells show them; 0 before any.
    """

    def __init__(self) -> None:
        self.status = 0
        self._first_at = 0.0
        self._dropped = False
        self._result: int | None = None

    @property
    def message(self) -> str:
        """One line for the user."""
        word = "terminated" if self.status == 128 + signal.SIGTERM else "interrupted"
        return f"coralbay: {word}; no incomplete file was left behind."

    @property
    def is_over(self) -> bool:
        """Whether the command has ended and only the interpreter is still at work."""
        return self._result is not None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal and end the command; temporary files are removed on the way out.

        Wrappers pass on a signal that the terminal sends as well, so further signals within a second are ignored. A later
        one ends the process at once.
        """
        if self._result is not None:
            os._exit(self._result)
        if self.status and not self._dropped:
            if time.monotonic() - self._first_at < _SAME_S:
                return
            os._exit(128 + number)
        self.status, self._first_at, self._dropped = 128 + number, time.monotonic(), False
        sys.unraisablehook = self._raise_again
        raise KeyboardInterrupt

    def finish(self, status: int) -> None:
        """Let later signals end the process at once, with the status of the command, which is complete."""
        self._result = status

    def leave(self) -> None:
        """Ignore signals from now on, if the command is complete.

        Python itself gives up the handlers when it has called everything that is registered with `atexit`.
        """
        if self._result is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)

    def raise_if_set(self) -> None:
        """Raise KeyboardInterrupt if a signal came: another error may be its consequence, such as that of an import."""
        if self.status:
            raise KeyboardInterrupt

    def _raise_again(self, unraisable: Any) -> None:
        """Python drops an exception in a destructor or a callback; one that a signal raised there is raised once more."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and not self.is_over:
            import threading

            self._dropped = True
            number, main = self.status - 128, threading.main_thread().ident
            if main is not None and hasattr(signal, "pthread_kill"):  # which wakes the thread as well
                threading.Timer(_AGAIN_S, signal.pthread_kill, [main, number]).start()
            else:
                threading.Timer(_AGAIN_S, _thread.interrupt_main, [number]).start()


@contextmanager
def handled_signals() -> Iterator[Interruption]:
    """End a command cleanly on SIGINT and SIGTERM, by a KeyboardInterrupt."""
    interruption = Interruption()
    # Signals that the caller ignores, as under nohup, stay ignored.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    try:
        before = {number: signal.signal(number, interruption.handle) for number in numbers}
    except ValueError:  # not in the main thread, which alone may handle signals
        yield interruption
        return
    hook = sys.unraisablehook
    # What is registered first is called last.
    atexit.register(interruption.leave)
    try:
        yield interruption
    finally:
        if not interruption.is_over:
            atexit.unregister(interruption.leave)
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)


def make_output_robust() -> None:
    """Print any name on any terminal: characters that its code page lacks become question marks.

    Streams that the caller closed become the null device, because Python has None for them, and the next file that is
    opened would get their number and what a library of C prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - open until the process ends
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
