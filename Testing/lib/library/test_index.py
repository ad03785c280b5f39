"""The approximate index comes with many regions, finds nearly what an exact search finds, and grows with the library."""

from __future__ import annotations

import numpy as np
import pytest

from CoralBayLib.library.records import ScanRecord, ScanRows
from CoralBayLib.library.search import search_regions
from CoralBayLib.library.storage import index
from CoralBayLib.library.storage.folder import Folder
from CoralBayLib.library.tables import Tables
from CoralBayLib.library.transactions import commit, finish, remove

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")

KINDS = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)


def rows(number: int, count: int, dimension: int = 16) -> ScanRows:
    """A scan whose regions are of some 40 kinds of tissue."""
    random = np.random.default_rng(number)
    vectors = KINDS[random.integers(0, 40, count), :dimension] + 0.4 * random.normal(size=(count, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    record = ScanRecord(f"{number:04x}", f"{number:04x}", "", "", (1, 1, 1), (1.0,) * 3, (1.0,) * 16, count, "pooling", "", "")
    places = random.uniform(-200, 200, (count, 3)).astype(np.float32)
    return ScanRows(record, np.ones(4, np.float32), places, vectors.astype(np.float16))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "FROM_ROWS", 3000)
    folder = Folder(tmp_path / "library")
    with folder.locked():
        folder.create()
    return folder


def found(tables, vector, exact, k=10, **limits):
    limits = {"included": None, "excluded": (), **limits}
    hits = search_regions(tables, vector, (), k, 0.0, exact=exact, **limits)
    return {(hit.scan, hit.ras) for hit in hits}


def recall(tables):
    queries = KINDS + 0.3 * np.random.default_rng(99).normal(size=KINDS.shape).astype(np.float32)
    return np.mean([len(found(tables, q, False) & found(tables, q, True)) / 10 for q in queries])


def test_an_index_from_enough_regions_on(folder):
    commit(folder, rows(0, 2000))
    finish(folder, "pooling")
    tables = Tables(folder, "pooling")
    assert index.find_index(tables.regions) is None
    assert recall(tables) == 1
    commit(folder, rows(1, 2000))
    finish(folder, "pooling")
    known = index.find_index(tables.regions)
    assert known.indexed == 4000
    assert recall(tables) >= 0.95


def test_new_regions_are_found_before_and_after_they_are_in_the_index(folder):
    commit(folder, rows(0, 4000))
    finish(folder, "pooling")
    new = rows(1, 500)
    commit(folder, new)
    tables = Tables(folder, "pooling")
    query = new.vectors[7].astype(np.float32)
    best = (new.record.scan, tuple(float(v) for v in new.points_ras[7]))
    for unindexed in (500, 0):
        assert index.find_index(tables.regions).unindexed == unindexed
        assert best in found(tables, query, exact=False, k=1)
        finish(folder, "pooling")
    assert recall(tables) >= 0.95


def test_the_index_is_trained_anew_when_the_library_has_grown(folder):
    commit(folder, rows(0, 4000))
    finish(folder, "pooling")
    tables = Tables(folder, "pooling")
    first = index.find_index(tables.regions).name
    commit(folder, rows(1, 3000))
    finish(folder, "pooling")
    assert index.find_index(tables.regions).name == first
    commit(folder, rows(2, 2000))
    finish(folder, "pooling")
    known = index.find_index(tables.regions)
    assert known.name != first
    assert known.indexed == 9000
    assert [i.name for i in tables.regions.lance.list_indices() if "vector" in i.columns] == [known.name]
    assert recall(tables) >= 0.95


def test_limits_and_removal_hold_with_an_index(folder):
    for number in range(3):
        commit(folder, rows(number, 2000))
    finish(folder, "pooling")
    tables = Tables(folder, "pooling")
    assert {scan for scan, _ in found(tables, KINDS[0], False, 30, included=["0001"])} == {"0001"}
    assert "0001" not in {scan for scan, _ in found(tables, KINDS[0], False, 30, excluded=["0001"])}
    remove(folder, "pooling", ["0001"])
    assert {scan for scan, _ in found(tables, KINDS[0], False, 99)} == {"0000", "0002"}
    assert tables.regions.count() == 4000
    assert recall(tables) >= 0.95


def test_vectors_of_an_odd_length_have_an_index_too(folder):
    commit(folder, rows(0, 4000, dimension=13))
    finish(folder, "pooling")
    tables = Tables(folder, "pooling")
    assert index.find_index(tables.regions).indexed == 4000
    query = rows(0, 4000, dimension=13).vectors[5].astype(np.float32)
    assert found(tables, query, False) & found(tables, query, True)
