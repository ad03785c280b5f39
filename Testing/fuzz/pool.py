"""Processes that are watched: one that dies, hangs or takes too much memory is counted, and another takes its place."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, SimpleQueue

import psutil

from .worker import ABORT, HANG, MEMORY, Outcome, log_of, serve

TIMEOUT_S = 20.0
"""Seconds after which an input has hung."""
MOST_MB = 4096.0
"""Memory of a process that no input may need, in MB."""
_PREPARE_S = 300.0
_WATCH_S = 0.05


def run(
    tasks: Iterable[tuple[str, int]],
    workers: int,
    seed: int,
    done: Callable[[Outcome], None],
    timeout_s: float = TIMEOUT_S,
    most_mb: float = MOST_MB,
) -> None:
    """Run inputs in several processes.

    Args:
        tasks: kind and number of each; those of one kind should follow each other.
        workers: number of processes.
        seed: of all mutations.
        done: called with each outcome, by one thread at a time.
        timeout_s: seconds after which an input has hung.
        most_mb: memory of a process that no input may need, in MB.
    """
    queue: SimpleQueue[tuple[str, list[int]]] = SimpleQueue()
    chunks: dict[str, list[int]] = {}
    for kind, number in tasks:
        chunks.setdefault(kind, []).append(number)
    for kind, numbers in chunks.items():
        half = max(1, -(-len(numbers) // workers))
        for start in range(0, len(numbers), half):
            queue.put((kind, numbers[start : start + half]))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        process = _Watched(seed, timeout_s, most_mb)
        try:
            while not failures:
                kind, numbers = queue.get_nowait()
                for number in numbers:
                    outcome = process.run(kind, number)
                    with lock:
                        done(outcome)
        except Empty:
            pass
        except BaseException as error:
            failures.append(error)
        finally:
            process.end()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class _Watched:
    """One process with its folder; it is begun anew when it is gone."""

    def __init__(self, seed: int, timeout_s: float, most_mb: float) -> None:
        self._seed, self._timeout_s, self._most_mb = seed, timeout_s, most_mb
        self._process: multiprocessing.process.BaseProcess | None = None

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.mkdtemp(prefix="coralbay-fuzz-")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._folder, self._seed), daemon=True)
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self._memory = psutil.Process(self._process.pid)

    def run(self, kind: str, number: int) -> Outcome:
        """The outcome of one input."""
        if self._process is None:
            self._begin()
        self._connection.send((kind, number))
        shown, _ = self._answer(_PREPARE_S)
        if not isinstance(shown, str) or "could not be made" in shown:
            self.end()
            raise RuntimeError(shown or f"{kind} #{number} could not be made: the process ended")
        answer, peak = self._answer(self._timeout_s)
        if isinstance(answer, Outcome):
            if answer.peak_mb > self._most_mb:
                return Outcome(kind, number, answer.mutation, MEMORY, answer.error, answer.peak_mb, answer.stray, answer.ran)
            return answer
        state = MEMORY if peak > self._most_mb else HANG if self._process is not None and self._process.is_alive() else ABORT
        words = f"exit code {self._process.exitcode}{self._where()}" if self._process and state == ABORT else ""
        self.end()
        return Outcome(kind, number, shown, state, words, peak)

    def _where(self) -> str:
        """The innermost line of Python where the process crashed."""
        lines = Path(log_of(self._folder)).read_text(errors="replace").splitlines()
        return next((f" in {line.strip()}" for line in lines if line.startswith('  File "')), "")

    def _answer(self, seconds: float) -> tuple[object, float]:
        """What the process sends, or None; and the most memory it was seen with, in MB."""
        end, peak = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            try:
                if self._connection.poll(_WATCH_S):
                    return self._connection.recv(), peak
                peak = max(peak, self._memory.memory_info().rss / 2**20)
            except (EOFError, OSError, psutil.Error):
                if self._process is not None:
                    self._process.join(5)
                return None, peak
            if peak > self._most_mb:
                return None, peak
        return None, peak

    def end(self) -> None:
        """End the process and remove its folder."""
        if self._process is None:
            return
        self._process.kill()
        self._process.join()
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        Path(log_of(self._folder)).unlink(missing_ok=True)
        self._process = None
