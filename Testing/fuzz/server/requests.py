"""Damaged requests to a server."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from CoralBayLib.remote.wire import versions
from Testing.fuzz.mutations import mutated

CLOSED = 400
"""Stands for an answer when the server closed the connection, as it may for what is no HTTP."""


@dataclass(frozen=True)
class DamagedRequest:
    """A request as bytes.

    Attributes:
        name: what is wrong with it.
        data: all that is sent.
    """

    name: str
    data: bytes


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


def damaged_requests(count: int, seed: int) -> Iterator[DamagedRequest]:
    """Requests with something wrong, the same ones for the same seed."""
    draw = random.Random(seed)
    kinds = (_json_of_other_values, _damaged_json, _odd_paths, _damaged_http, _odd_ranges, _odd_parts)
    for number in range(count):
        yield kinds[number % len(kinds)](draw)


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
    return DamagedRequest("damaged HTTP", data + b"\r\n\r\n")


def _odd_ranges(draw: random.Random) -> DamagedRequest:
    wanted = draw.choice(["bytes=5-1", "bytes=-5", "bytes=0-,5-9", "bytes=" + "9" * 40 + "-1", "lines=1-2", "\x01", ""])
    return DamagedRequest(f"range {wanted[:20]!r}", _http("GET", f"/results/{'b' * 64}", headers={"Range": wanted}))


def _odd_parts(draw: random.Random) -> DamagedRequest:
    length = draw.choice(["-1", "99999999999999999999", "12x", str(10**9), "0x10"])
    return DamagedRequest(
        f"length {length}", _http("PUT", "/jobs/unknown/parts/0", draw.randbytes(100), {"Content-Length": length})
    )


def send(url: str, request: DamagedRequest) -> int:
    """The status of the answer to a request; `CLOSED` when the server closed the connection."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        try:
            connection.sendall(request.data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while len(answer) < 12 and (data := connection.recv(4096)):
                answer += data
        except ConnectionError:
            return CLOSED
    return int(answer[9:12]) if answer[9:12].isdigit() else CLOSED
