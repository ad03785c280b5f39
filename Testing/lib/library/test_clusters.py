"""Clusters of a library: one is like places in every scan."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, EncoderError, LibraryError, QueryError
from CoralBayLib.library import clusters
from CoralBayLib.library import tables as tables_module
from CoralBayLib.library.basis import unit
from CoralBayLib.library.records import ScanRecord, ScanRows
from CoralBayLib.library.storage.folder import Folder
from CoralBayLib.library.tables import Tables
from CoralBayLib.library.transactions import commit
from Testing.lib.conftest import PoolingEncoder

from .conftest import make_scan

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")


KINDS, IN_A_SCAN, DIMENSION = 6, 300, 16


@pytest.fixture
def tissues(tmp_path):
    """A library of three scans of six kinds of tissue, each scan with a shift of its own; and the kind of each region."""
    random = np.random.default_rng(0)
    folder = Folder(tmp_path / "tissues")
    with folder.locked():
        folder.create()
    centres, kinds = 3 * random.normal(size=(KINDS, DIMENSION)), {}
    for number in range(3):
        name, kind = f"{number:064x}", random.integers(0, KINDS, IN_A_SCAN)
        vectors = unit(centres[kind] + random.normal(size=(IN_A_SCAN, DIMENSION)) + 0.5 * random.normal(size=DIMENSION))
        record = ScanRecord(name, name, f"{name}.nrrd", "", (1,) * 3, (1.0,) * 3, (1.0,) * 16, IN_A_SCAN, "tissue", "", "")
        # Each kind at a height of its own.
        places = np.column_stack([random.uniform(0, 100, (IN_A_SCAN, 2)), 20.0 * kind]).astype(np.float32)
        commit(folder, ScanRows(record, np.ones(4, np.float32), places, vectors.astype(np.float16)))
        kinds.update({(name, *map(float, place)): int(each) for place, each in zip(places, kind, strict=True)})
    return Tables(folder, "tissue"), kinds


def test_one_cluster_is_one_kind_in_all_scans(tissues):
    tables, kinds = tissues
    found = clusters.cluster(tables, KINDS)
    numbers, known = [], []
    for scans, ras, mine in clusters.assign(tables, found):
        numbers += mine.tolist()
        known += [kinds[(scan, *map(float, place))] for scan, place in zip(scans, ras, strict=True)]
    assert adjusted_mutual_info_score(known, numbers) > 0.95
    for each in found.clusters:
        heights = [5 * each.position[2], *(example.ras[2] / 20 for example in each.examples)]
        assert np.ptp(heights) < 0.5
        assert each.scans == 3
        assert len({example.path for example in each.examples}) == 3
    assert [each.count for each in found.clusters] == sorted((each.count for each in found.clusters), reverse=True)


def test_the_map_of_a_scan_agrees_with_its_regions(filled, encoder):
    found = filled.cluster(4, "pooling")
    scan = next(record.scan for record in filled.scans() if record.path.endswith("a.nrrd"))
    drawn = filled.cluster_map(found, cb.embed(make_scan("a"), encoder))
    agreed = []
    for scans, ras, numbers in clusters.assign(Tables(filled.storage, "pooling"), found):
        mine = np.array(scans) == scan
        agreed += (drawn.nearest_values(ras[mine]) == numbers[mine]).tolist()
    assert np.mean(agreed) > 0.8
    assert set(np.unique(drawn.array)) == {0, 1, 2, 3, 4}


def test_every_region_is_in_one(filled):
    found = filled.cluster(5, "pooling")
    rows = Tables(filled.storage, "pooling").regions.count()
    assert sum(each.count for each in found.clusters) == rows
    assert [each.number for each in found.clusters] == [1, 2, 3, 4, 5]
    assert all(0 <= value <= 1 for each in found.clusters for value in each.position)
    assert np.allclose(np.linalg.norm(found.centers, axis=1), 1, atol=1e-5)
    assert filled.cluster(5, "pooling").clusters == found.clusters


def test_positions_are_those_of_the_regions(filled):
    """Against numbers from the table itself."""
    found = filled.cluster(4, "pooling")
    rows = Tables(filled.storage, "pooling").regions.read().to_pylist()
    sums = {}
    for scan in {row["scan"] for row in rows}:
        mine = [row for row in rows if row["scan"] == scan]
        ras = np.array([row["ras"] for row in mine])
        place = (ras - ras.min(axis=0)) / (ras.max(axis=0) - ras.min(axis=0))
        for number, each in zip(found.predict(np.array([row["vector"] for row in mine])), place, strict=True):
            sums.setdefault(int(number), []).append(each)
    for each in found.clusters:
        assert np.allclose(each.position, np.mean(sums[each.number], axis=0), atol=1e-4)


def test_parts_of_the_table_make_no_difference(filled, monkeypatch):
    whole = filled.cluster(4, "pooling").clusters
    monkeypatch.setattr(tables_module, "_BATCH_ROWS", 100)
    parts = filled.cluster(4, "pooling").clusters
    assert [each.count for each in parts] == [each.count for each in whole]
    assert [each.examples for each in parts] == [each.examples for each in whole]


def test_as_csv_and_json(filled, tmp_path):
    found = filled.cluster(3, "pooling")
    filled.export_clusters(found, tmp_path / "x.csv")
    filled.export_clusters(found, tmp_path / "x.json")
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()))
    whole = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert len(rows) == sum(each.count for each in found.clusters) == sum(map(len, whole["regions"].values()))
    assert [each["count"] for each in whole["clusters"]] == [
        sum(row["cluster"] == str(number) for row in rows) for number in (1, 2, 3)
    ]
    first = rows[0]
    assert [float(first["R"]), float(first["A"]), float(first["S"]), int(first["cluster"])] in whole["regions"][first["scan"]]
    with pytest.raises(LibraryError, match="csv"):
        filled.export_clusters(found, tmp_path / "x.txt")
    assert not (tmp_path / "x.txt").exists()


@pytest.mark.parametrize("count", [0, 1, 256])
def test_count_out_of_range(filled, count):
    with pytest.raises(QueryError, match="2 to 255"):
        filled.cluster(count, "pooling")


def test_cancel_leaves_no_file(filled, tmp_path):
    cancel = cb.CancelToken()
    found = filled.cluster(3, "pooling")
    cancel.cancel()
    with pytest.raises(Cancelled):
        filled.cluster(3, "pooling", cancel=cancel)
    with pytest.raises(Cancelled):
        filled.export_clusters(found, tmp_path / "x.csv", cancel)
    assert list(tmp_path.glob("*x*")) == []


def test_other_features_are_refused(filled):
    found = filled.cluster(3, "pooling")
    other = PoolingEncoder(strides=(2, 4), spacing_mm=(2.5, 2.5, 2.5))
    with pytest.raises(EncoderError):
        filled.cluster_map(found, cb.embed(make_scan("a"), other))
