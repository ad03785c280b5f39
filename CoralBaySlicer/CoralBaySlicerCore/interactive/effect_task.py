"""A task in the background of the effect of the Segment Editor, and what the effect shows of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBaySlicerCore.work.logic import CoralBaySlicerLogic
from CoralBaySlicerCore.work.remedies import describe_error
from CoralBaySlicerCore.work.worker import Task


class EffectTask:
    """Base class of what the effect does in the background: at most one task of its kind runs.

    Subclasses pass a started task to `_follow`, and use its result in `_finish`. The result of a task that was cancelled, or
    replaced by another, is not used.

    Args:
        logic: returns the logic of the module, which another one replaces when the module is reloaded.
        changed: called on the main thread when progress, message or result have changed.

    Attributes:
        message: for the user; "" if there is nothing to say.
        fraction: of the work that is done, from 0 to 1, while `is_running`.
    """

    def __init__(self, logic: Callable[[], CoralBaySlicerLogic], changed: Callable[[], None]) -> None:
        self._logic = logic
        self._changed = changed
        self._task: Task | None = None
        self.message = ""
        self.fraction = 0.0

    @property
    def is_running(self) -> bool:
        """Whether the task runs."""
        return self._task is not None

    @property
    def title(self) -> str:
        """What is done at the moment, for the user."""
        return self._task.title if self._task is not None else ""

    def cancel(self) -> None:
        """Stop the task."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()

    def _follow(self, task: Task) -> None:
        """Show the progress of a started task, and use its result."""
        self._task, self.message, self.fraction = task, "", 0.0
        task.on_progress = lambda fraction, _message: self._on_progress(task, fraction)
        task.on_done = lambda result: self._on_done(task, result)
        task.on_failed = lambda error: self._on_failed(task, error)
        self._changed()

    def _finish(self, result: Any) -> None:
        """Use the result."""
        raise NotImplementedError

    def _on_progress(self, task: Task, fraction: float) -> None:
        if task is self._task:
            self.fraction = fraction
            self._changed()

    def _on_done(self, task: Task, result: Any) -> None:
        if task is self._task:
            self._task = None
            self._finish(result)
            self._changed()

    def _on_failed(self, task: Task, error: Exception) -> None:
        if task is self._task:
            self._task = None
            self.message = "" if isinstance(error, Cancelled) else in_effect(error)
            self._changed()


def in_effect(error: Exception) -> str:
    """An error as text for the user of the Segment Editor, where the steps of the module are not in sight."""
    text = describe_error(error)
    if isinstance(error, CoralBayError) and error.remedy is not None:
        text = _("{error} The steps are those of the module CoralBay, which the button Change... opens.").format(error=text)
    return text
