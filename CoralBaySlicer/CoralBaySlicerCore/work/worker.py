"""One worker thread for long computations, and the return of their results to the main thread.

The thread lives as long as the module, because cuDNN caches its plans per thread. It never accesses MRML: a task computes
plain data on the worker, and a timer of the event loop passes the result to the task's `finish` on the main thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken, Progress

_POLL_MS = 20


@dataclass(frozen=True)
class Message:
    """A progress message that is shown in place of the task's title until the next message, such as that of a download.

    Attributes:
        text: shown to the user.
        is_timed: whether the fraction is that of the whole task, so that the time left can be computed from it.
    """

    text: str
    is_timed: bool = False


TaskProgress = Callable[[float, str | Message], None]
"""The library's `Progress`, which also takes a `Message`."""
Compute = Callable[[TaskProgress, CancelToken], Any]
"""The part of a task that runs on the worker."""


def as_messages(progress: TaskProgress | None) -> Progress | None:
    """A progress callback whose messages are shown in place of the title."""
    return None if progress is None else lambda fraction, text: progress(fraction, Message(text))


class Task:
    """A piece of work.

    Args:
        compute: runs on the worker; takes a progress callback and a cancel token, returns plain data.
        finish: runs on the main thread with what `compute` returned; changes the scene; its result is the task's.
        lane: a new task cancels an unfinished older one of the same lane; "" for none.
        title: shown to the user while the task runs.
        outlives_scene: the task does not depend on the scene, so it continues when the scene is closed.
        interruptible: the task takes long and calls `Worker.run_pending` between its steps.

    Attributes:
        message: the `Message` that is shown in place of the title, or None.
        on_progress, on_done, on_failed: called on the main thread, if set, with (fraction, message), the result, or
            the exception (`Cancelled` included).
        result, error: the outcome.

    Example::

        task = Task(lambda progress, cancel: embed(volume, encoder, progress, cancel), finish=show)
        task.on_failed = lambda error: print(error)
        worker.start(task)
    """

    def __init__(
        self,
        compute: Compute,
        finish: Callable[[Any], Any] | None = None,
        lane: str = "",
        title: str = "",
        outlives_scene: bool = False,
        interruptible: bool = False,
    ) -> None:
        self.compute = compute
        self.outlives_scene = outlives_scene
        self.interruptible = interruptible
        self.finish = finish
        self.lane = lane
        self.message: Message | None = None
        self._title = title
        self.token = CancelToken()
        self.started_at: float | None = None
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None
        self.on_progress: Callable[[float, str], None] | None = None
        self.on_done: Callable[[Any], None] | None = None
        self.on_failed: Callable[[Exception], None] | None = None

    @property
    def title(self) -> str:
        """The text shown to the user while the task runs."""
        return self.message.text if self.message is not None else self._title

    def cancel(self) -> None:
        """Ask the task to stop. It ends with `Cancelled`, even if its result has been computed."""
        self.token.cancel()


