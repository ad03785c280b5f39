"""Several clients with one scan: shared work, false voxels under its hash, and jobs that are removed meanwhile."""

from __future__ import annotations

import threading

import pytest
import requests

from CoralBayLib.core.errors import Cancelled, CoralBayError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.features.embedding import embed
from CoralBayLib.features.store import Store
from CoralBayLib.remote import wire
from CoralBayLib.remote.embedder import RemoteEmbedder
from CoralBayLib.serving.records import write_part
from Testing.fuzz.server.job import OpenJob
from Testing.lib.conftest import PoolingEncoder, phantom, phantom_grid
from Testing.lib.serving.threaded import threaded_server, wait_until

pytest.importorskip("ray", reason="the developer's package ray is not installed")


@pytest.fixture
def served(tmp_path):
    with threaded_server(tmp_path / "served", PoolingEncoder((4, 8), (2.5, 2.5, 2.5))) as it:
        yield it


def test_two_clients_with_one_scan_share_the_work(served, tmp_path):
    served.replica.gate.clear()
    volume = phantom(phantom_grid())
    cancel, results = CancelToken(), {}

    def work(name: str, token: CancelToken | None) -> None:
        try:
            results[name] = RemoteEmbedder(served.url).embed(volume, cancel=token, store=Store(tmp_path / name)).key
        except CoralBayError as error:
            results[name] = type(error)

    threads = [threading.Thread(target=work, args=each) for each in (("leaves", cancel), ("stays", None))]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(job.work is not None for job in served.api._jobs._jobs.values()) == 2)
    cancel.cancel()
    threads[0].join(30)
    wait_until(lambda: len(served.api._jobs._jobs) == 1)
    served.replica.gate.set()
    threads[1].join(30)
    assert results["leaves"] is Cancelled
    assert results["stays"] == served.replica.begun[0]
    assert len(served.replica.begun) == 1


def test_who_sends_another_scan_under_a_hash_does_not_harm_who_waits_for_it(served, tmp_path):
    volume = phantom(phantom_grid())
    false, right = OpenJob.begin(served.url, volume), OpenJob.begin(served.url, volume)
    other = false.request.encode_part(phantom(phantom_grid(), seed=1), 0)
    served.replica.gate.clear()
    refused = requests.put(f"{served.url}/jobs/{false.id}/parts/0", data=other, timeout=60)
    assert refused.status_code == 400 and refused.json()["kind"] == "VolumeError"
    assert requests.get(f"{served.url}/jobs/{false.id}", timeout=60).status_code == 404
    served.replica.gate.set()
    assert right.finish() == wire.DONE
    here = Store(tmp_path / "here")
    embed(volume, served.replica.encoder, store=here)
    key = right.request.key
    assert (served.cache / f"{key}.safetensors").read_bytes() == (here.root / f"{key}.safetensors").read_bytes()
    assert served.replica.begun == [key] and served.waiting == []


def test_a_part_that_arrives_while_its_job_is_removed_leaves_nothing(served, monkeypatch):
    job = OpenJob.begin(served.url, phantom(phantom_grid()))
    begun, removed = threading.Event(), threading.Event()

    def slow(*args) -> None:
        begun.set()
        assert removed.wait(60)
        write_part(*args)

    monkeypatch.setattr("CoralBayLib.serving.jobs.write_part", slow)
    sender = threading.Thread(target=job.finish, daemon=True)
    sender.start()
    assert begun.wait(60)
    assert requests.delete(f"{served.url}/jobs/{job.id}", timeout=60).status_code == 204
    removed.set()
    sender.join(60)
    assert served.waiting == [] and served.replica.begun == []


def test_a_scan_can_be_sent_again_while_its_cancelled_computation_still_ends(served, monkeypatch):
    volume = phantom(phantom_grid())
    cancel, leave, states = CancelToken(), threading.Event(), []
    whole = served.replica._store

    def slow(*args) -> None:
        if len(served.replica.begun) == 1:
            assert leave.wait(60)
        whole(*args)

    monkeypatch.setattr(served.replica, "_store", slow)

    def leave_early() -> None:
        with pytest.raises(Cancelled):
            RemoteEmbedder(served.url).embed(volume, cancel=cancel)

    first = threading.Thread(target=leave_early, daemon=True)
    first.start()
    wait_until(lambda: len(served.replica.begun) == 1)
    cancel.cancel()
    first.join(60)
    wait_until(lambda: not served.api._jobs._jobs)
    second = threading.Thread(target=lambda: states.append(OpenJob.begin(served.url, volume).finish()), daemon=True)
    second.start()
    wait_until(lambda: len(served.api._jobs._queue) == 1)
    leave.set()
    second.join(60)
    assert states == [wire.DONE] and len(served.replica.begun) == 2
