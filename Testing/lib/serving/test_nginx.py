"""The example of docs/server.md for nginx: a large scan goes through it, and nothing is written to its disk."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.grid import Grid, Volume
from CoralBayLib.remote.embedder import RemoteEmbedder
from CoralBayLib.serving.settings import digest_of
from Testing.lib.conftest import PoolingEncoder

from .harness import ROOT, TOKEN, free_port
from .threaded import ThreadedServer, threaded_server, wait_until

trustme = pytest.importorskip("trustme", reason="the developer's package trustme is not installed")
pytest.importorskip("uvicorn", reason="the developer's package ray[serve] is not installed")
_NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_NGINX is None, reason="nginx is not installed")]


def _example() -> str:
    """The block of the documentation."""
    text = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    found = re.search(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ThreadedServer]:
    encoder = PoolingEncoder((4, 8), (2.5, 2.5, 2.5))
    with threaded_server(tmp_path / "served", encoder, token_digest=digest_of(TOKEN)) as it:
        yield it


@pytest.fixture
def proxy(tmp_path: Path, served: ThreadedServer) -> Iterator[str]:
    """Address of an nginx before the server, configured by the example."""
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "chain.pem")
    block = _example()
    for old, new in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name gpu.example.org": "server_name 127.0.0.1",
        "/etc/ssl/gpu.example.org/chain.pem": f"{tmp_path}/chain.pem",
        "/etc/ssl/gpu.example.org/key.pem": f"{tmp_path}/key.pem",
        "127.0.0.1:8765": f"127.0.0.1:{served.settings.port}",
    }.items():
        assert block.count(old) == 1, old
        block = block.replace(old, new)
    folders = {name: tmp_path / name for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")}
    paths = "".join(f"{name}_temp_path {folder};" for name, folder in folders.items())
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log {tmp_path}/access.log; {paths}\n{block}}}\n"
    )
    process = subprocess.Popen([str(_NGINX), "-p", str(tmp_path), "-c", str(configuration)])
    try:
        wait_until(lambda: _listens(port))
        for folder in folders.values():
            shutil.rmtree(folder)  # whatever nginx would write there fails, and its request too
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_large_scan_goes_through_the_documented_nginx(served: ThreadedServer, proxy: str, tmp_path: Path) -> None:
    shape = (130, 130, 130)
    noise = np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)
    volume = Volume(noise, Grid(shape, np.diag([1.0, 1.0, 1.0, 1.0])))
    client = RemoteEmbedder(proxy, TOKEN, certificates=str(tmp_path / "authority.pem"))
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    key = embed(volume, served.replica.encoder, store=here, assume_hu=True).key
    client.embed(volume, store=there, assume_hu=True)
    name = f"{key}.safetensors"
    assert (there.root / name).read_bytes() == (here.root / name).read_bytes()
    assert requests.get(f"{proxy}/health", verify=str(tmp_path / "authority.pem"), timeout=60).json() == {"status": "ok"}
    access, errors = ((tmp_path / name).read_text(encoding="utf-8") for name in ("access.log", "error.log"))
    assert access == "" and errors == ""
