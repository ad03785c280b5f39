"""A stand-in for the Hugging Face hub on this machine: enough of its protocol to download a file from."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from CoralBayLib.encoders.weights import WeightsSource

SOURCE = WeightsSource("coralbay", "some/model", "model.safetensors", "a" * 40, "CORALBAY_WEIGHTS", "MIT")
CONTENT = bytes(range(256)) * 4096
"""A megabyte: several chunks."""
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Request:
    """What a client asked."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class LocalHub:
    """The server, and how it is to behave.

    Attributes:
        announced, commit, size: what HEAD says of the file.
        cuts: after how many bytes each coming GET breaks off; none left means whole answers.
        ranges: whether a range asked for is honoured.
        shifted: bytes that a part begins after the place asked for.
        status: of every GET.
        token: that must come with each request, or None.
        moved_to: address that a GET is redirected to.
        gate: when set to an event, a GET stops half-way until it is set.
        asked: every request.
    """

    announced: str = SHA256
    commit: str = SOURCE.revision
    size: int | None = len(CONTENT)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    shifted: int = 0
    status: int = 200
    token: str | None = None
    moved_to: str | None = None
    gate: threading.Event | None = None
    asked: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.head(self)

            def do_GET(self) -> None:
                hub.get(self)

            def do_CONNECT(self) -> None:
                hub.note(self)
                self.send_error(502)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End the server and let go of waiting clients."""
        if self.gate is not None:
            self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def gets(self) -> list[Request]:
        """The requests for the file itself."""
        return [request for request in self.asked if request.method == "GET"]

    def note(self, handler: BaseHTTPRequestHandler) -> bool:
        """Remember a request; whether its token is the right one."""
        came = handler.headers.get("Authorization")
        self.asked.append(Request(handler.command, handler.path, handler.headers.get("Range"), came))
        if self.token is not None and came != f"Bearer {self.token}":
            handler.send_error(401)
            return False
        return True

    def head(self, handler: BaseHTTPRequestHandler) -> None:
        """Say what the file is."""
        if not self.note(handler):
            return
        handler.send_response(302 if self.moved_to else 200)
        if self.moved_to:
            handler.send_header("Location", self.moved_to)
        handler.send_header("X-Repo-Commit", self.commit)
        handler.send_header("X-Linked-Etag", f'"{self.announced}"')
        if self.size is not None:
            handler.send_header("X-Linked-Size", str(self.size))
            handler.send_header("Content-Length", str(self.size))
        handler.end_headers()

    def get(self, handler: BaseHTTPRequestHandler) -> None:
        """Send the file, or as much of it as wanted."""
        if not self.note(handler):
            return
        if self.moved_to or self.status != 200:
            handler.send_response(302 if self.moved_to else self.status)
            handler.send_header("Location", self.moved_to or "")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked and self.ranges else 0
        if start >= len(CONTENT):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start += self.shifted if start else 0
        body = CONTENT[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        sent = body[: self.cuts.pop(0)] if self.cuts else body
        if self.gate is not None:
            handler.wfile.write(sent[: len(sent) // 2])
            handler.wfile.flush()
            self.gate.wait(60)
            sent = sent[len(sent) // 2 :]
        try:
            handler.wfile.write(sent)
        except OSError:  # the client has gone
            return
        # Shorter than announced: the client sees the connection break.
        handler.close_connection = True


def path_of(request: Request) -> str:
    """The path of a request, without the host that a proxy is told."""
    return urlsplit(request.path).path


def put_in_cache(cache: Path, content: bytes = CONTENT, revision: str = SOURCE.revision, name: str = SHA256) -> Path:
    """Lay a file where the hub's client does: under its SHA-256, linked from the revision."""
    repo = cache / "models--some--model"
    blob, link = repo / "blobs" / name, repo / "snapshots" / revision / SOURCE.filename
    blob.parent.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    return link
