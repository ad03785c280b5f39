"""A training that is asked to end finishes its step and keeps its state."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


def leave_signals_to_parent(_: int) -> None:
    """Let a worker process ignore what ends its parent, which ends its workers itself, between two steps."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """Notes the first SIGINT or SIGTERM; a second one ends the program as it would have without this.

    Example::

        with StopRequest() as stop:
            while not stop.requested:
                work()
        stop.deliver()                # what handled the signal before handles it now
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.number != 0

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # Signals that the caller ignores, as under nohup, stay ignored.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def deliver(self) -> None:
        """Send the noted signal again, to what handled it before; does nothing when none came."""
        if self.number:
            signal.raise_signal(self.number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