class Worker:
    """Runs tasks one after another on its thread. Methods are called on the main thread unless stated otherwise."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._open: list[Task] = []
        self._closed = False
        self._timer = qt.QTimer()
        self._timer.setInterval(_POLL_MS)
        self._timer.connect("timeout()", self._deliver)

    @property
    def busy(self) -> bool:
        """Whether any task is unfinished."""
        return bool(self._open)

    def start(self, task: Task) -> Task:
        """Queue a task; the first task starts the thread."""
        if self._closed:
            raise CoralBayError(_("CoralBay is closing. No new task can be started."))
        for older in self._open:
            if task.lane and older.lane == task.lane:
                older.cancel()
        self._open.append(task)
        self._tasks.put(task)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="CoralBay", daemon=True)
            self._thread.start()
        self._timer.start()
        return task

    def blocked_by(self, task: Task) -> Task | None:
        """The unfinished task that the given task waits for, or None when it can run."""
        for each in self._open:
            if each is task:
                break
            if not each.token.cancelled:
                return each
        return None

    def wait(self, task: Task) -> Any:
        """Run the event loop until a task has ended; return its result or raise its error.

        For the Python console and scripts. Slicer stays responsive, and other tasks continue.
        """
        while not task.done:
            slicer.app.processEvents()
            self._deliver()
            time.sleep(0.005)
        if task.error is not None:
            raise task.error
        return task.result

    def cancel_all(self) -> None:
        """Cancel every task."""
        for task in self._open:
            task.cancel()

    def scene_closes(self) -> None:
        """Cancel every task that depends on the scene."""
        for task in self._open:
            if not task.outlives_scene:
                task.cancel()

    def close(self) -> None:
        """Cancel all tasks and end the thread; the results of tasks that still run are discarded."""
        self._closed = True
        self.cancel_all()
        for task in list(self._open):
            self._end(task, None, Cancelled(_("CoralBay was closed.")))
        self._timer.stop()
        self._tasks.put(None)

    def on_main_thread(self, question: Callable[[], Any], cancel: CancelToken) -> Any:
        """Called on the worker: run a function on the main thread, such as a question to the user, and return its result.

        Raises:
            Cancelled: the user cancelled meanwhile.
            Exception: any error that the function raised.
        """
        answered = threading.Event()
        answer: list[Any] = []

        def ask() -> None:
            try:
                answer[:] = question(), None
            except Exception as error:  # without an answer the worker would wait forever
                answer[:] = None, error
            answered.set()

        self._messages.put(ask)
        while not answered.wait(0.1):
            cancel.raise_if_cancelled()
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def run_pending(self) -> None:
        """Called on the worker, by a long task between two of its steps: run the tasks that wait.

        Other interruptible tasks keep their place in the queue; otherwise the oldest would end last.
        """
        postponed = []
        with suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                if task is None or task.interruptible:
                    postponed.append(task)
                else:
                    self._compute(task)
        for task in postponed:
            self._tasks.put(task)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._compute(task)

    def _compute(self, task: Task) -> None:
        def progress(fraction: float, message: str | Message) -> None:
            self._messages.put(lambda: self._progress(task, fraction, message))

        value, error = None, None
        try:
            task.token.raise_if_cancelled()
            self._messages.put(lambda: self._begun(task))
            value = task.compute(progress, task.token)
            task.token.raise_if_cancelled()
        except Exception as exception:  # the main thread must learn that the task has ended
            error = exception
        self._messages.put(lambda: self._end(task, value, error))

    def _deliver(self) -> None:
        while True:
            try:
                message = self._messages.get_nowait()
            except queue.Empty:
                break
            try:
                message()
            except Exception:  # a failing callback must not block the next message
                logging.error("CoralBay: %s", traceback.format_exc())
        if not self._open:
            self._timer.stop()

    def _begun(self, task: Task) -> None:
        task.started_at = time.monotonic()
        self._progress(task, 0.0, task.title)

    def _progress(self, task: Task, fraction: float, message: str | Message) -> None:
        if isinstance(message, Message):
            task.started_at = (task.started_at or time.monotonic()) if message.is_timed else None
            task.message = message
        elif task.message is not None:
            # The time left is estimated again after a download.
            task.message, task.started_at = None, time.monotonic()
        if task.on_progress is not None and not task.done and not task.token.cancelled:
            task.on_progress(fraction, message.text if isinstance(message, Message) else message)

    def _end(self, task: Task, value: Any, error: Exception | None) -> None:
        if task.done:
            return
        if error is None and task.token.cancelled:
            error = Cancelled(_("Cancelled; nothing was changed."))
        if error is None:
            try:
                value = task.finish(value) if task.finish is not None else value
            except Exception as exception:  # handled like a failure on the worker
                error = exception
        task.result, task.error, task.done = value, error, True
        if task in self._open:
            self._open.remove(task)
        if error is None:
            if task.on_done is not None:
                task.on_done(value)
        elif task.on_failed is not None:
            task.on_failed(error)
