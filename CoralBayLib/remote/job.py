"""One scan to a server and its features back: upload in parts, progress, and download in ranges. Imports no torch."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from CoralBayLib.core import errors
from CoralBayLib.core.errors import CoralBayError, Remedy, ServerError
from CoralBayLib.core.formatting import format_duration
from CoralBayLib.core.progress import CancelToken, Progress, report
from CoralBayLib.core.schemas import SERVER_STATE
from CoralBayLib.imaging.grid import Volume

from .connection import Answer, Connection
from .wire import DONE, FAILED, QUEUED, RANGE_BYTES, RECEIVING, JobRequest

_STARTS = 4
"""How often a job is begun: a server that was restarted knows nothing of the earlier one."""
_SENT, _COMPUTED = 0.1, 0.9
"""Fraction of the work that is done when the voxels were sent, and when the features were computed."""
_CANCEL_WAIT_S = 0.5
_LONGEST_RETRY_S = 5.0
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


class _JobLostError(Exception):
    """The server does not know the job, or not its result, any more."""


def fetch_pyramid(
    connection: Connection,
    request: JobRequest,
    volume: Volume,
    path: Path,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Have a pyramid computed on a server and write it to a file in the form of the store.

    Args:
        connection: to the server.
        request: what is asked for.
        volume: the scan.
        path: the file to write.
        progress: called with the fraction done and a message.
        cancel: checked several times a second; the work on the server is ended too.

    Raises:
        ServerError: the server could not be reached, refused the work, or did not finish it.
        CoralBayError: the scan cannot be embedded; the error is that of `embed`.
        Cancelled: `cancel` was called.
    """
    for _ in range(_STARTS):
        try:
            return _Job(connection, request, volume, path, progress, cancel).run()
        except _JobLostError:
            report(progress, 0.0, f"{connection.host} lost the work; beginning again")
    raise connection.error(
        f"The server {connection.host} lost the work {_STARTS} times. It may have been restarted.", Remedy.TRY_LATER
    )


