"""Locks between processes, as files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .progress import CancelToken, raise_if_cancelled

_RETRY_S = 0.2
"""Seconds between two attempts to take a lock, and so between two looks at `cancel`."""


@contextmanager
def lock_file(path: Path, cancel: CancelToken | None = None) -> Iterator[None]:
    """Hold the lock of a file; waits until it is free.

    Args:
        path: the file, which is made; its folder must exist.
        cancel: stops the wait.

    Raises:
        OSError: the file cannot be written, before the lock is held.
        Cancelled: `cancel` was called while waiting.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=_RETRY_S)
            break
        except Timeout:
            raise_if_cancelled(cancel)
    try:
        yield
    finally:
        lock.release()
