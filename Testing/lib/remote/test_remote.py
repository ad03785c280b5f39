"""A client and a server of the same application in this process: equal results, shared work, cancellation, refusals."""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings

import numpy as np
import pytest
import requests

from CoralBayLib.core.errors import (
    Cancelled,
    EncoderError,
    MemoryLimitError,
    Remedy,
    ServerError,
    StoreError,
    VolumeError,
)
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.identity import store_key
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.volume_io import write_volume
from CoralBayLib.library import Library
from CoralBayLib.remote import wire
from CoralBayLib.remote.embedder import RemoteEmbedder
from CoralBayLib.remote.encoder import RemoteEncoder
from CoralBayLib.serving.settings import digest_of
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid
from Testing.lib.serving.harness import TOKEN
from Testing.lib.serving.threaded import ThreadedServer, threaded_server, wait_until

pytest.importorskip("ray", reason="the developer's package ray is not installed")


@pytest.fixture
def served(tmp_path):
    with threaded_server(tmp_path / "served", PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), queue=3) as it:
        yield it


@pytest.fixture
def client(served):
    return RemoteEmbedder(served.url, patience_s=2.0)


def _file(store: Store, key: str) -> bytes:
    return (store.root / f"{key}.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["axial", "flipped", "permuted", "oblique", "sheared"])
def test_the_file_is_that_of_this_computer_to_the_last_bit(kind, served, client, tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "PART_VOXELS", 50_000)
    monkeypatch.setattr("CoralBayLib.remote.job.RANGE_BYTES", 20_000)
    volume = phantom(phantom_grid(kind))
    if kind == "axial":
        volume = Volume(volume.array + np.float64(0.25), volume.grid)
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    local = embed(volume, served.replica.encoder, store=here)
    told: list[tuple[float, str]] = []
    remote = client.embed(volume, progress=lambda *each: told.append(each), store=there)
    assert remote.key == local.key
    assert _file(there, local.key) == _file(here, local.key)
    assert np.array_equal(remote.source_grid.ijk_to_ras, volume.grid.ijk_to_ras)
    assert [fraction for fraction, _ in told] == sorted(fraction for fraction, _ in told)
    assert any("Sending the CT to" in message for _, message in told)
    assert served.waiting == []


def test_nothing_is_computed_twice(served, client, tmp_path):
    volume = phantom(phantom_grid())
    for folder in ("one", "two"):
        client.embed(volume, store=Store(tmp_path / folder))
    client.embed(volume, store=Store(tmp_path / "two"))
    assert len(served.replica.begun) == 1
    local = embed(volume, PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), store=Store(tmp_path / "two"))
    assert local.key == served.replica.begun[0]


def test_a_store_is_not_needed(served, client, tmp_path):
    volume = phantom(phantom_grid())
    pyramid = client.embed(volume)
    stored = embed(volume, served.replica.encoder, store=Store(tmp_path / "here"))
    assert all(np.array_equal(a.features, b.features) for a, b in zip(pyramid.levels, stored.levels, strict=True))
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder would be")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        again = client.embed(volume, store=Store(blocked / "store"))
    assert again.key == pyramid.key
    assert any("could not be stored" in str(each.message) for each in told)


def test_a_disk_that_is_full_when_the_features_arrive_loses_no_work(served, client, tmp_path, monkeypatch):
    fetch, paths = RemoteEncoder.fetch, []

    def full(self, volume, key, levels, path, *args, **options):
        fetch(self, volume, key, levels, path, *args, **options)
        paths.append(path)
        if len(paths) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RemoteEncoder, "fetch", full)
    store = Store(tmp_path / "full")
    with pytest.warns(UserWarning, match="could not be stored for later.*No space left.*clear the store, or choose another"):
        pyramid = client.embed(phantom(phantom_grid()), store=store)
    assert served.replica.begun == [pyramid.key], "it was computed again"
    assert list(store.root.iterdir()) == [] and not paths[1].exists()


