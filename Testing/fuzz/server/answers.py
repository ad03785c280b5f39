"""Kinds: answers of a server, as its clients read them. No connection is made: a script answers in the server's place."""

from __future__ import annotations

import http.client
import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import requests
from requests.adapters import BaseAdapter

from CoralBayLib.core.errors import CoralBayError, VolumeError
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.remote.connection import Connection
from CoralBayLib.remote.embedder import RemoteEmbedder
from CoralBayLib.remote.encoder import RemoteEncoder, describe_encoder
from CoralBayLib.remote.wire import versions
from Testing.fuzz.edits import edited_json, lines_edit
from Testing.fuzz.kinds import Build, Input
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid

_URL = "http://127.0.0.1:9"
_JOB = "a" * 43
_TEXTS = ("", " ", "\ud800", "a\nb", "\0", "\u202e", "x" * 70_000, "Exception", "print", "../x", "%s{0}")

Answer = Callable[[str, str], tuple[int, bytes]]
"""Gives the status and the rest of an answer, header and body, to a method and a path."""


class _Script(BaseAdapter):
    """Answers requests in place of a server."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer = answer

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        status, content = self._answer(str(request.method), str(request.url).removeprefix(_URL))
        stream = io.BytesIO(content)
        response = requests.Response()
        response.status_code, response.request, response.url = status, request, str(request.url)
        try:
            response.headers.update(http.client.parse_headers(stream))
        except http.client.HTTPException as error:  # as urllib3 tells it
            raise requests.exceptions.ConnectionError(error) from error
        response.raw = stream
        return response

    def close(self) -> None:
        """Nothing is open."""


class Scripted(Connection):
    """A connection to a script; it tries nothing again."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        super().__init__(_URL, patience_s=0.0)

    def _new_session(self) -> requests.Session:
        session = super()._new_session()
        session.mount("http://", _Script(self._answer))
        return session


@cache
def scan() -> Volume:
    return phantom(phantom_grid("axial", extent_mm=60.0))


@cache
def _encoder() -> PoolingEncoder:
    return PoolingEncoder((4, 8))


def _offer() -> dict[str, Any]:
    return {"versions": versions(), "coralbay": "1", "device": "CPU", "encoders": [describe_encoder(_encoder(), "")]}


def offers(folder: Path) -> Input:
    """What a server tells of itself."""
    path = folder / "encoders.json"
    path.write_text(json.dumps(_offer()))

    def use() -> list[Any]:
        embedder = RemoteEmbedder(_URL)
        embedder._connection = Scripted(lambda _method, _path: (200, b"\r\n" + path.read_bytes()))
        info = embedder.info()
        told = [{name: value for name, value in vars(each).items() if name != "_connection"} for each in info.encoders]
        assert info.coralbay.isprintable() and info.device.isprintable()
        return [info.coralbay, info.device, repr(told)]

    return Input([path], use, {None: (edited_json, _other_text)})


def embed_by(answer: Answer) -> list[Any]:
    """What a client makes of the answers to one job."""
    encoder = RemoteEncoder(Scripted(answer), _offer()["encoders"][0])
    pyramid = embed(scan(), encoder, _checked)
    return [pyramid.key, [[level.name, level.features.float().numpy()] for level in pyramid.levels]]


def _checked(fraction: float, message: str) -> None:
    assert 0 <= fraction <= 1 and message.isprintable(), (fraction, message)


def _other_state(data: bytes, chance: random.Random) -> bytes:
    """A state is another one, with fields of others or without its own."""
    content = json.loads(data)
    content["state"] = chance.choice(["receiving", "queued", "running", "done", "failed"])
    content |= {"next": chance.choice([0, 1, 2**31]), "version": chance.choice([-1, 0, 2])}
    for name in chance.sample(sorted(content), chance.randrange(2)):
        del content[name]
    return json.dumps(content).encode()


