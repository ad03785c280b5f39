"""A relay between a client and a server that cuts connections after given numbers of bytes, or is slow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


class Relay:
    """Passes bytes on in both directions.

    Args:
        port: of the server.
        cuts: for each connection in turn, after how many bytes in both directions together it is cut; connections after
            the last of them are not cut.
        pause_s: wait after each piece of an answer.
        piece: size of these pieces.
    """

    def __init__(self, port: int, cuts: Sequence[int] = (), pause_s: float = 0.0, piece: int = 65536) -> None:
        self._target, self._cuts, self._pause_s, self._piece = port, list(cuts), pause_s, piece
        self._lock = threading.Lock()
        self.made = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.made += 1
            left = [self._cuts.pop(0) if self._cuts else None]
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, target, pause_s in ((client, server, 0.0), (server, client, self._pause_s)):
                threading.Thread(target=self._pass, args=(source, target, left, pause_s), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, left: list[int | None], pause_s: float) -> None:
        with suppress(OSError):
            while data := source.recv(self._piece):
                with self._lock:
                    if left[0] is not None:
                        data = data[: left[0]]
                        left[0] -= len(data)
                target.sendall(data)
                if left[0] == 0:
                    break
                time.sleep(pause_s)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def relay(port: int, cuts: Sequence[int] = (), pause_s: float = 0.0, piece: int = 65536) -> Iterator[Relay]:
    """A relay while the block runs."""
    it = Relay(port, cuts, pause_s, piece)
    try:
        yield it
    finally:
        it.close()
