"""`coralbay serve` itself: processes with two replicas, TLS and a token, real sockets, and what happens when they end."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import requests

from CoralBayLib.core.errors import Cancelled
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.remote.embedder import RemoteEmbedder
from Testing.lib.conftest import phantom, phantom_grid

from .harness import TOKEN, Server
from .small_encoder import SlowEncoder
from .threaded import wait_until

pytestmark = pytest.mark.slow
pytest.importorskip("ray.serve", reason="the developer's package ray[serve] is not installed")
trustme = pytest.importorskip("trustme", reason="the developer's package trustme is not installed")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    (folder / "token").write_text(TOKEN)
    it = Server(
        folder,
        *("--replicas", "2", "--token-file", str(folder / "token")),
        *("--certificate", str(folder / "certificate.pem"), "--private-key", str(folder / "key.pem")),
        CORALBAY_TEST_WAIT_S="1.5",
    )
    it.start()
    yield it
    if it.process.poll() is None:
        it.kill()


def _client(served: Server) -> RemoteEmbedder:
    return RemoteEmbedder(served.url, TOKEN, certificates=str(served.folder / "authority.pem"), patience_s=300.0)


def _metrics(served: Server) -> str:
    headers, verify = {"Authorization": f"Bearer {TOKEN}"}, served.folder / "authority.pem"
    return requests.get(f"{served.url}/metrics", headers=headers, verify=verify, timeout=30).text


class _Client(threading.Thread):
    """Embeds one scan in the background."""

    def __init__(self, served: Server, seed: int, store: Store) -> None:
        super().__init__(daemon=True)
        self.volume, self.store, self.cancel = phantom(phantom_grid("oblique"), seed=seed), store, CancelToken()
        self.messages: list[str] = []
        self.key, self.error = "", None
        self._client = _client(served)
        self.start()

    def run(self) -> None:
        try:
            pyramid = self._client.embed(self.volume, "pooling", self._progress, self.cancel, store=self.store)
            self.key = pyramid.key
        except Exception as error:  # looked at by the test
            self.error = error

    def _progress(self, _fraction: float, message: str) -> None:
        self.messages.append(message)

    def is_computing(self) -> bool:
        return any(message.startswith("Embedding, on") for message in self.messages)

    def file(self) -> bytes:
        self.join(300)
        assert self.error is None, self.error
        return (self.store.root / f"{self.key}.safetensors").read_bytes()

    def expected(self, folder) -> bytes:
        """The file that is made on this computer."""
        encoder = SlowEncoder()
        encoder.wait_s = 0.0
        key = embed(self.volume, encoder, store=Store(folder)).key
        return (folder / f"{key}.safetensors").read_bytes()


def test_two_replicas_work_at_once_and_give_what_this_computer_gives(served, tmp_path):
    clients = [_Client(served, seed, Store(tmp_path / str(seed))) for seed in range(2)]
    wait_until(lambda: all(client.is_computing() for client in clients))
    for client in clients:
        assert client.file() == client.expected(tmp_path / "here")


def test_cancel_ends_the_work_there(served, tmp_path):
    client = _Client(served, 10, Store(tmp_path))
    wait_until(client.is_computing)
    client.cancel.cancel()
    client.join(60)
    assert isinstance(client.error, Cancelled)
    wait_until(lambda: "coralbay_cancelled_total 1.0" in _metrics(served))
    assert 'coralbay_jobs{state="running"} 0.0' in _metrics(served)


def test_a_replica_that_is_killed_in_the_middle_is_replaced(served, tmp_path):
    client = _Client(served, 20, Store(tmp_path / "there"))
    wait_until(client.is_computing)
    for replica in served.replicas():
        os.kill(replica.pid, signal.SIGKILL)
    assert client.file() == client.expected(tmp_path / "here")


def test_logs_hold_nothing_of_a_scan_but_hash_size_and_time(served):
    assert "HU" not in served.output and "IJK" not in served.output
    assert TOKEN not in served.output


def test_a_server_that_is_killed_and_started_again_finishes_the_work(served, tmp_path):
    client = _Client(served, 30, Store(tmp_path / "there"))
    wait_until(client.is_computing)
    served.kill()
    served.start()
    assert client.file() == client.expected(tmp_path / "here")
    assert served.stop() == 143
    assert list((served.cache / "waiting").iterdir()) == []
