"""The store returns the stored pyramid or none."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
from collections import namedtuple

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib.core.errors import StoreError


@pytest.fixture
def volume(make_grid, make_phantom):
    return make_phantom(make_grid("oblique"), [([12, -30, 45], 8.0, 500.0)])


def same(one, other):
    assert one.key == other.key
    assert one.identity == other.identity
    assert one.signature == other.signature
    assert one.source_grid.same_as(other.source_grid)
    assert one.grid.same_as(other.grid)
    assert np.array_equal(one.image.array, other.image.array)
    assert np.array_equal(one.body.array, other.body.array)
    for a, b in zip(one.levels, other.levels, strict=True):
        assert a.name == b.name
        assert a.grid.same_as(b.grid)
        assert torch.equal(a.features, b.features)
    assert torch.equal(one.basis.projection, other.basis.projection)
    assert torch.equal(one.for_similarity.basis.offset, other.for_similarity.basis.offset)
    return True


def test_round_trip(volume, pooling, tmp_path):
    store = cb.Store(tmp_path)
    encoder = pooling()
    first = cb.embed(volume, encoder, store=store)
    assert first.key in store
    again = cb.embed(volume, encoder, store=store)
    assert encoder.calls == 1
    assert again is not first
    assert same(first, again)
    assert cb.Store(tmp_path).entries()[0].key == first.key


def test_another_encoder_or_volume_is_another_entry(volume, make_grid, make_phantom, pooling, tmp_path):
    store = cb.Store(tmp_path)
    cb.embed(volume, pooling(), store=store)
    cb.embed(volume, pooling(strides=(2, 4)), store=store)
    cb.embed(make_phantom(make_grid()), pooling(), store=store)
    assert len(store.entries()) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "old format"])
def test_damaged_entry_is_dropped_and_computed_again(damage, volume, pooling, tmp_path):
    store = cb.Store(tmp_path)
    encoder = pooling()
    first = cb.embed(volume, encoder, store=store)
    path = store.entries()[0].path
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flipped":
        path.write_bytes(whole[:-2000] + bytes([whole[-2000] ^ 0x40]) + whole[-1999:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        path.write_bytes(b"this is no safetensors file, but it has the name of one" * 10)
    else:
        path.write_bytes(whole.replace(b'\\"format\\": 2', b'\\"format\\": 1'))
    assert path.read_bytes() != whole
    with pytest.warns(UserWarning, match="computed again"):
        again = cb.embed(volume, encoder, store=store)
    assert encoder.calls == 2
    assert same(first, again)
    assert store.get(first.key) is not None


def edited(path, change):
    """Change the JSON header of an entry."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"]["coralbay"] = json.dumps(change(json.loads(header["__metadata__"]["coralbay"])))
    words = json.dumps(header).encode()
    path.write_bytes(len(words).to_bytes(8, "little") + words + data[8 + length :])


def moved(header):
    header["levels"][0]["grid"]["ijk_to_ras"][0][3] += 40
    return header


def without_checksum(header):
    return {name: value for name, value in header.items() if name != "checksum"}


@pytest.mark.parametrize(
    "change",
    [
        moved,
        lambda header: header | {"key": "ab"},
        lambda header: without_checksum(header) | {"key": "ab"},
        lambda header: without_checksum(header) | {"grid": {"shape": [2**19] * 3, "ijk_to_ras": np.eye(4).tolist()}},
        lambda header: without_checksum(header) | {"levels": header["levels"][:1] * 2 + [{"name": "x"}]},
        lambda header: None,
        lambda header: [],
        lambda header: "x",
    ],
)
def test_an_edited_header_is_noticed(change, volume, pooling, tmp_path):
    store = cb.Store(tmp_path)
    pyramid = cb.embed(volume, pooling(), store=store)
    edited(store.entries()[0].path, change)
    with pytest.warns(UserWarning, match=f"{pyramid.key}.safetensors cannot be read and is computed again"):
        assert store.get(pyramid.key) is None
    assert store.entries() == []


def test_an_entry_without_a_checksum_is_read(volume, pooling, tmp_path):
    """As version 0.1.0 wrote it."""
    store = cb.Store(tmp_path)
    pyramid = cb.embed(volume, pooling(), store=store)
    edited(store.entries()[0].path, without_checksum)
    assert same(store.get(pyramid.key), pyramid)


