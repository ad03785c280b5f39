"""Kinds: what clients send to a server, as its application reads it. No connection is made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from CoralBayLib.core import errors
from CoralBayLib.features.identity import store_key
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.remote.encoder import DescribedEncoder, describe_encoder
from CoralBayLib.remote.wire import JobRequest, versions
from CoralBayLib.serving.app import Api
from CoralBayLib.serving.settings import ServerSettings
from Testing.fuzz.edits import edited_json
from Testing.fuzz.kinds import Build, Input
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid


@cache
def scan() -> Volume:
    return phantom(phantom_grid("axial", extent_mm=60.0))


@cache
def offer() -> dict[str, Any]:
    return {"coralbay": "1", "device": "CPU", "encoders": [describe_encoder(PoolingEncoder((4, 8)), "")]}


def scan_request() -> JobRequest:
    encoder = DescribedEncoder(offer()["encoders"][0])
    levels = [level.name for level in encoder.levels]
    return JobRequest(
        versions=versions(),
        key=store_key(scan(), encoder, levels),
        encoder=encoder.name,
        setting=encoder.setting,
        weights=encoder.weights_sha256,
        levels=levels,
        shape=list(scan().grid.shape),
        ijk_to_ras=scan().grid.ijk_to_ras.tolist(),
        dtype="<i2",
    )


async def _no_compute(_request: dict[str, Any], _voxels: str) -> AsyncIterator[dict[str, Any]]:
    yield {}


class Application:
    """The application of a server, which computes nothing."""

    def __init__(self, folder: Path) -> None:
        self.api = Api(ServerSettings(cache=folder, device="cpu"), offer(), _no_compute)
        self._app = self.api.app()

    async def ask(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """What it answers.

        Raises:
            CoralBayError: it refused the request.
        """
        told: list[dict[str, Any]] = []
        length = str(len(body)).encode()
        scope = {
            **{"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode()},
            **{"query_string": b"", "root_path": "", "scheme": "http", "headers": [(b"content-length", length)]},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            told.append(message)

        await self._app(scope, receive, send)
        status = told[0]["status"]
        content = json.loads(b"".join(each.get("body", b"") for each in told[1:]) or b"{}")
        if 400 <= status < 500:
            raise getattr(errors, content["kind"])(content["error"])
        assert status < 300, status
        return content


def job_request(folder: Path) -> Input:
    """The request of a job."""
    path = folder / "request.json"
    path.write_text(json.dumps(scan_request().as_json()))

    def use() -> list[Any]:
        async def ask() -> list[Any]:
            application = Application(folder / "cache")
            state = await application.ask("POST", "/jobs", path.read_bytes())
            wanted = application.api._jobs.find(state["job"])
            assert wanted is not None
            return [state["state"], state["next"], repr(wanted.request)]

        return asyncio.run(ask())

    return Input([path], use, {None: (edited_json,)})


def part(folder: Path) -> Input:
    """The deflated voxels of a scan."""
    path, request = folder / "part", scan_request()
    path.write_bytes(request.encode_part(scan(), 0))

    def use() -> list[Any]:
        async def ask() -> list[Any]:
            application = Application(folder / "cache")
            identifier = (await application.ask("POST", "/jobs", json.dumps(request.as_json()).encode()))["job"]
            job = application.api._jobs.find(identifier)
            assert job is not None
            try:
                state = await application.ask("PUT", f"/jobs/{identifier}/parts/0", path.read_bytes())
                return [state["state"], np.fromfile(job.voxels, request.dtype)]
            finally:
                application.api._jobs.remove(job)

        return asyncio.run(ask())

    return Input([path], use, vouched=lambda _path: 0)


RECEIVED: dict[str, Build] = {
    "Request to a server, a job": job_request,
    "Request to a server, voxels": part,
}