def test_a_full_disk_of_the_server_is_no_fault_of_the_cache_here(served, client, tmp_path):
    served.replica.fault = StoreError("Could not write 9 MB to the embedding store.")
    with pytest.raises(StoreError, match="127.0.0.1:[0-9]+: Could not write 9 MB"):
        client.embed(phantom(phantom_grid()), store=Store(tmp_path / "here"))
    assert len(served.replica.begun) == 1


def test_an_encoder_of_a_server_goes_wherever_an_encoder_goes(served, client, tmp_path):
    encoder = client.encoder()
    volume = phantom(phantom_grid())
    assert store_key(volume, encoder) == store_key(volume, served.replica.encoder)
    assert encoder.levels == served.replica.encoder.levels
    library = Library(tmp_path / "library")
    write_volume(volume, tmp_path / "ct.nrrd")
    assert [outcome.state for outcome in library.add([tmp_path / "ct.nrrd"], encoder)] == ["added"]
    assert len(served.replica.begun) == 1
    with pytest.raises(EncoderError, match="needs the network of 'pooling' on this computer"):
        _ = encoder.network


def test_levels_and_unknown_encoders(client):
    volume = phantom(phantom_grid())
    assert [level.name for level in client.embed(volume, levels=["pool8"]).levels] == ["pool8"]
    with pytest.raises(EncoderError, match="has no encoder coralbay. It has pooling"):
        client.encoder("coralbay")


def test_cancel_ends_the_work_there_too(served, client):
    served.replica.gate.clear()
    cancel = CancelToken()
    threading.Timer(0.5, cancel.cancel).start()
    with pytest.raises(Cancelled):
        client.embed(phantom(phantom_grid()), cancel=cancel)
    wait_until(lambda: served.replica.ended == served.replica.begun)
    wait_until(lambda: served.waiting == [] and not served.api._jobs._jobs)
    served.replica.gate.set()
    assert client.embed(phantom(phantom_grid())).levels


def test_cancel_does_not_wait_for_a_server_that_is_silent(tmp_path):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        cancel = CancelToken()
        threading.Timer(0.3, cancel.cancel).start()
        begin = time.monotonic()
        with pytest.raises(Cancelled):
            RemoteEmbedder(f"http://127.0.0.1:{silent.getsockname()[1]}").encoder(cancel=cancel)
        assert time.monotonic() - begin < 4.0  # the time limit of the connection is 60 s


def test_an_error_of_the_scan_is_the_same_as_here(served, client):
    served.replica.fault = VolumeError("The scan is thin.")
    with pytest.raises(VolumeError, match="127.0.0.1.*The scan is thin"):
        client.embed(phantom(phantom_grid()))
    served.replica.fault = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(MemoryLimitError, match="too little memory"):
        client.embed(phantom(phantom_grid()))
    served.replica.fault = RuntimeError("/data/patients/Smith.nrrd")
    with pytest.raises(ServerError, match="could not be embedded") as caught:
        client.embed(phantom(phantom_grid()))
    assert "Smith" not in str(caught.value)
    served.replica.fault = None
    assert client.embed(phantom(phantom_grid())).levels


def test_a_full_queue_is_said_and_a_place_is_given_when_there_is_one(served):
    served.replica.gate.clear()
    volumes = [phantom(phantom_grid(), seed=n) for n in range(4)]
    keys: dict[int, str] = {}
    messages: list[str] = []

    def work(n: int) -> None:
        keys[n] = RemoteEmbedder(served.url).embed(volumes[n], progress=lambda _, m: messages.append(m)).key

    threads = []
    for n in range(3):
        threads.append(threading.Thread(target=work, args=(n,)))
        threads[-1].start()
        wait_until(lambda: sum(job.work is not None for job in served.api._jobs._jobs.values()) == n + 1)  # noqa: B023
    with pytest.raises(ServerError, match="All 3 places of the queue are taken") as caught:
        RemoteEmbedder(served.url, patience_s=0.5).embed(volumes[3])
    assert caught.value.remedy is Remedy.TRY_LATER
    wait_until(lambda: any("place 2 in the queue" in message for message in messages))
    served.replica.gate.set()
    for thread in threads:
        thread.join(30)
    assert [keys[n] for n in range(3)] == served.replica.begun, "in the order of their arrival"
    assert RemoteEmbedder(served.url).embed(volumes[3]).levels


