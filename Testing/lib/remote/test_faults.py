"""Connections that are cut, slow or of another kind, certificates that cannot be trusted, and damaged requests."""

from __future__ import annotations

import contextlib
import datetime
import random
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from CoralBayLib.core.errors import Remedy, ServerError
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.remote import wire
from CoralBayLib.remote.embedder import RemoteEmbedder
from CoralBayLib.remote.wire import DONE
from CoralBayLib.serving.settings import ServerSettings, digest_of
from Testing.fuzz.server.job import OpenJob
from Testing.fuzz.server.requests import DamagedRequest, damaged_requests, send
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid
from Testing.lib.serving.harness import TOKEN, free_port
from Testing.lib.serving.threaded import ThreadedServer, threaded_server

from .cutting import relay

trustme = pytest.importorskip("trustme", reason="the developer's package trustme is not installed")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with threaded_server(tmp_path_factory.mktemp("served"), PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), keep_s=1e9) as it:
        yield it


@pytest.fixture
def small_parts(monkeypatch):
    """Several parts and ranges for a small scan."""
    monkeypatch.setattr(wire, "PART_VOXELS", 20_000)
    monkeypatch.setattr("CoralBayLib.remote.job.RANGE_BYTES", 20_000)


def test_a_connection_cut_at_random_bytes_gives_the_right_result(served, tmp_path, small_parts):
    volume = phantom(phantom_grid(), seed=100)
    here = Store(tmp_path / "here")
    key = embed(volume, served.replica.encoder, store=here).key
    with relay(served.settings.port) as whole:
        RemoteEmbedder(whole.url).embed(volume)
    draw = random.Random(0)
    cuts = [draw.randrange(1, 60_000) for _ in range(20)]
    with relay(served.settings.port, cuts) as cutting:
        client = RemoteEmbedder(cutting.url, patience_s=60.0)
        done = 0
        while cutting.made <= len(cuts):
            for file in served.cache.glob("*.safetensors"):
                file.unlink()
            there = Store(tmp_path / f"there{done}")
            client.embed(volume, client.encoder(), store=there)
            assert (there.root / f"{key}.safetensors").read_bytes() == (here.root / f"{key}.safetensors").read_bytes()
            done += 1
    assert served.waiting == []


def test_a_slow_reader_gets_its_result_and_nobody_waits_for_it(served, tmp_path):
    volume = phantom(phantom_grid(), seed=101)
    with relay(served.settings.port, pause_s=0.02, piece=2048) as slow:
        reader = threading.Thread(
            target=lambda: RemoteEmbedder(slow.url).embed(volume, store=Store(tmp_path / "slow")), daemon=True
        )
        reader.start()
        for seed in range(102, 105):
            assert RemoteEmbedder(served.url).embed(phantom(phantom_grid(), seed=seed)).levels
        reader.join(60)
    assert len(Store(tmp_path / "slow").entries()) == 1


def _fault(url: str, **options) -> ServerError:
    with pytest.raises(ServerError) as caught:
        RemoteEmbedder(url, patience_s=0.5, **options).info()
    return caught.value


