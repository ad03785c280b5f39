"""Answers of a server that are none of CoralBay, and requests that are none: refused in words, and never without end."""

from __future__ import annotations

import asyncio
import json

import pytest

from CoralBayLib.core.errors import ServerError
from CoralBayLib.remote.wire import JobRequest
from Testing.fuzz.server.answers import embed_by
from Testing.fuzz.server.received import Application, scan_request

_JOB = "a" * 43


def _answers(**states: dict):
    """Gives the state of each method; results are missing."""

    def answer(method: str, path: str) -> tuple[int, bytes]:
        if method == "DELETE":
            return 204, b"\r\n"
        return 200, b"\r\n" + json.dumps({"job": _JOB, **states[method]}).encode()

    return answer


@pytest.mark.parametrize(
    "states",
    [
        {"POST": {"state": "receiving", "next": 0}, "PUT": {"state": "receiving", "next": 0}},
        {"POST": {"state": "receiving"}},
        {"POST": {"state": "receiving", "next": 1}},
        {"POST": {"state": "queued"}, "GET": {"state": "receiving", "next": 0}},
        {"POST": {"state": "lost"}},
        {"POST": {"state": "running", "fraction": 2.0}},
        {"POST": {"state": "running", "seconds_left": float("inf")}},
        {"POST": {"state": "running", "message": "two\nlines"}},
        {"POST": {"state": "running", "version": "../x"}},
        {"POST": {"state": "failed", "error": "text"}},
        {"POST": {"state": "done", "job": "../../x"}},
    ],
)
def test_states_that_no_server_tells_are_refused(states):
    with pytest.raises(ServerError, match="is not a server of CoralBay"):
        embed_by(_answers(**states))


def test_an_error_is_told_in_one_line_that_can_be_shown():
    error = {"error": "two\nlines, \ud800 and \u202e", "kind": "print", "remedy": "none"}
    with pytest.raises(ServerError) as caught:
        embed_by(_answers(POST={"state": "failed", "error": error}))
    assert str(caught.value) == "127.0.0.1:9: two lines,   and"


def test_a_proxy_that_refuses_large_requests_is_named():
    def answer(method: str, path: str) -> tuple[int, bytes]:
        page = b"Content-Type: text/html\r\n\r\n<html>413 Request Entity Too Large</html>"
        return (413, page) if method == "PUT" else _answers(POST={"state": "receiving", "next": 0})(method, path)

    with pytest.raises(ServerError, match="A proxy before the server 127.0.0.1:9 does not let parts of scans pass"):
        embed_by(answer)


@pytest.mark.parametrize("change", [{"\ud800": 1}, {"encoder": "\ud800"}, {"setting": "\0"}, {"levels": ["\ud800"]}])
def test_requests_with_odd_text_are_refused_in_words(tmp_path, change):
    async def ask() -> None:
        await Application(tmp_path).ask("POST", "/jobs", json.dumps(scan_request().as_json() | change).encode())

    with pytest.raises(Exception, match="unknown field|no such encoder|no such levels"):
        asyncio.run(ask())


def test_a_request_of_another_version_is_no_damaged_one(tmp_path):
    request = scan_request().as_json()
    later = request | {"versions": {**request["versions"], "protocol": 99}, "a_field_of_tomorrow": 1}

    async def ask() -> None:
        await Application(tmp_path).ask("POST", "/jobs", json.dumps(later).encode())

    with pytest.raises(Exception, match="computes other features"):
        asyncio.run(ask())


def test_the_request_that_the_others_are_changed_from_is_taken(tmp_path):
    async def ask() -> dict:
        return await Application(tmp_path).ask("POST", "/jobs", json.dumps(scan_request().as_json()).encode())

    assert isinstance(scan_request(), JobRequest) and asyncio.run(ask())["state"] == "receiving"
