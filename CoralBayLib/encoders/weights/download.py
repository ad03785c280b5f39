"""One file from the hub, resumed where it stopped.

The hub's client resumes within one call only: it deletes what came when the call fails or is cancelled. So the bytes are
fetched here, through the client's session: its proxies, certificates and token.
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
"""Tries in a row that bring nothing before a download is given up."""
_PAUSE_S = 1.0
_POLL_S = 0.1
_CHUNK = 2**16
_RANGE_REFUSED = 416
_SETTLED_S = 2.0
"""From then on the time left can be told from the speed so far."""


def download(
    url: str,
    part: Path,
    size: int | None,
    title: str,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Fetch a file, or what is missing of it.

    Args:
        url: of the file on the hub.
        part: where to write; what it holds already is taken as the file's beginning. Kept, however this ends.
        size: of the whole file, or None when the hub did not say.
        title: of what is fetched, for the progress message.
        progress: told the bytes that came, the total and the time left.
        cancel: ends the download within a fraction of a second.

    Only one process at a time may write a part: see `shelf.locked`.

    Raises:
        WeightsError: the disk is full or cannot be written.
        ConnectionError: the connection failed again and again; says how much came.
        Cancelled: the user cancelled.
    """
    _check_space(part, size)
    _run(_Transfer(url, part, size), title, progress, cancel)


def _run(transfer: _Transfer, title: str, progress: Progress | None, cancel: CancelToken | None) -> None:
    """Let a transfer run to its end in a thread of its own, which is left alone when the user cancels: a read that waits
    for the network cannot be interrupted, but writes nothing once the transfer is stopped."""
    thread = threading.Thread(target=transfer.run, name="coralbay-download", daemon=True)
    begun, had = time.monotonic(), transfer.came
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_S)
            raise_if_cancelled(cancel)
            came, size = transfer.came, transfer.size
            left = time_left(came - had, size - came, time.monotonic() - begun) if size else None
            report(progress, came / size if size else 0.0, format_progress(title, came, size, left))
    finally:
        transfer.stop()
    if transfer.error is not None:
        raise transfer.error


def time_left(came: int, missing: int, seconds: float) -> float | None:
    """Seconds until the rest has come, or None while they cannot be estimated."""
    return seconds_left(seconds, came, came + missing) if missing >= 0 and seconds >= _SETTLED_S else None


def format_progress(title: str, came: int, size: int | None, left: float | None) -> str:
    """A line for a person: bytes, total, time left."""
    total = f" of {format_bytes(size)}" if size else ""
    rest = f", about {format_duration(left)} left" if left is not None else ""
    return f"{title}: {format_bytes(came)}{total}{rest}"


class _Transfer:
    """Brings a file to disk, trying again where the connection breaks.

    Attributes:
        came: bytes on disk.
        error: what ended it, if anything did.
    """

    def __init__(self, url: str, part: Path, size: int | None) -> None:
        self.size = size
        self.error: Exception | None = None
        self._url = url
        self._part = part
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        try:
            # Unbuffered, so that what is counted is on disk.
            self._file = open(part, "ab", buffering=0)  # noqa: SIM115 - closed by stop()
            self.came = self._file.seek(0, 2)
            if size is not None and self.came > size:
                self._begin_anew()
        except OSError as error:
            raise disk_error(error, part) from error

    def stop(self) -> None:
        """Write nothing from now on."""
        with self._lock:
            self._stopped.set()
            self._file.close()

    def run(self) -> None:
        """Fetch until the file is whole; never raises."""
        # Counted from the furthest: a hub that has one begin anew each time must not be asked for ever.
        fruitless, furthest = 0, self.came
        while self.size is None or self.came < self.size:
            try:
                self._stream()
                return
            except _Stopped:
                return
            except WeightsError as error:
                self.error = error
                return
            except Exception as error:  # whatever the network, a proxy or the hub came up with
                fruitless = 1 if self.came > furthest else fruitless + 1
                furthest = max(furthest, self.came)
                if fruitless >= _ATTEMPTS or not _may_pass(error):
                    kept = f"; {format_bytes(self.came)} came and are kept, so try again to go on" if self.came else ""
                    self.error = ConnectionError(f"the download failed ({type(error).__name__}: {reason_of(error)}){kept}")
                    return
            self._stopped.wait(_PAUSE_S)

    def _stream(self) -> None:
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if self.came:
            headers["Range"] = f"bytes={self.came}-"
        with _opened(self._url, headers) as (response, chunks):
            if self.came and response.status_code == _RANGE_REFUSED:
                # What is here is as long as the file, or longer: there is nothing to go on from.
                self._begin_anew()
                raise ConnectionError("the hub has no more of the file than what came before, which is dropped")
            hf_raise_for_status(response)
            begins = response.headers.get("Content-Range", "").startswith(f"bytes {self.came}-")
            if self.came and not (response.status_code == 206 and begins):
                self._begin_anew()
                if response.status_code == 206:
                    raise ConnectionError("another part came than the one asked for")
            for chunk in chunks:
                self._write(chunk)
        if self.size is not None and self.came != self.size:
            raise ConnectionError(f"{self.came} bytes came, expected {self.size}")

    def _write(self, chunk: bytes) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise _Stopped
            rest = memoryview(chunk)
            try:
                while rest:
                    written = self._file.write(rest)
                    self.came += written
                    rest = rest[written:]
            except OSError as error:
                missing = self.size - self.came if self.size is not None else 0
                raise disk_error(error, self._part, self.came, missing) from error
            if self.size is not None and self.came > self.size:
                self._begin_anew()
                raise ConnectionError(f"more bytes came than the announced {self.size}")

    def _begin_anew(self) -> None:
        with self._lock:
            if not self._stopped.is_set():
                self._file.truncate(0)
                self.came = 0


class _Stopped(Exception):  # noqa: N818 - a wish of the user
    pass


@contextmanager
def _opened(url: str, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """A response and its body, chunk by chunk: of httpx, or of requests with a hub client before 1.0."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    session: Any = get_session()
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    if callable(session.stream):  # of requests it is a flag
        with session.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            yield response, response.iter_bytes()
    else:
        with contextlib.closing(session.get(url, headers=headers, timeout=timeout, stream=True)) as response:
            yield response, response.iter_content(_CHUNK)


def _may_pass(error: Exception) -> bool:
    """Whether it is worth another try: not where the hub has answered and said no."""
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


def disk_error(error: OSError, path: Path, came: int = 0, missing: int = 0) -> WeightsError:
    """In words, what kept a file from being written, of which so many bytes had come and so many are missing."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        kept = f" {format_bytes(came)} came and are kept." if came else ""
        needed = f" {format_bytes(missing)}{' more' if came else ''} are needed there." if missing else ""
        return WeightsError(
            f"The disk is full, so {path.parent} could not be written.{kept}{needed} Free some space, or set CORALBAY_CACHE "
            "to a folder on another disk, then try again. Weights that were there before are as they were."
        )
    return WeightsError(
        f"Cannot write in {path.parent}: {error_message(error)}. Check that you may, or set CORALBAY_CACHE to another folder."
    )
