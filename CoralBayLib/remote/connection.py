"""Requests to a server: token, certificate, retries with back-off, cancellation, and words for all that can fail."""

from __future__ import annotations

import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests

from CoralBayLib.core.errors import Remedy, ServerError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, raise_if_cancelled

from .address import checked_address
from .faults import certificate_fault, connection_fault
from .wire import RANGE_BYTES

_CONNECT_S, _READ_S = 5.0, 60.0
"""Time limits of a connection and of each wait for bytes."""
_FIRST_CONTACT_S = 4.0
"""How long a server that has never answered is tried."""
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.2, 5.0
_CANCEL_CHECK_S = 0.05
_MOST_BYTES = 2 * RANGE_BYTES
"""Largest answer that is read."""
_TRANSIENT = (500, 502, 503, 504)
"""Answers of a server, or of a proxy before it, that may be others on the next try."""


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        status: of HTTP.
        headers: of HTTP.
        content: the body, or its beginning.
        complete: whether the body is complete.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    complete: bool = True

    def json(self) -> dict[str, Any]:
        """The body as an object; an empty one if it is none."""
        try:
            content = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}


@dataclass
class _Exchange:
    """One request in a thread of its own, which a cancellation leaves behind."""

    answer: Answer | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Connection:
    """Sends requests to one server.

    Args:
        url: address of the server, such as "https://gpu.example.org"; http is allowed for this computer only.
        token: the server's token, if it wants one.
        certificates: file with certificate authorities (PEM) to trust in place of the usual ones.
        patience_s: how long an unreachable server is tried again, in seconds, after it was reached once.

    Raises:
        ServerError: the address or the file cannot be used.
    """

    def __init__(self, url: str, token: str | None = None, certificates: str | None = None, patience_s: float = 60.0) -> None:
        self.url = checked_address(url)
        if certificates:
            self._require_authorities(certificates)
        self.patience_s = patience_s
        self._token, self._certificates = token, certificates
        self._session = self._new_session()
        self._reached = False

    @property
    def host(self) -> str:
        """Name of the server, for messages."""
        return urlsplit(self.url).netloc

    def error(self, text: str, remedy: Remedy) -> ServerError:
        """An error that names the server."""
        return ServerError(text, remedy=remedy, server=self.url)

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        cancel: CancelToken | None = None,
    ) -> Answer:
        """Send a request, again if need be, and return the answer.

        Args:
            method: of HTTP.
            path: below the server's address.
            body: bytes to send.
            headers: beside those that every request has.
            cancel: checked several times a second.

        Returns:
            The answer; its status is none of those that may be others on the next try.

        Raises:
            ServerError: the server cannot be reached, its certificate cannot be trusted, or it wants another token.
            Cancelled: `cancel` was called.
        """
        begin, wait_s = time.monotonic(), _BACKOFF_S
        while True:
            cause: Exception | None = None
            try:
                answer = self._exchange(self._session, method, path, body, headers or {}, cancel)
            except requests.exceptions.RequestException as error:
                certificate = certificate_fault(error)
                if certificate is not None:
                    raise self.error(
                        f"The certificate of the server {self.host} cannot be trusted: {certificate}.", Remedy.CHECK_CERTIFICATE
                    ) from error
                if isinstance(error, requests.exceptions.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
                    raise self.error(
                        f"The server {self.host} does not speak TLS. Its address may begin with http://.", Remedy.CHECK_SERVER
                    ) from error
                fault, cause = connection_fault(error), error
            except OSError as error:  # a file of certificates that was removed meanwhile
                raise self.error(f"The connection to {self.host} cannot be made: {error}.", Remedy.CHECK_CERTIFICATE) from error
            else:
                if answer.status not in _TRANSIENT:
                    self._reached = True
                    return self._allowed(answer)
                fault = f"it answered with status {answer.status}"
            limit_s = self.patience_s if self._reached else min(self.patience_s, _FIRST_CONTACT_S)
            if time.monotonic() - begin + wait_s > limit_s:
                raise self._given_up(fault, limit_s) from cause
            self.sleep(wait_s * random.uniform(0.5, 1.0), cancel)  # noqa: S311 - spreads the tries of several clients
            wait_s = min(2 * wait_s, _LONGEST_BACKOFF_S)

    def send_once(self, method: str, path: str, wait_s: float) -> None:
        """Send a request in the background, once, and wait a little for it; whether it arrives is not reported."""
        exchange = self._begin(lambda: self._send(self._new_session(), method, path, None, {}))
        exchange.done.wait(wait_s)

    def sleep(self, seconds: float, cancel: CancelToken | None) -> None:
        """Wait.

        Raises:
            Cancelled: `cancel` was called.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            raise_if_cancelled(cancel)
            time.sleep(min(left, _CANCEL_CHECK_S))

    def _require_authorities(self, file: str) -> None:
        # The words of requests for such a file are those for a server that is not there.
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except ssl.SSLError as error:
            raise self.error(
                f"There is no certificate authority in {file}. It must be a PEM file.", Remedy.CHECK_CERTIFICATE
            ) from error
        except OSError as error:
            reason = error_message(error)
            raise self.error(
                f"The certificate authority cannot be read from {file}: {reason}.", Remedy.CHECK_CERTIFICATE
            ) from error

    def _given_up(self, fault: str, limit_s: float) -> ServerError:
        if self._reached:
            return self.error(
                f"The connection to the server {self.host} was lost ({fault}), and it could not be reached again for "
                f"{limit_s:.0f} s.",
                Remedy.TRY_LATER,
            )
        return self.error(f"The server {self.host} cannot be reached: {fault}.", Remedy.CHECK_SERVER)

    def _allowed(self, answer: Answer) -> Answer:
        if answer.status == 401:
            text = "wants another token" if self._token else "wants a token"
            raise self.error(f"The server {self.host} {text}.", Remedy.GIVE_TOKEN)
        if 300 <= answer.status < 400:
            raise self.error(f"The server {self.host} refers to another address, which is not followed.", Remedy.CHECK_SERVER)
        return answer

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.auth = _bearer(self._token)
        return session

    def _exchange(
        self,
        session: requests.Session,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        cancel: CancelToken | None,
    ) -> Answer:
        raise_if_cancelled(cancel)
        if cancel is None:
            return self._send(session, method, path, body, headers)
        exchange = self._begin(lambda: self._send(session, method, path, body, headers))
        while not exchange.done.wait(_CANCEL_CHECK_S):
            raise_if_cancelled(cancel)
        if exchange.error is not None:
            raise exchange.error
        assert exchange.answer is not None
        return exchange.answer

    def _begin(self, send: Callable[[], Answer]) -> _Exchange:
        exchange = _Exchange()

        def run() -> None:
            try:
                exchange.answer = send()
            except Exception as error:  # raised again where the answer is awaited
                exchange.error = error
            finally:
                exchange.done.set()

        threading.Thread(target=run, name="CoralBay request", daemon=True).start()
        return exchange

    def _send(
        self, session: requests.Session, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        with session.request(
            method,
            self.url + path,
            data=body,
            headers={"Accept-Encoding": "identity", **headers},
            timeout=(_CONNECT_S, _READ_S),
            # Not of the session: a variable of the environment would come before that.
            verify=self._certificates or True,
            allow_redirects=False,
            stream=True,
        ) as response:
            content, complete = bytearray(), True
            try:
                for piece in response.iter_content(1 << 18):
                    content += piece
                    if len(content) > _MOST_BYTES:
                        raise requests.exceptions.ContentDecodingError("the answer is too long")
            except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError):
                if not content:
                    raise
                complete = False
            expected = response.headers.get("Content-Length", "")
            complete = complete and (not expected.isdigit() or int(expected) == len(content))
            if not complete and response.status_code != 206:
                raise requests.exceptions.ConnectionError("the connection was cut")
            return Answer(response.status_code, response.headers, bytes(content), complete)


def _bearer(token: str | None) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    # An authentication of its own keeps requests from taking another one from the user's .netrc.
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if token:
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign
