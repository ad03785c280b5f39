"""The row that shows what is running, how far it is, how long it will take, and stops it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .worker import Task, show_error

_SETTLED = 0.08
"""Fraction from which the time left can be told from the time taken."""


class Activity:
    """Shows one task at a time, the one that was started last.

    Args:
        ui: with `activityFrame`, `activityLabel`, `progressBar` and `cancelButton`.
        changed: called after a task has ended, so that the panels show the new state.
    """

    def __init__(self, ui: Any, changed: Callable[[], None]) -> None:
        self._ui = ui
        self.notify = changed
        self.task: Task | None = None
        ui.cancelButton.connect("clicked(bool)", lambda *_: self.cancel())
        ui.activityFrame.visible = False

    def follow(self, task: Task, failure: str, done: Callable[[Any], None] | None = None) -> None:
        """Show a task until it ends; an error is shown below the line `failure`."""
        self.task = task
        task.on_progress = lambda fraction, message: self._show(task, fraction)
        task.on_done = lambda result: self._end(task, lambda: done(result) if done is not None else None)
        task.on_failed = lambda error: self._end(task, lambda: show_error(failure, error))
        self._ui.activityFrame.visible = True
        self._ui.cancelButton.enabled = True
        self._show(task, 0.0)

    def cancel(self) -> None:
        """Stop the task that is shown."""
        if self.task is not None:
            self.task.cancel()
            self._ui.cancelButton.enabled = False
            self._ui.activityLabel.text = _("Cancelling...")

    def _show(self, task: Task, fraction: float) -> None:
        if task is not self.task:
            return
        self._ui.progressBar.value = int(100 * fraction)
        self._ui.activityLabel.text = f"{task.title}{_left(task, fraction)}"

    def _end(self, task: Task, tell: Callable[[], None]) -> None:
        if task is self.task:
            self.task = None
            self._ui.activityFrame.visible = False
        self.notify()
        tell()


def _left(task: Task, fraction: float) -> str:
    if task.started_at is None or fraction < _SETTLED or fraction >= 1:
        return "..."
    seconds = (time.monotonic() - task.started_at) * (1 - fraction) / fraction
    if seconds < 60:
        return _(", about {seconds} s left").format(seconds=max(1, round(seconds)))
    return _(", about {minutes} min left").format(minutes=round(seconds / 60))