def _other_text(data: bytes, chance: random.Random) -> bytes:
    """A text is another one."""
    content = json.loads(data)
    part = content[chance.choice([name for name, value in content.items() if isinstance(value, dict)] or ["encoders"])]
    parent = chance.choice([content, part[0] if isinstance(part, list) else part])
    name = chance.choice([name for name, value in parent.items() if isinstance(value, str)] or ["more"])
    parent[name] = chance.choice(_TEXTS)
    return json.dumps(content).encode()


def _file(folder: Path) -> bytes:
    """The features of the scan, as a server has them in its store."""
    store = Store(folder / "store")
    key = embed(scan(), _encoder(), store=store).key
    content = (store.root / f"{key}.safetensors").read_bytes()
    for file in store.root.iterdir():
        file.unlink()
    store.root.rmdir()
    return content


def _head(length: int) -> bytes:
    lines = [f"Content-Length: {length}", f"Content-Range: bytes 0-{length - 1}/{length}", 'ETag: "1-2"', "", ""]
    return "\r\n".join(lines).encode()


def states(folder: Path) -> Input:
    """What a server tells of a job, from its begin to its end."""
    content = _file(folder)
    whole = _head(len(content)) + content
    told = {
        "begun": {"job": _JOB, "state": "receiving", "next": 0, "version": 0},
        "sent": {"job": _JOB, "state": "queued", "version": -1, "place": 1, "seconds_left": 4.5},
        "computed": {"job": _JOB, "state": "running", "version": 2, "fraction": 0.5, "message": "Embed", "seconds_left": 2.0},
        "ended": {"job": _JOB, "state": "done", "version": 0},
    }
    files = {name: folder / f"{name}.json" for name in told}
    for name, file in files.items():
        file.write_text(json.dumps(told[name]))

    def use() -> list[Any]:
        following, asked = iter(["computed", "ended"]), dict[str, int]()

        def answer(method: str, path: str) -> tuple[int, bytes]:
            if path.startswith("/results/"):
                return 206, whole
            if method == "DELETE":
                return 204, b"\r\n"
            asked[method] = asked.get(method, 0) + 1
            assert method == "GET" or asked[method] < 20, "the client sends without end"
            if asked[method] == 20:  # a server may say for ever that it works
                raise requests.exceptions.ConnectionError("cut")
            name = {"POST": "begun", "PUT": "sent"}.get(method) or next(following, "ended")
            return 200, b"\r\n" + files[name].read_bytes()

        return embed_by(answer)

    return Input(list(files.values()), use, {None: (edited_json, _other_state)})


def failure(folder: Path) -> Input:
    """The error that a server tells, which must be told in words."""
    path = folder / "failed.json"
    error = {"error": "The scan is thin.", "kind": "VolumeError", "remedy": None}
    path.write_text(json.dumps({"job": _JOB, "state": "failed", "version": 3, "error": error}))

    def use() -> str:
        try:
            embed_by(lambda method, _path: (204 if method == "DELETE" else 200, b"\r\n" + path.read_bytes()))
        except VolumeError as fault:
            if str(fault) == "127.0.0.1:9: The scan is thin.":
                return str(fault)
            raise
        except CoralBayError as fault:
            if not str(fault).isprintable():
                raise ValueError("the words cannot be shown") from fault
            raise
        return "no error"

    return Input([path], use, {None: (edited_json, _other_text)})


def features(folder: Path) -> Input:
    """The features, with the head of the answer that they come in."""
    path, content = folder / "features.http", _file(folder)
    path.write_bytes(_head(len(content)) + content)

    def use() -> list[Any]:
        def answer(method: str, path_asked: str) -> tuple[int, bytes]:
            if path_asked.startswith("/results/"):
                return 206, path.read_bytes()
            return (
                (204, b"\r\n") if method == "DELETE" else (200, b"\r\n" + json.dumps({"job": _JOB, "state": "done"}).encode())
            )

        return embed_by(answer)

    # The checksums of the store vouch for all but the head.
    return Input([path], use, {None: (lines_edit(b"\r\n\r\n", ":"),)}, lambda _path: 0)


ANSWERS: dict[str, Build] = {
    "Answer of a server, encoders": offers,
    "Answer of a server, states of a job": states,
    "Answer of a server, an error": failure,
    "Answer of a server, features": features,
}
