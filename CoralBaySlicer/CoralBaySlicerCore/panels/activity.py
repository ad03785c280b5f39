"""The row that shows the running task, its progress and the time left, with a button that cancels it.

The row stands in the step that started the task, where the user looks, or above all steps if that step is collapsed or has
no place for it now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from CoralBayLib.core.formatting import format_duration
from CoralBayLib.core.progress import seconds_left
from CoralBaySlicerCore.work.remedies import show_error
from CoralBaySlicerCore.work.worker import Task

_SETTLED = 0.08
"""Fraction of the work from which the time left is estimated from the time taken."""


class Activity:
    """Shows the running task and names the waiting tasks.

    Args:
        ui: with `activitySlot`, `activityFrame`, `activityLabel`, `progressBar` and `cancelButton`.
        changed: called after a task has ended, to refresh the panels.
    """

    def __init__(self, ui: Any, changed: Callable[[], None]) -> None:
        self._ui = ui
        self.notify = changed
        self._tasks: list[Task] = []
        self._slots: dict[Task, qt.QWidget | None] = {}
        self._slot = ui.activitySlot
        ui.cancelButton.connect("clicked(bool)", lambda *_: self.cancel())
        ui.activityFrame.visible = False

    @property
    def task(self) -> Task | None:
        """The task that is shown: the one that reported progress last, or the first of those that wait."""
        return self._tasks[0] if self._tasks else None

    def follow(
        self,
        task: Task,
        failure: str,
        done: Callable[[Any], None] | None = None,
        on_error: Callable[[Exception], bool] | None = None,
        slot: qt.QWidget | None = None,
    ) -> None:
        """Show a task until it ends, and its error if it fails.

        Args:
            task: a started task.
            failure: first line of the error message.
            done: called with the result.
            on_error: called with the error; returns whether it was handled. If not, the error is shown.
            slot: with a layout, where the row is shown while it is visible; None for above all steps.
        """

        def failed(error: Exception) -> None:
            if on_error is None or not on_error(error):
                show_error(failure, error)

        self._tasks.append(task)
        self._slots[task] = slot
        task.on_progress = lambda fraction, message: self._progress(task, fraction)
        task.on_done = lambda result: self._end(task, lambda: done(result) if done is not None else None)
        task.on_failed = lambda error: self._end(task, lambda: failed(error))
        self._show(0.0 if task is self.task else self._ui.progressBar.value / 100)
        self._ui.activityFrame.visible = True

    def cancel(self) -> None:
        """Cancel the task that is shown; waiting tasks continue."""
        if self.task is not None:
            self.task.cancel()
            self._show(self._ui.progressBar.value / 100)

    def _progress(self, task: Task, fraction: float) -> None:
        # A task may run between two steps of a task that was started earlier.
        self._tasks.remove(task)
        self._tasks.insert(0, task)
        self._show(fraction)

    def _show(self, fraction: float) -> None:
        task = self._tasks[0]
        self._place(self._slots[task])
        self._ui.cancelButton.enabled = not task.token.cancelled
        self._ui.progressBar.value = int(100 * fraction)
        text = _("Cancelling...") if task.token.cancelled else f"{task.title}{_left(task, fraction)}"
        waiting = ", ".join(each.title for each in self._tasks[1:])
        if waiting:
            text += "\n" + _("Waiting: {titles}").format(titles=waiting)
        self._ui.activityLabel.text = text

    def _place(self, slot: qt.QWidget | None) -> None:
        """Move the row to a slot, or to above all steps if that is hidden or disabled."""
        top = self._ui.activitySlot
        # In a disabled part of a step, Cancel would be disabled too.
        if slot is None or not slot.isVisibleTo(top.parentWidget()) or not slot.enabled:
            slot = top
        if slot is not self._slot:
            self._slot = slot
            slot.layout().addWidget(self._ui.activityFrame)

    def _end(self, task: Task, tell: Callable[[], None]) -> None:
        self._tasks.remove(task)
        del self._slots[task]
        if self._tasks:
            self._show(0.0)
        self._ui.activityFrame.visible = bool(self._tasks)
        self.notify()
        tell()


def _left(task: Task, fraction: float) -> str:
    if task.started_at is None or fraction < _SETTLED or fraction >= 1:
        return "..."
    seconds = seconds_left(time.monotonic() - task.started_at, fraction)
    return _(", about {time} left").format(time=format_duration(seconds)) if seconds is not None else "..."
