"""Progress and cancellation of long work, without any GUI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .errors import Cancelled

Progress = Callable[[float, str], None]
"""Called with the fraction done (0 to 1) and a short message, possibly from a worker thread."""

_Message = TypeVar("_Message")


class CancelToken:
    """A flag that one thread sets, and another thread checks between the steps of its work.

    Example::

        cancel = CancelToken()
        button.clicked = cancel.cancel            # in the GUI thread
        embed(volume, encoder, cancel=cancel)     # in a worker thread: raises Cancelled soon after
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop; it does so at its next check."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` has been called."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` if `cancel` has been called."""
        if self._event.is_set():
            raise Cancelled("Cancelled; nothing was changed.")


def raise_if_cancelled(cancel: CancelToken | None) -> None:
    """Raise `Cancelled` if there is a token and it has been cancelled."""
    if cancel is not None:
        cancel.raise_if_cancelled()


def report(progress: Progress | None, fraction: float, message: str) -> None:
    """Call the callback, if there is one, with the fraction clipped to 0..1."""
    if progress is not None:
        progress(min(1.0, max(0.0, fraction)), message)


def seconds_left(elapsed_s: float, done: float, total: float = 1.0) -> float | None:
    """How long work will still take at its pace so far, in seconds; None before anything is done.

    Args:
        elapsed_s: time taken so far, in seconds.
        done: amount of work done so far.
        total: amount of work in all, in the same unit.
    """
    return elapsed_s * (total - done) / done if done > 0 else None


def subprogress(
    progress: Callable[[float, _Message], None] | None, start: float, stop: float
) -> Callable[[float, _Message], None] | None:
    """A callback for one step of the work: its 0..1 is `start` to `stop` of the given callback, its messages are the same."""
    if progress is None:
        return None
    return lambda fraction, message: progress(start + (stop - start) * fraction, message)
