"""One worker thread for all that takes time, and the way back to the main thread.

The thread lives as long as the module, since cuDNN keeps its plans by thread. It never sees MRML: a task computes plain
data there, and a timer of the event loop hands the result to the task's `finish` on the main thread.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken, Progress

from .remedies import remedy_text

Compute = Callable[[Progress, CancelToken], Any]
_POLL_MS = 20


class Shown(str):
    """A progress message that takes the place of the task's title while it is the last one, such as of a download."""


class Counted(Shown):
    """One that tells how far the task itself is, so that the time left can be told from its fraction."""


def shown(progress: Progress | None) -> Progress | None:
    """A callback whose messages are of that kind."""
    return None if progress is None else lambda fraction, message: progress(fraction, Shown(message))


class Task:
    """A piece of work.

    Args:
        compute: runs on the worker; takes a progress callback and a cancel token, returns plain data.
        finish: runs on the main thread with what `compute` returned; changes the scene; its result is the task's.
        lane: a new task stops an unfinished older one of the same lane, so that the newest wins; "" for none.
        title: what the user reads while it runs.
        outlives_scene: it has nothing to do with the scene, so it goes on when that is closed.
        gives_way: it takes long and calls `Worker.give_way`.

    Attributes:
        says: a message in place of the title.
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
        gives_way: bool = False,
    ) -> None:
        self.compute = compute
        self.outlives_scene = outlives_scene
        self.gives_way = gives_way
        self.finish = finish
        self.lane = lane
        self.says = ""
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
        """What the user reads while it runs."""
        return self.says or self._title

    def cancel(self) -> None:
        """Ask the task to stop. It ends as `Cancelled`, whatever it has computed by then."""
        self.token.cancel()


class Worker:
    """Runs tasks one after another on its thread; methods are for the main thread unless they say otherwise."""

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
        """Whether any task has not ended."""
        return bool(self._open)

    def start(self, task: Task) -> Task:
        """Queue a task; the thread is made at the first one."""
        if self._closed:
            raise CoralBayError(_("CoralBay is closing down; nothing new can be started."))
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

    def ahead_of(self, task: Task) -> Task | None:
        """The unfinished task that one is waiting for, or None when it can run."""
        for each in self._open:
            if each is task:
                break
            if not each.token.cancelled:
                return each
        return None

    def wait(self, task: Task) -> Any:
        """Let the event loop run until a task has ended; return its result or raise its error.

        For the Python console and scripts; Slicer stays responsive, and other tasks go on.
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
        """Cancel every task that has to do with the scene."""
        for task in self._open:
            if not task.outlives_scene:
                task.cancel()

    def close(self) -> None:
        """Cancel everything and end the thread; what still runs ends unheard."""
        self._closed = True
        self.cancel_all()
        for task in list(self._open):
            self._end(task, None, Cancelled(_("CoralBay was closed.")))
        self._timer.stop()
        self._tasks.put(None)

    def on_main_thread(self, question: Callable[[], Any], cancel: CancelToken) -> Any:
        """Called on the worker: have a function run on the main thread, such as a question to the user.

        Raises:
            Cancelled: the user cancelled meanwhile.
            Exception: what the function raised.
        """
        answered = threading.Event()
        answer: list[Any] = []

        def ask() -> None:
            try:
                answer[:] = question(), None
            except Exception as error:  # whatever it is, the worker must not wait for ever
                answer[:] = None, error
            answered.set()

        self._messages.put(ask)
        while not answered.wait(0.1):
            cancel.raise_if_cancelled()
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def give_way(self) -> None:
        """Called on the worker, by a task between two steps of its own: run what waits, so that nobody has to wait for
        all of that task. Others that give way themselves stay where they are, or the oldest would end last.
        """
        patient = []
        with suppress(queue.Empty):
            while True:
                task = self._tasks.get_nowait()
                if task is None or task.gives_way:
                    patient.append(task)
                else:
                    self._compute(task)
        for task in patient:
            self._tasks.put(task)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            self._compute(task)

    def _compute(self, task: Task) -> None:
        def progress(fraction: float, message: str) -> None:
            self._messages.put(lambda: self._progress(task, fraction, message))

        value, error = None, None
        try:
            task.token.raise_if_cancelled()
            self._messages.put(lambda: self._begun(task))
            value = task.compute(progress, task.token)
            task.token.raise_if_cancelled()
        except Exception as exception:  # whatever it is, the main thread must hear that the task has ended
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
            except Exception:  # one bad callback must not keep the next message from its receiver
                logging.error("CoralBay: %s", traceback.format_exc())
        if not self._open:
            self._timer.stop()

    def _begun(self, task: Task) -> None:
        task.started_at = time.monotonic()
        self._progress(task, 0.0, task.title)

    def _progress(self, task: Task, fraction: float, message: str) -> None:
        if isinstance(message, Counted):
            task.says, task.started_at = message, task.started_at or time.monotonic()
        elif isinstance(message, Shown):
            task.says, task.started_at = message, None
        elif task.says:
            # What follows a download is timed by itself.
            task.says, task.started_at = "", time.monotonic()
        if task.on_progress is not None and not task.done and not task.token.cancelled:
            task.on_progress(fraction, message)

    def _end(self, task: Task, value: Any, error: Exception | None) -> None:
        if task.done:
            return
        if error is None and task.token.cancelled:
            error = Cancelled(_("Cancelled; nothing was changed."))
        if error is None:
            try:
                value = task.finish(value) if task.finish is not None else value
            except Exception as exception:  # shown like a failure on the worker
                error = exception
        task.result, task.error, task.done = value, error, True
        if task in self._open:
            self._open.remove(task)
        if error is None:
            if task.on_done is not None:
                task.on_done(value)
        elif task.on_failed is not None:
            task.on_failed(error)


def in_words(error: BaseException) -> str:
    """What a user reads about an error: where it was raised on purpose, its message and what can be done about it."""
    if isinstance(error, CoralBayError):
        return f"{error} {remedy_text(error)}".rstrip()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _("There was not enough memory. Close other programs or crop the volume, then try again.")
    if isinstance(error, ImportError):
        return _(
            "A Python package could not be loaded ({reason}). Restart Slicer; if it happens again, install PyTorch anew "
            "with the module PyTorch Utils. On Windows a missing Visual C++ runtime is a usual cause."
        ).format(reason=error)
    return _("Something unexpected happened ({kind}: {reason}). Nothing was changed; details are in the error log.").format(
        kind=type(error).__name__, reason=error
    )


def show_error(title: str, error: BaseException) -> None:
    """Show an error in words, and log where an unexpected one came from; cancelling is no error."""
    if isinstance(error, Cancelled):
        return
    if not isinstance(error, CoralBayError):
        logging.error("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    slicer.util.errorDisplay(f"{title}\n\n{in_words(error)}")
