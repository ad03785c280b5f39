"""Damaged requests to a server."""

from __future__ import annotations

import json
import random
import socket
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import numpy as np

from CoralBayLib.remote.wire import versions
from Testing.fuzz.mutations import mutated

from .job import OpenJob

CLOSED = 0
"""Stands for an answer when the server closed the connection, as it may for what is no complete request."""
_ANSWER_S, _PATIENCE_S = 60.0, 2.0
"""How long an answer is awaited, and, for what is no complete request, before the server is told that this is all."""


@dataclass(frozen=True)
class DamagedRequest:
    """A request as bytes.

    Attributes:
        name: what is wrong with it.
        data: all that is sent.
        complete: whether a server must answer; what is no complete request may end with a closed connection.
        kind: what such requests have in common.
    """

    name: str
    data: bytes
    complete: bool = True
    kind: str = ""

    def is_refused(self, status: int) -> bool:
        """Whether the answer to it, see `send`, is as it must be."""
        return 400 <= status < 500 or (status == CLOSED and not self.complete)


def _http(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    fields = {"Host": "x", "Connection": "close", "Content-Length": str(len(body)), **(headers or {})}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def _request() -> dict:
    return {
        "versions": versions(),
        "key": "a" * 64,
        "encoder": "pooling",
        "setting": "",
        "weights": "0" * 64,
        "levels": ["pool4", "pool8"],
        "shape": [30, 30, 30],
        "ijk_to_ras": np.diag([2.0, 2.0, 2.0, 1.0]).tolist(),
        "dtype": "<i2",
        "assume_hu": False,
    }


_VALUES = (None, -1, 0, 1e308, 10**30, "", "x" * 5000, [], {}, [[]], True, "\x00", "../../etc", float("1e-320"))


def damaged_requests(count: int, seed: int, job: OpenJob) -> Iterator[DamagedRequest]:
    """Requests with something wrong.

    Args:
        count: their number.
        seed: the same one gives the same requests, except for the ID of the job.
        job: waits for its only part, to which damaged ones are sent.
    """
    draw = random.Random(seed)
    kinds: dict[str, Callable[[random.Random], DamagedRequest]] = {
        "JSON with another value": _json_of_other_values,
        "damaged JSON": _damaged_json,
        "methods and paths": _odd_paths,
        "damaged HTTP": _damaged_http,
        "ranges": _odd_ranges,
        "lengths of a body": _odd_lengths,
        "damaged part of a scan": lambda draw: _damaged_part(draw, job),
        "part that is not of the scan": lambda draw: _odd_parts(draw, job),
    }
    names = list(kinds)
    for number in range(count):
        kind = names[number % len(names)]
        yield replace(kinds[kind](draw), kind=kind)


def _json_of_other_values(draw: random.Random) -> DamagedRequest:
    content = _request()
    name = draw.choice(sorted(set(content) - {"assume_hu"}))
    if draw.random() < 0.2:
        del content[name]
    else:
        content[name] = draw.choice([value for value in _VALUES if (name, value) != ("setting", "")])
    return DamagedRequest(f"another {name}", _http("POST", "/jobs", json.dumps(content).encode()))


def _damaged_json(draw: random.Random) -> DamagedRequest:
    body = json.dumps(_request()).encode()
    choice = draw.randrange(4)
    if choice == 0:
        body = body[: draw.randrange(len(body))]
    elif choice == 1:
        body = b"[" * draw.randrange(1, 60_000)
    elif choice == 2:
        body = draw.randbytes(draw.randrange(1, 2000))
    else:
        body = body.replace(b"30", draw.choice([b"NaN", b"Infinity", b"1e999", b"-30", b"3.5"]), 1)
    return DamagedRequest("damaged JSON", _http("POST", "/jobs", body))


def _odd_paths(draw: random.Random) -> DamagedRequest:
    method = draw.choice(["GET", "PUT", "DELETE", "POST", "PATCH", "HEAD"])
    name = draw.choice(["..%2f..%2fetc%2fpasswd", "%00", "a" * 3000, "%ff%fe", "waiting", "*", "a" * 63 + "G"])
    path = draw.choice(["/results/{}", "/jobs/{}", "/jobs/{}/parts/0", "/jobs/{}/parts/-1", "/{}"]).format(name)
    return DamagedRequest(f"{method} {path[:40]}", _http(method, path))


def _damaged_http(draw: random.Random) -> DamagedRequest:
    whole = _http("POST", "/jobs", b"{}", {"X": "y" * draw.randrange(100)})
    head = whole.index(b"\r\n\r\n")
    _, data, _ = mutated(whole[:head], draw)
    return DamagedRequest("damaged HTTP", data + whole[head:], complete=False)


def _odd_ranges(draw: random.Random) -> DamagedRequest:
    wanted = draw.choice(["bytes=5-1", "bytes=-5", "bytes=0-,5-9", "bytes=" + "9" * 40 + "-1", "lines=1-2", "\x01", ""])
    return DamagedRequest(f"range {wanted[:20]!r}", _http("GET", f"/results/{'b' * 64}", headers={"Range": wanted}))


def _odd_lengths(draw: random.Random) -> DamagedRequest:
    length = draw.choice(["-1", "99999999999999999999", "12x", str(10**9), "0x10"])
    return DamagedRequest(
        f"length {length}", _http("PUT", "/jobs/unknown/parts/0", draw.randbytes(100), {"Content-Length": length})
    )


def _damaged_part(draw: random.Random, job: OpenJob) -> DamagedRequest:
    whole = job.part()
    while True:
        name, data, _ = mutated(whole, draw)
        if not _holds_the_same(data, whole):  # some bits of a deflated stream mean nothing
            return DamagedRequest(f"part, {name}", _http("PUT", f"/jobs/{job.id}/parts/0", data))


def _odd_parts(draw: random.Random, job: OpenJob) -> DamagedRequest:
    number, body = draw.choice(["1", "-1", "+0", "0x0", "1e0", "9" * 7, "%D9%A0", "%00"]), job.part()
    if draw.random() < 0.2:
        number, body = "0", bytes(job.request.most_part_bytes() + 1)
    # A server may refuse a body that is too long before all of it was sent, and close the connection.
    return DamagedRequest(f"part {number}", _http("PUT", f"/jobs/{job.id}/parts/{number}", body), complete=number != "0")


def _holds_the_same(data: bytes, whole: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        return inflater.decompress(data) == zlib.decompress(whole) and inflater.eof and not inflater.unused_data
    except zlib.error:
        return False


def send(url: str, request: DamagedRequest) -> int:
    """The status of the answer to a request; `CLOSED` when the server closed the connection without one."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=_ANSWER_S) as connection:
        try:
            connection.sendall(request.data)
            # Not at once: a server that reads the end of what is sent may take the client for gone, and not answer.
            connection.settimeout(_ANSWER_S if request.complete else _PATIENCE_S)
            answer = _begin_of_answer(connection)
        except TimeoutError:
            connection.settimeout(_ANSWER_S)
            connection.shutdown(socket.SHUT_WR)
            answer = _begin_of_answer(connection)
        except ConnectionError:
            return CLOSED
    return int(answer[9:12]) if answer[9:12].isdigit() else CLOSED


def _begin_of_answer(connection: socket.socket) -> bytes:
    answer = b""
    while len(answer) < 12 and (data := connection.recv(4096)):
        answer += data
    return answer