def test_what_is_not_there_and_what_is_no_server_is_said():
    error = _fault(f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached: connection refused" in str(error) and error.remedy is Remedy.CHECK_SERVER
    with _answering("200 OK") as port:
        error = _fault(f"http://127.0.0.1:{port}/embed/")
    # With the path, which is the first thing to check behind a proxy.
    assert f"127.0.0.1:{port}/embed is not a server of CoralBay" in str(error) and "status" not in str(error)


def test_the_status_with_which_a_proxy_refuses_is_said():
    with _answering("403 Forbidden") as port:
        error = _fault(f"http://127.0.0.1:{port}")
    assert "with HTTP status 403; a proxy" in str(error) and error.remedy is Remedy.CHECK_SERVER


@contextlib.contextmanager
def _answering(status: str) -> Iterator[int]:
    """The port of a program that answers one request with a page."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello".encode())
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://gpu.example.org", "readable on the way"),
        ("http://192.0.2.1:8765", "readable on the way"),
        ("gpu.example.org", "is not the address of a server"),
        ("ftp://gpu.example.org", "is not the address of a server"),
        ("https://user:password@gpu.example.org", "is not the address of a server"),
        ("https://gpu.example.org:99999", "is not the address of a server"),
    ],
)
def test_addresses_that_cannot_be_used(url, words):
    with pytest.raises(ServerError, match=words):
        RemoteEmbedder(url)


def test_certificates_that_cannot_be_trusted_are_said(tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    certificates = {
        "good": authority.issue_cert("127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_after=yesterday),
        "another": authority.issue_cert("gpu.example.org"),
    }
    words = {"expired": "certificate has expired", "another": "IP address mismatch"}
    for name, certificate in certificates.items():
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
        tls = {"ssl_certfile": str(tmp_path / "certificate.pem"), "ssl_keyfile": str(tmp_path / "key.pem")}
        with threaded_server(tmp_path / name, PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), tls=tls) as it:
            trusted = {"certificates": str(tmp_path / "authority.pem")}
            if name == "good":
                assert RemoteEmbedder(it.url, **trusted).embed(phantom(phantom_grid())).levels
                unknown = _fault(it.url, certificates=str(tmp_path / "other.pem"))
                assert "certificate" in str(unknown) and unknown.remedy is Remedy.CHECK_CERTIFICATE
                assert "cannot be trusted" in str(_fault(it.url))
                assert "cannot be reached" in str(_fault(it.url.replace("https", "http")))
                missing = _fault(it.url, certificates=str(tmp_path / "missing.pem"))
                assert missing.remedy is Remedy.CHECK_CERTIFICATE and "cannot be read from" in str(missing)
                (tmp_path / "text.pem").write_text("no certificate")
                text = _fault(it.url, certificates=str(tmp_path / "text.pem"))
                assert text.remedy is Remedy.CHECK_CERTIFICATE and "no certificate authority in" in str(text)
            else:
                error = _fault(it.url, **trusted)
                assert words[name] in str(error) and error.remedy is Remedy.CHECK_CERTIFICATE
    error = _fault(f"https://127.0.0.1:{free_port()}")
    assert error.remedy is Remedy.CHECK_SERVER


def test_http_behind_https_is_said(served: ThreadedServer):
    error = _fault(served.url.replace("http", "https"))
    assert "does not speak TLS" in str(error)


def test_damaged_requests_are_refused_and_the_server_stays_up(served, tmp_path):
    """`python -m Testing.fuzz.server` sends 500 to real processes."""
    job = OpenJob.begin(served.url, phantom(phantom_grid(), seed=109))
    for request in damaged_requests(80, 3, job):
        assert request.is_refused(send(served.url, request)), request.name
    assert job.finish() == DONE
    here = Store(tmp_path)
    embed(job.volume, served.replica.encoder, store=here)
    file = f"{job.request.key}.safetensors"
    assert (served.cache / file).read_bytes() == (here.root / file).read_bytes()
    assert requests.get(f"{served.url}/health", timeout=10).json() == {"status": "ok"}
    assert RemoteEmbedder(served.url).embed(phantom(phantom_grid(), seed=110)).levels
    assert served.waiting == []


def test_a_body_that_is_too_long_is_refused(served):
    announced = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 262144000\r\n\r\n"
    assert send(served.url, DamagedRequest("announced", announced)) == 413
    pieces = (bytes(1 << 16) for _ in range(100))
    # The server may close the connection while the client is still sending.
    with contextlib.suppress(requests.exceptions.ConnectionError):
        assert requests.post(f"{served.url}/jobs", data=pieces, timeout=60).status_code == 413


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "0.0.0.0"}, "A token is needed to listen on 0.0.0.0"),
        ({"certificate": "x"}, "TLS needs both files"),
        ({"certificate": "x", "private_key": "x"}, "There is no file"),
        ({"replicas": 2, "most_replicas": 1}, "cannot be fewer"),
        ({"queue": 0}, "at least one place"),
    ],
)
def test_settings_that_do_not_work_are_refused(tmp_path, changes, words):
    changes = {name: tmp_path / value if value == "x" else value for name, value in changes.items()}
    with pytest.raises(ServerError, match=words):
        ServerSettings(cache=tmp_path, **changes)


@pytest.mark.parametrize("token", ["", "short", "with blanks in between them", "with-an-accent-é-in-it"])
def test_tokens_that_are_too_weak_are_refused(token):
    with pytest.raises(ServerError, match="at least 16 characters"):
        digest_of(token)
    assert digest_of(TOKEN) == digest_of(f" {TOKEN}\n")