def test_a_client_that_vanishes_loses_its_place(tmp_path):
    with threaded_server(tmp_path / "served", PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), abandon_s=0.5) as served:
        served.replica.gate.clear()
        encoder = RemoteEmbedder(served.url).encoder()
        volume = phantom(phantom_grid())
        request = wire.JobRequest(
            *(wire.versions(), store_key(volume, encoder), "pooling", "", "0" * 64, ["pool4", "pool8"]),
            *(list(volume.grid.shape), volume.grid.ijk_to_ras.tolist(), "<i2"),
        )
        half = requests.post(f"{served.url}/jobs", json=request.as_json(), timeout=10).json()
        assert half["state"] == "receiving" and len(half["job"]) >= 43
        wait_until(lambda: not served.api._jobs._jobs)
        assert requests.get(f"{served.url}/jobs/{half['job']}", timeout=10).status_code == 404
        whole = requests.post(f"{served.url}/jobs", json=request.as_json(), timeout=10).json()["job"]
        requests.put(f"{served.url}/jobs/{whole}/parts/0", data=request.encode_part(volume, 0), timeout=10)
        wait_until(lambda: len(served.replica.begun) == 1)
        wait_until(lambda: len(served.replica.ended) == 1 and served.waiting == [])
        assert "coralbay_abandoned_total 2.0" in requests.get(f"{served.url}/metrics", timeout=10).text


def test_features_are_forgotten_after_their_time(tmp_path):
    with threaded_server(tmp_path / "served", PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), keep_s=0.0) as served:
        RemoteEmbedder(served.url).embed(phantom(phantom_grid()))
        wait_until(lambda: not list(served.cache.glob("*.safetensors")))


def test_a_scan_under_the_hash_of_another_is_refused(served, client):
    encoder = client.encoder()
    volume, other = phantom(phantom_grid()), phantom(phantom_grid(), seed=1)
    with pytest.raises(VolumeError, match="not the one that was announced"):
        encoder.fetch(volume, store_key(other, encoder), ["pool4", "pool8"], served.cache / "never")
    assert not list(served.cache.glob("*.safetensors"))
    assert served.replica.begun == [] and served.waiting == []


def test_versions_that_do_not_fit_are_said(served, client, monkeypatch):
    encoder = client.encoder()
    monkeypatch.setattr("CoralBayLib.serving.app.versions", lambda: wire.versions() | {"features": 99})
    for use in (client.encoder, lambda: embed(phantom(phantom_grid()), encoder)):
        with pytest.raises(ServerError, match="computes other features") as caught:
            use()
        assert caught.value.remedy is Remedy.MATCH_VERSIONS


@pytest.fixture
def guarded(tmp_path):
    with threaded_server(tmp_path / "served", PoolingEncoder((4, 8), (2.5, 2.5, 2.5)), token_digest=digest_of(TOKEN)) as it:
        yield it


def test_a_token_is_required_everywhere_but_for_health(guarded: ThreadedServer):
    app = guarded.api.app()
    routes = [(method, route.path) for route in app.routes for method in route.methods - {"HEAD"}]
    assert len(routes) >= 8
    for method, path in routes:
        address = guarded.url + path.format(identifier="x", number="0", key="0" * 64)
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer"}, {"Authorization": "\xff"}):
            status = requests.request(method, address, headers=headers, timeout=10).status_code
            assert status == (200 if path == "/health" else 401), (method, path)
    with pytest.raises(ServerError, match="wants a token") as caught:
        RemoteEmbedder(guarded.url).info()
    assert caught.value.remedy is Remedy.GIVE_TOKEN
    with pytest.raises(ServerError, match="wants another token"):
        RemoteEmbedder(guarded.url, "wrong").info()
    assert RemoteEmbedder(guarded.url, TOKEN).info().encoders[0].name == "pooling"


def test_a_netrc_does_not_replace_the_token(guarded, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert RemoteEmbedder(guarded.url, TOKEN).info().encoders
