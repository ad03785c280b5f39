"""A library on object storage is the same as in a folder, and what goes wrong on the way harms nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import LibraryError, LostLockError, StoreError
from CoralBayLib.library import Library, verify
from CoralBayLib.library.storage import lock, object_store
from CoralBayLib.library.storage.lock import Lease
from CoralBayLib.library.storage.object_store import ObjectStore
from CoralBayLib.library.tables import Tables

from .conftest import spot
from .test_crashes import adder, contents, whole

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")
pytest.importorskip("moto", reason="the optional package moto, a server to test with, is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3, which comes with moto, is not installed")

KEY, SECRET = "a-key-of-the-test", "a-secret-of-the-test"


@pytest.fixture(scope="module")
def endpoint():
    command = [sys.executable, "-m", "Testing.lib.library.storage"]
    place = Path(__file__).parents[3]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=place)
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        server.stdin.close()
        server.wait(timeout=60)
        server.stdout.close()


def told(url: str, data: bytes = b"") -> None:
    """Tell the server something about itself."""
    request = urllib.request.Request(url, data, {"Content-Type": "text/plain"})
    urllib.request.urlopen(request, timeout=60).close()


def nobody(patch) -> None:
    """From now on nobody answers."""
    patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    patch.setattr(object_store, "_TIMEOUTS", {"client_max_retries": "1", "client_retry_timeout": "2s"})


@pytest.fixture
def storage(endpoint, monkeypatch, tmp_path):
    """An empty server with one bucket, and credentials for it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    told(f"{endpoint}/moto-api/reset")
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="scans")
    return endpoint


@pytest.fixture
def address(storage):
    return "s3://scans/archive"


@pytest.fixture
def remote(address, monkeypatch):
    # Nobody else creates the table of the lock at the same time.
    monkeypatch.setattr(lock, "_RETRY_S", 0.1)
    return Library(address)


def test_add_search_verify_and_remove(remote, library, scans, encoder):
    states = [outcome.state for outcome in remote.add(scans, encoder)]
    assert states == ["added"] * 3
    assert {outcome.state for outcome in remote.add(scans, encoder)} == {"known"}
    library.add(scans, encoder)
    assert contents(remote) == contents(library)
    pyramid, query = cb.embed(cb.read_volume(scans / "a.nrrd"), encoder), cb.Query.point(spot("a"))
    assert remote.search_regions(pyramid, query, k=5) == library.search_regions(pyramid, query, k=5)
    assert [hit.path for hit in remote.search_scans(pyramid)] == [hit.path for hit in library.search_scans(pyramid)]
    assert remote.stats() == library.stats()
    assert remote.nbytes() > 0
    assert [record.path for record in remote.remove(str(scans / "b.nrrd"))] == [str(scans / "b.nrrd")]
    assert whole(remote, 2)


@pytest.mark.parametrize("moment", ["before its row", "after its row"])
def test_killed_in_the_middle(remote, scans, encoder, moment, monkeypatch, address):
    remote.add(scans / "a.nrrd", encoder)
    process = adder(scans, address, moment)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    before = len(remote.scans())
    assert before == (3 if moment == "after its row" else 2)
    # The dead one's lock runs out.
    monkeypatch.setattr(lock, "DEAD_AFTER_S", 1.0)
    assert {issue.kind for issue in remote.verify()} == ({"orphans"} if moment == "before its row" else set())
    states = [outcome.state for outcome in remote.add(scans, encoder)]
    assert states.count("added") == 3 - before
    assert whole(remote, 3)


def test_two_processes_add_at_once(remote, scans, encoder, address):
    first, second = adder(scans, address), adder(scans, address)
    states = [json.loads(process.communicate(timeout=300)[0]) for process in (first, second)]
    assert sorted(a for s in states for a in s) == ["added"] * 3 + ["known"] * 3
    assert whole(remote, 3)
    assert len(remote.storage.encoders()) == 1


def test_one_lock_for_many(address):
    """Of many who take it at once each has it alone, a while."""
    inside, most, order = [], [], []

    def work(number):
        with ObjectStore(address).locked():
            inside.append(number)
            most.append(len(inside))
            order.append(number)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order) == [0, 1, 2, 3]
    assert set(most) == {1}


def test_the_lock_does_not_gather_files(address, monkeypatch):
    monkeypatch.setattr(lock, "_COMPACT_EVERY", 1)
    monkeypatch.setattr(lock, "_KEPT", timedelta(0))
    for _ in range(5):
        with ObjectStore(address).locked():
            pass
    assert len(ObjectStore(address).connect().lance.open_table(lock.TABLE).list_versions()) <= 3


def test_a_lock_that_was_taken_over_is_noticed(address, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 3600.0)  # it is held up
    held_up = Lease(ObjectStore(address).connect())
    held_up.acquire()
    held_up.require()
    monkeypatch.setattr(lock, "DEAD_AFTER_S", 0.0)
    other = Lease(ObjectStore(address).connect())
    other.acquire()
    held_up._good_until = 0.0  # as its own clock says by then
    with pytest.raises(LostLockError, match="another writer"):
        held_up.require()
    held_up.release()
    # Giving back what one has no more leaves it to whoever has it.
    assert other._read()[0] == other._me
    other.release()


