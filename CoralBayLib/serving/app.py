"""The HTTP interface of a server: jobs, parts of voxels, ranges of results, health, encoders, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from CoralBayLib.core.errors import CoralBayError, EncoderError, MemoryLimitError, Remedy, ServerError, VolumeError
from CoralBayLib.core.paths import error_message
from CoralBayLib.features.store_folder import StoreFolder
from CoralBayLib.remote.encoder import DescribedEncoder
from CoralBayLib.remote.wire import MOST_REQUEST_BYTES, RANGE_BYTES, JobRequest, versions

from .jobs import Compute, Jobs
from .metrics import Metrics
from .records import Job, PartError, QueueFullError, check_voxels
from .settings import ServerSettings

_SWEEP_S = 1.0
_RETRY_AFTER_S = 2


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, error: CoralBayError) -> None:
        super().__init__(str(error))
        self.response = JSONResponse(error.as_dict(), status)


class Api:
    """Answers the clients, and hands scans to the replicas.

    Args:
        settings: of the server.
        offer: what the server tells of itself, see `run.make_offer`.
        compute: computes one pyramid, see `Replica.embed`.
    """

    def __init__(self, settings: ServerSettings, offer: dict[str, Any], compute: Compute) -> None:
        self._settings, self._offer = settings, offer
        self._encoders = {(each["name"], each["setting"]): DescribedEncoder(each) for each in offer["encoders"]}
        self._store = StoreFolder(settings.cache, settings.cache_bytes)
        self._metrics = Metrics()
        self._jobs = Jobs(
            settings.cache / "waiting",
            compute,
            self._check_voxels,
            self._store.__contains__,
            self._metrics,
            settings.queue,
            settings.most_replicas,
            settings.abandon_s,
        )
        self._tasks: list[asyncio.Task] = []

    def app(self) -> FastAPI:
        """The application, for a server of ASGI."""
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=self._running)
        app.add_exception_handler(_RefusedError, _refuse)
        for method, path, answer in (
            ("GET", "/health", self.health),
            ("GET", "/encoders", self.encoders),
            ("GET", "/metrics", self.metrics),
            ("POST", "/jobs", self.begin),
            ("PUT", "/jobs/{identifier}/parts/{number}", self.part),
            ("GET", "/jobs/{identifier}", self.state),
            ("DELETE", "/jobs/{identifier}", self.end),
            ("GET", "/results/{key}", self.result),
        ):
            app.add_api_route(path, answer, methods=[method], response_model=None)
        return app

    @asynccontextmanager
    async def _running(self, _app: FastAPI) -> AsyncIterator[None]:
        self._tasks = [asyncio.create_task(self._jobs.run()) for _ in range(self._settings.most_replicas)]
        self._tasks.append(asyncio.create_task(self._sweep()))
        yield
        for task in self._tasks:
            task.cancel()

    async def health(self) -> Response:
        """Whether the server works; for load balancers, without a token."""
        works = not any(task.done() for task in self._tasks)
        return JSONResponse({"status": "ok" if works else "broken"}, 200 if works else 503)

    async def encoders(self, request: Request) -> Response:
        """What the server can embed with, and its versions."""
        self._authorize(request)
        return JSONResponse({"versions": versions(), **self._offer})

    async def metrics(self, request: Request) -> Response:
        """Counters for Prometheus."""
        self._authorize(request)
        return Response(self._metrics.text(self._jobs.counts()), media_type="text/plain; version=0.0.4")

    async def begin(self, request: Request) -> Response:
        """Begin a job."""
        self._authorize(request)
        body = await _body(request, MOST_REQUEST_BYTES)
        try:
            content = json.loads(body)
            self._require_versions(content)
            job_request = JobRequest.from_json(content)
        except (ValueError, RecursionError) as error:  # VolumeError is a ValueError
            raise _RefusedError(400, ServerError(f"The request is damaged: {error}.")) from error
        self._require_possible(job_request)
        try:
            job = self._jobs.begin(job_request)
        except QueueFullError:
            full = ServerError(
                f"All {self._settings.queue} places of the queue are taken.",
                remedy=Remedy.TRY_LATER,
            )
            return JSONResponse(full.as_dict(), 429, {"Retry-After": str(_RETRY_AFTER_S)})
        return JSONResponse(self._jobs.state(job), 201)

    async def part(self, request: Request, identifier: str, number: str) -> Response:
        """Take a part of the voxels of a job."""
        self._authorize(request)
        job = self._find(identifier)
        body = await _body(request, job.request.most_part_bytes())
        try:
            if not re.fullmatch("[0-9]{1,6}", number):
                raise PartError("its index is not a number")
            await self._jobs.receive(job, int(number), body)
        except PartError as error:
            raise _RefusedError(400, ServerError(f"A part of the scan is damaged: {error}.")) from error
        except VolumeError as error:
            raise _RefusedError(400, error) from error
        except OSError as error:
            full = ServerError(f"The server cannot keep the scan: {error_message(error)}.", remedy=Remedy.TRY_LATER)
            raise _RefusedError(507, full) from error
        self._metrics.received.inc(len(body))
        return JSONResponse(self._jobs.state(job))

    async def state(self, request: Request, identifier: str) -> Response:
        """The state of a job, after a short wait for a change."""
        self._authorize(request)
        job = self._find(identifier)
        seen = request.query_params.get("seen", "")
        if not re.fullmatch("-?[0-9]{1,9}", seen):
            return JSONResponse(self._jobs.state(job))
        return JSONResponse(await self._jobs.changed_state(job, int(seen)))

    async def end(self, request: Request, identifier: str) -> Response:
        """End a job."""
        self._authorize(request)
        self._jobs.remove(self._find(identifier))
        return Response(status_code=204)

    async def result(self, request: Request, key: str) -> Response:
        """A range of the features of a key."""
        self._authorize(request)
        path = self._store.path(key) if re.fullmatch("[0-9a-f]{64}", key) else None
        if path is None:
            raise _RefusedError(404, ServerError("There are no features of this key."))
        byte_range = re.fullmatch(r"bytes=([0-9]{1,15})-([0-9]{1,15})", request.headers.get("Range", ""))
        if byte_range is None:
            raise _RefusedError(400, ServerError("The request names no range of bytes."))
        first = int(byte_range[1])
        content, total, tag = await asyncio.to_thread(_read_range, path, first, int(byte_range[2]) - first + 1)
        if not content:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{total}"})
        self._metrics.sent.inc(len(content))
        headers = {"Content-Range": f"bytes {first}-{first + len(content) - 1}/{total}", "ETag": tag}
        return Response(content, 206, headers, "application/octet-stream")

    def _authorize(self, request: Request) -> None:
        digest = self._settings.token_digest
        if digest is None:
            return
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest(), digest):
            self._metrics.unauthorized.inc()
            raise _RefusedError(401, ServerError("The token is missing or wrong.", remedy=Remedy.GIVE_TOKEN))

    def _require_versions(self, content: Any) -> None:
        # Before the fields: those of another version may be others.
        given = content.get("versions") if isinstance(content, dict) else None
        if isinstance(given, dict) and given != versions():
            error = ServerError(
                f"This server has CoralBay {self._offer['coralbay']} and computes other features.", remedy=Remedy.MATCH_VERSIONS
            )
            raise _RefusedError(409, error)

    def _require_possible(self, job_request: JobRequest) -> None:
        if job_request.voxels > self._settings.most_voxels:
            large = MemoryLimitError(
                f"The scan has {job_request.voxels / 1e6:.0f} million voxels; this server takes "
                f"{self._settings.most_voxels / 1e6:.0f} million at most. Crop the volume."
            )
            raise _RefusedError(413, large)
        encoder = self._encoders.get((job_request.encoder, job_request.setting))
        if encoder is None:
            raise _RefusedError(404, EncoderError("The server has no such encoder."))
        if encoder.weights_sha256 != job_request.weights:
            raise _RefusedError(409, EncoderError(f"The server has other weights of '{job_request.encoder}'."))
        if not {level.name for level in encoder.levels} >= set(job_request.levels):
            raise _RefusedError(400, EncoderError(f"'{job_request.encoder}' has no such levels."))

    def _check_voxels(self, request: JobRequest, voxels: Path) -> None:
        check_voxels(request, voxels, self._encoders[request.encoder, request.setting])

    def _find(self, identifier: str) -> Job:
        job = self._jobs.find(identifier)
        if job is None:
            raise _RefusedError(404, ServerError("There is no such job; the server may have been restarted."))
        return job

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._jobs.sweep()
            await asyncio.to_thread(self._forget_features)

    def _forget_features(self) -> None:
        for entry in self._store.entries():
            if time.time() - entry.used > self._settings.keep_s:
                self._store.remove(entry.key)


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, _RefusedError)
    return error.response


async def _body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        _RefusedError: it is longer than allowed, or incomplete.
    """
    long = _RefusedError(413, ServerError(f"A request may have {most} bytes at most."))
    given = request.headers.get("Content-Length", "")
    if given.isdigit() and (len(given) > 15 or int(given) > most):
        raise long
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                raise long
    except ClientDisconnect as error:
        raise _RefusedError(400, ServerError("The request is incomplete.")) from error
    if given.isdigit() and int(given) != len(body):
        raise _RefusedError(400, ServerError("The request is incomplete."))
    return bytes(body)


def _read_range(path: Path, first: int, count: int) -> tuple[bytes, int, str]:
    """Bytes of a file, its size, and a tag that another file of its name does not have."""
    try:
        with path.open("rb") as file:
            size = path.stat()
            file.seek(first)
            return file.read(max(0, min(count, RANGE_BYTES))), size.st_size, f'"{size.st_ino:x}-{size.st_size:x}"'
    except FileNotFoundError as error:
        raise _RefusedError(404, ServerError("There are no features of this key.")) from error