def test_an_entry_of_another_scan_is_not_read(volume, pooling, tmp_path):
    store = cb.Store(tmp_path)
    pyramid = cb.embed(volume, pooling(), store=store)
    shutil.copy(store.entries()[0].path, tmp_path / "ab12.safetensors")
    with pytest.warns(UserWarning, match="the entry of another key"):
        assert store.get("ab12") is None
    assert pyramid.key in store


def test_entries_that_may_not_be_deleted(volume, pooling, tmp_path, monkeypatch):
    store = cb.Store(tmp_path)
    (tmp_path / "ab12.safetensors").write_bytes(b"damaged")
    (tmp_path / "cd34.safetensors").mkdir()

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    for key in ("ab12", "cd34"):
        with pytest.warns(UserWarning, match="computed again"):
            assert store.get(key) is None
    assert store.clear() == 0
    with pytest.raises(StoreError, match="Could not delete"):
        store.remove("ab12")


def test_least_recently_used_goes_first(make_grid, make_phantom, pooling, tmp_path):
    volumes = [make_phantom(make_grid(), seed=seed) for seed in range(3)]
    encoder = pooling()
    size = cb.embed(volumes[0], encoder, store=cb.Store(tmp_path)) and cb.Store(tmp_path).nbytes()
    store = cb.Store(tmp_path, limit_bytes=int(2.5 * size))
    first = store.entries()[0]
    os.utime(first.path, (1, 1))
    second = cb.embed(volumes[1], encoder, store=store)
    os.utime(store._path(second.key), (2, 2))
    cb.embed(volumes[0], encoder, store=store)  # used again: now the newer one
    third = cb.embed(volumes[2], encoder, store=store)
    assert {entry.key for entry in store.entries()} == {first.key, third.key}


def test_an_entry_over_the_limit_is_refused(volume, pooling, tmp_path):
    with pytest.warns(UserWarning, match="more than the store's limit"):
        pyramid = cb.embed(volume, pooling(), store=cb.Store(tmp_path, limit_bytes=1000))
    assert pyramid.levels
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_file_and_gives_the_result(volume, pooling, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.warns(UserWarning, match="Free some disk space"):
        pyramid = cb.embed(volume, pooling(), store=cb.Store(tmp_path))
    assert pyramid.levels
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder_holds_no_entry(tmp_path, recwarn):
    """No entry is damaged there; that the features cannot be kept is said when they are written."""
    (tmp_path / "cache").write_text("x")
    assert cb.Store(tmp_path / "cache" / "embeddings").get("abc") is None
    assert not recwarn.list


def test_an_interrupted_write_leaves_no_file(volume, pooling, tmp_path):
    """The kernel refuses to let the file grow beyond 64 kB: a real failing write, after the space looked sufficient."""
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, old_limit[1]))
        with pytest.warns(UserWarning, match="could not be stored"):
            pyramid = cb.embed(volume, pooling(), store=cb.Store(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert pyramid.levels
    assert not list(tmp_path.iterdir())


def test_remove_and_clear(volume, pooling, tmp_path):
    store = cb.Store(tmp_path)
    key = cb.embed(volume, pooling(), store=store).key
    assert store.remove(key)
    assert not store.remove(key)
    cb.embed(volume, pooling(), store=store)
    assert store.clear() == 1
    assert store.entries() == []


def test_key_cannot_leave_the_folder(tmp_path):
    with pytest.raises(StoreError, match="not a key"):
        cb.Store(tmp_path).get("../../etc/passwd")


def _embed_in_process(root, gate, done):
    import torch as torch_here

    torch_here.set_num_threads(1)
    from Testing.lib import conftest

    encoder = conftest.PoolingEncoder()
    volume = conftest.phantom(conftest.phantom_grid())
    gate.wait()
    pyramid = cb.embed(volume, encoder, store=cb.Store(root))
    done.put(pyramid.key)


@pytest.mark.slow
def test_two_processes_embed_the_same_scan_at_once(tmp_path, make_grid, make_phantom, pooling):
    context = multiprocessing.get_context("spawn")
    gate, done = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_embed_in_process, args=(str(tmp_path), gate, done)) for _ in range(2)]
    for worker in workers:
        worker.start()
    keys = {done.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert len(keys) == 1
    store = cb.Store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{keys.pop()}.safetensors"]
    encoder = pooling()
    found = cb.embed(make_phantom(make_grid()), encoder, store=store)
    assert encoder.calls == 0
    assert same(found, cb.embed(make_phantom(make_grid()), encoder, store=cb.Store(tmp_path / "another")))
