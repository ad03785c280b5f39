"""A server of the same application in a thread of the test, without Ray: starts in no time, and its parts can be replaced."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from CoralBayLib.remote.encoder import describe_encoder
from CoralBayLib.serving.app import Api
from CoralBayLib.serving.replica import Replica
from CoralBayLib.serving.settings import ServerSettings

from .harness import free_port


class LocalReplica(Replica):
    """A replica with a given encoder.

    Attributes:
        begun: keys of the scans that it began with.
        gate: the work waits here; set from the beginning.
        fault: raised in place of the work, if it is set.
    """

    def __init__(self, settings: ServerSettings, encoder: Any) -> None:
        super().__init__(settings)
        self.encoder = encoder
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def _load(self, name: str, setting: str) -> Any:
        return self.encoder

    def _embed(self, request, voxels, report, cancel):
        self.begun.append(request.key)
        try:
            return super()._embed(request, voxels, report, cancel)
        finally:
            self.ended.append(request.key)

    def _store(self, request, voxels, report, cancel):
        while not self.gate.wait(0.02):
            cancel.raise_if_cancelled()
        if self.fault is not None:
            raise self.fault
        super()._store(request, voxels, report, cancel)


class ThreadedServer:
    """The application on a socket of this computer.

    Attributes:
        url: its address.
        replica: what embeds.
        cache: its folder.
    """

    def __init__(self, cache: Path, encoder: Any, tls: dict[str, str] | None = None, **settings: Any) -> None:
        self.settings = ServerSettings(cache=cache, port=free_port(), device="cpu", **settings)
        self.cache = cache
        self.replica = LocalReplica(self.settings, encoder)
        offer = {"coralbay": "0", "device": "CPU", "encoders": [describe_encoder(encoder, "")]}
        self.api = Api(self.settings, offer, self.replica.embed)
        config = uvicorn.Config(self.api.app(), "127.0.0.1", self.settings.port, log_level="critical", **(tls or {}))
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.settings.port}"

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self) -> None:
        self.replica.gate.set()
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(30)

    @property
    def waiting(self) -> list[Path]:
        """Files of voxels that the server has."""
        return list((self.cache / "waiting").iterdir())


@contextlib.contextmanager
def threaded_server(cache: Path, encoder: Any, **settings: Any) -> Iterator[ThreadedServer]:
    """A server while the block runs."""
    it = ThreadedServer(cache, encoder, **settings)
    it.start()
    try:
        yield it
    finally:
        it.stop()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that must happen; fails when it does not for long."""
    done = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        done.wait(0.02)
    raise AssertionError("it did not happen")


def run(coroutine: Any) -> Any:
    """The result of a coroutine."""
    return asyncio.run(coroutine)
