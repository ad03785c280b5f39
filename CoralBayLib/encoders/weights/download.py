"""Download of one file from the hub, which can be resumed.

The hub's client resumes only within one call: when the call fails or is cancelled, it deletes the part received. Therefore
the bytes are fetched here, through the client's session with its proxies, certificates and token.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from CoralBayLib.core.errors import WeightsError
from CoralBayLib.core.formatting import format_bytes, format_duration
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report, seconds_left

from .hub import reason_of

_ATTEMPTS = 5
"""Consecutive attempts without new bytes after which a download fails."""
_PAUSE_S = 1.0
"""Pause between attempts, in seconds."""
_POLL_S = 0.1
_CHUNK = 2**16
_RANGE_REFUSED = 416
_SETTLED_S = 2.0
"""Time in seconds after which the speed so far allows an estimate of the time left."""


def download(
    url: str,
    part: Path,
    size: int | None,
    title: str,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Download a file, or the rest of it.

    Only one process at a time may write a part: see `cache.locked`.

    Args:
        url: address of the file.
        part: where to write. Bytes in this file are taken as the beginning of the download. It is kept in every case.
        size: size of the whole file in bytes, or None when not known.
        title: title of the progress message.
        progress: called with the bytes received, the total and the time left.
        cancel: stops the download within a fraction of a second.

    Raises:
        WeightsError: the disk is full or cannot be written.
        ConnectionError: the connection failed repeatedly; the message states the bytes received.
        Cancelled: the user cancelled.
    """
    _check_space(part, size)
    _run(_Transfer(url, part, size), title, progress, cancel)


def _run(transfer: _Transfer, title: str, progress: Progress | None, cancel: CancelToken | None) -> None:
    """Run a transfer in a thread.

    When the user cancels, the thread is abandoned: a read that waits for the network cannot be interrupted, but it writes
    nothing after the transfer is stopped.
    """
    thread = threading.Thread(target=transfer.run, name="coralbay-download", daemon=True)
    started, initial = time.monotonic(), transfer.received
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
            raise_if_cancelled(cancel)
            received, size = transfer.received, transfer.size
            left = time_left(received - initial, size - received, time.monotonic() - started) if size else None
            report(progress, received / size if size else 0.0, format_progress(title, received, size, left))
    finally:
        transfer.stop()
    if transfer.error is not None:
        raise transfer.error


def time_left(received: int, missing: int, seconds: float) -> float | None:
    """Seconds until the download is complete, or None while they cannot be estimated."""
    return seconds_left(seconds, received, received + missing) if missing >= 0 and seconds >= _SETTLED_S else None


def format_progress(title: str, received: int, size: int | None, left: float | None) -> str:
    """The progress message: bytes received, total, time left."""
    total = f" of {format_bytes(size)}" if size else ""
    rest = f", about {format_duration(left)} left" if left is not None else ""
    return f"{title}: {format_bytes(received)}{total}{rest}"