@pytest.mark.parametrize("step", [2, 3])
def test_a_writer_that_lost_its_lock_leaves_nothing_half_written(remote, scans, encoder, monkeypatch, step):
    """It is held up before its row, or after; in between another writer tidies."""
    remote.add(scans / "a.nrrd", encoder)
    counts = []

    def require_lock(self):
        counts.append(1)
        if len(counts) == step:
            orphans = [each for each in Tables(remote.storage, "pooling").regions_by_scan() if each not in known]
            Tables(remote.storage, "pooling").regions.delete(f"scan IN ('{orphans[0]}')" if orphans else "false")
            raise LostLockError("lost")

    known = {record.scan for record in remote.scans()}
    with monkeypatch.context() as context:
        context.setattr(ObjectStore, "require_lock", require_lock)
        with pytest.raises(LostLockError):
            remote.add(scans / "b.nrrd", encoder)
    assert len(remote.scans()) == 1
    assert {issue.kind for issue in remote.verify()} == set()
    remote.add(scans, encoder)
    assert whole(remote, 3)


def test_lost_answers_are_no_damage(remote, scans, encoder, monkeypatch):
    """While the storage is away, `verify --repair` must not take its tables for lost."""
    remote.add(scans, encoder)
    read = verify.examine_basis
    with monkeypatch.context() as context:

        def away(*arguments, **options):
            found = read(*arguments, **options)
            nobody(context)
            return found

        context.setattr(verify, "examine_basis", away)
        with pytest.raises(StoreError, match="cannot be reached"):
            remote.verify(repair=True)
    monkeypatch.setattr(lock, "DEAD_AFTER_S", 1.0)
    assert whole(remote, 3)


def test_wrong_credentials(remote, scans, encoder, storage, capfd):
    remote.add(scans / "a.nrrd", encoder)
    told(f"{storage}/moto-api/reset-auth", b"0")
    try:
        for action in (remote.stats, lambda: remote.add(scans, encoder), lambda: remote.verify(repair=True)):
            with pytest.raises(StoreError, match="refused the credentials") as caught:
                action()
            assert KEY not in str(caught.value)
            assert SECRET not in str(caught.value)
    finally:
        told(f"{storage}/moto-api/reset-auth", b"inf")
    assert not any(word in text for word in (KEY, SECRET) for text in capfd.readouterr())
    assert whole(remote, 1)


def test_no_credentials(remote, scans, encoder, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        remote.add(scans, encoder)
    assert encoder.calls == 0


def test_no_such_bucket(storage, scans, encoder):
    with pytest.raises(StoreError, match="no such bucket"):
        Library("s3://nothing/archive").add(scans, encoder)
    with pytest.raises(StoreError, match="no such bucket"):
        Library("s3://nothing/archive").stats()
    assert encoder.calls == 0


def test_nobody_at_the_endpoint(storage, scans, encoder, monkeypatch):
    nobody(monkeypatch)
    with pytest.raises(StoreError, match="cannot be reached"):
        Library("s3://scans/archive").add(scans, encoder)
    assert encoder.calls == 0


def test_a_missing_file_is_damage(remote, scans, encoder, storage):
    remote.add(scans, encoder)
    client = boto3.client("s3", endpoint_url=storage)
    for part in client.list_objects_v2(Bucket="scans", Prefix="archive/regions_pooling.lance/data/")["Contents"]:
        client.delete_object(Bucket="scans", Key=part["Key"])
    found = remote.verify()
    assert {(issue.kind, issue.harmful) for issue in found} == {("table", True)}
    assert not any(issue.harmful for issue in remote.verify(repair=True))
    remote.add(scans, encoder)
    assert whole(remote, 3)


def test_without_a_library(remote):
    with pytest.raises(LibraryError, match="no library of scans at s3://scans/archive"):
        remote.stats()


def test_a_place_with_other_tables_is_refused(remote, scans, encoder):
    import pyarrow as pa

    remote.storage.connect().create("other", pa.table({"a": [1]}))
    with pytest.raises(LibraryError, match="other tables"):
        remote.add(scans, encoder)
    assert encoder.calls == 0


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://key:secret@bucket/x", "credentials"),
        ("s3://bucket/x?a=secret", "credentials"),
        ("ftp://x/y", "ftp"),
        ("s3://", "s3"),
    ],
)
def test_addresses_that_cannot_be_used(address, told):
    with pytest.raises(LibraryError, match=told) as caught:
        Library(address)
    assert "secret" not in str(caught.value)


def test_the_variable_may_be_an_address(storage, monkeypatch):
    monkeypatch.setenv("CORALBAY_LIBRARY", "s3://scans/archive/")
    assert Library().storage.root == "s3://scans/archive"


def test_a_file_address_is_a_folder(tmp_path):
    assert Library(f"file://{tmp_path}/library").storage.root == tmp_path / "library"