class _Job:
    def __init__(
        self,
        connection: Connection,
        request: JobRequest,
        volume: Volume,
        path: Path,
        progress: Progress | None,
        cancel: CancelToken | None,
    ) -> None:
        self.connection, self.request, self.volume, self.path = connection, request, volume, path
        self.progress, self.cancel = progress, cancel
        self.id = ""

    def run(self) -> None:
        try:
            state = self._send(self._begin())
            self._wait(state)
            self._download()
        except BaseException:
            if self.id:
                self.connection.send_once("DELETE", f"/jobs/{self.id}", _CANCEL_WAIT_S)
            raise
        # Nothing waits for the answer: the server forgets the job by itself.
        self.connection.send_once("DELETE", f"/jobs/{self.id}", 0.0)

    def _begin(self) -> dict[str, Any]:
        report(self.progress, 0.0, f"Asking {self.connection.host}")
        body = json.dumps(self.request.as_json()).encode()
        begin = time.monotonic()
        while True:
            answer = self.connection.call("POST", "/jobs", body, {"Content-Type": "application/json"}, self.cancel)
            if answer.status != 429:
                break
            if time.monotonic() - begin > self.connection.patience_s:
                raise self._error(answer)
            report(self.progress, 0.0, f"All places of the queue of {self.connection.host} are taken; trying again")
            self.connection.sleep(_retry_after(answer), self.cancel)
        state = self._state(answer)
        identifier = state.get("job")
        if not isinstance(identifier, str) or not re.fullmatch("[A-Za-z0-9_-]{16,100}", identifier):
            raise self._unclear()
        self.id = identifier
        return state

    def _send(self, state: dict[str, Any]) -> dict[str, Any]:
        following = 0
        while state["state"] == RECEIVING:
            number = state.get("next", -1)
            if not following <= number < self.request.parts:
                raise self._unclear()
            following = number + 1
            report(self.progress, _SENT * number / self.request.parts, f"Sending the CT to {self.connection.host}")
            body = self.request.encode_part(self.volume, number)
            path, kind = f"/jobs/{self.id}/parts/{number}", {"Content-Type": "application/octet-stream"}
            state = self._state(self.connection.call("PUT", path, body, kind, self.cancel))
        return state

    def _wait(self, state: dict[str, Any]) -> None:
        while state["state"] != DONE:
            if state["state"] == FAILED:
                raise _server_error(state.get("error"), self.connection)
            if state["state"] == RECEIVING:
                raise self._unclear()
            report(self.progress, *self._progress(state))
            path = f"/jobs/{self.id}?seen={state.get('version', 0)}"
            state = self._state(self.connection.call("GET", path, cancel=self.cancel))

    def _progress(self, state: dict[str, Any]) -> tuple[float, str]:
        host = self.connection.host
        left = state.get("seconds_left", 0)
        about = f", about {format_duration(left)} left" if left >= 1 else ""
        if state["state"] == QUEUED:
            return _SENT, f"Waiting for {host}: place {state.get('place', 1)} in the queue{about}"
        done = _SENT + (_COMPUTED - _SENT) * state.get("fraction", 0.0)
        return done, f"{(state.get('message') or 'Embedding')[:80]}, on {host}"

    def _download(self) -> None:
        at, total, tag = 0, 1, None
        with self.path.open("wb") as file:
            while at < total:
                done = at / total if at else 0.0
                report(self.progress, _COMPUTED + (1 - _COMPUTED) * done, f"Receiving the features from {self.connection.host}")
                headers = {"Range": f"bytes={at}-{at + RANGE_BYTES - 1}"}
                answer = self.connection.call("GET", f"/results/{self.request.key}", None, headers, self.cancel)
                if answer.status == 404:
                    raise _JobLostError
                found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
                if answer.status != 206 or found is None or int(found[1]) != at or not answer.content:
                    raise self._unclear()
                if tag not in (None, answer.headers.get("ETag")):
                    # Another file than the one that the first bytes are of: it was deleted and made again.
                    raise _JobLostError
                tag, total = answer.headers.get("ETag"), int(found[3])
                file.write(answer.content)
                at += len(answer.content)

    def _state(self, answer: Answer) -> dict[str, Any]:
        if answer.status == 404:
            raise _JobLostError
        if answer.status >= 400:
            raise self._error(answer)
        state = answer.json()
        try:
            SERVER_STATE.check_header(state)
        except ValueError as error:
            raise self._unclear() from error
        return state

    def _error(self, answer: Answer) -> CoralBayError:
        if answer.status == 413 and not answer.json():
            text = (
                f"A proxy before the server {self.connection.host} does not let parts of scans pass: they are too large for it."
            )
            return self.connection.error(text, Remedy.CHECK_SERVER)
        return _server_error(answer.json(), self.connection, answer.status)

    def _unclear(self) -> ServerError:
        return unclear_answer(self.connection)


def unclear_answer(connection: Connection, status: int = 200) -> ServerError:
    """The error for an answer that is none of a server of CoralBay, such as a page of a proxy with its HTTP status."""
    about = (
        f" It refused the request with HTTP status {status}; a proxy on the way may not let it pass." if status >= 400 else ""
    )
    return connection.error(
        f"What answers at {connection.url} is not a server of CoralBay, or is one of another version.{about}",
        Remedy.CHECK_SERVER,
    )


def _server_error(content: Any, connection: Connection, status: int = 200) -> CoralBayError:
    """The error that a server described."""
    if not isinstance(content, dict) or not isinstance(content.get("error"), str):
        return unclear_answer(connection, status)
    kind = getattr(errors, str(content.get("kind")), ServerError)
    if not (isinstance(kind, type) and issubclass(kind, CoralBayError)):
        kind = ServerError
    name = str(content.get("remedy")).upper()
    remedy = Remedy[name] if name in Remedy.__members__ else None
    words = "".join(each if each.isprintable() else " " for each in content["error"][:1000]).strip()
    if not words:
        return unclear_answer(connection)
    return kind(f"{connection.host}: {words}", remedy=remedy, server=connection.url)


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_RETRY_S) if text.isdigit() else 1.0
