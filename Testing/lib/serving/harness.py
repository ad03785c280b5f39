"""Server processes for tests: `coralbay serve` with a small encoder, on a free port of this computer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
SMALL = ("--encoder", "pooling", "--encoder-file", str(Path(__file__).with_name("small_encoder.py")))
"""Options for an encoder without weights."""
TOKEN = "a-token-for-tests-only"
_START_S = 600.0
_STOP_S = 60.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """One `coralbay serve`.

    Args:
        folder: for its cache and its output.
        options: of the command.
        encoder: options that choose what is offered; by default the small encoder for tests.
        environment: variables beside those of this process.
    """

    def __init__(self, folder: Path, *options: str, encoder: tuple[str, ...] = SMALL, **environment: str) -> None:
        self.folder, self.port = folder, free_port()
        self.cache = folder / "served"
        self._command = [
            *(sys.executable, "-m", "CoralBayLib.cli", "serve", "--port", str(self.port), "--cache", str(self.cache)),
            *("--device", "cpu", *encoder, *options),
        ]
        # Ray prepares a worker for each processor of the computer; the tests need none of them.
        # Ray would end workers when other programs have taken the memory.
        own = {
            "RAY_memory_monitor_refresh_ms": "0",
            "OMP_NUM_THREADS": "1",
            "RAY_enable_worker_prestart": "0",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._environment = {**os.environ, **own}
        self.scheme = "https" if "--certificate" in options else "http"
        self.process: subprocess.Popen | None = None
        self._starts = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace")

    def start(self) -> Server:
        with (self.folder / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                self._command, stdout=output, stderr=output, env=self._environment, cwd=self.folder, start_new_session=True
            )
        end, times = time.monotonic() + _START_S, self._starts + 1
        while self.output.count("Ctrl+C ends it.") < times:
            assert self.process.poll() is None and time.monotonic() < end, self.output
            time.sleep(0.1)
        self._starts = times
        return self

    def stop(self) -> int:
        """End it as a user does; returns the exit status."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(_STOP_S)
        finally:
            self._kill(family)
        return status

    def kill(self) -> None:
        """End it and all its processes at once."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        self._kill(family)

    def replicas(self) -> list[psutil.Process]:
        """The processes that embed."""
        assert self.process is not None
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "coralbay:Replica" in " ".join(each.cmdline()):
                    found.append(each)
        return found

    def memory_mb(self) -> float:
        """Memory that its processes use alone, in MB."""
        assert self.process is not None
        total = 0
        for each in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += each.memory_full_info().uss
        return total / 2**20

    def _kill(self, family: list[psutil.Process]) -> None:
        _, alive = psutil.wait_procs(family, timeout=5)
        for each in alive:
            with contextlib.suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(alive, timeout=5)


@contextlib.contextmanager
def server(folder: Path, *options: str, encoder: tuple[str, ...] = SMALL, **environment: str) -> Iterator[Server]:
    """A server while the block runs."""
    it = Server(folder, *options, encoder=encoder, **environment)
    it.start()
    try:
        yield it
    finally:
        if it.process is not None and it.process.poll() is None:
            it.stop()