class _Transfer:
    """Writes a file to disk, and tries again when the connection fails.

    Attributes:
        received: bytes on disk.
        error: the error that ended the transfer, or None.
    """

    def __init__(self, url: str, part: Path, size: int | None) -> None:
        self.size = size
        self.error: Exception | None = None
        self._url = url
        self._part = part
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        try:
            # Unbuffered, so that all counted bytes are on disk.
            self._file = part.open("ab", buffering=0)
            self.received = self._file.seek(0, 2)
            if size is not None and self.received > size:
                self._restart()
        except OSError as error:
            raise disk_error(error, part) from error

    def stop(self) -> None:
        """Close the file; nothing is written after this."""
        with self._lock:
            self._stopped.set()
            self._file.close()

    def run(self) -> None:
        """Download until the file is complete; raises nothing, see `error`."""
        # Progress counts from the largest size reached, so that a server that always restarts is not asked forever.
        failures, largest = 0, self.received
        while self.size is None or self.received < self.size:
            try:
                self._stream()
                return
            except _Stopped:
                return
            except WeightsError as error:
                self.error = error
                return
            except Exception as error:  # network, proxy and hub raise errors of many types
                failures = 1 if self.received > largest else failures + 1
                largest = max(largest, self.received)
                if failures >= _ATTEMPTS or not _is_transient(error):
                    size = format_bytes(self.received)
                    kept = f"; {size} were received and are kept, so try again to continue" if self.received else ""
                    self.error = ConnectionError(f"the download failed ({type(error).__name__}: {reason_of(error)}){kept}")
                    return
            self._stopped.wait(_PAUSE_S)

    def _stream(self) -> None:
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if self.received:
            headers["Range"] = f"bytes={self.received}-"
        with _opened(self._url, headers) as (response, chunks):
            if self.received and response.status_code == _RANGE_REFUSED:
                # The part is as long as the file or longer.
                self._restart()
                raise ConnectionError("the part received earlier is longer than the file, and was deleted")
            hf_raise_for_status(response)
            begins = response.headers.get("Content-Range", "").startswith(f"bytes {self.received}-")
            if self.received and not (response.status_code == 206 and begins):
                self._restart()
                if response.status_code == 206:
                    raise ConnectionError("the hub sent another part than the requested one")
            for chunk in chunks:
                self._write(chunk)
        if self.size is not None and self.received != self.size:
            raise ConnectionError(f"{self.received} bytes were received, expected {self.size}")

    def _write(self, chunk: bytes) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise _Stopped
            rest = memoryview(chunk)
            try:
                while rest:
                    written = self._file.write(rest)
                    self.received += written
                    rest = rest[written:]
            except OSError as error:
                missing = self.size - self.received if self.size is not None else 0
                raise disk_error(error, self._part, self.received, missing) from error
            if self.size is not None and self.received > self.size:
                self._restart()
                raise ConnectionError(f"more bytes were received than the announced {self.size}")

    def _restart(self) -> None:
        with self._lock:
            if not self._stopped.is_set():
                self._file.truncate(0)
                self.received = 0


class _Stopped(Exception):  # noqa: N818 - not a fault, but a request of the user
    pass


@contextmanager
def _opened(url: str, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """A response and the chunks of its body: of httpx, or of requests with a hub client before 1.0."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    session: Any = get_session()
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    if callable(session.stream):  # a method in httpx, a flag in requests
        with session.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            yield response, response.iter_bytes()
    else:
        with contextlib.closing(session.get(url, headers=headers, timeout=timeout, stream=True)) as response:
            yield response, response.iter_content(_CHUNK)


def _is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed; not when the hub has refused the request."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is None or status in (408, 429) or status >= 500


def _check_space(part: Path, size: int | None) -> None:
    if size is None:
        return
    needed = size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise WeightsError(
            f"The disk is too full: the download needs {format_bytes(needed)} and {part.parent} has {format_bytes(free)} free. "
            "Nothing was downloaded. Free some space, or set CORALBAY_CACHE to a folder on another disk."
        )


def disk_error(error: OSError, path: Path, received: int = 0, missing: int = 0) -> WeightsError:
    """The error for a file that could not be written.

    Args:
        error: of the operating system.
        path: the file.
        received: bytes that are on disk and kept.
        missing: bytes still to be written.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        kept = f" {format_bytes(received)} were received and are kept." if received else ""
        needed = f" {format_bytes(missing)}{' more' if received else ''} are needed there." if missing else ""
        return WeightsError(
            f"The disk is full, so {path.parent} could not be written.{kept}{needed} Free some space, or set CORALBAY_CACHE "
            "to a folder on another disk, then try again. Existing weights are unchanged."
        )
    return WeightsError(
        f"Cannot write in {path.parent}: {error_message(error)}. Check your permissions, or set CORALBAY_CACHE to another "
        "folder."
    )
