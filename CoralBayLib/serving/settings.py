"""How a server is run, and the checks of it. Imports neither Ray nor torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from CoralBayLib.core.errors import ServerError
from CoralBayLib.remote.address import is_loopback

_LEAST_TOKEN = 16
"""Fewest characters of a token."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server is run.

    Attributes:
        cache: folder for features, shared by all replicas; voxels are in it while they wait.
        host, port: where it listens.
        token_digest: SHA-256 of the token that clients must send; None for no token.
        certificate, private_key: PEM files for TLS, or None.
        replicas: number of processes that embed, each on a GPU of its own where there are any.
        most_replicas: more of them are started up to this number while scans wait.
        device: "auto", "cpu" or "cuda".
        encoder_file: Python file that registers encoders, or None.
        weights: weights file for the only encoder, or None for the usual places.
        cache_bytes: size above which the features used longest ago are deleted.
        keep_s: features that nobody asked for in this time are deleted, seconds.
        queue: most jobs that are there at the same time.
        most_voxels: largest volume.
        abandon_s: a job that its client does not ask about for this long is ended, seconds.
        ray: address of a Ray cluster, or None to start Ray on this computer.
        object_store_bytes: memory for Ray's object store when Ray is started here.
    """

    cache: Path
    host: str = "127.0.0.1"
    port: int = 8765
    token_digest: bytes | None = field(default=None, repr=False)
    certificate: Path | None = None
    private_key: Path | None = None
    replicas: int = 1
    most_replicas: int = 1
    device: str = "auto"
    encoder_file: str | None = None
    weights: str | None = None
    cache_bytes: int = 20 * 2**30
    keep_s: float = 24 * 3600.0
    queue: int = 32
    most_voxels: int = 2**30
    abandon_s: float = 60.0
    ray: str | None = None
    object_store_bytes: int = 100 * 2**20

    def __post_init__(self) -> None:
        if self.token_digest is None and not self.is_private:
            raise ServerError(
                f"A token is needed to listen on {self.host}, which other computers can reach. Write one into a file and name "
                "the file, or set the environment variable CORALBAY_SERVER_TOKEN."
            )
        if (self.certificate is None) != (self.private_key is None):
            raise ServerError("TLS needs both files: the certificate and its private key.")
        for file in (self.certificate, self.private_key):
            if file is not None and not file.is_file():
                raise ServerError(f"There is no file {file}.")
        if not 1 <= self.replicas <= self.most_replicas:
            raise ServerError("There must be at least one replica, and the most replicas cannot be fewer than the first ones.")
        if self.queue < 1 or self.most_voxels < 8:
            raise ServerError("The queue needs at least one place, and the largest volume at least eight voxels.")

    @property
    def is_private(self) -> bool:
        """Whether only this computer can reach the server."""
        return is_loopback(self.host)


def digest_of(token: str) -> bytes:
    """SHA-256 of a token: what the server keeps of it.

    Raises:
        ServerError: the token is too short, or could not be sent in a header.
    """
    token = token.strip()
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ServerError(
            f"A token must have at least {_LEAST_TOKEN} characters, without blanks and accents. "
            "`openssl rand -hex 32` makes a good one."
        )
    return hashlib.sha256(token.encode()).digest()
